"""What a conversion returns: the object, and how far its impulse responses are from those it was made from."""

from __future__ import annotations

from typing import Generic, TypeVar

import torch
from torch import Tensor

COMPARED = 1024  # samples over which responses are compared, if the caller says nothing else

Value = TypeVar("Value")


class Converted(tuple[Value, Tensor], Generic[Value]):
    """The result of a conversion and its measured error; it unpacks as ``value, error = ...``.

    Args:
        value: What was asked for.
        error: max_t |h_t - truth_t| / max_t |truth_t| of each channel over the samples compared, (D), float64.

    Example:
        >>> Converted(1, torch.zeros(1)).value
        1
    """

    __slots__ = ()

    def __new__(cls, value: Value, error: Tensor) -> Converted[Value]:  # noqa: D102
        return super().__new__(cls, (value, error))

    @property
    def value(self) -> Value:
        """What was asked for."""
        return self[0]

    @property
    def error(self) -> Tensor:
        """How far its impulse response is from that of what it was made from, (D)."""
        return self[1]

    def __repr__(self) -> str:
        return f"Converted(value={self.value!r}, error={self.error!r})"


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
