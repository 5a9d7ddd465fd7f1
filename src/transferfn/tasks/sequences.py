"""Sequences of tokens of different lengths, kept end to end and padded when they are gathered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from transferfn.tasks.dataset import Batch


class TokenSequences:
    """Sequences of tokens, each with a class.

    Args:
        tokens: Tokens of all sequences, end to end, (T,), integers.
        starts: Where each begins, and where the last ends, (N + 1,).
        labels: Their classes, (N,).
        limit: Longer sequences are cut to this many tokens.
    """

    fresh = False

    def __init__(
        self, tokens: NDArray[Any], starts: NDArray[np.int64], labels: NDArray[Any], *, limit: int | None = None
    ) -> None:
        self.tokens = tokens
        self.starts = starts
        self.labels = labels
        self.limit = limit

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: Sequence[int]) -> Batch:
        """Return sequences as tokens (B, L), padded with zeros to the longest of them, with their lengths.

        Args:
            indices: Which sequences.
        """
        rows = np.asarray(indices, np.int64)
        tokens, lengths = self.pad(rows)
        return Batch(
            inputs=torch.from_numpy(tokens),
            targets=torch.from_numpy(np.asarray(self.labels[rows], np.int64)),
            index=torch.from_numpy(rows),
            lengths=torch.from_numpy(lengths),
        )

    def pad(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return sequences padded with zeros, (B, L), and their lengths, (B,).

        Args:
            rows: Which sequences.
        """
        lengths = self.starts[rows + 1] - self.starts[rows]
        if self.limit is not None:
            lengths = np.minimum(lengths, self.limit)
        tokens = np.zeros((len(rows), int(lengths.max(initial=0))), np.int64)
        for row, (start, length) in enumerate(zip(self.starts[rows], lengths, strict=True)):
            tokens[row, :length] = self.tokens[start : start + length]
        return tokens, np.asarray(lengths, np.int64)


def write_sequences(folder: Path, name: str, sequences: Iterable[tuple[NDArray[Any], int]], *, dtype: type) -> None:
    """Write sequences and their classes as the arrays that ``TokenSequences`` takes.

    Args:
        folder: Where to.
        name: Files are called ``NAME-tokens.npy``, ``NAME-starts.npy`` and ``NAME-labels.npy``.
        sequences: Tokens and class of each.
        dtype: Type of the tokens on disk, such as ``numpy.uint8``.
    """
    parts: list[NDArray[Any]] = []
    labels: list[int] = []
    for tokens, label in sequences:
        parts.append(np.asarray(tokens, dtype))
        labels.append(label)
    starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    np.save(folder / f"{name}-tokens.npy", np.concatenate([*parts, np.zeros(0, dtype)]))
    np.save(folder / f"{name}-starts.npy", starts)
    np.save(folder / f"{name}-labels.npy", np.asarray(labels, np.int64))
