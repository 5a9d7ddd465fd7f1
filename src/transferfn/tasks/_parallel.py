"""Work on many samples by threads, with progress."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

import torch


def for_blocks(count: int, work: Callable[[int, int], None], *, title: str, block: int = 256) -> None:
    """Do ``work(begin, end)`` for blocks of 0..count-1 by as many threads as torch uses; show how far it is.

    Threads are enough where the work gives the interpreter lock away, as compiled loops do.

    Args:
        count: How many samples there are.
        work: Makes the samples begin..end-1; what it makes must not depend on the blocks.
        title: Shown before the progress.
        block: Samples of a block.
    """
    from tqdm import tqdm

    with (
        tqdm(total=count, desc=title, unit="sample", leave=False, disable=None) as bar,
        ThreadPoolExecutor(torch.get_num_threads()) as pool,
    ):
        ends = {
            pool.submit(work, begin, min(begin + block, count)): min(block, count - begin)
            for begin in range(0, count, block)
        }
        try:
            for done in as_completed(ends):
                done.result()
                bar.update(ends[done])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
