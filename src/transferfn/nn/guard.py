"""What a recurrence says about filters that blow up."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from transferfn.core.stability import UnstableFilterWarning, schur_cohn, stability
from transferfn.kernels.stability import seem_stable
from transferfn.nn.mixer import values_are_hidden


class StateOverflowError(ArithmeticError):
    """The state of a recurrence is no longer finite."""


def warn_if_unstable(a: Tensor, horizon: int | None, *, dtype: torch.dtype | None = None, stacklevel: int = 3) -> None:
    """Name the growth factor of filters that are certainly unstable, before a recurrence runs them.

    Args:
        a: Denominator a_1..a_n, (G, n).
        horizon: Number of samples to illustrate the growth with, if there is one.
        dtype: Type that the recurrence rounds them to, which may be why they are unstable; None means theirs.
        stacklevel: Whose line the warning names; 3 is that of the caller's caller.
    """
    if values_are_hidden() or a.is_meta:
        return
    given = a.detach().to("cpu", torch.float64)
    wide = given if dtype is None else given.to(dtype).to(torch.float64)
    if seem_stable(wide):
        return
    _, outside = schur_cohn(wide)
    if not bool(outside.any()):
        return
    radius = float(stability(wide[outside]).radius.max())
    over = "" if horizon is None else f", by {_power(radius, horizon)} over {horizon} samples"
    advice = "to stream, repair the layer with stabilize() or train it with constraint='reflection'."
    if not bool(schur_cohn(given[outside])[1].any()):
        advice = (
            f"that is because of rounding to {str(dtype).removeprefix('torch.')}: to stream, decode with "
            f"realize_model(model), or of one layer realize(layer.transfer_function()), in a form that rounding leaves "
            f"stable, or with layer.realize(torch.float64) and samples in float64."
        )
    warnings.warn(
        f"{int(outside.sum())} of {len(wide)} denominators are unstable: the state grows by a factor of {radius:.6g} a "
        f"sample{over}. The parallel form up to the horizon is unaffected; {advice}",
        UnstableFilterWarning,
        stacklevel=stacklevel,
    )


def warn_if_rounded(a: Tensor, dtype: torch.dtype) -> None:
    """Say so where rounding makes stable filters unstable, which from the rounded ones nobody can tell.

    Args:
        a: Denominator a_1..a_n, (G, n).
        dtype: Type that a recurrence rounds them to.
    """
    if not a.is_meta and not bool(schur_cohn(a.detach().to("cpu", torch.float64))[1].any()):
        warn_if_unstable(a, None, dtype=dtype, stacklevel=4)


ADVICE = (
    "Unstable filters cannot be streamed for long: repair the layer with stabilize(), train it with "
    "constraint='reflection' or 'l1', or reset more often. Stable ones that rounding makes unstable are decoded by "
    "realize_model(model) in another form."
)


def check_finite(state: Tensor, a: Tensor, u: Tensor) -> None:
    """Raise if a state has overflowed, naming the pole radius and the number of samples; or if the input was to blame.

    Args:
        state: State after the samples, (B, D, n).
        a: Denominator a_1..a_n, (G, n).
        u: The samples, (B, L, D) or (B, D).
    """
    require_finite(state, u, lambda: float(stability(a.detach().cpu()).radius.max()), ADVICE)


def require_finite(state: Tensor, u: Tensor, radius: Callable[[], float], advice: str) -> None:
    """Raise if a state of any form has overflowed, naming the pole radius; or if the input was to blame.

    Args:
        state: State after the samples, batch first.
        u: The samples, (B, L, D) or (B, D).
        radius: Tells the largest magnitude of a pole; asked only if there is an error.
        advice: What to do about unstable filters.
    """
    if values_are_hidden() or state.is_meta or _is_finite(state):
        return
    samples = u.shape[1] if u.dim() == 3 else 1
    if not _is_finite(u):
        cause = "the input holds values that are not finite. Clear the state with init_state() or a reset after them."
    else:
        cause = _cause(radius(), advice)
    more = f"{samples} more sample{'s' * (samples != 1)}"
    raise StateOverflowError(f"the state is no longer finite after {more}: {cause}")


def warn_if_overflowed(y: Tensor, a: Tensor, u: Tensor, lengths: Tensor | None, *, stacklevel: int = 3) -> None:
    """Name the pole radius where a whole signal's output is no longer finite at its ends, though the signal is.

    On other devices than the CPU looking would wait; nothing is said there.

    Args:
        y: Output, (B, L, D).
        a: Denominators a_1..a_n, (*bank, G, n).
        u: Input, (B, L, D).
        lengths: Number of valid samples of each row, (B,); None means all.
        stacklevel: Whose line the warning names; 3 is that of the caller's caller.
    """
    advice = (
        "The parallel form is finite only up to the horizon of a truncated numerator: repair the layer with "
        "stabilize(), or train it with constraint='reflection' or 'l1'."
    )
    warn_of_overflow(
        y, u, lengths, lambda: float(stability(a.detach()).radius.max()), advice, stacklevel=stacklevel + 1
    )


def warn_of_overflow(
    y: Tensor, u: Tensor, lengths: Tensor | None, radius: Callable[[], float], advice: str, *, stacklevel: int = 3
) -> None:
    """The same for filters of any form.

    Args:
        y: Output, (B, L, D).
        u: Input, (B, L, D).
        lengths: Number of valid samples of each row, (B,); None means all.
        radius: Tells the largest magnitude of a pole; asked only if there is something to say.
        advice: What to do about it.
        stacklevel: Whose line the warning names; 3 is that of the caller's caller.
    """
    if values_are_hidden() or y.device.type != "cpu" or not y.numel():
        return
    ends = y[:, :: max(y.shape[1] - 1, 1)]  # the first sample and the last one
    if lengths is not None:
        ends = torch.stack((ends[:, 0], y[torch.arange(len(y)), (lengths - 1).clamp_min(0)]))
    if _is_finite(ends) or not _is_finite(u):
        return
    warnings.warn(
        f"the output is no longer finite after {y.shape[1]} samples: {_cause(radius(), advice)}",
        UnstableFilterWarning,
        stacklevel=stacklevel,
    )


def warn_of_growth(radius: float, advice: str, *, stacklevel: int = 3) -> None:
    """Name the growth factor of filters with a pole outside the unit circle, before a recurrence runs them.

    Args:
        radius: Largest magnitude of a pole.
        advice: What to do about it.
        stacklevel: Whose line the warning names; 3 is that of the caller's caller.
    """
    if radius > 1:
        warnings.warn(
            f"the state grows by a factor of up to {radius:.6g} a sample: {advice}",
            UnstableFilterWarning,
            stacklevel=stacklevel,
        )


def _cause(radius: float, advice: str) -> str:
    if math.isnan(radius):
        return "parameters of the filters are not finite, as training that diverged leaves them."
    return f"the largest pole radius is {radius:.6g}. {advice}"


def _is_finite(x: Tensor) -> bool:
    """Look at every value once, and make no mask of them."""
    return not x.numel() or all(math.isfinite(edge.item()) for edge in x.detach().aminmax())


def _power(radius: float, exponent: int) -> str:
    try:
        return f"{radius**exponent:.2g}"
    except OverflowError:
        return "more than 1e308"
