"""Batches in an order that is a pure function of (seed, epoch, position), so that a run resumes exactly."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader

from transferfn.tasks import Batch, Dataset


class Loader:
    """Iterates over a data set in batches; one iteration is one epoch.

    Which samples make up a batch depends on ``seed``, the epoch and the position in it, and on nothing else: not on
    worker processes, not on how many batches were fetched ahead, not on the state of any random generator. With
    several ranks each takes its own slice of the same batch, so the batches of a run do not depend on their number.
    Where samples are made on demand, each pass over them has its own.

    ``state_dict`` counts the batches that were handed out, never those that workers hold ready. The first iteration
    after ``load_state_dict`` continues where the state was taken; every later one is the next epoch.

    Args:
        dataset: The samples.
        batch_size: Samples of a batch over all ranks.
        seed: Seed of the order.
        shuffle: Whether the order is drawn anew each epoch; otherwise samples come in their own order.
        drop_last: Whether the last, smaller batch of a pass over the samples is left out.
        steps: Batches of an epoch, before they are split in parts; the next epoch goes on where it stopped, over as
            many passes as that takes. None means that an epoch is a pass.
        accumulate: Parts into which each batch is split, handed out one after the other.
        rank: Which slice of a batch this process takes.
        world_size: Number of ranks.
        workers: Worker processes that gather batches ahead of time; 0 gathers in this process.
        start_method: How worker processes are started; None takes the platform's default.
        pin_memory: Whether batches are put into page-locked memory, for a faster copy to an accelerator.

    Raises:
        ValueError: if the numbers do not fit together.

    Example:
        >>> from transferfn.tasks import SmnistConfig, load_smnist
        >>> loader = Loader(load_smnist(SmnistConfig(side=7)).train, batch_size=100, seed=0)
        >>> len(loader), next(iter(loader)).inputs.shape
        (36, torch.Size([100, 49, 1]))
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        drop_last: bool = True,
        steps: int | None = None,
        accumulate: int = 1,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        start_method: Literal["fork", "spawn", "forkserver"] | None = None,
        pin_memory: bool = False,
    ) -> None:
        if batch_size < 1 or world_size < 1 or accumulate < 1 or batch_size % (world_size * accumulate):
            raise ValueError(
                f"batch_size counts the samples over all ranks and parts and must be a multiple of their number, "
                f"got batch_size={batch_size}, world_size={world_size} and accumulate={accumulate}"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must lie in 0..{world_size - 1}, got {rank}")
        if workers < 0:
            raise ValueError(f"workers must not be negative, got {workers}")
        if drop_last and len(dataset) < batch_size:
            raise ValueError(
                f"{len(dataset)} samples do not fill one batch of {batch_size}: use a smaller batch_size or more data"
            )
        if steps is not None and (steps < 1 or not drop_last):
            raise ValueError(f"steps must be at least 1 and asks for drop_last, got {steps} and drop_last={drop_last}")
        self.dataset = dataset
        self.plan = _Plan(
            samples=len(dataset),
            batch_size=batch_size,
            seed=seed,
            shuffle=shuffle,
            drop_last=drop_last,
            steps=steps,
            fresh=dataset.fresh,
            accumulate=accumulate,
            rank=rank,
            world_size=world_size,
        )
        self.workers = workers
        self._position = _Position()
        self._continues = True
        self._start_method = start_method
        self._pin_memory = pin_memory
        self._fetcher: DataLoader[Batch] | None = None

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        """Hand out the batches of one epoch. Nothing is fetched before the first one is asked for."""
        position = self._position
        if not self._continues or position.consumed >= len(self):
            position.epoch, position.consumed = position.epoch + 1, 0
        self._continues = False
        for batch in self._fetch():
            position.consumed += 1
            yield batch

    def batches(self, epoch: int, *, start: int = 0) -> Iterator[list[int]]:
        """Yield which samples this rank takes, batch by batch.

        Args:
            epoch: Number of the epoch, from 0.
            start: Number of the batch to start at.
        """
        return self.plan.batches(epoch, start)

    def state_dict(self) -> dict[str, Any]:
        """Return the position, counted in batches handed out, and what the order depends on."""
        order = {name: getattr(self.plan, name) for name in _ORDER}
        return {"epoch": self._position.epoch, "consumed": self._position.consumed, **order}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a position taken with ``state_dict``.

        Args:
            state: What ``state_dict`` returned.

        Raises:
            ValueError: if the order would not be the same as that of the loader the state is from.
        """
        mine = self.state_dict()
        if differing := [name for name in _ORDER if state[name] != mine[name]]:
            told = ", ".join(f"{name} {state[name]} (here {mine[name]})" for name in differing)
            raise ValueError(f"the saved position belongs to another order of samples: {told}")
        self._position.epoch, self._position.consumed = state["epoch"], state["consumed"]
        self._continues = True

    def close(self) -> None:
        """Stop the worker processes; the next iteration starts them again."""
        iterator = getattr(self._fetcher, "_iterator", None)
        if iterator is not None:
            iterator._shutdown_workers()
        self._fetcher = None

    def _fetch(self) -> Iterator[Batch]:
        if self.workers == 0:
            for rows in self.batches(self._position.epoch, start=self._position.consumed):
                yield self.dataset.gather(rows)
            return
        if self._fetcher is None:
            self._fetcher = DataLoader(
                _Gather(self.dataset),  # pyright: ignore[reportArgumentType]
                batch_sampler=_Upcoming(self.plan, self._position),
                num_workers=self.workers,
                collate_fn=_as_is,
                persistent_workers=True,
                multiprocessing_context=self._start_method,
                worker_init_fn=_start_worker,
                pin_memory=self._pin_memory,
                generator=torch.Generator(),  # it would draw from the global generator otherwise
            )
        yield from self._fetcher


_ORDER = ("seed", "batch_size", "accumulate", "samples", "steps")


@dataclass(kw_only=True, slots=True)
class _Position:
    """Where a loader is: the epoch and how many of its batches were handed out."""

    epoch: int = 0
    consumed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """Which samples make up which batch."""

    samples: int
    batch_size: int
    seed: int
    shuffle: bool
    drop_last: bool
    steps: int | None
    fresh: bool
    accumulate: int
    rank: int
    world_size: int

    def __len__(self) -> int:
        return self.pass_length if self.steps is None else self.steps * self.accumulate

    @property
    def pass_length(self) -> int:
        """Batches, or parts of them, of a pass over the samples."""
        whole, rest = divmod(self.samples, self.batch_size)
        return (whole + (rest > 0 and not self.drop_last)) * self.accumulate

    def batches(self, epoch: int, start: int) -> Iterator[list[int]]:
        part_size = self.batch_size // self.accumulate
        turn, order = -1, np.empty(0, np.int64)
        for number in range(epoch * len(self) + start, (epoch + 1) * len(self)):
            if number // self.pass_length != turn:
                turn = number // self.pass_length
                order = self._order(turn)
            first = number % self.pass_length * part_size
            count = min(part_size, self.samples - first)
            # Contiguous slices of the batch; a smaller last one is shared out as evenly as can be.
            low, high = (first + count * part // self.world_size for part in (self.rank, self.rank + 1))
            yield order[low:high].tolist()

    def _order(self, turn: int) -> np.ndarray:
        if self.fresh:
            return np.arange(turn * self.samples, (turn + 1) * self.samples)
        return sample_order(self.samples, seed=self.seed, epoch=turn) if self.shuffle else np.arange(self.samples)


@dataclass(frozen=True, slots=True)
class _Upcoming:
    """The batches that are left of an epoch.

    It knows the position, not the loader: a cycle would keep worker processes alive until the garbage collector comes.
    """

    plan: _Plan
    position: _Position

    def __iter__(self) -> Iterator[list[int]]:
        return self.plan.batches(self.position.epoch, self.position.consumed)

    def __len__(self) -> int:
        return len(self.plan) - self.position.consumed


class _Gather:
    """Gives torch's fetcher whole batches instead of single samples."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Batch:
        return self.dataset.gather([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        return self.dataset.gather(indices)


def _as_is(batch: Any) -> Any:
    return batch


def _start_worker(worker: int) -> None:
    """Keep a worker from printing that the process it gathers for has gone: that one tells what happened itself."""
    told = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not issubclass(kind, (OSError, EOFError)):
            told(kind, error, traceback)

    sys.excepthook = tell


def sample_order(samples: int, *, seed: int, epoch: int) -> np.ndarray:
    """Return the order of the samples of a pass over them, a permutation of 0..samples-1.

    Args:
        samples: Number of samples.
        seed: Seed of the run.
        epoch: Number of the pass, from 0.

    Example:
        >>> sample_order(8, seed=0, epoch=0).tolist() == sample_order(8, seed=0, epoch=0).tolist()
        True
    """
    # The raw stream of a bit generator is frozen for all versions of numpy, unlike Generator.permutation.
    draw = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(samples)
    return np.argsort(draw, kind="stable")
