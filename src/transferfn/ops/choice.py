"""Which way to filter: what costs least, unless a recurrence would lose what a kernel keeps."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from transferfn.core.convert import LARGEST_SOLVE
from transferfn.core.system import TransferFunction, TruncatedTransferFunction
from transferfn.kernels.stability import noise_gain
from transferfn.kernels.tracing import values_are_hidden
from transferfn.ops.cost import Job, cheapest
from transferfn.ops.fourier import has_native_loop
from transferfn.typing import FilterState, Resets, Signal

Method = Literal["auto", "fft", "scan", "blocks"]
System = TransferFunction | TruncatedTransferFunction

GROWTH_LIMIT = 1e3  # how much larger than the output the terms of its sum may be before the FFT does better
LOST_DIGITS = 16.0  # rounding errors of the signal's type that a conversion may cost before the FFT does better
LARGEST_NOISE = 1e-4  # what a recurrence in a type narrower than float64 may add to a signal before the FFT does better


def choose(
    method: Method,
    u: Tensor,
    system: System,
    resets: Resets | None,
    *,
    has_state: bool,
    starts: bool = True,
    whole: bool = False,
) -> tuple[Method, bool]:
    """The way to filter; and whether to look, while at it, if the recurrence outgrows what is read off it.

    Up to its horizon a truncated system has a kernel, finite even where its recurrence grows without bound.

    Args:
        method: What was asked for.
        u: Input, (B, L, D).
        system: One bank or two.
        resets: Where states are cleared.
        has_state: Whether there is a state before the signal or one is wanted after it.
        starts: Whether the signal starts from rest.
        whole: Whether rows may be filtered block by block: one way in time, from their first sample to their last one.
    """
    has_kernel = isinstance(system, TruncatedTransferFunction) and starts and u.shape[1] <= system.horizon
    if method != "auto":
        return method, False
    if u.device.type != "cpu":
        return "fft", False
    if values_are_hidden():
        # Nobody can look where the FFT path would have to cut rows, nor whether a recurrence blew up.
        by_kernel = has_kernel or system.order > LARGEST_SOLVE
        return ("fft" if by_kernel and resets is None else "scan"), False
    found = _cheapest(u, system, has_kernel, has_state, whole)
    if found == "scan" and starts and is_noisy(system.a, u.dtype):
        found = "fft"
    return found, has_kernel


def _cheapest(u: Tensor, system: System, has_kernel: bool, has_state: bool, whole: bool) -> Method:
    if has_kernel and system.order > LARGEST_SOLVE:
        return "fft"
    coefficients = (system.b, system.h0) if isinstance(system, TransferFunction) else (system.b_tilde, system.h0_tilde)
    job = Job(
        *u.shape,
        groups=system.a.shape[-2],
        order=system.order,
        banks=system.a.shape[:-2].numel(),
        horizon=system.horizon if isinstance(system, TruncatedTransferFunction) else None,
        has_kernel=has_kernel,
        state=has_state,
        itemsize=u.element_size(),
        training=torch.is_grad_enabled() and any(x.requires_grad for x in (u, system.a, *coefficients)),
        threads=torch.get_num_threads(),
    )
    return cheapest(job, in_blocks=whole and not has_kernel and has_native_loop(u))


def is_noisy(a: Tensor, dtype: torch.dtype) -> bool:
    """Whether a recurrence rounds too much of a signal away; a kernel is computed in float64 whatever the signal is.

    Args:
        a: Denominators, (*bank, G, n).
        dtype: Type the recurrence would be run in.
    """
    return dtype != torch.float64 and noise_gain(a.flatten(0, -2)) * torch.finfo(dtype).eps > LARGEST_NOISE


def is_noisy_response(g: Tensor, a: Tensor, dtype: torch.dtype) -> bool:
    """The same from the first samples of a response, whose further ones are taken to decay as these do.

    Args:
        g: Responses of 1/A, (D, N).
        a: Denominators, (D, n).
        dtype: Type that states would be handed over in.
    """
    if dtype == torch.float64:
        return False
    with torch.no_grad():
        early, late = (half.square().sum(-1) for half in g.chunk(2, -1))
        gain = (1 + a.abs().sum(-1)) * (early / (1 - late / early).clamp_min(0)).sqrt()
        return not bool((gain * torch.finfo(dtype).eps <= LARGEST_NOISE).all())


def is_well_conditioned(y: Signal, after: FilterState, b: Tensor) -> bool:
    """Whether the output survived the readout y = b . w: an unstable recurrence outgrows what is read off it.

    Growth shows in the state after the signal.

    Args:
        y: Output, (B, L, D).
        after: State after it, (B, D, n).
        b: Numerator, (D, n).
    """
    with torch.no_grad():
        terms = after.abs().amax((0, 2)) * b.abs().sum(-1).to(after.dtype)
        return bool((terms <= GROWTH_LIMIT * y.abs().amax((0, 1))).all())


def largest_growth(dtype: torch.dtype) -> float:
    """How much a response may grow before the digits of its beginning, in float64, are too few for a type.

    Args:
        dtype: Type of the signal.
    """
    return LOST_DIGITS * torch.finfo(dtype).eps / torch.finfo(torch.float64).eps
