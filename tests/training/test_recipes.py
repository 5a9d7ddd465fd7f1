"""What recipes promise of each mixer and size: a model that can be built."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import pytest
import torch

from transferfn.models.language_config import LanguageMixer
from transferfn.tasks import DataError, Signature
from transferfn.training.build import build_model
from transferfn.training.config import MixerName, ModelConfig
from transferfn.training.recipes import RECIPES, recipe_name, recipes_in
from transferfn.training.text import lm, wikitext
from transferfn.training.variant import Variant

MIXERS = get_args(LanguageMixer)
WORDS = Signature(length=1024, vocabulary=50_257, outputs=50_257, target="next-token")  # as in GPT-2's tokenizer


@pytest.mark.parametrize("size", ["small", "full"])
@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe not in (lm, wikitext)], ids=recipe_name)
def test_each_mixer_learns_at_rates_of_its_own(recipe, size: Literal["small", "full"]) -> None:
    for mixer in ("s4", "s4d", "s5"):
        filter_lr = recipe(Variant(size=size, mixer=mixer)).optimizer.filter_lr
        assert filter_lr is not None, mixer
        assert filter_lr <= (1e-3 if size == "full" else 1e-2), mixer
    for mixer in ("attention", "hyena"):
        assert recipe(Variant(size=size, mixer=mixer)).optimizer.lr <= 1e-3, mixer


def test_a_variant_has_any_mixer() -> None:
    assert set(get_args(MixerName)) == set(MIXERS) - {"hyena-s4d"}


@pytest.mark.parametrize("size", ["small", "full"])
@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("recipe", RECIPES, ids=recipe_name)
def test_every_recipe_makes_a_model_of_every_mixer(recipe, mixer, size: Literal["small", "full"]) -> None:
    variant = Variant(size=size, mixer=mixer)
    if recipe not in recipes_in(variant):
        assert mixer == "hyena-s4d", "only that one comes with language models alone"
        return
    config = recipe(variant)
    model = config.model
    if isinstance(model, ModelConfig) and mixer in ("s4", "s5") and model.order > 500:
        model = replace(model, order=64)  # the eigenvalues that longer ones start from take ten seconds
    try:
        signature = config.data.signature
    except DataError:  # of files that a user has
        signature = WORDS
    with torch.device("meta"):
        build_model(model, signature)
