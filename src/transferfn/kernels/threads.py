"""A small pool that runs native loops, which release the interpreter lock, on as many threads as PyTorch is set to.

Numba's own parallel layers die in a forked child or abort under concurrent callers, so the loops are sequential and
this pool cuts them by rows and channels.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise

import torch

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def split(work: Callable[[int, int], None], jobs: int, *, cost: int) -> None:
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
    others = []
    for first, last in pairwise(edges[1:]):
        try:
            others.append(_pool_of(threads - 1).submit(work, first, last))
        except RuntimeError:  # the interpreter is shutting down and starts no threads
            work(first, last)
    try:
        work(edges[0], edges[1])
    finally:
        wait(others)  # their loops write to memory of the caller
    for other in others:
        other.result()


def _pool_of(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < size:
            # The old pool finishes what it was given and goes when its last caller lets go of it.
            _pool, _pool_size = ThreadPoolExecutor(size, thread_name_prefix="transferfn"), size
        return _pool


def _forget_after_fork() -> None:
    """Threads do not survive a fork: the child starts a pool of its own."""
    global _lock, _pool, _pool_size
    _lock, _pool, _pool_size = threading.Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
