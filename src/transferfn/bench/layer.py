"""Time and memory of one layer beside RTF as it was published and beside the floor: ``transferfn bench layer``.

Calls of all sides alternate in one run: read the ratios. No ratio is printed unless the outputs agree.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import torch
from tqdm import tqdm

from transferfn.bench import decoding, memory, pictures, sides
from transferfn.bench.machine import machine, machine_line
from transferfn.bench.sides import Numerator, Shape, Side
from transferfn.bench.targets import verdicts
from transferfn.bench.timing import alternate, spread
from transferfn.files import with_ending, write_json, write_text

SHAPES: tuple[Shape, ...] = (
    (4, 1024, 64),
    (4, 4096, 64),
    (1, 16384, 64),
    (1, 65536, 64),
    (16, 784, 128),
    (4, 4096, 6),
)
ORDERS = (4, 16, 64, 256, 1024, 2048)
SAME = 1e-4  # largest difference of two sides' outputs, relative to the largest value: they compute in float32
MIB = 2**20

Row = dict[str, Any]


def cell(shape: Shape, order: int, numerator: Numerator, *, seconds: float = 0.5) -> Row:
    """Time one shape and order, forward and training, in milliseconds and in ratios to ours.

    Args:
        shape: B, L and D.
        order: Order n, less than L.
        numerator: Which numerator our layer learns; the published one is truncated.
        seconds: How long to measure forward, and training.

    Raises:
        ArithmeticError: if the sides do not compute the same.
    """
    mine, layer = sides.ours(shape, order, numerator)
    others = {"published": sides.published(shape, layer), "floor": sides.floor(shape, layer)}
    row: Row = {"B, L, D": ", ".join(map(str, shape)), "n": order, "numerator": numerator}
    for name, other in others.items():
        check_same(mine, other, name)
    everyone = {"ours": mine, **others}
    for what in ("forward", "training"):
        calls = {name: side.inference if what == "forward" else side.training for name, side in everyone.items()}
        times = alternate(calls, seconds)
        median = {name: statistics.median(values) for name, values in times.items()}
        row |= {
            f"{what}, ms": 1e3 * median["ours"],
            f"{what}, half of the calls within": spread(times["ours"]),
            f"{what}, published / ours": median["published"] / median["ours"],
            f"{what}, floor / ours": median["floor"] / median["ours"],
        }
    return row


def check_same(mine: Side, other: Side, name: str) -> None:
    """Give another side our input and raise unless it computes the same.

    Args:
        mine: Our side.
        other: One that holds the same filters.
        name: What it is called.

    Raises:
        ArithmeticError: if it does not.
    """
    u = mine.leaves[0].detach()
    with torch.no_grad():
        other.leaves[0].copy_(u if other.time_axis == 1 else u.mT)
        found = mine.inference()
        theirs = other.inference() if other.wide is None else other.wide(u)
    error = float((theirs - found).abs().max() / found.abs().max())
    if not error <= SAME:
        raise ArithmeticError(f"{name} and ours differ by {error:.1e}: no ratio of them means anything")


def memory_of(shape: Shape, orders: tuple[int, ...], *, retain: bool) -> Iterator[Row]:
    """Peak memory of all sides at one shape, in MiB and as multiples of the input.

    Args:
        shape: B, L and D.
        orders: Orders n of ours.
        retain: Whether the allocator keeps freed memory.
    """
    size = 4 * shape[0] * shape[1] * shape[2]
    columns: list[tuple[memory.Name, int, str]] = [("published", 4, "truncated"), ("floor", 4, "truncated")]
    for kind in get_args(Numerator):
        for n in orders:
            if n < shape[1]:
                columns.append(("ours", n, kind))  # noqa: PERF401 (a list of its own would lose the literal's type)
    for name, n, kind in columns:
        row: Row = {"B, L, D": ", ".join(map(str, shape)), "side": name}
        row |= {"n": n, "numerator": kind} if name == "ours" else {"n": "any", "numerator": ""}
        for what in ("forward", "training"):
            peak = memory.measure(name, shape, n, kind, training=what == "training", retain=retain)
            row |= {f"{what}, MiB": peak / MIB, f"{what}, inputs": peak / size}
        yield row


def report(*, out: Path, quick: bool = False, seconds: float = 0.5, retain: bool = False) -> None:
    """Measure, print Markdown, and write it with the figures and the pictures.

    Args:
        out: Where, without ending.
        quick: One shape and three orders only.
        seconds: How long to measure each cell, forward and training.
        retain: Whether the allocator keeps freed memory.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if retain:
        memory.retain_freed_memory()
    shapes, orders = (SHAPES[:1], ORDERS[:3]) if quick else (SHAPES, ORDERS)
    command = f"transferfn bench layer{' --quick' * quick}{' --retain' * retain}"
    found: Row = {"command": command, "machine": machine("torch", "numba"), "threads": torch.get_num_threads()}
    told = machine_line(found["machine"])
    allocator = "freed memory retained" if retain else "the default allocator"
    lines = [f"`{command}` on {told}, {found['threads']} threads; float32, medians, {allocator}."]

    grid = [(s, n, kind) for s in shapes for n in orders for kind in get_args(Numerator) if n < s[1]]
    found["cells"] = [cell(s, n, kind, seconds=seconds) for s, n, kind in tqdm(grid, "time", unit="cell")]
    lines += ["", "## Time", "", *table(found["cells"])]
    found["decoding"] = decoding.rows(seconds)
    lines += ["", "## Decoding, 256 channels of order 64", "", *table(found["decoding"])]
    found["memory"] = []
    if memory.is_measurable():
        for shape in tqdm(shapes, "memory", unit="shape"):
            found["memory"] += memory_of(shape, orders, retain=retain)
        lines += ["", "## Peak memory beyond inputs and parameters", "", *table(found["memory"])]
    found["targets"] = verdicts(found["cells"], found["decoding"], found["memory"])
    lines += ["", "## Targets", "", *table(found["targets"])]
    print("\n".join(lines))
    write_json(with_ending(out, ".json"), found)
    write_text(with_ending(out, ".md"), "\n".join(lines) + "\n")
    pictures.draw(found, out)


def table(rows: list[Row]) -> list[str]:
    """Rows as Markdown.

    Args:
        rows: Figures with their names, the same in all.
    """
    if not rows:
        return ["(nothing)"]
    head = [f"| {' | '.join(rows[0])} |", "|" + "---|" * len(rows[0])]
    return head + [f"| {' | '.join(_short(x) for x in row.values())} |" for row in rows]


def _short(x: object) -> str:
    return f"{x:.3g}" if isinstance(x, float) else str(x)
