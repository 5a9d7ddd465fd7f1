"""What a conversion returns: the object, and how far its impulse responses are from those it was made from."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

import torch
from torch import Tensor

SHORTEST, LONGEST = 1024, 2**16  # samples over which responses are compared, if the caller does not say how many
MEMORIES = 8.0  # time constants of the slowest mode among them: what is left of it is a third of a thousandth
GROWING = 1e-6  # beyond the circle, where more samples show nothing but growth
GROWTH = 1e3  # of the fastest mode, at most: rounding, multiplied by it, stays below what minimal looks for

Value = TypeVar("Value")


class Converted(tuple[Value, Tensor], Generic[Value]):
    """The result of a conversion and its measured error; it unpacks as ``value, error = ...``.

    Args:
        value: What was asked for.
        error: max_t |h_t - truth_t| / max_t |truth_t| of each channel over the samples compared, (D), float64.
        length: Number of samples compared; None if the error is of something else than impulse responses.

    Attributes:
        length: The same.

    Example:
        >>> Converted(1, torch.zeros(1), 1024)
        Converted(value=1, error=tensor([0.]), length=1024)
    """

    length: int | None

    def __new__(cls, value: Value, error: Tensor, length: int | None) -> Converted[Value]:  # noqa: D102
        made = super().__new__(cls, (value, error))
        made.length = length
        return made

    def __getnewargs__(self) -> tuple[Value, Tensor, int | None]:  # for copies and pickles
        return self.value, self.error, self.length

    @property
    def value(self) -> Value:
        """What was asked for."""
        return self[0]

    @property
    def error(self) -> Tensor:
        """How far its impulse response is from that of what it was made from, (D)."""
        return self[1]

    def __repr__(self) -> str:
        return f"Converted(value={self.value!r}, error={self.error!r}, length={self.length})"


def samples_to_compare(poles: Tensor, uncertainty: Tensor | float = 0.0) -> int:
    """Number of samples in which filters die out, if the caller does not say how many to compare.

    Args:
        poles: Poles of all filters, those that should be, complex, (..., n).
        uncertainty: How far each may be off, as :func:`~transferfn.core.polynomial.roots` tells, (..., n).

    Returns:
        Eight time constants of the slowest pole inside the unit circle, in 1024..65536, and at least eight times the
        order. If filters grow, at most 1024; if all do, the samples until the fastest mode of each has grown a
        thousandfold, but more than twice the order: beyond, modes that no input reaches are seen, for rounding starts
        them.

    Example:
        >>> samples_to_compare(torch.tensor([0.5, 0.9995])), samples_to_compare(torch.tensor([1.1]))
        (15996, 73)
    """
    n = poles.shape[-1]
    shortest = max(SHORTEST, 8 * n)
    radii = poles.detach().abs()
    if not radii.numel() or not bool(radii.isfinite().all()):
        return shortest
    if float(radii.max()) > 1 + GROWING:
        fastest = (radii - uncertainty).amax(-1)
        if not bool((fastest > 1 + GROWING).all()):
            return shortest
        return min(shortest, max(math.ceil(math.log(GROWTH) / math.log(float(fastest.min()))), 2 * n + 2))
    slowest = float(radii[radii < 1].max()) if bool((radii < 1).any()) else 0.0
    wanted = math.ceil(MEMORIES / -math.log(slowest)) if slowest else 0
    return max(shortest, min(wanted, LONGEST))


def response_error(found: Tensor, truth: Tensor) -> Tensor:
    """Largest difference of impulse responses, relative to the largest sample of each channel.

    Args:
        found: Responses of the result, (*bank, D, L).
        truth: Responses of what was converted, (*bank, D, L).

    Returns:
        Errors, (*bank, D), float64, without derivatives; infinite where a response is not finite.

    Example:
        >>> response_error(torch.tensor([[1.0, 0.5]]), torch.tensor([[1.0, 0.25]])).item()
        0.25
    """
    found, truth = found.detach().to(torch.float64), truth.detach().to(torch.float64)
    largest = truth.abs().amax(-1).clamp_min(torch.finfo(torch.float64).tiny)
    return ((found - truth).abs().amax(-1) / largest).nan_to_num(nan=torch.inf)


def check_error(error: Tensor, tolerance: float, *, what: str, instead: str) -> None:
    """Refuse a conversion that lost the filter.

    Args:
        error: Measured error of each channel, (D).
        tolerance: Largest that is not refused.
        what: What does not hold the filters, and why.
        instead: What to do.

    Raises:
        ArithmeticError: if an error is larger, or is not a number.

    Example:
        >>> check_error(torch.zeros(2), 1e-3, what="second-order sections", instead="keep the coefficients")
    """
    lost = ~(error <= tolerance)
    if bool(lost.any()):
        raise ArithmeticError(
            f"{what}: {int(lost.sum())} of {error.numel()} responses are off by up to {float(error[lost].max()):.1g} "
            f"of their largest sample, where {tolerance:.1g} was asked for. {instead}"
        )
