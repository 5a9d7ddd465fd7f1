"""Distillation: long kernels, and the layers that have them, as transfer functions of a chosen order.

A model trained with free filters then decodes as a recurrence, with a state of n numbers a channel.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from transferfn.analysis import output_error
from transferfn.analysis.hankel import observability, poles_of_states, truncate_response
from transferfn.analysis.output_error import Form, Model, Records
from transferfn.core import TransferFunction
from transferfn.core.checks import check_whole
from transferfn.core.kernel import conditioning, impulse_response
from transferfn.nn import RTF, Realization, SequenceMixer
from transferfn.nn.long_conv import LongConvolution
from transferfn.typing import Kernel

Start = Literal["balanced", "shift"]
SHARES = (16, 12, 8, 6, 4, 3, 2, 1)  # sixteenths of the order that a closed form is tried with
CIRCLE = 4096  # points of the unit circle at which the smallest |A| is looked for
FORM = Form(feedthrough=True, constant=False, initial=False)


@dataclass(frozen=True, eq=False)
class Distillation:
    """Transfer functions that stand in for kernels, and their error.

    Attributes:
        system: The bank, float64, on the CPU, one denominator a channel, certainly stable.
        error: Distance of the impulse responses over the length of the kernel, relative to the kernel's norm, (D).
        rounding: About what rounding costs in a recurrence in the type asked for, relative to the largest sample, (D).
        start_error: The error before refinement, (D).
        starts: Which closed form each filter comes from: ``"balanced"`` or ``"shift"``.
        steps: Gauss-Newton steps that lowered the error, (D).
    """

    system: TransferFunction
    error: Tensor
    rounding: Tensor
    start_error: Tensor
    starts: tuple[Start, ...]
    steps: Tensor

    def __repr__(self) -> str:
        return (
            f"Distillation({len(self.error)} filters of order {self.system.order}; relative error of a kernel: median "
            f"{float(self.error.median()):.2g}, largest {float(self.error.max()):.2g}; before refinement "
            f"{float(self.start_error.median()):.2g}, {float(self.start_error.max()):.2g})"
        )


@torch.no_grad()
def distill(kernel: Kernel, order: int, *, steps: int = 20, dtype: torch.dtype = torch.float32) -> Distillation:
    """Find stable transfer functions of a given order whose impulse responses are nearest to kernels.

    Poles come in closed form, from balanced truncation of the finite response and from its invariance to a shift
    (:mod:`transferfn.analysis.hankel`); the numerator that fits best over the whole kernel is a linear problem. The
    best of them is refined by Gauss-Newton steps on the error of the impulse response, none of which is taken unless it
    lowers the error and stays stable. What the filter does past the end of the kernel is free.

    More poles than a kernel has crowd together until coefficients do not hold them. So what rounding costs where the
    filter is to run, about eps kappa, counts as error, and some filters are given fewer poles and zeros at their end.

    Args:
        kernel: Impulse responses h_0..h_(L-1), (D, L).
        order: Order n, less than half of L.
        steps: Largest number of steps of refinement; 0 keeps the closed form.
        dtype: Type of the signals that the filters are to run on.

    Returns:
        The filters and their errors.

    Raises:
        TypeError: if a size is no whole number.
        ValueError: if the kernel is no finite (D, L), or too short for the order.

    Source:
        The search is that of :mod:`transferfn.analysis.output_error`; to distil filters for decoding is the idea of
        Massaroli et al. 2023, arXiv:2310.18780.

    Example:
        >>> t = torch.arange(64.0)
        >>> found = distill((0.9**t * torch.cos(0.3 * t))[None], order=2)
        >>> bool(found.error.max() < 1e-6)
        True
    """
    _check_kernel(kernel, order, steps)
    found = [
        _distill_one(h, order, steps, torch.finfo(dtype).eps)
        for h in kernel.detach().to(device="cpu", dtype=torch.float64)
    ]
    b, a, h0 = (torch.stack(parts) for parts in zip(*(row.best.coefficients for row in found), strict=True))
    return Distillation(
        system=TransferFunction(b, a, h0),
        error=torch.tensor([row.best.error for row in found], dtype=torch.float64),
        rounding=torch.tensor([row.best.rounding for row in found], dtype=torch.float64),
        start_error=torch.tensor([row.start_error for row in found], dtype=torch.float64),
        starts=tuple(row.start for row in found),
        steps=torch.tensor([row.steps for row in found]),
    )


@torch.no_grad()
def kernel_of(layer: nn.Module, length: int) -> Kernel:
    """Impulse response of a causal layer that filters each channel by itself.

    Args:
        layer: A long convolution, or a layer with ``kernel`` (RTF, S4, S4D) or ``transfer_function``.
        length: Number of samples.

    Returns:
        h_0..h_(length-1), float64, (D, length).

    Raises:
        TypeError: if the layer has none of them.
        ValueError: if it looks ahead.

    Example:
        >>> kernel_of(RTF(4, 2, horizon=8), 5).shape
        torch.Size([4, 5])
    """
    if not getattr(layer, "is_causal", True):
        raise ValueError(f"this {type(layer).__name__} looks ahead and has no transfer function of the past")
    if isinstance(layer, LongConvolution):
        return layer.kernel(length).to(torch.float64)
    transfer_function: Any = getattr(layer, "transfer_function", None)
    kernel: Any = getattr(layer, "kernel", None)
    if kernel is not None:
        return kernel(length).to(torch.float64)
    if transfer_function is not None:
        return transfer_function().to(dtype=torch.float64).impulse_response(length)
    raise TypeError(
        f"expected a layer with transfer_function() or kernel(), got {type(layer).__name__}; pass "
        f"a kernel (D, L) to distill() instead"
    )


def distill_layer(
    layer: SequenceMixer, order: int, *, length: int | None = None, steps: int = 20
) -> tuple[RTF | Realization, Distillation]:
    """Replace a layer with long kernels by an RTF layer with exact numerators and stable denominators.

    Args:
        layer: A causal layer that :func:`kernel_of` knows, such as :class:`~transferfn.ImplicitFilter`.
        order: Order n of the new filters.
        length: Number of samples of the kernel to reproduce; None means the layer's horizon.
        steps: As for :func:`distill`.

    Returns:
        The layer, ``constraint="reflection"``, to decode or to train on; or, where reflection coefficients in the type
        of the parameters do not hold the filters, a :class:`~transferfn.Realization` in float64. And what it cost.

    Raises:
        TypeError, ValueError: as :func:`kernel_of` and :func:`distill`; or if a layer without a horizon is given no
            length.
    """
    length = getattr(layer, "horizon", None) if length is None else length
    if length is None:
        raise ValueError(
            f"a {type(layer).__name__} has no horizon: say how many samples of its kernel count, length=..."
        )
    found = distill(kernel_of(layer, length), order, steps=steps)
    return layer_of(found.system, length, like_of(layer)), found


def like_of(layer: nn.Module) -> Tensor:
    """A tensor of the device and type of a layer's coefficients.

    Args:
        layer: The layer.
    """
    return next((x for x in (*layer.parameters(), *layer.buffers()) if x.is_floating_point()), torch.zeros(()))


def layer_of(system: TransferFunction, horizon: int, like: Tensor) -> RTF | Realization:
    """A layer that computes given stable filters: RTF if its parameters hold them, else their recurrence in float64.

    Args:
        system: The filters, one denominator a channel.
        horizon: Horizon of the layer in samples.
        like: A tensor of the device and type its parameters are to have.

    Returns:
        ``RTF(..., numerator="exact", constraint="reflection")``, or a Realization if reflection coefficients in that
        type are off by more than a thousandth.
    """
    try:
        return RTF.from_transfer_function(
            system,
            horizon=max(horizon, 1),
            numerator="exact",
            constraint="reflection",
            device=like.device,
            dtype=torch.promote_types(like.dtype, torch.float32),
        ).value
    except (ValueError, ArithmeticError):
        return Realization(system.to(device=like.device))


def replaced(model: nn.Module, fresh: dict[str, nn.Module]) -> nn.Module:
    """A copy of a model with some of its modules replaced.

    Args:
        model: The model; it is left as it is.
        fresh: New modules by the names of the old ones; the empty name is the model itself.
    """
    if "" in fresh:
        return fresh[""]
    new = copy.deepcopy(model)
    for name, module in fresh.items():
        new.set_submodule(name, module.train(model.get_submodule(name).training))
    return new


class _Candidate(NamedTuple):
    model: Model
    coefficients: tuple[Tensor, Tensor, Tensor]
    error: float
    rounding: float

    @property
    def loss(self) -> float:
        return math.hypot(self.error, self.rounding)


class _Row(NamedTuple):
    best: _Candidate
    start_error: float
    start: Start
    steps: int


def _distill_one(h: Tensor, order: int, steps: int, eps: float) -> _Row:
    impulse = torch.zeros(1, len(h), 1, dtype=h.dtype)
    impulse[0, 0] = 1
    known = torch.ones(1, len(h), dtype=torch.bool)
    records = Records(impulse, h[None], known, torch.tensor([len(h)]))
    best = _measured(output_error.solve(records, h.new_zeros(1, order), FORM), h, eps)
    which: Start = "balanced"
    for start, poles in _closed_forms(h, order) if bool(h[1:].any()) else ():
        a = output_error.mirrored(output_error.denominators(poles)[None], edge=output_error.edge(records))
        if a is None:  # coefficients do not hold so many poles
            continue
        found = _measured(output_error.solve(records, pad(a, (0, order - len(poles))), FORM), h, eps)
        if found.loss < best.loss:
            best, which = found, start
    if steps and best.error > eps:
        refined = output_error.refine(records, best.model, FORM, steps=steps)
        finer = _measured(refined, h, eps)
        if finer.loss < best.loss:
            return _Row(finer, best.error, which, refined.steps)
    return _Row(best, best.error, which, 0)


def _measured(model: Model, h: Tensor, eps: float) -> _Candidate:
    """Coefficients of one filter, their error over the kernel, and what rounding makes of it."""
    h0, a = model.numerators[0, 0], model.a[0]
    b = model.numerators[0, 1:] - h0 * a
    response = impulse_response(b[None], a[None], h0[None], length=len(h))[0]
    norm = h.norm().clamp_min(torch.finfo(h.dtype).tiny)
    kappa = float(conditioning(a[None], period=max(len(h), CIRCLE)))
    return _Candidate(model, (b, a, h0), float((response - h).norm() / norm), eps * kappa)


def _closed_forms(h: Tensor, order: int) -> Iterator[tuple[Start, Tensor]]:
    """Poles by both closed forms, and of lower orders, too."""
    _, balanced = truncate_response(h, order)
    outputs = observability(h[None], order)
    for part in sorted({max(order * share // 16, 1) for share in SHARES}, reverse=True):
        yield "balanced", torch.linalg.eigvals(balanced.a[:part, :part])
        yield "shift", poles_of_states(outputs[:, :part])


def check_order(order: int, length: int) -> None:
    """Refuse an order that a kernel of so many samples cannot be distilled to.

    Args:
        order: The order.
        length: Number of samples of the kernel.

    Raises:
        ValueError: if it is not at least 1 and less than half of them.

    Example:
        >>> check_order(7, 16)
    """
    if not 1 <= order < length // 2:
        raise ValueError(
            f"the order must be at least 1 and less than half the {length} samples of the kernel, got order={order}"
        )


def _check_kernel(kernel: object, order: int, steps: int) -> None:
    check_whole("order", order)
    check_whole("steps", steps)
    if steps < 0:
        raise ValueError(f"steps must be at least 0, got {steps}")
    if not isinstance(kernel, Tensor) or not kernel.is_floating_point():
        raise TypeError(
            f"expected kernels as a real floating-point tensor, got {getattr(kernel, 'dtype', type(kernel))}"
        )
    if kernel.dim() != 2 or not kernel.numel():
        raise ValueError(f"expected kernels of shape (channels, length), got {tuple(kernel.shape)}")
    check_order(order, kernel.shape[-1])
    if not bool(kernel.isfinite().all()):
        raise ValueError("some kernel has samples that are not finite")
