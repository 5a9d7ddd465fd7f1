"""What was published stands beside runs on the published data, and beside no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from transferfn.tasks import ListopsConfig, PathfinderConfig
from transferfn.training.published import experiment, published, unlike
from transferfn.training.recipes import RECIPES, delay, lra_listops, lra_path_x, lra_pathfinder, recipe_name
from transferfn.training.variant import Variant

EXPERIMENTS = {
    "lra-listops": "listops",
    "lra-text": "text",
    "lra-retrieval": "retrieval",
    "lra-image": "image",
    "lra-pathfinder": "pathfinder",
    "lra-path-x": "path-x",
    "copying": "copying",
    "delay": "delay",
    "wikitext": "wikitext",
}


@pytest.mark.parametrize("recipe", RECIPES, ids=recipe_name)
def test_recipes_are_on_a_published_experiment_in_full_and_never_when_small(recipe) -> None:
    assert experiment(recipe(Variant())) == EXPERIMENTS.get(recipe_name(recipe))
    assert experiment(recipe(Variant(source="paper"))) == EXPERIMENTS.get(recipe_name(recipe))
    assert experiment(recipe(Variant(size="small"))) is None


def test_files_and_seeds_make_no_other_experiment() -> None:
    read = replace(lra_listops(), data=ListopsConfig(path=Path("listops-1000"), seed=7))
    assert published(read) == published(lra_listops()) != {}


@pytest.mark.parametrize("side", [32, 128])
def test_shorter_paths_are_an_easier_task_than_the_published_one(side: int) -> None:
    recipe = lra_pathfinder if side == 32 else lra_path_x
    assert published(recipe())
    assert published(replace(recipe(), data=PathfinderConfig(side=side, contour_length=6))) == {}


def test_figures_of_other_data_epochs_or_options_are_marked() -> None:
    assert unlike(lra_listops()) == unlike(lra_path_x()) == ("published data",)
    read = replace(lra_listops(), data=ListopsConfig(path=Path("listops-1000"), seed=7))
    assert unlike(read) == unlike(replace(read, epochs=50, seed=3, accumulate=2)) == ()
    assert unlike(replace(read, epochs=10)) == ("paper's epochs",)
    assert unlike(replace(read, epoch_steps=10)) == ("paper's epochs",)
    assert unlike(replace(read, model=lra_listops(Variant(mixer="attention")).model)) == ("paper's options",)
    comb = replace(delay().model, init="comb", constraint="reflection")
    assert unlike(replace(delay(), model=comb, epochs=8)) == ("paper's options", "20 epochs")
    assert unlike(replace(delay(), model=replace(delay().model, order=512))) == ()
    assert unlike(delay(Variant(size="small"))) == ()


@pytest.mark.parametrize("mixer", ["rtf", "s4", "s4d", "s5"])
@pytest.mark.parametrize("recipe", RECIPES, ids=recipe_name)
def test_recipes_are_unlike_what_was_published_in_their_data_alone(recipe, mixer) -> None:
    for source in ("code", "paper"):
        assert set(unlike(recipe(Variant(mixer=mixer, source=source)))) <= {"published data"}


def test_figures_that_depend_on_the_order_are_those_of_the_run() -> None:
    assert published(delay()) == {"S4": 0.029, "RTF": 0.006}
    assert published(replace(delay(), model=replace(delay().model, order=100))) == {}
