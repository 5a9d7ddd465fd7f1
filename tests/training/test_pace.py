from __future__ import annotations

from dataclasses import replace

import torch

from transferfn.tasks import SmnistConfig
from transferfn.training.config import ModelConfig, TrainConfig
from transferfn.training.pace import of_equal_time, step_seconds

SMALL = TrainConfig(data=SmnistConfig(side=7), model=ModelConfig(width=8, layers=1, order=4), epochs=4)


def test_a_larger_model_takes_longer() -> None:
    large = replace(SMALL, model=ModelConfig(width=256, layers=6, order=4))  # some five hundred times the work
    quick, slow = step_seconds([SMALL, large], rounds=4)
    assert 0 < 2 * quick < slow


def test_timing_leaves_threads_and_generators_alone() -> None:
    before = torch.get_num_threads(), torch.get_rng_state()
    step_seconds([SMALL], rounds=2)
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_equal_time_is_shared_between_the_epochs_there_were() -> None:
    config = of_equal_time(SMALL, step=0.1, minutes=2.0)
    assert (config.epochs, config.epoch_steps) == (4, 300)
    assert of_equal_time(SMALL, step=1e3, minutes=0.1).epoch_steps == 1
