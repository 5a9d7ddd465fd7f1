"""Saying that coefficients no longer determine what was asked of them, instead of returning noise."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from transferfn.core.algebra import numerator
from transferfn.core.convert import last_recursions
from transferfn.core.converted import response_error
from transferfn.core.kernel import conditioning, impulse_response
from transferfn.core.polynomial import monic
from transferfn.kernels.tracing import values_are_hidden
from transferfn.typing import Denominator, Feedthrough, Numerator

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


def warn_of_rounded(b: Numerator, a: Denominator, h0: Feedthrough, *, length: int, tolerance: float) -> None:
    """Warn where a recurrence in float64 with given coefficients is not the filter that they are exactly.

    The truth is the same recurrence in NumPy's ``longdouble``, wider than float64 where the machine has it.

    Args:
        b: Numerator b_1..b_n, (D, n), float64.
        a: Denominator a_1..a_n, (G, n).
        h0: Feedthrough, (D).
        length: Number of samples of the impulse response.
        tolerance: Largest error, relative to the largest sample, of which nothing is said.
    """
    from scipy.signal import lfilter

    whole, denominators = (x.numpy(force=True).astype(np.longdouble) for x in (numerator(b, a, h0), monic(a)))
    impulse = np.zeros(length, np.longdouble)
    impulse[0] = 1
    groups = np.arange(len(whole)) * len(denominators) // len(whole)
    truth = np.stack([lfilter(row, denominators[g], impulse) for row, g in zip(whole, groups, strict=True)])
    fits = np.abs(truth) < np.finfo(np.float64).max / 1e6  # what grows is compared as far as float64 goes
    fits = np.logical_and.accumulate(fits, -1)
    truth = torch.from_numpy(np.where(fits, truth, 0).astype(np.float64))
    found = torch.where(torch.from_numpy(fits), impulse_response(b, a, h0, length=length), 0)
    error = response_error(found, truth)
    worst = float(error.max())
    if not worst <= tolerance:
        warnings.warn(
            f"in float64 the recurrence of {int((~(error <= tolerance)).sum())} of {len(error)} filters of order "
            f"{a.shape[-1]} is not the filter: rounding changes the response by up to {worst:.1g} of its largest "
            f"sample within {length} samples, for the poles are too close together. The coefficients were rounded "
            f"as much when they were computed: design the filter as second-order sections, which sosfilt and "
            f"SectionRealization run, or lower its order.",
            IllConditionedWarning,
            stacklevel=4,
        )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
