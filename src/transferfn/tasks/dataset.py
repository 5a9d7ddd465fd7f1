"""What a task hands to a loader: batches gathered by index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor


class Batch(NamedTuple):
    """Samples of a supervised task, batch first."""

    inputs: Tensor
    """Signals (B, L, D) or tokens (B, L)."""

    targets: Tensor
    """One class a row (B,), or one a sample (B, L)."""

    index: Tensor
    """Which samples of the data set these are, (B,)."""

    lengths: Tensor | None = None
    """How many samples of each row count, (B,); None means all."""


@runtime_checkable
class Dataset(Protocol):
    """A finite table of samples. Gathering a batch is a pure function of the indices."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def gather(self, indices: Sequence[int]) -> Batch:
        """Return the samples at ``indices``, in that order.

        Args:
            indices: Positions in the table, 0..N-1; one may occur more than once.
        """
        ...


class DataError(Exception):
    """Raised when data is missing, damaged or of the wrong kind: says which file, what was found and what to do."""
