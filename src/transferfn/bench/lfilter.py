"""``lfilter`` and ``sosfilt`` beside scipy's own: ``transferfn bench lfilter``.

Time is the last axis and all channels share their coefficients, which is what scipy does in one call. Both sides get
the same arrays, and no ratio is told unless their outputs agree.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
import torch
from torch import Tensor
from tqdm import tqdm

from transferfn.bench.layer import table
from transferfn.bench.machine import machine, machine_line
from transferfn.bench.timing import alternate
from transferfn.files import with_ending, write_json, write_text
from transferfn.ops import lfilter, sosfilt

COMMAND = "transferfn bench lfilter"
SHAPES = ((1, 65536), (16, 65536), (64, 16384), (1024, 1024))
CUTOFF = 0.2  # of the Nyquist frequency
SAME = {torch.float32: 1e-4, torch.float64: 1e-10}

Row = dict[str, Any]
Sides = dict[str, Callable[[], Any]]


def sides(x: Tensor, filters: str, size: int, *, start: bool) -> Sides:
    """A call of ours and one of scipy's that do the same.

    Args:
        x: Signals, (D, L).
        filters: ``"lfilter"`` of an order, or ``"sosfilt"`` of a number of sections.
        size: The order, or the number of sections.
        start: Whether from initial conditions, and with the final ones.
    """
    channels, kind = len(x), x.numpy().dtype
    given: Any
    ours: Any
    theirs: Any
    butter: Any = scipy.signal.butter
    if filters == "lfilter":
        given = tuple(c.astype(kind) for c in butter(size, CUTOFF))
        zi = np.full((channels, size), 0.1, kind) if start else None
        ours, theirs = lfilter, scipy.signal.lfilter
    else:
        given = (butter(2 * size, CUTOFF, output="sos").astype(kind),)
        zi = np.full((size, channels, 2), 0.1, kind) if start else None
        ours, theirs = sosfilt, scipy.signal.sosfilt
    mine = tuple(torch.from_numpy(c) for c in given)
    begin, array = None if zi is None else torch.from_numpy(zi), x.numpy()
    return {"ours": lambda: ours(*mine, x, zi=begin), "scipy": lambda: theirs(*given, array, zi=zi)}


def agree(both: Sides, dtype: torch.dtype) -> None:
    """Raise unless two sides compute the same, final conditions included.

    Args:
        both: What :func:`sides` returns.
        dtype: Type of the signals.

    Raises:
        ArithmeticError: if they do not.
    """
    mine, other = ([x] if isinstance(x, Tensor | np.ndarray) else [*x] for x in (side() for side in both.values()))
    for found, expected in zip(mine, other, strict=True):
        error = float(np.abs(found.numpy() - expected).max() / np.abs(expected).max())
        if not error <= SAME[dtype]:
            raise ArithmeticError(f"scipy and ours differ by {error:.1e}: no ratio of them means anything")


@torch.no_grad()
def cells(seconds: float) -> Iterator[Row]:
    """Times, a row for each shape, type and filter.

    Args:
        seconds: How long to measure each.
    """
    for dtype in (torch.float32, torch.float64):
        for shape in SHAPES:
            x = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
            for filters, size in (("lfilter", 2), ("lfilter", 6), ("sosfilt", 2), ("sosfilt", 6)):
                what = f"lfilter, order {size}" if filters == "lfilter" else f"sosfilt, {size} sections"
                row: Row = {"D, L": ", ".join(map(str, shape)), "type": str(dtype)[6:], "filter": what}
                for name, start in (("at rest", False), ("with zi", True)):
                    both = sides(x, filters, size, start=start)
                    agree(both, dtype)
                    times = {side: statistics.median(values) for side, values in alternate(both, seconds).items()}
                    row[f"{name}, ms"] = 1e3 * times["ours"]
                    row[f"{name}, scipy / ours"] = times["scipy"] / times["ours"]
                yield row


def report(*, out: Path, seconds: float = 0.5) -> None:
    """Measure, print Markdown, and write it with the figures.

    Args:
        out: Where, without ending.
        seconds: How long to measure each cell.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    found: Row = {"command": COMMAND, "machine": machine("torch", "numba", "scipy"), "threads": torch.get_num_threads()}
    found["cells"] = list(tqdm(cells(seconds), "cells", total=8 * len(SHAPES), unit="cell"))
    told = machine_line(found["machine"])
    lines = [
        f"`{COMMAND}` on {told}, {found['threads']} threads; medians of calls that take turns, time is the last axis.",
        "",
        *table(found["cells"]),
    ]
    print("\n".join(lines))
    write_json(with_ending(out, ".json"), found)
    write_text(with_ending(out, ".md"), "\n".join(lines) + "\n")
