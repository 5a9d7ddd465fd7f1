"""Where the poles are relative to the unit circle: a verdict that knows when it does not know."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from transferfn.core.polynomial import roots
from transferfn.typing import Denominator

LARGEST_EIGEN = 256  # orders up to here afford their poles
HALVINGS = 24  # of the bracket of the radius beyond
ARCS = 1 << 12  # of the circle that are cut at once to see whether A comes to zero there, at most


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
    """Judge each denominator in float64. No derivatives.

    Up to order 256 by the Schur-Cohn test and by the poles, beyond by how often A winds around zero.

    Args:
        a: Denominator a_1..a_n, (*bank, G, n).

    Returns:
        The verdict, with the largest pole radius and its uncertainty.

    Source:
        Step-down recursion (Schur-Cohn, Jury), e.g. Oppenheim and Schafer, Discrete-Time Signal Processing; the
        argument principle.

    Example:
        >>> stability(torch.tensor([[-1.8, 0.81], [0.0, 1.44]]))
        Stability(unstable: largest pole radius 1.20000002 +- 1e-15)
    """
    a = a.detach().to(torch.float64)
    if a.shape[-1] > LARGEST_EIGEN:
        inside, outside = _judged(a)
        low, high = _radius_by_bisection(a)
    else:
        inside, outside = schur_cohn(a)
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


def winding(a: Denominator) -> tuple[Tensor, Tensor]:
    """Decide the same by how often A(z) winds around zero on the unit circle: once for each root outside.

    The circle is cut into arcs, each short enough that A cannot come to zero on it: by how large A and its slope are in
    the middle, since the slope in its turn changes by at most n^2 times the largest |A| (Bernstein). That decides at
    high orders, too, where the error bounds of the step-down recursion have grown beyond use; not where |A| is as small
    as its rounding, or where that many roots come near the circle that too many arcs must be cut.

    Args:
        a: Denominator a_1..a_n, (*bank, G, n), float64.

    Returns:
        Whether all roots are certainly inside, and whether some is certainly not, bool, (*bank, G) each.

    Example:
        >>> winding(torch.tensor([[-0.5, 0.0], [0.0, 1.5], [-2.0, 1.0]], dtype=torch.float64))
        (tensor([ True, False, False]), tensor([False,  True, False]))
    """
    turns = torch.stack([_turns(row) for row in pad(a.reshape(-1, a.shape[-1]), (1, 0), value=1.0)])
    return (turns.abs() < 0.5).reshape(a.shape[:-1]), (turns < -0.5).reshape(a.shape[:-1])


def _turns(c: Tensor) -> Tensor:
    """How often a polynomial in 1/z winds around zero on the unit circle, NaN where that is not certain."""
    n = len(c) - 1
    samples = 1 << (64 * n - 1).bit_length()
    times = torch.arange(n + 1, dtype=c.dtype, device=c.device)
    both = torch.stack((c, c * times))  # A, and its slope but for a factor of -i
    angle = torch.arange(samples, dtype=c.dtype, device=c.device) * (2 * torch.pi / samples)
    half = torch.full_like(angle, torch.pi / samples)  # of the length of an arc
    value, slope = torch.fft.fft(both, samples)
    bend = n * n * value.abs().max() / (1 - torch.pi * n / samples)
    # Of the coefficients, of angles near 2 pi, and of sums.
    doubt = torch.finfo(c.dtype).eps * (8 * c.abs() @ (1 + times) + 12 * math.log2(samples) * samples**0.5 * c.norm())
    while True:
        size = value.abs()
        near = size <= slope.abs() * half + bend * half**2 / 2 + doubt
        count = int(near.sum())
        if not count:
            order = angle.argsort()
            value = value[order]
            return torch.angle(value.roll(-1) / value).sum() / (2 * torch.pi)
        if 4 * count > ARCS or bool(size.min() <= 2 * doubt):
            return torch.full((), torch.nan, dtype=c.dtype, device=c.device)
        steps = torch.tensor([-0.75, -0.25, 0.25, 0.75], dtype=c.dtype, device=c.device)
        cut = (angle[near, None] + half[near, None] * steps).flatten()
        finer = both.to(value.dtype) @ torch.polar(
            torch.ones((), dtype=c.dtype, device=c.device), -times[:, None] * cut
        )
        value, slope = torch.cat((value[~near], finer[0])), torch.cat((slope[~near], finer[1]))
        angle, half = torch.cat((angle[~near], cut)), torch.cat((half[~near], half[near].repeat_interleave(4) / 4))


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


def _judged(a: Tensor) -> tuple[Tensor, Tensor]:
    """By winding, and where that does not tell, by the Schur-Cohn test."""
    inside, outside = (torch.zeros(a.shape[:-1], dtype=torch.bool, device=a.device) for _ in range(2))
    for test in (winding, schur_cohn):
        if bool((known := inside | outside).all()):
            break
        within, without = test(a[~known])
        inside[~known], outside[~known] = within & ~without, without & ~within
    return inside, outside


def _radius_by_bisection(a: Tensor) -> tuple[Tensor, Tensor]:
    """Bracket the radius where the poles cost too much: the roots of a_i r^-i are those of a_i divided by r."""
    n = a.shape[-1]
    i = torch.arange(1, n + 1, dtype=a.dtype, device=a.device)
    choices = torch.lgamma(i[-1] + 1) - torch.lgamma(i + 1) - torch.lgamma(i[-1] - i + 1)
    magnitudes = a.abs() ** (1 / i)
    # |a_i| is at most C(n, i) radius^i, and Fujiwara's bound holds the radius from above.
    low, high = (magnitudes * (-choices / i).exp()).amax(-1), 2 * magnitudes.amax(-1)
    tried_above, tried_below = high, low  # the nearest radii that are not certainly below, or above, the true one
    for turn in range(HALVINGS):
        middle = (low + tried_above) / 2 if turn % 2 else (tried_below + high) / 2
        inside, outside = _judged(a * middle.clamp_min(torch.finfo(a.dtype).tiny)[..., None] ** -i)
        low, tried_above = torch.where(outside, middle, low), torch.where(outside, tried_above, middle)
        high, tried_below = torch.where(inside, middle, high), torch.where(inside, tried_below, middle)
        if bool((torch.maximum(tried_above - low, high - tried_below) <= (high - low) / 4).all()):
            break
    return low, high
