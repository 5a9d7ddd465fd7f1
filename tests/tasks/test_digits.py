from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from transferfn.tasks import DataError, DigitsConfig


@pytest.fixture(autouse=True)
def _need_sklearn() -> None:
    pytest.importorskip("sklearn")


def test_the_digits_are_split_once_and_for_all() -> None:
    train, validation, test = DigitsConfig().load()
    assert validation is not None
    parts = [set(part.rows.tolist()) for part in (train, validation, test)]
    assert sorted(row for part in parts for row in part) == list(range(1797))
    assert np.bincount(test.labels[test.rows]).tolist() == [36] * 10
    assert np.bincount(validation.labels[validation.rows]).tolist() == [14] * 10
    # The split is part of the task: a change would make results incomparable.
    assert test.rows[:6].tolist() == [0, 2, 9, 11, 20, 21]
    assert len(DigitsConfig(validation=0.0).load().train) == 1797 - 360
    assert DigitsConfig(seed=1).load().test.rows.tolist() != test.rows.tolist()
    assert DigitsConfig(validation=0.0).load().validation is None


def test_a_share_too_small_to_hold_any_out_is_refused() -> None:
    with pytest.raises(DataError, match=r"holding out 0\.003 of 1437 training images leaves none of each of the 10"):
        DigitsConfig(validation=0.003).load()


def test_pixels_have_mean_0_and_standard_deviation_1() -> None:
    train = DigitsConfig(validation=0.0).load().train
    inputs = train.gather(range(len(train))).inputs
    assert inputs.shape == (1437, 64, 1)
    assert abs(inputs.mean()) < 0.02
    assert abs(inputs.std() - 1) < 0.02
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    row = train.rows[5]
    batch = train.gather([5])
    torch.testing.assert_close(batch.inputs[0, :, 0] * 0.3760 + 0.3053, torch.from_numpy(images[row] / 16).float())
    assert batch.targets.tolist() == [labels[row]]


def test_permuted_pixels_have_one_order() -> None:
    plain = DigitsConfig().load().train.gather([3, 4]).inputs
    permuted = DigitsConfig(permuted=True).load().train.gather([3, 4]).inputs
    torch.testing.assert_close(permuted, plain[:, np.random.RandomState(92916).permutation(64)], rtol=0, atol=0)


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"pip install 'transferfn\[train\]'"):
        DigitsConfig().load()


def test_values_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match=r"^data\.validation must"):
        DigitsConfig(validation=0.7)
    with pytest.raises(ValueError, match=r"^data\.seed must"):
        DigitsConfig(seed=-1)
