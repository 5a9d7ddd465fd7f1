from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from transferfn.tasks import ListopsConfig, PathfinderConfig, SmnistConfig
from transferfn.training import RECIPES, ModelConfig, OptimizerConfig, TrainConfig
from transferfn.training.layer_options import S4Options
from transferfn.training.recipes import recipe_line, recipe_name
from transferfn.training.serialize import differences, from_dict, to_dict


@pytest.mark.parametrize("recipe", RECIPES, ids=recipe_name)
def test_each_recipe_goes_through_json_and_back(recipe) -> None:
    config = recipe()
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config
    assert 20 < len(recipe_line(recipe)) < 120


def test_every_kind_of_value_goes_through_json_and_back() -> None:
    config = TrainConfig(
        data=SmnistConfig(path=Path("some") / "folder"),
        model=ModelConfig(denominator_groups=4, bidirectional=True),
        optimizer=OptimizerConfig(filter_lr=1e-3, betas=(0.8, 0.9)),
    )
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": "3"}, "epochs: expected int, got '3'"),
        ({"epochs": True}, "epochs: expected int, got True"),
        ({"model": 3}, "model: expected an object of kind model, language-model"),
        ({"precision": "8"}, "precision: expected one of '32-true', 'bf16-mixed', '16-mixed', '64-true', got '8'"),
        ({"colour": 1}, "unknown field colour"),
        ({"seed": None}, "seed: expected int, got None"),
    ],
)
def test_json_of_something_else_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(TrainConfig, to_dict(TrainConfig()) | change)


def test_files_of_before_the_options_of_layers_are_read() -> None:
    """As what they meant: the defaults of the layers."""
    config = TrainConfig(model=ModelConfig(mixer="s5"))
    values = to_dict(config)
    for name in ("s4", "s4d", "s5"):
        del values["model"][name]
    assert from_dict(TrainConfig, values) == config


def test_options_of_layers_go_through_json_and_back() -> None:
    model = ModelConfig(mixer="s4", s4=S4Options(measure=("legt", "fourier"), groups=2))
    config = TrainConfig(model=model)
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config
    assert differences(config, replace(config, model=ModelConfig(mixer="s4"))) == [
        'model.s4.measure ["legt", "fourier"] (there ["legs"])',
        "model.s4.groups 2 (there null)",
    ]


def test_a_missing_field_is_named_with_its_place() -> None:
    values = to_dict(TrainConfig())
    del values["optimizer"]["lr"]
    with pytest.raises(ValueError, match=r"missing field optimizer\.lr"):
        from_dict(TrainConfig, values)


def test_differences_are_named_with_their_place() -> None:
    config = TrainConfig()
    other = replace(config, epochs=5, data=SmnistConfig(path=Path("there")))
    assert differences(config, config) == []
    assert differences(config, other) == ["data.path null (there there)", "epochs 20 (there 5)"]


@pytest.mark.parametrize("data", [SmnistConfig(), ListopsConfig(), PathfinderConfig()])
def test_runs_from_before_files_were_counted_can_be_read(data) -> None:
    values = to_dict(TrainConfig(data=data))
    del values["data"]["published"]
    assert from_dict(TrainConfig, values).data == data
