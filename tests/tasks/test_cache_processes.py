from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from transferfn.tasks.cache import prepare


@pytest.fixture
def array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.setenv("TRANSFERFN_CACHE", str(tmp_path))
    return prepare("numbers", {}, lambda folder: np.save(folder / "all.npy", np.arange(100_000).reshape(-1, 4)))["all"]


def test_another_process_maps_the_file_instead_of_receiving_a_copy(array: np.ndarray) -> None:
    sent = pickle.dumps(array)
    assert len(sent) < 1000
    received = pickle.loads(sent)
    assert isinstance(received, np.memmap)
    assert not received.flags.writeable
    np.testing.assert_array_equal(received, np.arange(100_000).reshape(-1, 4))
    assert len(pickle.dumps(received)) < 1000


def test_a_part_is_sent_as_what_it_is(array: np.ndarray) -> None:
    for part in (array[3:7], array[:, 1], array + 1, array.T, array[[5, 2]], array.sum(axis=1), array[0, 0]):
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(part)), np.array(part))
