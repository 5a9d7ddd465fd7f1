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
WIDTH = 1e-7  # of the bracket, relative to the radius, that is narrow enough
WORK = 1 << 22  # terms of A at the middles of arcs that are cut at once, at most


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
    """Judge each denominator in float64: :func:`judged`, and how large the largest pole radius is. No derivatives.

    The radius comes from the poles up to order 256, and beyond from bisection, which takes up to seconds a row; where
    the verdict alone is needed, :func:`judged` has it.

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
    low, high = _radius_by_bisection(a) if a.shape[-1] > LARGEST_EIGEN else _radius_by_poles(a)
    return Stability(*judged(a), (low + high) / 2, (high - low) / 2)


def judged(a: Denominator) -> tuple[Tensor, Tensor]:
    """Decide whether all poles are certainly inside the unit circle, and whether some certainly are not.

    Up to order 256 by the Schur-Cohn test, and where that does not tell, by the poles; beyond by winding, and where
    that does not tell, by the Schur-Cohn test.

    Args:
        a: Denominator a_1..a_n, (*bank, G, n).

    Returns:
        Both, bool, (*bank, G); where neither holds, rounding of the coefficients decides.

    Example:
        >>> judged(torch.tensor([[-1.8, 0.81], [0.0, 1.44], [-1.0, 0.0]]))
        (tensor([ True, False, False]), tensor([False,  True, False]))
    """
    a = a.detach().to(torch.float64)
    inside, outside = (torch.zeros(a.shape[:-1], dtype=torch.bool, device=a.device) for _ in range(2))
    for test in (winding, schur_cohn) if a.shape[-1] > LARGEST_EIGEN else (schur_cohn, _by_poles):
        if bool((known := inside | outside).all()):
            break
        within, without = test(a[~known])
        inside[~known], outside[~known] = within & ~without, without & ~within
    return inside, outside


def _by_poles(a: Tensor) -> tuple[Tensor, Tensor]:
    low, high = _radius_by_poles(a)
    return high < 1, low >= 1


def _radius_by_poles(a: Tensor) -> tuple[Tensor, Tensor]:
    poles, error = roots(a)
    low, high = (pad(poles.abs() + e, (1, 0)).amax(-1) for e in (-error, error))  # 0 where there is none
    return low, high


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
    error = 3 * eps * a.abs()  # their own, and that of scaling them
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
    turns = a.new_tensor([_turns(row) for row in pad(a.reshape(-1, a.shape[-1]), (1, 0), value=1.0)])
    return (turns.abs() < 0.5).reshape(a.shape[:-1]), (turns < -0.5).reshape(a.shape[:-1])


def _turns(c: Tensor) -> float:
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
            value = value[angle.argsort()]
            return float(torch.angle(value.roll(-1) / value).sum()) / (2 * math.pi)
        if 4 * count * len(c) > WORK or not bool(size.min() > 2 * doubt):
            return math.nan
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


def _radius_by_bisection(a: Tensor) -> tuple[Tensor, Tensor]:
    """Bracket the radius where the poles cost too much: the roots of a_i r^-i are those of a_i divided by r."""
    n = a.shape[-1]
    i = torch.arange(1, n + 1, dtype=a.dtype, device=a.device)
    logs = [torch.lgamma(x + 1) for x in (i[-1], i, i[-1] - i)]
    magnitudes = a.abs() ** (1 / i)
    # |a_i| is at most C(n, i) radius^i, and Fujiwara's bound holds the radius from above; with room for their rounding.
    room = 16 * torch.finfo(a.dtype).eps * (n + float(logs[0]))
    low = (magnitudes * ((logs[1] + logs[2] - logs[0]) / i).exp()).amax(-1) * (1 - room)
    high = 2 * magnitudes.amax(-1) * (1 + room)
    pairs = [
        _bracketed(row, i, *ends)
        for row, *ends in zip(a.reshape(-1, n), low.flatten().tolist(), high.flatten().tolist(), strict=True)
    ]
    low, high = a.new_tensor(pairs).reshape(*a.shape[:-1], 2).unbind(-1)
    return low, high


def _bracketed(row: Tensor, i: Tensor, low: float, high: float) -> tuple[float, float]:
    """Narrow the bracket of one row from both sides, down to the radii between them where rounding decides."""
    vain: tuple[float, float] | None = None  # the lowest and the highest radius between them that told nothing
    for _ in range(HALVINGS):
        gaps = (high - low,) * 2 if vain is None else (vain[0] - low, high - vain[1])
        if not WIDTH * high < high - low < math.inf or max(gaps) <= (high - low) / 8:
            break
        middle = (low + high) / 2 if vain is None else low + gaps[0] / 2 if gaps[0] > gaps[1] else high - gaps[1] / 2
        scaled = torch.where(row == 0, 0, row * middle**-i)
        inside, outside = (bool(x) for x in judged(scaled[None]))
        if not (inside or outside):
            vain = (middle, middle) if vain is None else (min(vain[0], middle), max(vain[1], middle))
            continue
        low, high = (middle, high) if outside else (low, middle)
        if vain is not None and not low < vain[0] <= vain[1] < high:
            vain = None
    return low, high
