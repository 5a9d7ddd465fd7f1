"""What each way to filter costs on this machine: ``transferfn bench calibrate``.

All ways are timed over a grid of sizes, and the constants of :mod:`transferfn.ops.cost` fitted to the times, each cell
weighted by its own time, so that small ones count as much as large ones.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Literal, get_args

import numpy as np
import torch
from scipy.optimize import nnls
from tqdm import tqdm

from transferfn.bench.sides import Numerator
from transferfn.core.convert import LARGEST_SOLVE
from transferfn.nn import RTF
from transferfn.ops.choice import Method
from transferfn.ops.cost import (
    Costs,
    Job,
    Terms,
    block_size,
    block_terms,
    cheapest,
    current,
    fft_terms,
    scan_terms,
)
from transferfn.ops.cost import save as keep

SHAPES = (
    (4, 1024, 64),
    (1, 4096, 64),
    (4, 4096, 64),
    (1, 16384, 64),
    (1, 65536, 64),
    (16, 784, 128),
    (4, 4096, 6),
    (2, 300, 16),
)
ORDERS = (4, 8, 16, 32, 64, 128, 256, 1024)
LARGEST_SCAN = 2**29  # samples times order, beyond which nobody would run a recurrence

Way = Literal["scan", "fft", "blocks"]
Cell = tuple[Job, dict[Way, float]]


def cells(*, double: bool) -> list[tuple[Job, Numerator]]:
    """The grid: sizes and the numerator that is learned.

    Args:
        double: Whether in float64, of which a few cells are enough.
    """
    found = []
    shapes, orders = (SHAPES[:2], (4, 64)) if double else (SHAPES, ORDERS)
    for (b, length, d), n, numerator, training in itertools.product(shapes, orders, get_args(Numerator), (False, True)):
        is_truncated = numerator == "truncated"
        several = not is_truncated and length > block_size(n)
        scanned = b * length * d * n <= LARGEST_SCAN
        if n < length and (scanned or several) and not (is_truncated and n > LARGEST_SOLVE):
            horizon = length if is_truncated else None
            job = Job(b, length, d, d, n, 1, horizon, is_truncated, False, 8 if double else 4, training, 1)
            found.append((job, numerator))
    return found


def ways(job: Job) -> list[Way]:
    """The ways that anybody would think of.

    Args:
        job: Sizes.
    """
    found: list[Way] = ["fft"]
    if job.batch * job.length * job.channels * job.order <= LARGEST_SCAN:
        found.insert(0, "scan")
    if not job.has_kernel and job.length > block_size(job.order):
        found.append("blocks")
    return found


def measure(job: Job, numerator: Numerator, *, seconds: float) -> dict[Way, float]:
    """Nanoseconds of each way, which take turns.

    Args:
        job: Sizes.
        numerator: ``"truncated"`` or ``"exact"``.
        seconds: How long to measure.
    """
    dtype = torch.float64 if job.itemsize == 8 else torch.float32
    u = torch.randn(job.batch, job.length, job.channels, dtype=dtype, requires_grad=job.training)
    cotangent = torch.randn_like(u)

    def side(method: Method) -> Callable[[], object]:
        layer = RTF(
            job.channels,
            job.order,
            horizon=job.length,
            numerator=numerator,
            method=method,
            dtype=dtype,
        )
        if not job.training:
            return torch.no_grad()(lambda: layer(u))
        return lambda: torch.autograd.grad(layer(u), [u, *layer.parameters()], cotangent)

    sides: dict[Way, Callable[[], object]] = {method: side(method) for method in ways(job)}
    times: dict[Way, list[float]] = {method: [] for method in sides}
    for call in sides.values():
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["fft"]) < 5:
        for method, call in sides.items():
            start = time.perf_counter_ns()
            call()
            times[method].append(time.perf_counter_ns() - start)
    return {method: float(min(values)) for method, values in times.items()}  # others only ever make a call slower


def fitted(terms: Callable[[Job], Terms], way: Way, found: list[Cell]) -> Terms:
    """Constants that fit times best, relative to each, none of them negative.

    Args:
        terms: What the cost is a sum of.
        way: Whose times; cells without are left out.
        found: Cells and their times.
    """
    found = [(job, measured) for job, measured in found if way in measured]
    rows = np.array([terms(job) for job, _ in found])
    times = np.array([measured[way] for _, measured in found])
    scale = np.abs(rows).max(0).clip(min=1e-30)
    constants, _ = nnls(rows / times[:, None] / scale * times.mean(), np.ones(len(times)))
    return tuple(float(x) for x in constants / scale * times.mean())


def calibrate(*, seconds: float = 0.3) -> tuple[Costs, list[Cell]]:
    """Measure all ways and fit their costs.

    Args:
        seconds: How long to measure each cell.

    Returns:
        The costs, and what was measured.
    """
    grid = cells(double=False) + cells(double=True)
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # teams wait for each other, and so for whatever else the machine does; sizes are shares
    try:
        found = [(job, measure(job, numerator, seconds=seconds)) for job, numerator in tqdm(grid, unit="cell")]
    finally:
        torch.set_num_threads(before)

    def some(*, training: bool) -> list[Cell]:
        return [(job, times) for job, times in found if job.training == training]

    costs = Costs(
        scan=fitted(scan_terms, "scan", some(training=False)),
        scan_training=fitted(scan_terms, "scan", some(training=True)),
        fft=fitted(fft_terms, "fft", some(training=False)),
        fft_training=fitted(fft_terms, "fft", some(training=True)),
        blocks=fitted(block_terms, "blocks", some(training=False)),
        blocks_training=fitted(block_terms, "blocks", some(training=True)),
    )
    return costs, found


def ratios(costs: Costs, found: list[Cell]) -> Iterator[float]:
    """What each choice by these costs takes, relative to the best way.

    Args:
        costs: By which is chosen.
        found: Cells and their times.
    """
    for job, times in found:
        chosen = cheapest(job, in_blocks="blocks" in times, costs=costs)
        yield times[chosen] / min(times.values())


def report(*, seconds: float = 0.3, save: bool = True) -> None:
    """Measure what each way to filter costs on this machine, so that ``method="auto"`` chooses well here.

    Args:
        seconds: How long to measure each of some 150 cells.
        save: Whether all programs to come use what was measured; else it is only shown.
    """
    costs, found = calibrate(seconds=seconds)
    for name, choice in (("before", current()), ("now", costs)):
        taken = sorted(ratios(choice, found))
        late = sum(x > 1.15 for x in taken)
        print(
            f"{name}: the way chosen takes {statistics.mean(taken):.3f} times as long as the best one, at most "
            f"{taken[-1]:.2f}; more than 1.15 in {late} of {len(taken)} cells"
        )
    for name, terms in asdict(costs).items():
        print(f"{name:<15} {', '.join(f'{x:.3g}' for x in terms)} ns")
    if save:
        print(f"kept in {keep(costs)}; delete the file to return to the costs that come with the package")
