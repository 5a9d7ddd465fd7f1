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
        rows: Which of them belong to this set, (M,); None means all.
    """

    fresh = False

    def __init__(
        self,
        tokens: NDArray[Any],
        starts: NDArray[np.int64],
        labels: NDArray[Any],
        *,
        limit: int | None = None,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self.tokens = tokens
        self.starts = starts
        self.labels = labels
        self.limit = limit
        self.rows = np.arange(len(labels)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def gather(self, indices: Sequence[int]) -> Batch:
        """Return sequences as tokens (B, L), padded with zeros to the longest of them, with their lengths.

        Args:
            indices: Which sequences.
        """
        index = np.asarray(indices, np.int64)
        tokens, lengths = self.pad(index)
        return Batch(
            inputs=torch.from_numpy(tokens),
            targets=torch.from_numpy(np.asarray(self.labels[self.rows[index]], np.int64)),
            index=torch.from_numpy(index),
            lengths=torch.from_numpy(lengths),
        )

    def pad(self, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return sequences padded with zeros, (B, L), and their lengths, (B,).

        Args:
            index: Which sequences.
        """
        rows = self.rows[index]
        lengths = self.starts[rows + 1] - self.starts[rows]
        if self.limit is not None:
            lengths = np.minimum(lengths, self.limit)
        tokens = np.zeros((len(rows), int(lengths.max(initial=0))), np.int64)
        for row, (start, length) in enumerate(zip(self.starts[rows], lengths, strict=True)):
            tokens[row, :length] = self.tokens[start : start + length]
        return tokens, np.asarray(lengths, np.int64)


class PairSequences:
    """Pairs of sequences of tokens, each pair with a class.

    Args:
        sequences: The sequences; one may be in many pairs.
        pairs: Which two sequences make a pair, (N, 2).
        labels: Classes of the pairs, (N,).

    Example:
        >>> papers = TokenSequences(np.array([5, 6, 7, 8, 9]), np.array([0, 2, 5]), np.zeros(2))
        >>> data = PairSequences(papers, np.array([[0, 1], [1, 1]]), np.array([1, 0]))
        >>> batch = data.gather([0])
        >>> batch.inputs.tolist(), batch.lengths.tolist()
        ([[[5, 6, 0], [7, 8, 9]]], [[2, 3]])
    """

    fresh = False

    def __init__(self, sequences: TokenSequences, pairs: NDArray[Any], labels: NDArray[Any]) -> None:
        self.sequences = sequences
        self.pairs = pairs
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: Sequence[int]) -> Batch:
        """Return pairs as tokens (B, 2, L), padded with zeros to the longest sequence, with lengths (B, 2).

        Args:
            indices: Which pairs.
        """
        rows = np.asarray(indices, np.int64)
        tokens, lengths = self.sequences.pad(np.asarray(self.pairs[rows], np.int64).reshape(-1))
        return Batch(
            inputs=torch.from_numpy(tokens.reshape(len(rows), 2, tokens.shape[1])),
            targets=torch.from_numpy(np.asarray(self.labels[rows], np.int64)),
            index=torch.from_numpy(rows),
            lengths=torch.from_numpy(lengths.reshape(len(rows), 2)),
        )


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
