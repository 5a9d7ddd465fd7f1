"""Copying: repeat a sequence of tokens once it has been read; asks for a memory as long as the sequence."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from transferfn.tasks.dataset import IGNORED, Batch, Signature, Splits
from transferfn.tasks.on_demand import on_demand_splits
from transferfn.tasks.philox import draws
from transferfn.tasks.splits import check_seed

_CHARACTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits  # as many as the paper has symbols


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyingConfig:
    """Copying as in the paper: tokens to remember, then as many markers, at which they are asked for in order.

    Training samples are fresh in every epoch; those of validation and test are the same every time.

    Example:
        >>> batch = CopyingConfig(memorize=3, symbols=62).load().train.gather([0])
        >>> batch.inputs.tolist(), batch.targets.tolist()
        ([[50, 29, 34, 63, 63, 63]], [[-100, -100, -100, 50, 29, 34]])
    """

    memorize: int = 1024
    """Number of tokens to remember."""

    symbols: int = 62
    """Number of distinct tokens, 1..symbols; the marker is the next one."""

    samples: int = 10_000
    """Training samples of an epoch."""

    held_out: int = 500
    """Samples of validation, and of test."""

    seed: int = 0
    """Seed of the samples."""

    def __post_init__(self) -> None:
        for name in ("memorize", "symbols", "samples", "held_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        check_seed(self.seed)

    @property
    def signature(self) -> Signature:
        """Tokens, of which 0 never occurs, and a class for each."""
        return Signature(
            length=2 * self.memorize,
            vocabulary=self.symbols + 2,
            outputs=self.symbols + 2,
            target="class-per-sample",
        )

    def load(self) -> Splits:
        """Return data sets that make their samples when asked."""
        return on_demand_splits(self.make, samples=self.samples, held_out=self.held_out)

    def spell(self, tokens: Sequence[int]) -> str:
        """Return a character for each token, a dot for the marker and where nothing is asked for; numbers if too many.

        Args:
            tokens: Tokens or targets of one sequence.
        """
        if self.symbols > len(_CHARACTERS):
            return " ".join("." if token in (IGNORED, self.symbols + 1) else str(token) for token in tokens)
        return "".join(_CHARACTERS[token - 1] if 1 <= token <= self.symbols else "." for token in tokens)

    def make(self, split: int, indices: Sequence[int]) -> Batch:
        """Return sequences and what is asked for at each sample, both (B, 2 memorize).

        Args:
            split: 0 to train, 1 to validate, 2 to test.
            indices: Which ones, each a pure function of the seed, the split and its index.
        """
        count, symbols = self.memorize, np.uint64(self.symbols)
        rows = [draws(self.seed, split, index, count) % symbols for index in indices]
        tokens = torch.from_numpy(np.stack(rows).astype(np.int64) + 1)
        return Batch(
            inputs=torch.cat([tokens, torch.full_like(tokens, self.symbols + 1)], dim=1),
            targets=torch.cat([torch.full_like(tokens, IGNORED), tokens], dim=1),
            index=torch.tensor(list(indices)),
        )
