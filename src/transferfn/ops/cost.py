"""What each way to filter costs on a CPU, from shapes alone.

A cost is a sum of terms, each a size times a constant that was measured: here on one machine, and on the user's own by
``transferfn bench calibrate``, which writes the constants to the file that is read here. Sizes count registers, so that
float64, of which a register holds half as many, costs twice as much.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import asdict, astuple, dataclass, fields
from functools import cache, lru_cache
from math import log2
from pathlib import Path
from typing import Any, Literal, NamedTuple

from transferfn.core.convert import LARGEST_SOLVE
from transferfn.core.kernel import LARGEST_RECURSIVE
from transferfn.files import write_json
from transferfn.kernels.arrays import lanes_of
from transferfn.kernels.convolution import fast_points

BLOCKS_GAIN = 1.3  # how many times faster blocks must promise to be: rows of few blocks take more memory than one FFT
NEAR = 4096  # points up to which a transform stays in the cache

Terms = tuple[float, ...]


class Job(NamedTuple):
    """Sizes of what is to be filtered.

    Attributes:
        batch: Rows B.
        length: Samples L.
        channels: Channels D.
        groups: Distinct denominators G.
        order: Order n.
        banks: 2 if the future is filtered, too.
        horizon: Period P of a truncated numerator; None if the numerator is the true one.
        has_kernel: Whether a truncated numerator filters by its kernel, up to its horizon.
        state: Whether the state before or after the signal matters.
        itemsize: Bytes of a sample, 4 or 8.
        training: Whether gradients are wanted.
        threads: Number of threads.
    """

    batch: int
    length: int
    channels: int
    groups: int
    order: int
    banks: int
    horizon: int | None
    has_kernel: bool
    state: bool
    itemsize: int
    training: bool
    threads: int


@dataclass(frozen=True)
class Costs:
    """Nanoseconds for each term.

    Attributes:
        scan: Of :func:`scan_terms`, without gradients.
        scan_training: The same with gradients.
        fft: Of :func:`fft_terms`, without gradients.
        fft_training: The same with gradients.
        blocks: Of :func:`block_terms`, without gradients.
        blocks_training: The same with gradients.
    """

    scan: Terms
    scan_training: Terms
    fft: Terms
    fft_training: Terms
    blocks: Terms
    blocks_training: Terms


# Measured by `transferfn bench calibrate` on 2 cores of an AMD EPYC with AVX-512 (torch 2.13, numba 0.68) at half
# their speed, which all constants share.
MEASURED = Costs(
    scan=(7.16e4, 11.2, 0.639, 0.0, 4.23, 0.28, 0.118),
    scan_training=(2.66e5, 56.2, 2.4, 8.2e4, 13.6, 1.08, 0.256),
    fft=(1.04e5, 2.0, 0.0139, 1.15, 21.4, 1.1),
    fft_training=(4.19e5, 5.89, 0.737, 3.78, 168.0, 1.55),
    blocks=(4.7e5, 1.96, 5.89, 0.0, 1.47),
    blocks_training=(1.58e6, 4.76, 17.8, 64.7, 2.36),
)


def scan_terms(job: Job) -> Terms:
    """Sizes that the cost of the recurrence is proportional to.

    Args:
        job: What is to be filtered.

    Returns:
        Calls; samples, and samples times lags; and of a conversion calls, samples of the recurrence of denominators,
        the same times lags, and cubes of the order. All but the calls are a thread's share.
    """
    tiles, rows = _tiles(job)
    lags = max(-(-job.order // 4) * 4, 4)
    samples = job.banks * tiles * rows * job.length / min(job.threads, tiles * rows)
    terms = float(job.banks), samples, samples * lags
    if job.horizon is None or job.order > LARGEST_SOLVE:  # then the FFT would have to convert as well
        return *terms, 0.0, 0.0, 0.0, 0.0
    groups = -(-job.groups * job.banks // lanes_of(8))
    share = groups / min(job.threads, groups)
    response = share * job.horizon
    return *terms, 1.0, response, response * lags, share * lanes_of(8) * float(job.order) ** 3


def fft_terms(job: Job) -> Terms:
    """Sizes that the cost of filtering by FFT is proportional to.

    Args:
        job: What is to be filtered.

    Returns:
        Calls; points of transforms of the signal times log2 of their number; the same of kernels that are sampled from
        truncated numerators, and from true ones; samples of responses by recurrence, and the same times the order. All
        but the calls are a thread's share. Points of long transforms count for more: they have left the cache.
    """
    tiles, rows = _tiles(job)
    threads = min(job.threads, tiles * rows)
    points, doubles = fast_points(job.length), -(-job.channels // lanes_of(8))
    transforms = tiles * (2 * rows + job.banks) * _passes(points) / threads
    calls = 1.0
    if job.state:  # the response of 1/A takes a convolution of its own
        transforms, calls = 2 * transforms, 2.0
    if job.horizon is not None and job.has_kernel:
        return calls, transforms, job.banks * doubles * _passes(job.horizon) / threads, 0.0, 0.0, 0.0
    if job.order > LARGEST_RECURSIVE and job.itemsize == 4:
        return calls, transforms, 0.0, job.banks * doubles * _passes(job.length + job.length // 4) / threads, 0.0, 0.0
    responses = job.banks * doubles * job.length / min(job.threads, doubles)
    return calls, transforms, 0.0, 0.0, responses, responses * job.order


def block_terms(job: Job) -> Terms:
    """Sizes that the cost of filtering block by block is proportional to.

    Args:
        job: What is to be filtered.

    Returns:
        Calls; points of transforms of the signal, of states and of kernels times log2 of their number; the same of
        kernels that are sampled by FFT; samples of responses by recurrence, and the same times the order. All but the
        calls are a thread's share.
    """
    tiles, rows = _tiles(job)
    threads, size = min(job.threads, tiles * rows), block_size(job.order)
    blocks = rows * -(-job.length // size)
    transforms = tiles * (3 * blocks + 2) * _passes(size) + tiles * 3 * blocks * _passes(fast_points(job.order))
    doubles = -(-job.channels // lanes_of(8))
    if job.order > LARGEST_RECURSIVE and job.itemsize == 4:
        return 1.0, transforms / threads, 2 * doubles * _passes(size + size // 4) / threads, 0.0, 0.0
    responses = 2 * doubles * size / min(job.threads, doubles)
    return 1.0, transforms / threads, 0.0, responses, responses * job.order


def block_size(order: int) -> int:
    """Samples of a block: twice as many as hand over a state, and enough to be worth a transform.

    Args:
        order: Order n.

    Example:
        >>> block_size(16), block_size(1000), block_size(2048)
        (2048, 2048, 4096)
    """
    return max(2048, 2 << (order - 1).bit_length())


def _passes(points: int) -> float:
    """Points times log2 of their number, and up to twice as many where they no longer fit the cache."""
    return points * log2(2 * points) * max(points / NEAR, 1) ** 0.25


def _tiles(job: Job) -> tuple[int, int]:
    """Registers side by side for the channels, and for the rows."""
    width = lanes_of(job.itemsize)
    return -(-job.channels // width), -(-job.batch // max(width // job.channels, 1))


@lru_cache(maxsize=4096)
def cheapest(job: Job, *, in_blocks: bool, costs: Costs | None = None) -> Literal["scan", "fft", "blocks"]:
    """The way that costs least: the recurrence, one FFT or, where that gains enough, FFTs of blocks.

    Args:
        job: What is to be filtered.
        in_blocks: Whether it can be filtered block by block; more than one block are asked for in any case.
        costs: None means :func:`current`.
    """
    by_scan, by_fft = scan_cost(job, costs), fft_cost(job, costs)
    several = in_blocks and job.length > block_size(job.order)
    if several and BLOCKS_GAIN * block_cost(job, costs) < min(by_scan, by_fft):
        return "blocks"
    return "scan" if by_scan <= by_fft else "fft"


def scan_cost(job: Job, costs: Costs | None = None) -> float:
    """Cost of filtering by the recurrence, in nanoseconds.

    Args:
        job: What is to be filtered.
        costs: None means :func:`current`.
    """
    costs = costs or current()
    return _sum(costs.scan_training if job.training else costs.scan, scan_terms(job))


def fft_cost(job: Job, costs: Costs | None = None) -> float:
    """Cost of filtering by FFT, in nanoseconds.

    Args:
        job: What is to be filtered.
        costs: None means :func:`current`.
    """
    costs = costs or current()
    return _sum(costs.fft_training if job.training else costs.fft, fft_terms(job))


def block_cost(job: Job, costs: Costs | None = None) -> float:
    """Cost of filtering block by block, in nanoseconds.

    Args:
        job: What is to be filtered.
        costs: None means :func:`current`.
    """
    costs = costs or current()
    return _sum(costs.blocks_training if job.training else costs.blocks, block_terms(job))


def _sum(constants: Terms, terms: Terms) -> float:
    return sum(constant * term for constant, term in zip(constants, terms, strict=True))


def costs_file() -> Path:
    """Where the costs of this machine are kept: ``TRANSFERFN_COSTS``, or ``transferfn/costs.json`` among the caches."""
    if named := os.environ.get("TRANSFERFN_COSTS"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "transferfn" / "costs.json"


def save(costs: Costs) -> Path:
    """Keep costs for all programs to come, and use them from now on.

    Args:
        costs: What was measured.

    Returns:
        The file.
    """
    file = costs_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, asdict(costs))
    current.cache_clear()
    cheapest.cache_clear()
    return file


@cache
def current() -> Costs:
    """The costs that decisions are made by: those of this machine, if they were measured, or those of ours."""
    try:
        file = costs_file()
        found = json.loads(file.read_text())
    except (OSError, RuntimeError):  # no file, or no home
        return MEASURED
    except ValueError:
        found = None
    costs = _read(found)
    if costs is None:
        warnings.warn(
            f"{file} does not hold the costs of filtering on this machine, so that those of another are used. Measure "
            f"anew with `transferfn bench calibrate`, or delete the file.",
            stacklevel=2,
        )
    return costs or MEASURED


def _read(found: Any) -> Costs | None:
    try:
        costs = Costs(*(tuple(map(float, found[field.name])) for field in fields(Costs)))
    except (TypeError, ValueError, KeyError, IndexError):
        return None
    sizes = [len(terms) for terms in astuple(MEASURED)]
    return costs if [len(terms) for terms in astuple(costs)] == sizes else None
