from __future__ import annotations

import hashlib

import numpy as np
import torch

from transferfn.tasks.signals import SignalSequences, fixed_permutation


def test_values_are_gathered_in_the_order_asked_for_and_scaled() -> None:
    draw = np.random.default_rng(0)
    values = draw.integers(-100, 100, (6, 5, 3)).astype(np.int16)
    labels = draw.integers(0, 4, 6)
    mean, std = np.array([1.0, -2.0, 0.5]), np.array([2.0, 3.0, 0.1])
    rows = np.array([4, 1, 5])
    data = SignalSequences(values, labels, rows=rows, unit=10.0, mean=mean, std=std)
    assert len(data) == 3
    batch = data.gather([2, 0, 2])
    expected = (values[[5, 4, 5]] / 10 - mean) / std
    np.testing.assert_allclose(batch.inputs, expected, rtol=1e-5, atol=1e-5)
    assert batch.inputs.dtype == torch.float32
    assert batch.targets.tolist() == labels[[5, 4, 5]].tolist()
    assert batch.index.tolist() == [2, 0, 2]
    assert batch.lengths is None


def test_series_of_different_lengths_are_padded_with_zeros_to_the_longest_of_them() -> None:
    values = np.full((3, 6), 7.0)
    data = SignalSequences(values, np.arange(3), lengths=np.array([2, 6, 4]), mean=5.0, std=2.0)
    batch = data.gather([2, 0])
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [4, 2]
    assert batch.inputs.squeeze(-1).tolist() == [[1.0] * 4, [1.0, 1.0, 0.0, 0.0]]
    assert data.gather([]).inputs.shape == (0, 0, 1)


def test_the_order_of_permuted_tasks_never_changes() -> None:
    found = {length: fixed_permutation(length) for length in (64, 784, 1024)}
    digests = {
        length: hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()[:16] for length, order in found.items()
    }
    assert digests == {64: "53b93893eca30bb6", 784: "96240fe27409981c", 1024: "3a98b85496bb9253"}
    for length, order in found.items():
        assert sorted(order.tolist()) == list(range(length))
