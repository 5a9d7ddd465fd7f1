from __future__ import annotations

from pathlib import Path

import pytest

from transferfn.tasks import SmnistConfig
from transferfn.training import ModelConfig, OptimizerConfig, RunOptions, TrainConfig
from transferfn.training.layer_options import S5Options


@pytest.mark.parametrize("mixer", ["rtf", "s4", "s4d"])
def test_options_of_a_mixer_that_is_not_chosen_are_refused(mixer) -> None:
    with pytest.raises(ValueError, match=rf"model\.s5 .* do nothing with --mixer {mixer}, got S5Options\(blocks=2"):
        ModelConfig(mixer=mixer, s5=S5Options(blocks=2))


@pytest.mark.parametrize(
    "build",
    [
        lambda: TrainConfig(epochs=0),
        lambda: TrainConfig(batch_size=0),
        lambda: TrainConfig(seed=-1),
        lambda: TrainConfig(seed=2**63),
        lambda: SmnistConfig(seed=-1),
        lambda: OptimizerConfig(warmup=1.5),
        lambda: OptimizerConfig(lr=float("inf")),
        lambda: OptimizerConfig(filter_weight_decay=-0.1),
        lambda: OptimizerConfig(betas=(0.9, 1.0)),
        lambda: OptimizerConfig(clip=0.0),
        lambda: RunOptions(out=Path(), workers=-1),
        lambda: RunOptions(out=Path(), checkpoint_every=0),
    ],
)
def test_values_that_make_no_sense_are_refused(build) -> None:
    with pytest.raises(ValueError, match="got "):
        build()


def test_configurations_are_frozen() -> None:
    with pytest.raises(AttributeError):
        TrainConfig().epochs = 3  # pyright: ignore[reportAttributeAccessIssue]
