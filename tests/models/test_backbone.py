from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from models.leaky import LeakyIntegrator, RealizedIntegrator
from models.subjects import CHANNELS, INPUTS, TOKENS, backbone, draw, leaky, make
from transferfn.models import Backbone
from transferfn.nn.block import Block
from transferfn.nn.mixer import SequenceMixer

TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def blocks_of(model: nn.Module) -> list[Block]:
    return [module for module in model.modules() if isinstance(module, Block)]


def test_is_encoder_blocks_and_a_norm_if_theirs_comes_first() -> None:
    for prenorm in (True, False):
        model: Any = make(backbone, inputs=INPUTS, prenorm=prenorm, norm="layer")
        u = draw(model, 2, 7)
        y = model.encoder.linear(u)
        for block in blocks_of(model):
            y = block(y)
        assert_close(model(u), model.norm(y) if prenorm else y, **TIGHT)
        assert (model.norm is not None) == prenorm


def test_the_factory_is_called_once_a_layer() -> None:
    made: list[SequenceMixer] = []

    def mixer() -> SequenceMixer:
        made.append(leaky())
        return made[-1]

    model = Backbone(CHANNELS, 3, mixer, inputs=1, residual=False, gelu=False, glu=False, norm=None, dropout=0.25)
    assert [block.mixer for block in blocks_of(model)] == made
    assert len(made) == 3
    for block in blocks_of(model):
        assert (block.residual, block.gelu, block.output, block.norm, block.dropout.p) == (
            False,
            False,
            None,
            None,
            0.25,
        )


def test_any_integers_are_tokens() -> None:
    model = make(backbone, vocabulary=TOKENS)
    u = draw(model, 2, 7)
    for dtype in (torch.uint8, torch.int16, torch.int32):
        assert_close(model(u.to(dtype)), model(u), rtol=0, atol=0)


def test_decoder_is_a_realized_copy_in_eval_mode() -> None:
    model: Any = make(backbone, inputs=INPUTS, dropout=0.5, training=True)
    u = draw(model, 3, 11)
    model(u)  # moves the running averages
    decoder = model.decoder()
    assert all(isinstance(block.mixer, RealizedIntegrator) for block in blocks_of(decoder))
    assert not any(module.training for module in decoder.modules())
    assert not any(p.requires_grad for p in decoder.parameters())
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad for p in model.parameters())

    expected = model.eval()(u)
    state, ys = decoder.init_state(3), []
    for t in range(11):
        y_t, state = decoder.step(u[:, t], state)
        ys.append(y_t)
    assert_close(torch.stack(ys, 1), expected, **TIGHT)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    assert_close(decoder(u), expected, **TIGHT)


class Wheel(LeakyIntegrator):
    """A mixer with a filter parameter, a matrix and a vector of its own."""

    def __init__(self) -> None:
        super().__init__(CHANNELS)
        self.matrix = nn.Parameter(torch.eye(CHANNELS))
        self.vector = nn.Parameter(torch.zeros(CHANNELS))


class Strict(LeakyIntegrator):
    """A mixer that insists on rates of its own."""

    def __init__(self) -> None:
        super().__init__(CHANNELS)

    def param_groups(self, *, lr: float | None = None, weight_decay: float | None = None) -> list[dict[str, Any]]:
        return [{"params": [self.leak], "lr": 1e-3}]


class Plain(SequenceMixer):
    """A mixer that names no filters."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(CHANNELS))

    def forward(self, u: Any, *, lengths: Any = None, resets: Any = None) -> Any:
        return self.gain * u


@pytest.mark.parametrize("mixer", [leaky, Wheel, Strict, Plain], ids=lambda mixer: mixer.__name__)
@pytest.mark.parametrize("encoder", [{"inputs": INPUTS}, {"vocabulary": TOKENS}], ids=str)
@pytest.mark.parametrize("norm", ["batch", "layer", None])
def test_parameter_groups_hold_each_parameter_once(mixer: Any, encoder: Any, norm: Any) -> None:
    model = backbone(mixer, norm=norm, **encoder)
    groups = model.param_groups(lr=0.1, weight_decay=0.5, filter_lr=0.01, filter_weight_decay=0.0)
    listed = [id(p) for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in model.parameters())
    assert all(group["params"] for group in groups)
    torch.optim.AdamW(groups)


def test_rates_of_the_parameter_groups() -> None:
    model = backbone(Wheel, vocabulary=TOKENS)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = model.param_groups(lr=0.1, weight_decay=0.5, filter_lr=0.01, filter_weight_decay=0.05)
    rates = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert len(groups) == 3
    assert rates["encoder.embedding.weight"] == rates["blocks.1.output.weight"] == (0.1, 0.5)
    assert rates["blocks.0.mixer.matrix"] == (0.1, 0.5)
    assert rates["blocks.0.norm.weight"] == rates["norm.bias"] == rates["blocks.1.output.bias"] == (0.1, 0.0)
    assert rates["blocks.0.mixer.vector"] == (0.1, 0.0)
    assert rates["blocks.0.mixer.leak"] == rates["blocks.1.mixer.leak"] == (0.01, 0.05)


def test_filters_take_the_rates_of_the_rest_by_default() -> None:
    model = backbone(inputs=INPUTS)
    filters = model.param_groups(lr=0.1, weight_decay=0.5)[-1]
    assert (filters["lr"], filters["weight_decay"]) == (0.1, 0.5)
    assert len(filters["params"]) == 2


def test_a_mixer_may_insist_on_its_rates() -> None:
    filters = backbone(Strict, inputs=INPUTS).param_groups(lr=0.1, weight_decay=0.5, filter_lr=0.01)[-1]
    assert (filters["lr"], filters["weight_decay"]) == (1e-3, 0.5)


def test_a_shared_mixer_is_listed_once() -> None:
    shared = leaky()
    model = backbone(lambda: shared, inputs=INPUTS)
    listed = [id(p) for group in model.param_groups(lr=0.1, weight_decay=0.5) for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in model.parameters())


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"either vocabulary .* or inputs .*, got vocabulary=None, inputs=None"):
        backbone()
    with pytest.raises(ValueError, match="vocabulary=3, inputs=2"):
        backbone(vocabulary=3, inputs=2)
    with pytest.raises(ValueError, match="layers=0"):
        Backbone(CHANNELS, 0, leaky, inputs=1)
    with pytest.raises(TypeError, match=r"returns a new mixer.*lambda: LeakyIntegrator"):
        Backbone(CHANNELS, 1, leaky(), inputs=1)


def test_wrong_inputs_are_refused() -> None:
    tokens, signal = backbone(vocabulary=TOKENS).eval(), backbone(inputs=INPUTS).eval()
    with pytest.raises(ValueError, match=r"channels=2.*\(3, 5, 4\)"):
        signal(torch.randn(3, 5, 4))
    with pytest.raises(ValueError, match=r"\(batch, length\), got \(3, 5, 2\)"):
        tokens(torch.randn(3, 5, 2))
    with pytest.raises(TypeError, match=r"integer tokens, got torch.float32.*inputs"):
        tokens(torch.randn(3, 5))
    with pytest.raises(IndexError, match=r"0\.\.10.*got -1\.\.11.*lengths"):
        tokens(torch.tensor([[-1, 11]]))
    with pytest.raises(ValueError, match=r"\(batch,\), got \(3, 5\)"):
        tokens.step(torch.zeros(3, 5, dtype=torch.long), tokens.init_state(3))
    with pytest.raises(ValueError, match="tuple of 2 states, one a block, got 1 of them"):
        signal.extend(torch.randn(3, 5, 2), signal.init_state(3)[:1])
    with pytest.raises(ValueError, match="tuple of 2 states, one a block, got Tensor"):
        signal.step(torch.randn(3, 2), torch.zeros(3, CHANNELS))


def test_autocast_keeps_a_wide_signal_wide() -> None:
    """What flows along the residual connections is as wide as the input, or as the embedding."""
    for model in (backbone(inputs=INPUTS), backbone(vocabulary=TOKENS)):
        model.eval()
        u = draw(model, 3, 5, dtype=torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert model.encoder(u).dtype == torch.float32
            assert model(u).dtype == torch.float32
            assert model.step(u[:, 0], model.init_state(3))[0].dtype == torch.float32
