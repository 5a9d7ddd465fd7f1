"""Models differ in their mixer by one option."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch

from laws.tolerance import relative_error
from transferfn.nn import Stream
from transferfn.tasks import SmnistConfig
from transferfn.training.build import build_model
from transferfn.training.config import MixerName, ModelConfig

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


@pytest.mark.parametrize("mixer", [name for name in get_args(MixerName) if name != "hyena"])
def test_both_directions(mixer: MixerName) -> None:
    model = build_model(replace(SMALL, mixer=mixer, bidirectional=True), SmnistConfig(side=7).signature)
    assert not model.is_causal


def test_implicit_filters_have_one_direction() -> None:
    with pytest.raises(ValueError, match="implicit filters of hyena are causal: take hyena-rtf"):
        build_model(replace(SMALL, mixer="hyena", bidirectional=True), SmnistConfig().signature)
