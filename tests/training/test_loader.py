from __future__ import annotations

import itertools
import multiprocessing
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from transferfn.tasks import Batch
from transferfn.tasks.signals import SignalSequences
from transferfn.training.loader import Loader, _start_worker, sample_order


class Numbers:
    """A data set whose samples are their own index."""

    def __init__(self, count: int, *, fresh: bool = False) -> None:
        self.count = count
        self.fresh = fresh

    def __len__(self) -> int:
        return self.count

    def gather(self, indices: Sequence[int]) -> Batch:
        index = torch.tensor(indices)
        return Batch(inputs=index[:, None, None].float(), targets=index, index=index)


def rows(loader: Loader, count: int | None = None) -> list[list[int]]:
    return [batch.index.tolist() for batch in itertools.islice(loader, count)]


def make(count: int = 23, **options) -> Loader:
    return Loader(Numbers(count), **({"batch_size": 4, "seed": 3} | options))


def test_an_epoch_holds_each_sample_once() -> None:
    loader = make(drop_last=False)
    assert len(loader) == 6
    found = rows(loader)
    assert [len(batch) for batch in found] == [4] * 5 + [3]
    assert sorted(itertools.chain(*found)) == list(range(23))


def test_the_last_smaller_batch_is_dropped() -> None:
    loader = make()
    assert len(loader) == 5
    assert [len(batch) for batch in rows(loader)] == [4] * 5


def test_fresh_samples_are_new_in_each_epoch() -> None:
    loader = Loader(Numbers(10, fresh=True), batch_size=4, seed=3)
    assert rows(loader) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert rows(loader) == [[10, 11, 12, 13], [14, 15, 16, 17]]
    again = Loader(Numbers(10, fresh=True), batch_size=4, seed=3)
    again.load_state_dict(loader.state_dict() | {"epoch": 1, "consumed": 1})
    assert rows(again) == [[14, 15, 16, 17]]


def test_shorter_epochs_go_on_where_the_one_before_stopped() -> None:
    whole, short = make(), make(steps=3)
    passes = [batch for _ in range(3) for batch in rows(whole)]
    assert len(short) == 3
    assert [batch for _ in range(5) for batch in rows(short)] == passes


def test_longer_epochs_take_several_passes() -> None:
    whole, long = make(accumulate=2), make(accumulate=2, steps=7)
    assert rows(long) + rows(long) == [batch for _ in range(3) for batch in rows(whole)][:28]


def test_a_short_epoch_continues_within_a_pass() -> None:
    steady = make(steps=3)
    want = [rows(steady) for _ in range(3)]
    again = make(steps=3)
    again.load_state_dict({**again.state_dict(), "epoch": 1, "consumed": 1})
    assert [rows(again), rows(again)] == [want[1][1:], want[2]]


@pytest.mark.parametrize("world_size", [1, 2])
def test_parts_of_a_batch_come_one_after_the_other(world_size: int) -> None:
    whole = rows(make(23, batch_size=8))
    ranks = [rows(make(23, batch_size=8, accumulate=2, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert [len(part) for part in ranks[0]] == [4 // world_size] * 4
    parts = [[row for rank in ranks for row in rank[step]] for step in range(4)]
    assert [parts[0] + parts[1], parts[2] + parts[3]] == whole


def test_each_epoch_has_its_own_order() -> None:
    loader = make()
    first, second = rows(loader), rows(loader)
    assert first != second
    assert [first, second] == [list(make().batches(0)), list(make().batches(1))]
    assert rows(make(seed=4)) != first


def test_without_shuffling_samples_come_in_their_own_order() -> None:
    loader = make(shuffle=False, drop_last=False)
    assert list(itertools.chain(*rows(loader))) == list(range(23))
    assert list(itertools.chain(*rows(loader))) == list(range(23))


def test_the_order_is_frozen() -> None:
    # Runs that were interrupted continue with it, whatever the version of numpy or of this library.
    assert sample_order(10, seed=0, epoch=0).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert sample_order(10, seed=7, epoch=3).tolist() == [2, 5, 9, 7, 3, 0, 6, 8, 4, 1]


def test_the_order_is_a_fair_draw() -> None:
    first = [int(sample_order(5, seed=0, epoch=epoch)[0]) for epoch in range(2000)]
    assert np.bincount(first).min() > 330


def test_no_random_generator_is_touched() -> None:
    state = torch.get_rng_state()
    rows(make(workers=1))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_same_batches_without_overlap(world_size: int) -> None:
    alone = make(50, batch_size=6)
    ranks = [make(50, batch_size=6, rank=rank, world_size=world_size) for rank in range(world_size)]
    for _ in range(2):
        parts = [rows(loader) for loader in ranks]
        assert rows(alone) == [list(itertools.chain(*batch)) for batch in zip(*parts, strict=True)]


def test_ranks_share_a_smaller_last_batch() -> None:
    parts = [rows(make(8, batch_size=6, rank=rank, world_size=3, drop_last=False, shuffle=False)) for rank in range(3)]
    assert parts == [[[0, 1], []], [[2, 3], [6]], [[4, 5], [7]]]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("taken", [0, 1, 3, 5])
def test_a_loader_continues_where_the_state_was_taken(workers: int, taken: int) -> None:
    whole = make(workers=workers)
    epochs = [rows(whole) for _ in range(3)]
    stopped = make(workers=workers)
    rows(stopped)
    assert rows(stopped, taken) == epochs[1][:taken]
    state = stopped.state_dict()
    # Nothing that workers hold ready is counted.
    assert (state["epoch"], state["consumed"]) == ((1, taken) if taken else (0, 5))
    resumed = make(workers=workers)
    resumed.load_state_dict(state)
    if taken not in (0, 5):
        assert rows(resumed) == epochs[1][taken:]
        assert rows(resumed) == epochs[2]
    else:
        assert rows(resumed) == epochs[1 if taken == 0 else 2]


def test_an_iterator_that_is_never_used_counts_nothing() -> None:
    loader = make()
    iter(loader)
    iter(loader)
    assert rows(loader) == list(make().batches(0))
    assert loader.state_dict()["consumed"] == 5


@pytest.mark.parametrize("workers", [0, 1])
def test_an_iteration_that_was_left_is_followed_by_the_next_epoch(workers: int) -> None:
    loader = make(workers=workers)
    rows(loader, 2)
    assert rows(loader) == list(make().batches(1))


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_worker_processes_change_nothing(start_method: str) -> None:
    # A spawned worker imports the class of the data set.
    data = SignalSequences(np.arange(40, dtype=np.uint8).reshape(20, 2), np.zeros(20, np.uint8))
    alone, loader = (
        Loader(data, batch_size=4, seed=3, workers=workers, start_method=start_method if workers else None)
        for workers in (0, 2)
    )
    for _ in range(2):
        for mine, theirs in zip(loader, alone, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    loader.close()


def test_a_worker_does_not_tell_that_its_process_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, traceback: told.append(kind))
    _start_worker(0)
    for kind in (ConnectionResetError, EOFError, ValueError):
        sys.excepthook(kind, kind(), None)
    assert told == [ValueError]


def test_closing_stops_the_workers_and_loses_nothing() -> None:
    loader = make(workers=2)
    epochs = [list(make().batches(epoch)) for epoch in range(3)]
    assert rows(loader) == epochs[0]
    loader.close()
    loader.close()
    assert rows(loader) == epochs[1]
    assert len(multiprocessing.active_children()) == 2
    loader.close()
    assert multiprocessing.active_children() == []


def test_a_position_in_another_order_is_refused() -> None:
    state = make(seed=1, batch_size=5).state_dict()
    with pytest.raises(ValueError, match=r"seed 1 \(here 3\), batch_size 5 \(here 4\)"):
        make().load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 5, "world_size": 2}, "multiple"),
        ({"rank": 2, "world_size": 2}, r"0\.\.1, got 2"),
        ({"workers": -1}, "got -1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 2, "drop_last": False}, "asks for drop_last"),
        ({"batch_size": 24}, "23 samples do not fill one batch of 24"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)
