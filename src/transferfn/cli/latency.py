"""How fast streams run: latency of a block and real-time factor, of one stream and of many side by side."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transferfn.bench.growth import longest
from transferfn.nn import Stream
from transferfn.tasks import Signature
from transferfn.training import RunError

STREAMS = (1, 64, 1024)
"""How many streams run side by side."""

SECONDS = 3.0  # for each of them, about
FEWEST, MOST = 30, 5000  # blocks


def measure_streams(
    decoder: Any, signature: Signature, *, block: int = 1, rate: float | None = None, seconds: float = SECONDS
) -> list[str]:
    """Stream noise, or random tokens, and time each block; models that end at a horizon begin anew there.

    Args:
        decoder: The model, as ``decoder()`` of it returns it.
        signature: What it takes.
        block: Samples of a block.
        rate: Samples a second of each stream; None leaves out the real-time factor.
        seconds: Time for each number of streams, about.

    Returns:
        Lines for people: milliseconds a block in the median and at worst, samples a second of all streams together, and
        the real-time factor, the time that a second of every stream takes to compute, in seconds.

    Raises:
        RunError: if a block is longer than all that the model can take in.

    Example:
        >>> from transferfn.models import Backbone, Classifier
        >>> from transferfn.nn import RTF
        >>> model = Classifier(Backbone(4, 1, lambda: RTF(4, 2, horizon=16), inputs=1), 3).decoder()
        >>> lines = measure_streams(model, Signature(length=16, channels=1, outputs=3), rate=100.0, seconds=0.01)
        >>> len(lines), "real-time factor" in lines[0]
        (4, True)
    """
    bound = longest(decoder)
    if bound is not None and block > bound:
        raise RunError(f"this run takes in {bound:,} samples at most, --block is {block:,}: choose a shorter one")
    head = ["streams", "p50 ms", "p95 ms", "p99 ms", "max ms", "samples/s", *(["real-time factor"] if rate else [])]
    rows = [head]
    for count in STREAMS:
        taken = _times(decoder, signature, count, block, seconds, bound)
        each = float(taken.mean()) / block
        row = [f"{1e3 * float(value):.3f}" for value in (*np.quantile(taken, [0.5, 0.95, 0.99]), taken.max())]
        rows.append([f"{count:,}", *row, f"{count / each:,.0f}", *([f"{rate * each:.4g}"] if rate else [])])
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _times(decoder: Any, signature: Signature, count: int, block: int, seconds: float, bound: int | None) -> np.ndarray:
    """Seconds of each block after the first ones, in which compilers are at work."""
    generator = torch.Generator().manual_seed(0)
    stream = Stream(decoder, count)

    def fresh() -> Tensor:
        shape = (count,) if block == 1 else (count, block)
        if signature.channels is None:
            assert signature.vocabulary is not None
            return torch.randint(signature.vocabulary, shape, generator=generator)
        return 0.1 * torch.randn(*shape, signature.channels, generator=generator)

    seen = 0

    def make_room() -> None:
        nonlocal seen
        if bound is not None and seen + block > bound:
            stream.reset()
            seen = 0
        seen += block

    for _ in range(3):
        make_room()
        stream(fresh())
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < FEWEST or (len(taken) < MOST and time.perf_counter() < end):
        u = fresh()
        make_room()
        start = time.perf_counter()
        stream(u)
        taken.append(time.perf_counter() - start)
    return np.asarray(taken)
