"""Saying that coefficients no longer determine what was asked of them, instead of returning noise."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from transferfn.core.convert import last_recursions
from transferfn.core.kernel import conditioning
from transferfn.kernels.tracing import values_are_hidden
from transferfn.typing import Denominator

LARGEST_ERROR = 1e-3  # beyond this a result is called undetermined


class IllConditionedWarning(UserWarning):
    """The coefficients no longer determine what was asked of them."""


def warn_of_uncertain(what: str, found: Tensor, error: Tensor, *, dtype: torch.dtype) -> None:
    """Warn where rounding moves roots by more than a thousandth; say nothing where values cannot be looked at.

    Args:
        what: What the roots are called.
        found: Roots, any shape.
        error: How far each may be off, as many.
        dtype: Type of the coefficients.
    """
    if values_are_hidden():
        return
    relative = torch.where(found.isfinite(), error / found.detach().abs().clamp_min(1), 0)
    if relative.numel() and float(relative.max()) > LARGEST_ERROR:
        warnings.warn(
            f"the coefficients do not determine the {what}: rounding them in {_short(dtype)} moves some by "
            f"{float(relative.max()):.1g}. They are clustered; design the filter as second-order sections or lower its "
            f"order.",
            IllConditionedWarning,
            stacklevel=3,
        )


def warn_of_lost(a: Denominator, *, horizon: int) -> None:
    """Warn where rounding leaves less than three digits of a conversion b~ = b (I - A^P), in either direction.

    Nothing is said inside compiled graphs and function transforms, where values cannot be looked at.

    Args:
        a: Denominator a_1..a_n, (*bank, G, n).
        horizon: Period P in samples.
    """
    if values_are_hidden() or a.is_meta or not a.numel():
        return
    with torch.no_grad():
        eps = torch.finfo(a.dtype).eps
        total = float(a.abs().sum(-1).max())
        if eps * (1 + total) <= LARGEST_ERROR * (1 - total):  # |A| is at least 1 - sum|a|, and nothing grows
            return
        kappa = float(conditioning(a, period=horizon).max())
        growth = float(last_recursions(a, horizon).abs().max().nan_to_num(nan=torch.inf, posinf=torch.inf))
    if eps * max(kappa, growth) <= LARGEST_ERROR:
        return
    if growth > kappa:
        over = f"grows by {growth:.1g}" if growth < torch.inf else "grows beyond the largest number"
        cause = f"the response of the recurrence {over} in {horizon} samples, and the rest is rounded away"
    else:
        cause = f"the coefficients do not determine the response, rounding them is amplified by kappa = {kappa:.1g}"
    advice = "use float64, second-order sections, a lower order or another horizon, or call stabilize()"
    warnings.warn(f"a conversion in {_short(a.dtype)} is not accurate: {cause}; {advice}.", IllConditionedWarning, 3)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
