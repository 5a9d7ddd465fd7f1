"""Sequences of numbers, kept as they were recorded and scaled when they are gathered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from transferfn.tasks.dataset import Batch


class SignalSequences:
    """Signals, each with a class; (values / unit - mean) / std when they are gathered.

    Args:
        values: Samples, (M, L) of one channel or (M, L, D), any number type, also mapped from a file; what is past a
            row's length is padding.
        labels: Classes, (M,).
        rows: Which rows belong to this set, (N,); None means all.
        lengths: How many samples of each row count, (M,); None means all.
        unit: What counts as one, such as 255 for pixels kept as bytes.
        mean: Mean of values / unit, one for all channels or (D,).
        std: Standard deviation of values / unit, likewise.
        order: In which order samples are read, a permutation (L,); None means as they are.

    Example:
        >>> data = SignalSequences(np.array([[0, 5, 10]], np.uint8), np.array([1]), unit=10.0, mean=0.5, std=0.5)
        >>> data.gather([0]).inputs.squeeze().tolist()
        [-1.0, 0.0, 1.0]
    """

    fresh = False

    def __init__(
        self,
        values: NDArray[Any],
        labels: NDArray[Any],
        *,
        rows: NDArray[np.int64] | None = None,
        lengths: NDArray[np.int64] | None = None,
        unit: float = 1.0,
        mean: float | NDArray[Any] = 0.0,
        std: float | NDArray[Any] = 1.0,
        order: NDArray[np.int64] | None = None,
    ) -> None:
        self.values = values
        self.labels = labels
        self.rows = np.arange(len(labels)) if rows is None else rows
        self.lengths = lengths
        self.unit = unit
        self.mean = torch.from_numpy(np.array(mean, np.float32))
        self.std = torch.from_numpy(np.array(std, np.float32))
        self.order = order

    def __len__(self) -> int:
        return len(self.rows)

    def gather(self, indices: Sequence[int]) -> Batch:
        """Return signals (B, L, D), of different lengths padded with zeros to the longest of them.

        Args:
            indices: Which signals.
        """
        index = np.asarray(indices, np.int64)
        rows = self.rows[index]
        values = self.values[rows].astype(np.float32)
        if values.ndim == 2:
            values = values[..., None]
        if self.order is not None:
            values = values[:, self.order]
        inputs = (torch.from_numpy(values) / self.unit - self.mean) / self.std
        lengths = None
        if self.lengths is not None:
            lengths = torch.from_numpy(np.asarray(self.lengths[rows], np.int64))
            inputs = inputs[:, : int(lengths.max()) if len(lengths) else 0]
            inputs = inputs.masked_fill((torch.arange(inputs.shape[1]) >= lengths[:, None])[..., None], 0.0)
        return Batch(
            inputs=inputs,
            targets=torch.from_numpy(np.asarray(self.labels[rows], np.int64)),
            index=torch.from_numpy(index),
            lengths=lengths,
        )


def fixed_permutation(length: int) -> NDArray[np.int64]:
    """Return the order in which the samples of permuted tasks are read, the same for ever.

    It is drawn by numpy's legacy generator, whose stream is frozen, from the seed that others use for permuted MNIST.

    Args:
        length: Samples of a sequence.

    Source:
        Helfrich et al. 2018, arXiv:1707.09520, official code (scoRNN), and others after it. The loader of S4 reads
        permuted MNIST in bit-reversed order by default and names this order as the alternative.

    Example:
        >>> fixed_permutation(784)[:4].tolist()
        [319, 576, 323, 107]
    """
    return np.random.RandomState(92916).permutation(length).astype(np.int64)
