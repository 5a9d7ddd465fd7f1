"""What a task hands to a model and a loader: what goes in and comes out, and batches gathered by index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

LATER = {"later": True}
"""Metadata of a configuration's field that files of earlier versions do not have; its default is what they meant."""

IGNORED = -100
"""Target of a sample that is not scored, as ``torch.nn.functional.cross_entropy`` has it."""

Target = Literal["class", "class-of-pair", "class-per-sample", "signal", "next-token"]
"""What is asked for: a class of a sequence, of a pair of sequences, of each sample, a signal of the same length, or how
likely each next token is."""


class Batch(NamedTuple):
    """Samples of a supervised task, batch first."""

    inputs: Tensor
    """Signals (B, L, D) or tokens (B, L), integers; of pairs (B, 2, L, D) or (B, 2, L)."""

    targets: Tensor
    """One class a row (B,), or one a sample (B, L), ``IGNORED`` where none is asked for, or signals (B, L, O)."""

    index: Tensor
    """Which samples of the data set these are, (B,)."""

    lengths: Tensor | None = None
    """How many samples of each row count, (B,), of pairs (B, 2); None means all."""

    resets: Tensor | None = None
    """True where the state is cleared before the sample, (B, L), say where a text begins; None means nowhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """What a model of a task must take and return.

    Raises:
        ValueError: unless exactly one of ``channels`` and ``vocabulary`` is given.
    """

    length: int
    """Samples of the longest sequence."""

    outputs: int
    """Classes, or channels of the signal asked for."""

    target: Target = "class"
    """What is asked for."""

    channels: int | None = None
    """Channels of the signals that go in; None if tokens do."""

    vocabulary: int | None = None
    """Number of distinct tokens that go in; None if signals do."""

    def __post_init__(self) -> None:
        if (self.channels is None) == (self.vocabulary is None):
            raise ValueError(
                f"give either channels (of signals) or vocabulary (of tokens), got channels={self.channels} and "
                f"vocabulary={self.vocabulary}"
            )


@runtime_checkable
class Dataset(Protocol):
    """A table of samples. Gathering a batch is a pure function of the indices."""

    @property
    def fresh(self) -> bool:
        """Whether samples are made on demand: then those of epoch e have the indices from e times the length on."""
        ...

    def __len__(self) -> int:
        """Return the number of samples of an epoch."""
        ...

    def gather(self, indices: Sequence[int]) -> Batch:
        """Return the samples at ``indices``, in that order.

        Args:
            indices: Positions in the table, 0..N-1, any positive number if samples are fresh; one may occur more than
                once.
        """
        ...


class Splits(NamedTuple):
    """The parts of a task's data."""

    train: Dataset
    """What the model learns from."""

    validation: Dataset | None
    """What chooses the best epoch; None where nothing is held out."""

    test: Dataset
    """What the final figure is measured on."""


@runtime_checkable
class Task(Protocol):
    """A frozen dataclass of plain values that says which data, and how it is made or read and split."""

    @property
    def signature(self) -> Signature:
        """What a model of this task must take and return."""
        ...

    def load(self) -> Splits:
        """Make or read the data; a pure function of the configuration and the files it names.

        Raises:
            DataError: if a file is missing, damaged or not what it should be.
        """
        ...


class DataError(Exception):
    """Raised when data is missing, damaged or of the wrong kind: says which file, what was found and what to do."""


@runtime_checkable
class Spelled(Protocol):
    """A task of tokens that can say what they stand for."""

    def spell(self, tokens: Sequence[int]) -> str:
        """Return what a person reads.

        Args:
            tokens: Tokens of one sequence, without padding.
        """
        ...
