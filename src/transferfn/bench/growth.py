"""Time of a decoding step after contexts of several lengths: whether it grows with what came before."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from transferfn.nn import Stream
from transferfn.nn.long_conv import LongConvolution

CHUNK = 256  # samples of the context at a time, so that no head has to hold the outputs of all

Row = dict[str, Any]


def longest(model: nn.Module) -> int | None:
    """Samples that a model can take in at most, or None if there is no such bound.

    Args:
        model: Any model; what bounds it are convolutions with kernels that are known up to a horizon.
    """
    return min((part.horizon for part in model.modules() if isinstance(part, LongConvolution)), default=None)


@torch.no_grad()
def step_times(
    models: Mapping[str, Any], inputs: Tensor, contexts: tuple[int, ...], *, steps: int = 32
) -> dict[str, dict[int, Row]]:
    """Median times of decoding steps of several models, which take turns.

    Args:
        models: Models with ``decoder()``, by name.
        inputs: What they take in, tokens (B, L) or samples (B, L, inputs), as long as the longest context.
        contexts: Numbers of samples before those that are timed.
        steps: Number of steps that are timed after each context.

    Returns:
        For each model, and for each context that it can take in together with the steps after it: milliseconds of a
        step, and the memory of the state of a row after them.

    Example:
        >>> from transferfn.models import Backbone
        >>> from transferfn.nn import RTF
        >>> model = Backbone(4, 1, lambda: RTF(4, 2, horizon=8), inputs=1)
        >>> found = step_times({"mine": model}, torch.zeros(1, 9, 1), (3, 9), steps=2)
        >>> [row["state, KiB a row"] for row in found["mine"].values()]
        [0.03125, 0.03125]
    """
    found: dict[str, dict[int, Row]] = {name: {} for name in models}
    decoders = {name: model.decoder() for name, model in models.items()}
    for context in contexts:
        streams: dict[str, Stream] = {}
        for name, decoder in decoders.items():
            bound = longest(decoder)
            if bound is not None and context + steps + 1 > bound:
                continue
            streams[name] = Stream(decoder, len(inputs))
            for block in inputs[:, :context].split(CHUNK, dim=1):
                streams[name](block)
            streams[name](inputs[:, 0])  # the first step may compile
        times: dict[str, list[float]] = {name: [] for name in streams}
        for _ in range(steps):
            for name, stream in streams.items():
                start = time.perf_counter()
                stream(inputs[:, 0])
                times[name].append(1e3 * (time.perf_counter() - start))
        for name, stream in streams.items():
            leaves = [leaf for leaf in pytree.tree_leaves(stream.state) if isinstance(leaf, Tensor)]
            found[name][context] = {
                "step, ms": statistics.median(times[name]),
                "state, KiB a row": sum(leaf.nbytes for leaf in leaves) / 1024 / len(inputs),
            }
    return found
