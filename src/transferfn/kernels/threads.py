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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

Work = Callable[[int, int], None]

_REGION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_is_forked = False


def split(work: Work, jobs: int, *, cost: int) -> None:
    """Run ``work(first, last)`` over consecutive ranges that cover ``range(jobs)``, in parallel where it pays.

    Args:
        work: Runs the jobs of a range; must release the interpreter lock to gain anything, and write to places of its
            own only.
        jobs: Number of independent jobs.
        cost: Rough number of multiply-adds of all jobs together.
    """
    threads = min(torch.get_num_threads(), jobs, cost // 50_000)  # below this a thread costs more than it saves
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


def _run_on_openmp(openmp: Any, work: Work, ranges: list[tuple[int, int]]) -> None:
    errors: list[BaseException] = []

    def region(_: int | None) -> None:
        try:
            # The team may be smaller than what was asked for.
            for first, last in ranges[openmp.omp_get_thread_num() :: openmp.omp_get_num_threads()]:
                work(first, last)
        except BaseException as error:  # noqa: BLE001 (it must not unwind into C, and is raised below)
            errors.append(error)

    openmp.GOMP_parallel(_REGION(region), None, len(ranges), 0)
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
def _openmp() -> Any:
    """The OpenMP library that PyTorch ships and has loaded, or None."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        try:
            library = ctypes.CDLL(str(path))
            library.GOMP_parallel.argtypes = [_REGION, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
            library.GOMP_parallel.restype = None
        except (OSError, AttributeError):
            continue
        return library
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
