"""Models of S5 over signals that are sampled irregularly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from laws.tolerance import relative_error, tolerance
from models.subjects import CHANNELS, INPUTS, TOKENS, backbone, classifier, draw, make
from transferfn.nn import S5, Hyena, SequenceMixer

HEADS = ["mean", "last", "per_step"]


def s5(**options: Any) -> SequenceMixer:
    return S5(CHANNELS, 6, dt_min=0.02, dt_max=0.5, **options)


def irregular(*shape: int) -> Tensor:
    return 2 * torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("head", HEADS)
def test_whole_chunks_and_steps_agree(head: str) -> None:
    model: Any = make(classifier, head=head, mixer=s5, vocabulary=TOKENS, norm="layer")
    u, dt = draw(model, 2, 23), irregular(2, 23)
    expected = model(u, dt=dt)
    y, state = model.extend(u[:, :10], dt=dt[:, :10])
    ys = [y]
    y, state = model.extend(u[:, 10:17], state, dt=dt[:, 10:17])
    ys.append(y)
    for t in range(17, 23):
        y, state = model.step(u[:, t], state, dt=dt[:, t])
        ys.append(y[:, None] if head == "per_step" else y)
    found = torch.cat(ys, 1) if head == "per_step" else ys[-1]
    assert relative_error(found, expected) <= tolerance(model, torch.float64)
    assert relative_error(model(u), expected) > 0.01  # the steps matter
    assert_close(model(u, dt=torch.ones_like(dt)), model(u))


def test_it_is_what_the_layers_do_by_themselves() -> None:
    """In every block, with padding and in both directions, and when training keeps only what goes into a block."""
    model: Any = make(backbone, mixer=lambda: s5(bidirectional=True), inputs=INPUTS, norm=None, glu=False, gelu=False)
    u, dt, lengths = draw(model, 2, 23), irregular(2, 23), torch.tensor([23, 9])
    dt[1, 9:] = torch.nan
    y = model.encoder.linear(torch.where(torch.arange(23)[:, None] < lengths[:, None, None], u, 0))
    for block in model.blocks:
        y = torch.where(torch.arange(23)[:, None] < lengths[:, None, None], y, 0)
        y = y + block.mixer(y, lengths=lengths, dt=dt)
    y[1, 9:] = 0
    assert_close(model(u, lengths=lengths, dt=dt), y)
    model.train().gradient_checkpointing = True
    assert_close(model(u, lengths=lengths, dt=dt), y)


def test_gradients_reach_the_step_sizes() -> None:
    model = make(classifier, head="mean", mixer=s5, inputs=INPUTS, norm="layer")
    dt = irregular(2, 9).requires_grad_()
    model(draw(model, 2, 9), dt=dt).square().sum().backward()
    assert dt.grad is not None
    assert bool((dt.grad[:, :-1] != 0).all())


@pytest.mark.parametrize("mixer", [None, lambda: Hyena(CHANNELS, filter=s5)], ids=["leaky", "hyena"])
def test_mixers_that_take_none_refuse_them(mixer: Any) -> None:
    model: Any = make(classifier, head="mean", inputs=INPUTS, **({} if mixer is None else {"mixer": mixer}))
    u, state, dt = draw(model, 2, 9), model.init_state(2), torch.ones(2, 9)
    name = type(model.backbone.blocks[0].mixer).__name__
    for call in (
        lambda: model(u, dt=dt),
        lambda: model.extend(u, dt=dt),
        lambda: model.step(u[:, 0], state, dt=dt[:, 0]),
    ):
        with pytest.raises(TypeError, match=rf"dt .* but {name} has no step sizes that vary: build the model of S5"):
            call()


def test_a_decoder_has_steps_of_one_size() -> None:
    model: Any = make(classifier, head="mean", mixer=s5, inputs=INPUTS)
    decoder = model.decoder()
    with pytest.raises(TypeError, match=r"DiagonalRealization has no step sizes.*with dt, the model itself decodes"):
        decoder.step(draw(model, 2, 1)[:, 0], decoder.init_state(2), dt=torch.ones(2))
