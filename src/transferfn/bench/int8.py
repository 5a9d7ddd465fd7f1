"""Linear maps of a decoding step with narrow weights: ``python -m transferfn.bench.int8``; half a minute.

The shapes are those of Hyena-RTF with 125 million parameters, its head among them, without all that is between them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from transferfn.bench.layer import table
from transferfn.bench.machine import machine, machine_line
from transferfn.models.int8 import Int8Linear

WIDTH, RANK, MLP, LAYERS, VOCABULARY = 768, 384, 3072, 12, 50264
ROWS = (1, 4, 8, 16, 32)
CALLS = 9  # of all maps, in turns; the first does not count

Row = dict[str, Any]


@torch.no_grad()
def rows(shapes: list[tuple[int, int]], batches: tuple[int, ...]) -> Iterator[Row]:
    """Milliseconds of all maps together, for each number of rows.

    Args:
        shapes: Inputs and outputs of each map.
        batches: Numbers of rows.
    """
    wide = [nn.Linear(*shape) for shape in shapes]
    kinds: dict[str, tuple[torch.dtype, list[nn.Linear]]] = {
        "float32": (torch.float32, wide),
        "bytes": (torch.float32, [Int8Linear(part.weight, part.bias) for part in wide]),
        "bfloat16": (torch.bfloat16, [nn.Linear(*shape, dtype=torch.bfloat16) for shape in shapes]),
    }
    for batch in batches:
        calls: dict[str, Callable[[], object]] = {}
        for name, (dtype, parts) in kinds.items():
            inputs = {size: torch.randn(batch, size, dtype=dtype) for size, _ in shapes}
            calls[name] = lambda parts=parts, inputs=inputs: [part(inputs[part.in_features]) for part in parts]
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(CALLS):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                times[name].append(1e3 * (time.perf_counter() - start))
        yield {"rows": batch} | {f"{name}, ms": statistics.median(values[1:]) for name, values in times.items()}


def report() -> list[str]:
    """Measure at full size and return Markdown."""
    layer = [(WIDTH, 3 * WIDTH), (WIDTH, RANK), (RANK, WIDTH), (WIDTH, MLP), (MLP, WIDTH)]
    told = machine_line(machine("torch", "numba"))
    lines = [f"{told}, {torch.get_num_threads()} threads; medians of {CALLS - 1} calls that take turns", ""]
    return lines + table(list(rows(layer * LAYERS + [(WIDTH, VOCABULARY)], ROWS)))


if __name__ == "__main__":
    print("\n".join(report()))
