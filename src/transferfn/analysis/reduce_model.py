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
from transferfn.analysis.reduce import SHOWN, Method, Reduction, check_target, reduce
from transferfn.analysis.stable_part import stable_parts
from transferfn.core import TransferFunction, TruncatedTransferFunction, select, stack
from transferfn.core.converted import Converted, response_error
from transferfn.core.from_poles import LARGEST_ERROR
from transferfn.nn import RTF, Realization
from transferfn.nn.options import Constraint, Initializer, NumeratorKind

FEWEST_STEPS = 30  # timed, of each model in turn
LARGEST_GROWTH = 1e6  # within the horizon, of a filter that is written with a true numerator


@dataclass(frozen=True, eq=False)
class ModelReduction:
    """A model with smaller filters, and what each cost.

    Attributes:
        model: The model; that given is left as it is.
        filters: What the reduction of each layer cost, by its name; of a bidirectional layer two, ``name[0]``, the
            causal one, and ``name[1]``.
        unstable: Pole radii of the unstable filters that were left as they are in these layers, by channel: those with
            no stable part to reduce, or which grow a millionfold within the horizon, where true numerators lose them.
            They hold their layer at their order.
        kept: Why other layers with filters were left as they are, by their names.
        needed: Orders that filters of kept layers need, by channel, None of unstable ones; named as ``filters`` are.
        rounding: Of layers whose type changes a reduced filter by more than a thousandth of the largest sample of its
            response, that share, by their names. It adds to the errors of ``filters``.
        step_milliseconds: Time of a decoding step before and after, None if it was not measured.
        metric: The task's metric before and after, None if it was not measured.
    """

    model: nn.Module
    filters: dict[str, Reduction]
    unstable: dict[str, dict[int, float]] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    needed: dict[str, list[int | None]] = field(default_factory=dict)
    rounding: dict[str, float] = field(default_factory=dict)
    step_milliseconds: tuple[float, float] | None = None
    metric: tuple[float, float] | None = None

    def table(self) -> list[dict[str, Any]]:
        """A row for each filter: layer, channel, orders, bound and measured errors, and ``rounding`` of its layer.

        Those that are ``"unstable"`` are as they were; of others with ``"unstable poles"`` the stable part was reduced.
        Those of a layer that was kept, because one of them needs all of its order, are as they were, too; what each
        needs is told.
        """
        rows = []
        for name, found in self.filters.items():
            left, order = self.unstable.get(name, {}), found.hankel.shape[-1]
            rounding = self.rounding.get(name.partition("[")[0], 0.0)
            reduced = iter(range(len(found.orders)))
            for channel in range(len(found.orders) + len(left)):
                row = None if channel in left else next(reduced)
                rows.append(
                    {
                        "layer": name,
                        "channel": channel,
                        "unstable": row is None,
                        "unstable poles": None if row is None else int(found.unstable[row]),
                        "order": order,
                        "needed order": None if row is None else int(found.orders[row]),
                        "reduced to": order if row is None else int(found.orders[row]),
                        "bound": 0.0 if row is None else float(found.bound[row]),
                        "error of frequency response": 0.0 if row is None else float(found.peak_error[row]),
                        "error of impulse response": 0.0 if row is None else float(found.error[row]),
                        "rounding of the layer": rounding,
                    }
                )
        for name, orders in self.needed.items():
            order = self.model.get_submodule(name.partition("[")[0]).order
            rows += [
                {
                    "layer": name,
                    "channel": channel,
                    "unstable": needed is None,
                    "order": order,
                    "needed order": needed,
                    "reduced to": order,
                    "bound": 0.0,
                    "error of frequency response": 0.0,
                    "error of impulse response": 0.0,
                    "rounding of the layer": 0.0,
                }
                for channel, needed in enumerate(orders)
            ]
        return rows

    def lines(self) -> list[str]:
        """What happened, for people: one line a layer, then speed and metric."""
        rows = []
        for name, found in self.filters.items():
            left, order = self.unstable.get(name, {}), found.system.order
            told = ""
            if left:
                order = self.model.get_submodule(name.partition("[")[0]).order
                told = (
                    f"; of order {order} because of {_named(left)}, left as unstable (pole radius up to "
                    f"{max(left.values()):.6g}): stabilize() the layer first to reduce all of it"
                )
            if growing := int((found.unstable > 0).sum()):
                told = f"; unstable: {growing}, their stable parts reduced, their other poles kept{told}"
            if (rounding := self.rounding.get(name.partition("[")[0], 0.0)) > 0:
                told += f"; rounding to the layer's type adds up to {rounding:.1e} of a response's largest sample"
            rows.append(
                f"{name}: order {found.hankel.shape[-1]} to {found.system.order}, in the mean "
                f"{found.orders.double().mean():.1f}; largest error of a frequency response "
                f"{float(found.peak_error.max()):.1e}, bound {float(found.bound.max()):.1e}{told}"
            )
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
    denominator a channel. It keeps reflection coefficients or free denominators as it has them, unless rounding them
    changes a filter by more than a thousandth, or makes it unstable: then it gets those of both that do it less. A
    layer whose filters would not become smaller is kept. Of unstable filters the stable part is reduced. Those without
    any, or which grow too much within the horizon, are left as they are among the others, to the last bit of their
    parameters, and hold the layer at their order.

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
    unstable: dict[str, dict[int, float]] = {}
    kept: dict[str, str] = {}
    needed: dict[str, list[int | None]] = {}
    rounding: dict[str, float] = {}
    fresh: dict[str, nn.Module] = {}
    for name, layer in layers.items():
        if order is not None and order >= layer.order:
            kept[name] = f"of order {layer.order} already"
            continue
        banks = _banks(layer)
        horizon = layer.horizon if isinstance(layer, RTF) else 0
        left = [_irreducible(bank, order, horizon) for bank in banks]
        if any(len(those) == bank.channels for bank, those in zip(banks, left, strict=True)):
            radius = max(max(those.values(), default=0.0) for those in left)
            kept[name] = (
                f"all its filters are unstable (pole radius up to {radius:.6g}), without a part that could be reduced: "
                f"stabilize() the layer first"
            )
            continue
        try:
            found = [
                reduce(_without(bank, those), order=order, tolerance=tolerance, method=method)
                for bank, those in zip(banks, left, strict=True)
            ]
        except (ValueError, ArithmeticError) as error:
            kept[name] = str(error)
            continue
        names = [name] if len(found) == 1 else [f"{name}[{i}]" for i in range(len(found))]
        if max(one.system.order for one in found) >= layer.order:
            orders = torch.cat([one.orders for one in found])
            whole = int((orders >= layer.order).sum())
            kept[name] = (
                f"{whole} of its {len(orders)} filters {'needs' if whole == 1 else 'need'} the order of {layer.order}, "
                f"in the mean {orders.double().mean():.1f}"
            )
            needed |= {key: _by_channel(one, those) for key, one, those in zip(names, found, left, strict=True)}
            continue
        fresh[name] = smaller = _smaller(layer, [one.system for one in found], left)
        rounded = max(map(_rounding, _banks(smaller), found, left))
        if rounded > LARGEST_ERROR:
            rounding[name] = rounded
        filters |= dict(zip(names, found, strict=True))
        unstable |= {key: those for key, those in zip(names, left, strict=True) if those}
    small = replaced(model, fresh)
    return ModelReduction(
        model=small,
        filters=filters,
        unstable=unstable,
        kept=kept,
        needed=needed,
        rounding=rounding,
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
    """The filters, one bank a direction."""
    return _split(*_parts(layer.transfer_function()), layer.dt)


def _as_read(layer: RTF | Realization) -> list[TransferFunction]:
    """The same with the numerators that the layer's parameters hold, which may be relative to its horizon."""
    return _split(*_parts(layer.system() if isinstance(layer, RTF) else layer.transfer_function()), layer.dt)


def _parts(system: TransferFunction | TruncatedTransferFunction) -> tuple[Tensor, Tensor, Tensor]:
    if isinstance(system, TransferFunction):
        return system.b, system.a, system.h0
    return system.b_tilde, system.a, system.h0_tilde


def _split(b: Tensor, a: Tensor, h0: Tensor, dt: float | None) -> list[TransferFunction]:
    if b.dim() == 2:
        return [TransferFunction(b, a, h0, dt)]
    return [TransferFunction(*parts, dt) for parts in zip(b, a, h0, strict=True)]


def _irreducible(bank: TransferFunction, order: int | None, horizon: int) -> dict[int, float]:
    """Pole radii of the unstable channels that are to be left as they are."""
    verdict = bank.stability()
    stable, radius = (x.repeat_interleave(bank.channels // len(x)).tolist() for x in (verdict.stable, verdict.radius))
    unstable = [channel for channel in range(bank.channels) if not stable[channel]]
    if not unstable:
        return {}
    _, why = stable_parts(bank.to(device="cpu", dtype=torch.float64), order)
    grown = math.log(LARGEST_GROWTH)
    return {d: radius[d] for d in unstable if d in why or horizon * math.log(max(radius[d], 1)) > grown}


def _by_channel(found: Reduction, left: dict[int, float]) -> list[int | None]:
    """Orders of all channels, of which some were left."""
    orders = iter(found.orders.tolist())
    return [None if channel in left else next(orders) for channel in range(len(found.orders) + len(left))]


def _without(bank: TransferFunction, left: dict[int, float]) -> TransferFunction:
    return select(bank, [channel for channel in range(bank.channels) if channel not in left]) if left else bank


def _among(left: dict[int, float], bank: TransferFunction, small: TransferFunction) -> TransferFunction:
    """Reduced filters with those that were left between them, as they were."""
    there = list(left)
    others = [channel for channel in range(bank.channels) if channel not in left]
    mixed = stack([select(bank, there).to(device="cpu", dtype=torch.float64), small])
    order = max(small.order, _degree(mixed))
    back = torch.tensor([*there, *others]).argsort()
    return TransferFunction(mixed.b[back, :order], mixed.a[back, :order], mixed.h0[back], mixed.dt)


def _degree(bank: TransferFunction) -> int:
    """The order without zeros at the end of all coefficients, which other reductions left."""
    return int(((bank.a != 0) | (bank.b != 0)).any(0).nonzero().max()) + 1


def _named(channels: dict[int, float]) -> str:
    names = ", ".join(map(str, list(channels)[:SHOWN])) + (", ..." if len(channels) > SHOWN else "")
    return f"channel {names}" if len(channels) == 1 else f"channels {names}"


def _smaller(
    layer: RTF | Realization, systems: list[TransferFunction], left: list[dict[int, float]]
) -> RTF | Realization:
    """A layer of the same kind with given filters, one bank a direction, and among them those of it that are left."""
    like = like_of(layer)
    numerator: NumeratorKind = "exact"
    if any(left):
        # Unstable responses outgrow what true numerators hold: what the layer has, horizon and all, stays.
        numerator = layer.numerator_kind if isinstance(layer, RTF) else "exact"
        if isinstance(layer, RTF) and numerator == "truncated":
            systems = [TransferFunction(*_parts(system.truncate(layer.horizon)), system.dt) for system in systems]
        systems = [
            _among(*parts) if parts[0] else parts[2] for parts in zip(left, _as_read(layer), systems, strict=True)
        ]
    if isinstance(layer, Realization):
        return Realization(systems[0].to(device=like.device, dtype=like.dtype), method=layer.method)
    order = max(system.order for system in systems)
    b, a, h0 = (
        torch.stack(parts) if layer.bidirectional else parts[0]
        for parts in zip(*((_to(h.b, order), _to(h.a, order), h.h0) for h in systems), strict=True)
    )
    horizon = max(layer.horizon, order + 1)
    if numerator == "truncated":  # given relative to the horizon, which no transfer function is
        new = RTF(
            layer.channels,
            order,
            horizon=horizon,
            bidirectional=layer.bidirectional,
            init=_given(b, a, h0),
            method=layer.method,
            kernel_dropout=layer.kernel_dropout,
            dt=layer.dt,
            device=like.device,
            dtype=like.dtype,
        )
    else:
        build = partial(
            RTF.from_transfer_function,
            TransferFunction(b, a, h0, layer.dt),
            horizon=horizon,
            numerator="exact",
            method=layer.method,
            kernel_dropout=layer.kernel_dropout,
            device=like.device,
            dtype=like.dtype,
        )
        new = _nearest(build, layer.constraint)
    new.init = layer.init
    return new


def _nearest(build: Callable[..., Converted[RTF]], constraint: Constraint | None) -> RTF:
    """A layer with reflection coefficients if it had them, or with those parameters that rounding changes least.

    Rounded denominators may be unstable where the filters are not; those of reflection coefficients never are.
    """
    free = build(tolerance=math.inf)
    try:
        reflection = build(constraint="reflection", tolerance=math.inf)
    except ValueError:  # some filters are unstable themselves
        return free.value
    mine, other = (reflection, free) if constraint == "reflection" else (free, reflection)
    return mine.value if _lost(mine) <= LARGEST_ERROR else min(mine, other, key=_lost).value


def _lost(found: Converted[RTF]) -> float:
    """How much rounding the parameters of a layer costs its filters, which are stable; all if it makes one unstable."""
    error = float(found.error.max())
    is_lost = math.isnan(error) or bool((found.value.transfer_function().stability().radius > 1).any())
    return math.inf if is_lost else error


def _rounding(bank: TransferFunction, found: Reduction, left: dict[int, float]) -> float:
    """By what share of its largest sample the type of a layer changes the response of a reduced filter at most."""
    there = _without(bank, left).to(device="cpu", dtype=torch.float64).impulse_response(found.length)
    return float(response_error(there, found.system.impulse_response(found.length)).max())


def _given(b: Tensor, a: Tensor, h0: Tensor) -> Initializer:
    """An initializer that returns coefficients, of one bank after the other."""
    banks = iter(zip(b, a, h0, strict=True) if b.dim() == 3 else [(b, a, h0)])
    return lambda *_, **__: next(banks)


def _to(coefficients: Tensor, order: int) -> Tensor:
    return pad(coefficients, (0, order - coefficients.shape[-1]))
