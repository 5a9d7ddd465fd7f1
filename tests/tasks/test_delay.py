from __future__ import annotations

import numpy as np
import pytest
import torch

from transferfn.tasks import DelayConfig, Task


@pytest.mark.parametrize("length", [4000, 401, 64])
def test_the_signal_comes_back_later(length: int) -> None:
    config = DelayConfig(length=length, lag=length // 4)
    batch = config.load().train.gather([0, 5])
    assert isinstance(config, Task)
    assert batch.inputs.shape == batch.targets.shape == (2, length, 1)
    assert torch.equal(batch.targets[:, config.lag :], batch.inputs[:, : -config.lag])
    assert not batch.targets[:, : config.lag].any()
    assert not batch.inputs[:, 0].any()


def test_noise_is_white_up_to_its_band_and_has_its_power() -> None:
    config = DelayConfig(length=1000, lag=10, band=0.3)
    noise = config.load().train.gather(range(400)).inputs[..., 0].double().numpy()
    noise = noise - noise.mean(1, keepdims=True)  # without the shift that makes it start at 0
    power = (np.abs(np.fft.rfft(noise)) ** 2).mean(0)
    kept = power[1:151]  # 0.3 of 500
    assert power[151:].max() < 1e-9 * kept.mean()
    assert np.abs(kept / kept.mean() - 1).max() < 5 / np.sqrt(400)  # each is a mean of 400 exponential draws
    assert np.sqrt((noise**2).mean()) == pytest.approx(0.5, rel=5 / np.sqrt(2 * 400 * 150))


def test_a_predictor_of_the_mean_scores_what_the_paper_s_failures_do() -> None:
    targets = DelayConfig().load().test.gather(range(256)).targets[..., 0]
    guess = torch.zeros_like(targets)
    guess[:, 1000:] = targets[:, 1000:].mean(1, keepdim=True)
    assert float((guess - targets).square().mean().sqrt()) == pytest.approx(0.433, abs=2e-3)


def test_samples_are_their_index_and_nothing_else() -> None:
    train, validation, test = DelayConfig(length=64, lag=3).load()
    assert torch.equal(train.gather([5, 3]).inputs, train.gather([3, 5]).inputs.flip(0))
    assert (train.fresh, test.fresh) == (True, False)
    assert validation is not None
    first = [part.gather([3]).inputs for part in (train, validation, test)]
    assert not any(torch.equal(first[i], first[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length must be at least 1"),
        ({"lag": 4000}, r"lag must lie in 0\.\.length - 1 = 3999, got 4000"),
        ({"band": 1.5}, "band is a share"),
        ({"band": 1e-9}, "one period fits"),
        ({"rms": 0.0}, "rms must be more than 0"),
        ({"seed": -1}, r"^data\.seed must lie"),
    ],
)
def test_values_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DelayConfig(**options)
