"""Reduction of all filters of a trained model, and what it changes: errors, decoding speed, the task's metric."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from transferfn.analysis.distill import like_of, replaced
from transferfn.analysis.reduce import Method, Reduction, check_target, reduce
from transferfn.core import TransferFunction
from transferfn.nn import RTF, Realization

FEWEST_STEPS = 30  # timed, of each model in turn


@dataclass(frozen=True, eq=False)
class ModelReduction:
    """A model with smaller filters, and what each cost.

    Attributes:
        model: The model; that given is left as it is.
        filters: What the reduction of each layer cost, by its name; of a bidirectional layer two, ``name[0]``, the
            causal one, and ``name[1]``.
        kept: Why other layers with filters were left as they are, by their names.
        step_milliseconds: Time of a decoding step before and after, None if it was not measured.
        metric: The task's metric before and after, None if it was not measured.
    """

    model: nn.Module
    filters: dict[str, Reduction]
    kept: dict[str, str] = field(default_factory=dict)
    step_milliseconds: tuple[float, float] | None = None
    metric: tuple[float, float] | None = None

    def table(self) -> list[dict[str, Any]]:
        """A row for each filter: layer, channel, orders, bound and measured errors."""
        return [
            {
                "layer": name,
                "channel": channel,
                "order": found.hankel.shape[-1],
                "reduced to": int(found.orders[channel]),
                "bound": float(found.bound[channel]),
                "error of frequency response": float(found.peak_error[channel]),
                "error of impulse response": float(found.error[channel]),
            }
            for name, found in self.filters.items()
            for channel in range(len(found.orders))
        ]

    def lines(self) -> list[str]:
        """What happened, for people: one line a layer, then speed and metric."""
        rows = [
            f"{name}: order {found.hankel.shape[-1]} to {found.system.order}, in the mean "
            f"{found.orders.double().mean():.1f}; largest error of a frequency response "
            f"{float(found.peak_error.max()):.1e}, bound {float(found.bound.max()):.1e}"
            for name, found in self.filters.items()
        ]
        rows += [f"{name}: kept, {why}" for name, why in self.kept.items()]
        if self.step_milliseconds is not None:
            before, after = self.step_milliseconds
            rows.append(
                f"a decoding step: {before:.3f} ms before, {after:.3f} ms after ({before / after:.2f} times as fast)"
            )
        if self.metric is not None:
            before, after = self.metric
            rows.append(f"metric: {before:.6g} before, {after:.6g} after ({after - before:+.2g})")
        return rows


@torch.no_grad()
def reduce_model(
    model: nn.Module,
    *,
    order: int | None = None,
    tolerance: float | None = None,
    method: Method = "balanced",
    sample: Tensor | None = None,
    metric: Callable[[nn.Module], float] | None = None,
) -> ModelReduction:
    """Shrink every RTF filter of a model.

    Each layer gets the largest order that one of its filters needs, filters of lower order ending in zeros, and one
    denominator a channel. A layer whose filters would not become smaller is kept.

    Args:
        model: Any module with RTF layers, or with Realizations of them.
        order: Order to reduce to; layers of no more are kept.
        tolerance: Instead, the largest error of a frequency response that is allowed, relative to its largest value.
        method: As for :func:`~transferfn.analysis.reduce.reduce`.
        sample: A sample as the model's ``step`` takes it, (B, ...); then decoding steps are timed before and after.
        metric: What the task measures of a model, such as its accuracy; then it is computed before and after.

    Returns:
        The smaller model and what each filter cost.

    Raises:
        TypeError: if the order is no whole number.
        ValueError: if not exactly one of order and tolerance is given, or there is nothing to reduce in the model.

    Example:
        >>> from transferfn.models import Backbone
        >>> model = Backbone(4, 2, lambda: RTF(4, 16, horizon=64, init="montel"), inputs=1)
        >>> found = reduce_model(model, tolerance=0.1, sample=torch.zeros(1, 1))
        >>> max(row["error of frequency response"] for row in found.table()) < 0.1
        True
    """
    check_target(order, tolerance)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, (RTF, Realization))}
    if not layers:
        raise ValueError(
            f"this {type(model).__name__} has no RTF layer to reduce; distill_layer() makes one of a long convolution, "
            f"S4 or S4D"
        )
    filters: dict[str, Reduction] = {}
    kept: dict[str, str] = {}
    fresh: dict[str, nn.Module] = {}
    for name, layer in layers.items():
        if order is not None and order >= layer.order:
            kept[name] = f"of order {layer.order} already"
            continue
        try:
            found = [reduce(bank, order=order, tolerance=tolerance, method=method) for bank in _banks(layer)]
        except (ValueError, ArithmeticError) as error:
            kept[name] = str(error)
            continue
        if max(one.system.order for one in found) >= layer.order:
            kept[name] = f"its filters need their order of {layer.order}"
            continue
        fresh[name] = _smaller(layer, [one.system for one in found])
        filters |= {name: found[0]} if len(found) == 1 else {f"{name}[{i}]": one for i, one in enumerate(found)}
    small = replaced(model, fresh)
    return ModelReduction(
        model=small,
        filters=filters,
        kept=kept,
        step_milliseconds=None if sample is None else step_milliseconds(model, small, sample),
        metric=None if metric is None else (metric(model), metric(small)),
    )


@torch.no_grad()
def step_milliseconds(before: nn.Module, after: nn.Module, sample: Tensor) -> tuple[float, float]:
    """Median times of a decoding step of two models, which take turns.

    Args:
        before: A model with ``decoder()`` or ``realize()``, or with ``step`` alone.
        after: Another.
        sample: A sample as ``step`` takes it, (B, ...).
    """
    decoders = [_decoder(copy.deepcopy(model).eval()) for model in (before, after)]
    states = [decoder.init_stream(len(sample)) for decoder in decoders]
    times: list[list[float]] = [[], []]
    for _ in range(FEWEST_STEPS + 1):
        for i, decoder in enumerate(decoders):
            start = time.perf_counter()
            _, states[i] = decoder.step(sample, states[i])
            times[i].append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])  # the first may compile


def _decoder(model: Any) -> Any:
    for way in ("decoder", "realize"):
        if hasattr(model, way):
            return getattr(model, way)()
    return model


def _banks(layer: RTF | Realization) -> list[TransferFunction]:
    system = layer.transfer_function()
    if system.b.dim() == 2:
        return [system]
    return [TransferFunction(b, a, h0, system.dt) for b, a, h0 in zip(system.b, system.a, system.h0, strict=True)]


def _smaller(layer: RTF | Realization, systems: list[TransferFunction]) -> RTF | Realization:
    """A layer of the same kind with given filters, one bank a direction."""
    like = like_of(layer)
    if isinstance(layer, Realization):
        return Realization(systems[0].to(device=like.device, dtype=like.dtype), method=layer.method)
    order = max(system.order for system in systems)
    b, a, h0 = (
        torch.stack(parts) if layer.bidirectional else parts[0]
        for parts in zip(*((_to(h.b, order), _to(h.a, order), h.h0) for h in systems), strict=True)
    )
    build = partial(
        RTF.from_transfer_function,
        TransferFunction(b, a, h0, layer.dt),
        horizon=max(layer.horizon, order + 1),
        numerator="exact",
        method=layer.method,
        kernel_dropout=layer.kernel_dropout,
        device=like.device,
        dtype=like.dtype,
    )
    try:
        new = build(constraint="reflection" if layer.constraint == "reflection" else None).value
    except (ValueError, ArithmeticError):  # reflection coefficients that rounding spoils are none to keep
        new = build(tolerance=math.inf).value
    new.init = layer.init
    return new


def _to(coefficients: Tensor, order: int) -> Tensor:
    return pad(coefficients, (0, order - coefficients.shape[-1]))
