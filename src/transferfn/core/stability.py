"""Where the poles are relative to the unit circle: a verdict that knows when it does not know."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from transferfn.core.polynomial import roots
from transferfn.typing import Denominator

LARGEST_EIGEN = 256  # orders up to here afford their poles
HALVINGS = 24  # of the bracket of the radius beyond


class UnstableFilterWarning(UserWarning):
    """A recurrence is about to run a filter whose state grows without bound."""


@dataclass(frozen=True, eq=False)
class Stability:
    """What is known of the stability of each of G denominators.

    Attributes:
        stable: All poles are certainly inside the unit circle, bool, (*bank, G).
        unstable: Some pole is certainly on or outside it, bool, (*bank, G). Where neither holds, rounding of the
            coefficients in float64 decides: the verdict is undecided.
        radius: Largest pole radius, (*bank, G): the factor by which the state grows or decays a sample.
        uncertainty: How far that radius is from certain, (*bank, G).
    """

    stable: Tensor
    unstable: Tensor
    radius: Tensor
    uncertainty: Tensor

    @property
    def margin(self) -> Tensor:
        """Distance of the outermost pole to the unit circle, 1 - radius, positive inside, (*bank, G)."""
        return 1 - self.radius

    @property
    def verdict(self) -> str:
        """The verdict on the whole bank: ``"stable"``, ``"unstable"`` or ``"undecided"``."""
        if bool(self.unstable.any()):
            return "unstable"
        return "stable" if bool(self.stable.all()) else "undecided"

    def __repr__(self) -> str:
        largest = self.radius.reshape(-1).argmax()
        radius, error = float(self.radius.reshape(-1)[largest]), float(self.uncertainty.reshape(-1)[largest])
        return f"Stability({self.verdict}: largest pole radius {radius:.9g} +- {error:.1g})"


def stability(a: Denominator) -> Stability:
    """Judge each denominator in float64: by the Schur-Cohn test, and by the poles up to order 256. No derivatives.

    Args:
        a: Denominator a_1..a_n, (*bank, G, n).

    Returns:
        The verdict, with the largest pole radius and its uncertainty.

    Source:
        Step-down recursion (Schur-Cohn, Jury); e.g. Oppenheim and Schafer, Discrete-Time Signal Processing.

    Example:
        >>> stability(torch.tensor([[-1.8, 0.81], [0.0, 1.44]]))
        Stability(unstable: largest pole radius 1.20000002 +- 1e-15)
    """
    a = a.detach().to(torch.float64)
    inside, outside = schur_cohn(a)
    if a.shape[-1] > LARGEST_EIGEN:
        low, high = _radius_by_bisection(a)
    else:
        poles, error = roots(a)
        low, high = (pad(poles.abs() + e, (1, 0)).amax(-1) for e in (-error, error))  # 0 where there is none
    inside, outside = inside | (~outside & (high < 1)), outside | (~inside & (low >= 1))
    return Stability(inside, outside, (low + high) / 2, (high - low) / 2)


def schur_cohn(a: Denominator) -> tuple[Tensor, Tensor]:
    """Decide whether all roots of z^n + a_1 z^(n-1) + ... + a_n lie inside the unit circle.

    The step-down recursion yields reflection coefficients k_n, ..., k_1; the roots are inside if and only if all
    |k_i| < 1. A running bound on rounding (of the coefficients themselves and of every operation) tells when a
    comparison cannot be trusted.

    Args:
        a: Denominator a_1..a_n, (*bank, G, n), float64.

    Returns:
        Whether all roots are certainly inside, and whether some is certainly not, bool, (*bank, G) each.
    """
    eps = torch.finfo(a.dtype).eps
    error = eps * a.abs()
    inside = torch.ones(a.shape[:-1], dtype=torch.bool, device=a.device)
    outside = torch.zeros_like(inside)
    for _ in range(a.shape[-1]):
        k, k_error = a[..., -1:], error[..., -1:]
        size = k.abs()
        outside = outside | (inside & (size - k_error >= 1)[..., 0])
        inside = inside & (size + k_error < 1)[..., 0]
        head, mirrored = a[..., :-1], a[..., :-1].flip(-1)
        scale = 1 / (1 - k * k)
        a = (head - k * mirrored) * scale
        inherited = error[..., :-1] + size * error[..., :-1].flip(-1) + k_error * (mirrored.abs() + 2 * size * a.abs())
        rounding = eps * (head.abs() + size * mirrored.abs())
        error = (inherited + rounding) * scale.abs() + 3 * eps * a.abs()
    return inside, outside


def spectral_radius(a: Denominator) -> Tensor:
    """Largest pole radius of each denominator: the factor by which its state grows or decays a sample.

    Args:
        a: Denominator a_1..a_n, (*bank, G, n).

    Returns:
        Radius, (*bank, G), float64, without derivatives: those of the poles have some. :func:`stability` also tells how
        certain it is.

    Example:
        >>> spectral_radius(torch.tensor([[0.0, -0.25]]))
        tensor([0.5000], dtype=torch.float64)
    """
    return stability(a).radius


def _radius_by_bisection(a: Tensor) -> tuple[Tensor, Tensor]:
    """Bracket the radius where the poles cost too much: the roots of a_i r^-i are those of a_i divided by r."""
    n = a.shape[-1]
    i = torch.arange(1, n + 1, dtype=a.dtype, device=a.device)
    choices = torch.lgamma(i[-1] + 1) - torch.lgamma(i + 1) - torch.lgamma(i[-1] - i + 1)
    magnitudes = a.abs() ** (1 / i)
    # |a_i| is at most C(n, i) radius^i, and Fujiwara's bound holds the radius from above.
    low, high = (magnitudes * (-choices / i).exp()).amax(-1), 2 * magnitudes.amax(-1)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        inside, outside = schur_cohn(a * middle.clamp_min(torch.finfo(a.dtype).tiny)[..., None] ** -i)
        low, high = torch.where(outside, middle, low), torch.where(inside, middle, high)
        if not bool((inside | outside).any()):
            break
    return low, high
