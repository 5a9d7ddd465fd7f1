"""Runs native loops, which release the interpreter lock, on as many threads as PyTorch is set to.

Numba's own parallel layers die in a forked child or abort under concurrent callers, so the loops are sequential and are
cut by rows and channels here. They run on PyTorch's own OpenMP threads where its library can be found: those spin for a
while after each of PyTorch's operations, and threads of ours would have to share the cores with them. Elsewhere, and in
a forked child, where these threads are gone, a small pool does it.
"""

from __future__ import annotations

import ctypes
import os
import threading
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

Work = Callable[[int, int], None]

_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_LEAST = 50_000  # multiply-adds below which a thread costs more than it saves

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_is_forked = False


@dataclass(frozen=True)
class _OpenMP:
    """What is called of the library: what starts a team, and the addresses of two functions that its threads call."""

    parallel: Any
    thread: int
    threads: int


def team(jobs: int, *, cost: int) -> int:
    """How many threads share some jobs.

    Args:
        jobs: Number of independent jobs.
        cost: Rough number of multiply-adds of all jobs together.
    """
    return max(min(torch.get_num_threads(), jobs, cost // _LEAST), 1)


def launch(entry: int, jobs: int, threads: int, values: tuple[int, ...]) -> None:
    """Let threads enter a native loop, which cuts its jobs among them.

    Args:
        entry: Address of the loop, as :mod:`transferfn.kernels._entry` makes it.
        jobs: Number of independent jobs, at least as many as threads.
        threads: Number of threads.
        values: What the loop itself asks for in its block.
    """
    openmp = None if _is_forked or threads == 1 else _openmp()
    if openmp is not None:
        block = _block(0, jobs, 0, openmp.thread, openmp.threads, values)
        openmp.parallel(entry, block.buffer_info()[0], threads, 0)
        return
    loop = _ENTRY(entry)
    if threads == 1:
        block = _block(0, jobs, 0, 0, 0, values)  # a name keeps it alive
        loop(block.buffer_info()[0])
        return
    edges = [jobs * k // threads for k in range(threads + 1)]
    blocks = [_block(*ends, k, 0, 0, values) for k, ends in enumerate(pairwise(edges))]
    _run_on_pool(lambda first, last: loop(blocks[first].buffer_info()[0]), [(k, k + 1) for k in range(threads)])


def _block(first: int, last: int, thread: int, number: int, count: int, values: tuple[int, ...]) -> array[int]:
    return array("q", (first, last, thread, number, count, *values))


def split(work: Work, jobs: int, *, cost: int) -> None:
    """Run ``work(first, last)`` over consecutive ranges that cover ``range(jobs)``, in parallel where it pays.

    Args:
        work: Runs the jobs of a range; must release the interpreter lock to gain anything, and write to places of its
            own only.
        jobs: Number of independent jobs.
        cost: Rough number of multiply-adds of all jobs together.
    """
    threads = team(jobs, cost=cost)
    if threads <= 1:
        work(0, jobs)
        return
    edges = [jobs * k // threads for k in range(threads + 1)]
    ranges = list(pairwise(edges))
    openmp = None if _is_forked else _openmp()
    if openmp is None:
        _run_on_pool(work, ranges)
    else:
        _run_on_openmp(openmp, work, ranges)


def _run_on_openmp(openmp: _OpenMP, work: Work, ranges: list[tuple[int, int]]) -> None:
    errors: list[BaseException] = []
    thread, threads = (ctypes.CFUNCTYPE(ctypes.c_int)(address) for address in (openmp.thread, openmp.threads))

    def region(_: int | None) -> None:
        try:
            # The team may be smaller than what was asked for.
            for first, last in ranges[thread() :: threads()]:
                work(first, last)
        except BaseException as error:  # noqa: BLE001 (it must not unwind into C, and is raised below)
            errors.append(error)

    openmp.parallel(_ENTRY(region), None, len(ranges), 0)
    if errors:
        raise errors[0]


def _run_on_pool(work: Work, ranges: list[tuple[int, int]]) -> None:
    others = []
    for first, last in ranges[1:]:
        try:
            others.append(_pool_of(len(ranges) - 1).submit(work, first, last))
        except RuntimeError:  # the interpreter is shutting down and starts no threads
            work(first, last)
    try:
        work(*ranges[0])
    finally:
        wait(others)  # their loops write to memory of the caller
    for other in others:
        other.result()


@cache
def _openmp() -> _OpenMP | None:
    """The OpenMP library that PyTorch ships and has loaded, or None."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        try:
            library = ctypes.CDLL(str(path))
            parallel = library.GOMP_parallel
            parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
            parallel.restype = None
            asked = (library.omp_get_thread_num, library.omp_get_num_threads)
        except (OSError, AttributeError):
            continue
        thread, threads = (ctypes.cast(function, ctypes.c_void_p).value or 0 for function in asked)
        return _OpenMP(parallel, thread, threads)
    return None


def _pool_of(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < size:
            # The old pool finishes what it was given and goes when its last caller lets go of it.
            _pool, _pool_size = ThreadPoolExecutor(size, thread_name_prefix="transferfn"), size
        return _pool


def _forget_after_fork() -> None:
    """Threads do not survive a fork: the child starts a pool of its own."""
    global _lock, _pool, _pool_size, _is_forked
    _lock, _pool, _pool_size, _is_forked = threading.Lock(), None, 0, True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
