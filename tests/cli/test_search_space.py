from __future__ import annotations

from functools import reduce
from pathlib import Path

import pytest

from transferfn.cli.search_space import read_range, with_value
from transferfn.tasks import SmnistConfig
from transferfn.training import ModelConfig, TrainConfig


@pytest.mark.parametrize("option", ["model.denominator_groups", "epoch_steps", "model.order"])
def test_whole_numbers_that_may_be_left_out_are_whole(option: str) -> None:
    found = read_range(f"{option}=1..4", TrainConfig())
    assert (type(found.low), found.low, found.high) == (int, 1, 4)
    with pytest.raises(ValueError, match="two whole numbers"):
        read_range(f"{option}=1..4.5", TrainConfig())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.lr", "option=low..high"),
        ("optimizer.speed=1,2", "no option 'optimizer.speed'"),
        ("optimizer=1,2", "no option 'optimizer'"),
        ("optimizer.lr=0..1", "0 < low < high"),
        ("optimizer.lr=2..1", "0 < low < high"),
        ("optimizer.lr=a..b", "two numbers"),
        ("model.order=1.5..3", "two whole numbers"),
        ("model.init=comb,best", "model.init: expected one of 'resonators', 'comb', .*, got 'best'"),
        ("model.s4.measure=legs,leg", "model.s4.measure: expected one of 'legs', .*, got 'leg'"),
        ("model.s4=1,2", "no option 'model.s4'"),
        ("model.kind=model", "no option 'model.kind'"),
        ("optimizer.warmup=0.1,2", "share of all steps"),
    ],
)
def test_what_cannot_be_searched_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_range(text, TrainConfig())


def test_a_value_goes_to_its_place() -> None:
    config = with_value(TrainConfig(), "data.side", 14)
    assert config.data.signature.length == 196
    assert read_range("--model.denominator-groups=1,4", TrainConfig()).choices == (1, 4)
    assert read_range("batch_size=10..100", TrainConfig()).high == 100


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("model.s4.measure=legs,legt fourier", [("legs",), ("legt", "fourier")]),
        ("optimizer.betas=0.9 0.99,0.8 0.9", [(0.9, 0.99), (0.8, 0.9)]),
        ("data.path=a,b", [Path("a"), Path("b")]),
    ],
)
def test_values_of_several_parts_and_paths_are_searched(text: str, values: list) -> None:
    config = TrainConfig(model=ModelConfig(mixer="s4"), data=SmnistConfig(path=Path("there"), published=False))
    found = read_range(text, config)
    assert all(isinstance(choice, str) for choice in found.choices)  # Optuna keeps no lists
    there = [reduce(getattr, found.option.split("."), with_value(config, found.option, it)) for it in found.choices]
    assert there == values
