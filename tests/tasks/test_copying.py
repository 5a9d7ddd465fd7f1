from __future__ import annotations

import pytest
import torch

from transferfn.tasks import IGNORED, CopyingConfig, Dataset, Task


def test_the_paper_s_sizes() -> None:
    config = CopyingConfig()
    train, validation, _test = config.load()
    assert isinstance(config, Task)
    assert isinstance(train, Dataset)
    assert len(train) == 10_000
    assert validation is not None
    batch = train.gather([0, 9_999])
    assert batch.inputs.shape == batch.targets.shape == (2, 2048)
    assert config.signature.length == 2048
    assert (batch.targets[:, :1024] == IGNORED).all()
    assert torch.equal(batch.targets[:, 1024:], batch.inputs[:, :1024])
    assert (batch.inputs[:, 1024:] == 63).all()
    many = train.gather(range(100)).inputs[:, :1024]
    counts = torch.bincount(many.flatten(), minlength=64)
    assert set(many.unique().tolist()) == set(range(1, 63))
    expected = 100 * 1024 / 62
    assert float((counts[1:63] - expected).square().sum() / expected) < 111  # chi squared of 61 degrees, 1 in 10,000


def test_samples_are_their_index_and_nothing_else() -> None:
    config = CopyingConfig(memorize=20)
    train, validation, test = config.load()
    assert torch.equal(train.gather([5, 3]).inputs, train.gather([3, 5]).inputs.flip(0))
    assert (train.fresh, test.fresh) == (True, False)
    assert not torch.equal(train.gather([10_003]).inputs, train.gather([3]).inputs)
    assert validation is not None
    splits = [part.gather([3]).inputs for part in (train, validation, test)]
    assert not any(torch.equal(splits[i], splits[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    other = CopyingConfig(memorize=20, seed=1).load().train.gather([3]).inputs
    assert not torch.equal(other, splits[0])


def test_the_draw_is_frozen() -> None:
    assert CopyingConfig(memorize=6).load().train.gather([7]).inputs[0, :6].tolist() == [16, 45, 29, 18, 50, 62]


@pytest.mark.parametrize("name", ["memorize", "symbols", "samples", "held_out"])
def test_values_that_make_no_sense(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name.replace('_', '-')} must be at least 1, got 0"):
        CopyingConfig(**{name: 0})
    with pytest.raises(ValueError, match="seed"):
        CopyingConfig(seed=-1)
