"""All layers of the library at equal width, over the state size and over the length: ``transferfn bench mixers``.

They compute other functions, so that only their costs are compared; that each computes what it should is what the tests
hold it to.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from tqdm import tqdm

from transferfn.bench import elsewhere, memory, pictures, sides
from transferfn.bench.contenders import Contender, build, has_order
from transferfn.bench.layer import MIB, table
from transferfn.bench.machine import machine, machine_line
from transferfn.bench.sides import Shape, Side
from transferfn.bench.timing import alternate
from transferfn.files import with_ending, write_json, write_text
from transferfn.nn.mixer import SequenceMixer

OVER_ORDER: Shape = (4, 4096, 64)
ORDERS = (16, 64, 256)
OVER_LENGTH = (256, 1024, 4096, 16384)
ORDER = 64
CHANNELS = 64
PEERS_ORDERS = (16, 64, 256, 1024)
BASELINES: tuple[Contender, ...] = ("S4", "S4D", "S5")
STEPS = 50  # decoding steps that are timed, the last ones of the length

Row = dict[str, Any]


def side(layer: SequenceMixer, shape: Shape) -> Side:
    """A layer as a side of a comparison.

    Args:
        layer: The layer.
        shape: B, L and D.
    """
    u = torch.randn(shape, requires_grad=True)
    return Side(lambda: layer(u), torch.randn(shape), [u, *layer.parameters()])


def cells(shape: Shape, order: int, seconds: float) -> Iterator[Row]:
    """Costs of all layers at one shape and state size, a row each.

    Args:
        shape: B, L and D.
        order: Number of states.
        seconds: How long to measure forward, training and prefill.
    """
    torch.manual_seed(0)
    layers = {name: build(name, shape[2], order, shape[1]) for name in get_args(Contender)}
    everyone = {name: side(layer, shape) for name, layer in layers.items()}
    decoders = {name: getattr(layer, "realize", lambda layer=layer: layer)() for name, layer in layers.items()}
    u = torch.randn(shape)
    calls = {
        "forward": {name: one.inference for name, one in everyone.items()},
        "training": {name: one.training for name, one in everyone.items()},
        "prefill": {name: lambda one=one: _prefill(one, u) for name, one in decoders.items()},
    }
    medians = {
        what: {name: 1e3 * statistics.median(values) for name, values in alternate(some, seconds).items()}
        for what, some in calls.items()
    }
    for name, layer in layers.items():
        row: Row = {
            "B, L, D": ", ".join(map(str, shape)),
            "n": order if has_order(name) else "-",
            "layer": name,
            "parameters": sum(p.numel() for p in layer.parameters()),
            **{f"{what}, ms": found[name] for what, found in medians.items()},
        }
        seconds_a_step, state = _steps(decoders[name], u[:1, -STEPS:], _prefill(decoders[name], u[:1, :-STEPS]))
        row |= {"step, us": 1e6 * seconds_a_step, "state, KiB": _bytes(state) / 1024}
        if memory.is_measurable():
            peak = memory.measure(name, shape, order, "truncated", training=True, retain=False)
            row["training, MiB"] = peak / MIB
        yield row


def beside_peers(order: int, seconds: float) -> Iterator[Row]:
    """S4, S4D and S5 beside the best of their official codes, which were measured elsewhere, a row each.

    Times are multiples of those of RTF as published, ours in this run: freed memory is to be retained, as it was there.

    Args:
        order: Number of states, one of :data:`transferfn.bench.elsewhere.RATIOS`.
        seconds: How long to measure forward, and training.
    """
    torch.manual_seed(0)
    layers = {name: build(name, OVER_ORDER[2], order, OVER_ORDER[1]) for name in BASELINES}
    _, rtf = sides.ours(OVER_ORDER, order, "truncated")
    everyone = {"published": sides.published(OVER_ORDER, rtf)}
    everyone |= {name: side(layer, OVER_ORDER) for name, layer in layers.items()}
    rows: dict[str, Row] = {name: {"n": order, "layer": name} for name in layers}
    for at, what in enumerate(("forward", "training")):
        calls = {name: one.training if at else one.inference for name, one in everyone.items()}
        median = {name: statistics.median(values) for name, values in alternate(calls, seconds).items()}
        for name, row in rows.items():
            theirs = elsewhere.best(elsewhere.RATIOS[order], name)
            assert theirs is not None
            mine = median[name] / median["published"]
            row |= {f"{what}, ours": mine, f"{what}, peer": theirs[at], f"{what}, peer / ours": theirs[at] / mine}
    if memory.is_measurable():
        for at, what in enumerate(("forward", "training")):
            for name, row in rows.items():
                peak = memory.measure(name, OVER_ORDER, order, "truncated", training=bool(at), retain=True)
                known = elsewhere.best(elsewhere.MEMORY[order], name)
                row |= {f"{what}, MiB, ours": peak / MIB, f"{what}, MiB, peer": known[at] if known else "-"}
    yield from rows.values()


def report(*, out: Path, seconds: float = 2.0) -> None:
    """Measure, print Markdown, and write it with the figures and the pictures.

    Args:
        out: Where, without ending.
        seconds: How long to measure all layers at a shape forward, in training and in prefill each.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    found: Row = {
        "command": "transferfn bench mixers",
        "machine": machine("torch", "numba"),
        "threads": torch.get_num_threads(),
    }
    told = machine_line(found["machine"])
    lines = [
        f"`{found['command']}` on {told}, {found['threads']} threads; float32, medians, the default allocator. Prefill "
        f"leaves a state; steps are the last {STEPS} of the length, one row; decoders are realized. Memory is the peak "
        f"of a training step beyond inputs and parameters, state that of one row at the end."
    ]
    for key, title, shapes in (
        ("order", f"Over the state size, {CHANNELS} channels", [(OVER_ORDER, n) for n in ORDERS]),
        ("length", f"Over the length, n = {ORDER}", [((1, length, CHANNELS), ORDER) for length in OVER_LENGTH]),
    ):
        progress = tqdm(shapes, title, unit="shape")
        found[key] = [row for shape, order in progress for row in cells(shape, order, seconds)]
        lines += ["", f"## {title}", "", *table(found[key])]
    memory.retain_freed_memory()  # from here on
    progress = tqdm(PEERS_ORDERS, "Beside official codes", unit="order")
    found["peers"] = [row for order in progress for row in beside_peers(order, seconds)]
    lines += [
        "",
        f"## Beside the best official codes, B, L, D = {', '.join(map(str, OVER_ORDER))}",
        "",
        "Theirs were measured elsewhere, on two cores, with freed memory retained, as it is here. Times are multiples "
        "of RTF as published in the same run, ours here and theirs there; the faster of KeOps and PyTorch.",
        "",
        *table(found["peers"]),
    ]
    print("\n".join(lines))
    write_json(with_ending(out, ".json"), found)
    write_text(with_ending(out, ".md"), "\n".join(lines) + "\n")
    pictures.draw_mixers(found, out)


@torch.no_grad()
def _prefill(decoder: SequenceMixer, u: Tensor) -> Any:
    return decoder.extend(u)[1]


@torch.no_grad()
def _steps(decoder: SequenceMixer, u: Tensor, state: Any) -> tuple[float, Any]:
    """Median seconds of a step, and the state after the last one."""
    times = []
    for u_t in u.unbind(1):
        start = time.perf_counter()
        _, state = decoder.step(u_t, state)
        times.append(time.perf_counter() - start)
    return statistics.median(times), state


def _bytes(state: Any) -> int:
    return sum(leaf.numel() * leaf.element_size() for leaf in pytree.tree_leaves(state) if isinstance(leaf, Tensor))
