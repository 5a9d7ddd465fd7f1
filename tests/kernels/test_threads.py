from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from kernels.loop import large_example
from transferfn.kernels import threads
from transferfn.kernels.recurrence import recurrence

ENOUGH = 10**9  # multiply-adds that are worth any number of threads


@pytest.fixture(params=["openmp", "pool"])
def three_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "pool":
        monkeypatch.setattr(threads, "_openmp", lambda: None)
    elif threads._openmp() is None:
        pytest.skip("this PyTorch ships no OpenMP library of GNU")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("jobs", [0, 1, 2, 3, 4, 100])
def test_every_job_is_done_once(three_threads, jobs) -> None:
    done = [0] * jobs

    def work(first: int, last: int) -> None:
        for job in range(first, last):
            done[job] += 1

    threads.split(work, jobs, cost=ENOUGH)
    assert done == [1] * jobs


def test_ranges_run_side_by_side(three_threads) -> None:
    meeting = threading.Barrier(3, timeout=60)  # nobody passes alone
    threads.split(lambda first, last: meeting.wait() and None, 3, cost=ENOUGH)


def test_an_error_reaches_the_caller_once_all_others_are_done(three_threads) -> None:
    done = []

    def work(first: int, last: int) -> None:
        if first == 0:
            raise KeyError("the first range")
        done.append(first)

    with pytest.raises(KeyError, match="the first range"):
        threads.split(work, 3, cost=ENOUGH)
    assert sorted(done) == [1, 2]


def test_many_callers_at_once(three_threads) -> None:
    def call(_: int) -> int:
        torch.set_num_threads(3)  # the setting is the thread's own
        found: list[int] = []
        threads.split(lambda first, last: found.extend(range(first, last)), 50, cost=ENOUGH)
        return sorted(found) == list(range(50))

    with ThreadPoolExecutor(8) as callers:
        assert all(callers.map(call, range(200), timeout=120))


def test_little_work_stays_with_the_caller(three_threads) -> None:
    seen = []
    threads.split(lambda first, last: seen.append((first, last, threading.get_ident())), 8, cost=1000)
    assert seen == [(0, 8, threading.get_ident())]


def test_native_loops_compute_the_same_on_every_kind_of_team(monkeypatch, three_threads) -> None:
    """Each of a team works on jobs and in memory of its own, whatever it runs on."""
    u, b, a, h0, state = large_example()
    monkeypatch.setattr(threads, "_LEAST", 10**12)
    alone = recurrence(u, b, a, h0, state)
    monkeypatch.setattr(threads, "_LEAST", 1)
    for ours, one in zip(recurrence(u, b, a, h0, state), alone, strict=True):
        assert torch.equal(ours, one)
