"""Models differ in their mixer by one option."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from functools import partial
from typing import Any, get_args

import pytest
import torch

from laws.tolerance import relative_error
from transferfn.nn import S4, S4D, S5, Stream
from transferfn.tasks import SmnistConfig
from transferfn.training.build import build_mixer, build_model
from transferfn.training.config import MixerName, ModelConfig
from transferfn.training.layer_options import S4DOptions, S4Options, S5Options
from transferfn.training.lra_layers import S4_VALUES, LraTask
from transferfn.training.recipes import RECIPES, recipe_name
from transferfn.training.variant import Variant

SMALL = ModelConfig(width=8, layers=2, order=4, heads=2, head="last")


@pytest.mark.parametrize("mixer", get_args(MixerName))
def test_every_mixer_trains_and_streams(mixer: MixerName) -> None:
    torch.manual_seed(0)
    data = SmnistConfig(side=7).signature
    model = build_model(replace(SMALL, mixer=mixer), data)
    u = torch.rand(2, data.length, 1)
    logits = model(u)
    assert logits.shape == (2, data.outputs)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    stream = Stream(model.decoder(), 2)
    with torch.no_grad():
        for block in u.split(20, 1):
            found = stream(block)
        assert relative_error(found, model(u)) < 1e-4


def layer(**options: Any) -> Any:
    model = build_model(replace(SMALL, layers=1, **options), SmnistConfig(side=7).signature)
    return model.get_submodule("backbone.blocks.0.mixer")


def test_options_of_a_layer_reach_it() -> None:
    """Each of them, under its own name."""
    s4 = S4Options(measure=("legt", "legs"), dt_min=0.01, dt_max=0.02, groups=2)
    s4d = S4DOptions(init="legs", discretization="bilinear", dt_min=0.01, dt_max=0.02, groups=2)
    s5 = S5Options(
        blocks=2,
        discretization="bilinear",
        output_init="complex_normal",
        dt_min=0.01,
        dt_max=0.02,
        clip_eigenvalues=True,
    )
    for name, options in {"s4": s4, "s4d": s4d, "s5": s5}.items():
        built = layer(mixer=name, **{name: options})
        assert {item.name: getattr(built, item.name) for item in fields(options)} == asdict(options)


def test_options_that_are_not_given_are_those_of_the_layer() -> None:
    torch.manual_seed(0)
    found = [layer(mixer="s4"), layer(mixer="s4d"), layer(mixer="s5")]
    torch.manual_seed(0)
    usual = [layers(8, 4) for layers in (partial(S4, horizon=49), S4D, S5)]
    for one, other in zip(found, usual, strict=True):
        for name in (
            "init",
            "discretization",
            "output_init",
            "dt_min",
            "dt_max",
            "groups",
            "blocks",
            "clip_eigenvalues",
        ):
            assert getattr(one, name, None) == getattr(other, name, None), name


@pytest.mark.parametrize("mixer", [name for name in get_args(MixerName) if name != "hyena"])
def test_both_directions(mixer: MixerName) -> None:
    model = build_model(replace(SMALL, mixer=mixer, bidirectional=True), SmnistConfig(side=7).signature)
    assert not model.is_causal


def test_implicit_filters_have_one_direction() -> None:
    with pytest.raises(ValueError, match="implicit filters of hyena are causal: take hyena-rtf"):
        build_model(replace(SMALL, mixer="hyena", bidirectional=True), SmnistConfig().signature)


@pytest.mark.parametrize("mixer", ["s4", "s4d", "s5"])
@pytest.mark.parametrize("task", S4_VALUES)
def test_the_published_values_make_a_layer(mixer: Any, task: LraTask) -> None:
    """In full; those of Path-X start at steps of 1e-4."""
    (recipe,) = (recipe for recipe in RECIPES if recipe_name(recipe) == f"lra-{task}")
    config = recipe(Variant(mixer=mixer))
    built = build_mixer(config.model, 64)
    assert isinstance(built, {"s4": S4, "s4d": S4D, "s5": S5}[mixer])
    assert not built.is_causal
    assert built.dt_min == (1e-4 if task == "path-x" else 1e-3)
    small = recipe(Variant(mixer=mixer, size="small")).model
    assert (small.s4, small.s4d, small.s5) == (S4Options(), S4DOptions(), S5Options())


def test_published_values() -> None:
    """Some of them, read off the official files once more."""
    image = {recipe_name(recipe): recipe for recipe in RECIPES}["lra-image"]
    s4, s5 = (image(Variant(mixer=mixer)) for mixer in ("s4", "s5"))
    assert (s4.model.width, s4.model.order, s4.model.s4.groups, s4.optimizer.lr) == (512, 64, 1, 0.01)
    assert (s5.model.width, s5.model.order, s5.model.s5.blocks, round(s5.optimizer.lr, 9)) == (512, 384, 3, 4.5e-3)
    assert (s5.epochs, s5.optimizer.warmup, s5.optimizer.filter_lr) == (250, 1 / 250, 1e-3)


@pytest.mark.parametrize("task", S4_VALUES)
def test_the_feedthrough_starts_as_in_the_code_or_in_the_paper(task: LraTask) -> None:
    """Drawn from N(0, 1), where the paper has 1; small forms have a start of their own."""
    (recipe,) = (recipe for recipe in RECIPES if recipe_name(recipe) == f"lra-{task}")
    torch.manual_seed(0)
    found = {}
    for source in ("code", "paper"):
        model = replace(recipe(Variant(source=source)).model, order=2)
        found[source] = build_mixer(model, 64).get_parameter("truncated_feedthrough").detach()
    assert (found["paper"] == 1).all()
    assert abs(float(found["code"].mean())) < 0.3
    assert 0.8 < float(found["code"].std()) < 1.2
    assert recipe(Variant(size="small")).model.feedthrough == "init"
