"""Speed and memory of one language model over the context: ``transferfn generate RUN --benchmark``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from transferfn.bench import memory
from transferfn.bench.growth import longest
from transferfn.bench.layer import MIB
from transferfn.models import LanguageModel
from transferfn.nn import Stream

Row = dict[str, Any]


@torch.no_grad()
def benchmark(
    decoder: LanguageModel, vocabulary: int, contexts: tuple[int, ...], *, batch: int = 1, steps: int = 32
) -> Iterator[Row]:
    """Measure a model after contexts of several lengths; those that its filters do not reach are left out.

    Args:
        decoder: What ``decoder()`` of the model returned.
        vocabulary: Number of distinct tokens.
        contexts: Numbers of tokens before the ones that are decoded.
        batch: Number of rows.
        steps: Number of tokens to decode after each.

    Yields:
        A row for each context: tokens a second of the pass over the context and of decoding, and the memory of the
        state of one row; where the system tells, also the peak of the pass.
    """
    bound = longest(decoder)
    for context in contexts:
        if bound is not None and context + steps > bound:
            continue
        tokens = torch.randint(vocabulary, (batch, context))
        kept: list[Any] = []

        def prefill(tokens: Tensor = tokens, kept: list[Any] = kept) -> None:
            features, state = decoder.backbone.extend(tokens)
            decoder.logits(features[:, -1])
            kept[:] = [state]

        prefill()
        start = time.perf_counter()
        prefill()
        first = time.perf_counter() - start
        row: Row = {"context": context, "prefill, tokens/s": batch * context / first}
        if memory.is_measurable():
            row["prefill, peak MiB"] = memory.peak(prefill) / MIB
        stream, times = Stream(decoder, batch), []
        stream.state = kept[0]
        for _ in range(steps):
            start = time.perf_counter()
            stream(tokens[:, 0])
            times.append(time.perf_counter() - start)
        leaves = [leaf for leaf in pytree.tree_leaves(kept[0]) if isinstance(leaf, Tensor)]
        row["decoding, tokens/s"] = batch / statistics.median(times)
        row["state, KiB a row"] = sum(leaf.nbytes for leaf in leaves) / 1024 / batch
        yield row
