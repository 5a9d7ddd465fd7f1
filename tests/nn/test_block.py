from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from models.leaky import LeakyIntegrator, LookingAhead, RealizedIntegrator
from transferfn.nn.block import Block
from transferfn.nn.norm import BatchNorm

D = 4
TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def make(mixer: Any = None, **options: Any) -> Block:
    torch.manual_seed(0)
    return Block(D, mixer or LeakyIntegrator(D), **options).double()


@pytest.fixture
def u() -> torch.Tensor:
    return torch.randn(3, 13, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("prenorm", [True, False], ids=["pre", "post"])
@pytest.mark.parametrize("norm", ["batch", "layer", None])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_is_the_formula(u: torch.Tensor, prenorm: bool, norm: Any, training: bool) -> None:
    block = make(norm=norm, prenorm=prenorm).train(training)

    def normalise(x: torch.Tensor) -> torch.Tensor:
        if norm is None:
            return x
        if norm == "layer":
            return F.layer_norm(x, (D,))
        mean = x.mean((0, 1)) if training else torch.zeros(D, dtype=x.dtype)
        var = x.var((0, 1), correction=0) if training else torch.ones(D, dtype=x.dtype)
        return (x - mean) / torch.sqrt(var + 1e-5)

    assert block.output is not None
    y = block.mixer(normalise(u) if prenorm else u)
    value, gate = (F.gelu(y) @ block.output.weight.T + block.output.bias).chunk(2, dim=-1)
    y = u + value * torch.sigmoid(gate)
    assert_close(block(u), y if prenorm else normalise(y), **TIGHT)


def test_without_options_it_is_its_mixer(u: torch.Tensor) -> None:
    block = make(norm=None, gelu=False, glu=False, residual=False)
    assert_close(block(u), block.mixer(u), rtol=0, atol=0)
    assert list(block.state_dict()) == ["mixer.leak"]


def test_each_option_alone(u: torch.Tensor) -> None:
    off: Any = {"norm": None, "gelu": False, "glu": False, "residual": False}
    y = LeakyIntegrator(D).double()(u)
    assert_close(make(**off | {"gelu": True})(u), F.gelu(y), **TIGHT)
    assert_close(make(**off | {"residual": True})(u), u + y, **TIGHT)
    assert_close(make(**off | {"norm": "layer", "prenorm": False})(u), F.layer_norm(y, (D,)), **TIGHT)
    with_glu = make(**off | {"glu": True})
    assert with_glu.output is not None
    assert_close(with_glu(u), F.glu(with_glu.output(y)), **TIGHT)


def test_dropout_acts_in_training_at_its_two_places(u: torch.Tensor) -> None:
    whole = make(norm=None, dropout=1.0)
    assert_close(whole(u), u, rtol=0, atol=0)  # only the residual connection is left
    assert not torch.equal(whole.eval()(u), u)
    inner = make(norm=None, mixer_dropout=1.0)
    assert inner.output is not None
    assert_close(inner(u), u + F.glu(inner.output.bias, dim=-1), **TIGHT)
    torch.manual_seed(0)
    half = make(norm=None, glu=False, residual=False, dropout=0.5)
    dropped = half(torch.ones(8, 100, D, dtype=torch.float64)).eq(0).double().mean()
    assert 0.4 < dropped < 0.6


def test_eval_mode_is_deterministic_with_dropout(u: torch.Tensor) -> None:
    block = make(dropout=0.5, mixer_dropout=0.5).eval()
    assert_close(block(u), block(u), rtol=0, atol=0)


@pytest.mark.parametrize("prenorm", [True, False], ids=["pre", "post"])
def test_training_statistics_leave_padding_out(u: torch.Tensor, prenorm: bool) -> None:
    """A padded batch gives outputs, averages and gradients of the batch in which rows are not padded but short."""
    lengths = torch.tensor([13, 6, 0])
    padded, short = make(prenorm=prenorm), make(prenorm=prenorm)
    with_nan = u.clone()
    for row, length in enumerate(lengths.tolist()):
        with_nan[row, length:] = torch.nan
    y = padded(with_nan, lengths=lengths)

    # The same by hand: rows one by one through the mixer, the norm over all of them packed together.
    assert isinstance(short.norm, BatchNorm)
    assert short.output is not None
    pieces = [u[0], u[1, :6]]
    sizes = [13, 6]
    normed = short.norm(torch.cat(pieces)).split(sizes) if prenorm else pieces
    outs = [
        F.glu(short.output(F.gelu(short.mixer(piece[None])[0]))) + x for piece, x in zip(normed, pieces, strict=True)
    ]
    expected = torch.cat(outs) if prenorm else short.norm(torch.cat(outs))
    assert_close(torch.cat([y[0], y[1, :6]]), expected, **TIGHT)
    assert_close(padded.state_dict(), short.state_dict(), **TIGHT)

    y.square().sum().backward()
    expected.square().sum().backward()
    for (name, p), q in zip(padded.named_parameters(), short.named_parameters(), strict=True):
        assert_close(p.grad, q[1].grad, rtol=1e-10, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")


def test_realize_replaces_the_mixer_of_a_copy(u: torch.Tensor) -> None:
    block = make(dropout=0.5)
    block(u)  # moves the running averages
    twin = block.realize()
    assert isinstance(twin.mixer, RealizedIntegrator)
    assert not twin.training
    assert not any(p.requires_grad for p in twin.parameters())
    assert type(block.mixer) is LeakyIntegrator
    assert block.training
    assert all(p.requires_grad for p in block.parameters())
    assert_close(twin(u), block.eval()(u), **TIGHT)


def test_realize_keeps_a_mixer_that_has_no_twin(u: torch.Tensor) -> None:
    block = make(LookingAhead()).eval()
    assert_close(block.realize()(u), block(u), rtol=0, atol=0)


def test_causality_is_that_of_the_mixer() -> None:
    assert make().is_causal
    assert not make(LookingAhead()).is_causal


def test_wrong_arguments_are_refused(u: torch.Tensor) -> None:
    block = make()
    with pytest.raises(ValueError, match=r"channels=4.*\(3, 13, 3\)"):
        block(u[..., :3])
    with pytest.raises(ValueError, match=r"one sample.*\(3, 13, 4\)"):
        block.step(u, block.init_state(3))
    with pytest.raises(ValueError, match=r"0..13.*14"):
        block(u, lengths=torch.tensor([1, 14, 2]))
    with pytest.raises(ValueError, match="bool mask"):
        block.extend(u, resets=torch.zeros(3, 12, dtype=torch.bool))


@pytest.mark.compile  # without the type-checking hook, which would speak first
def test_wrong_options_are_refused() -> None:
    with pytest.raises(TypeError, match=r"SequenceMixer.*Linear"):
        make(nn.Linear(D, D))
    with pytest.raises(ValueError, match='"batch", "layer" or None, got \'group\''):
        make(norm="group")


@pytest.mark.parametrize("options", [{}, {"residual": False}, {"prenorm": False, "norm": "layer"}], ids=str)
def test_autocast_keeps_a_wide_signal_wide(options: Any) -> None:
    block, u = make(**options).float(), torch.randn(3, 5, D)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert block(u).dtype == torch.float32
        assert block.step(u[:, 0], block.init_state(3))[0].dtype == torch.float32
