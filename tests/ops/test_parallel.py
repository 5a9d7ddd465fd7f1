"""All ways to filter, called by many threads at once and in the workers of a loader whose process has filtered."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ops.parallel import Filtered, filtered


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("transferfn.ops.filter.block_size", lambda order: 32)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_eight_callers_at_once() -> None:
    expected = filtered(0)

    def call(_: int) -> list[Tensor]:
        torch.set_num_threads(2)  # the setting is the thread's own
        return filtered(0)

    with ThreadPoolExecutor(8) as callers:
        for found in callers.map(call, range(16), timeout=120):
            same(found, expected)


def test_the_number_of_threads_may_change() -> None:
    expected = filtered(0)
    for count in (1, 2, 3, 1):
        torch.set_num_threads(count)
        same(filtered(0), expected)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # of Python itself, where threads are running
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on a machine of one core
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_loader_whose_process_has_filtered(start: str) -> None:
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {start}")
    expected = [filtered(k) for k in range(4)]
    loader = DataLoader(Filtered(), batch_size=None, num_workers=2, multiprocessing_context=start, timeout=240)
    for found, wanted in zip(loader, expected, strict=True):
        same(found, wanted)
