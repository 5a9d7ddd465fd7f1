"""A ring is the state of the functional step, wherever in its rows it happens to be."""

from __future__ import annotations

import copy

import pytest
import torch

from laws.runs import signal
from nn.layers import F64, D, untyped
from transferfn.core import TransferFunction
from transferfn.models import Backbone, Classifier
from transferfn.nn import RTF, Realization, StateOverflowError, Stream
from transferfn.nn.ring import ROOM, Ring

F32 = torch.float32


def decoder(order: int, dtype: torch.dtype = F64, groups: int = 2) -> Realization:
    generator = torch.Generator().manual_seed(order)
    b, a = (torch.rand(k, order, dtype=F64, generator=generator) - 0.5 for k in (D, groups))
    return Realization(TransferFunction(b, a / max(order, 1), b.sum(-1)).to(dtype=dtype))


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("order", [0, 1, 3, 8, 17, ROOM, ROOM + 6])
def test_a_stream_of_samples_is_the_functional_step(order: int, dtype: torch.dtype) -> None:
    """Long enough to use the room up a few times; with a block, a hand-over and a reset on the way."""
    layer = decoder(order, dtype)
    u = signal(2, 5 * ROOM, D, dtype)
    stream, state = Stream(layer, 2), layer.init_state(2)
    for t, u_t in enumerate(u.unbind(1)):
        if t == 100:
            _, state = layer.extend(u[:, :9], state)
            stream(u[:, :9])
        if t == 200:
            assert torch.equal(stream.state, state)
            stream.state = state
        if t == 250:
            state = torch.where(torch.tensor([True, False])[:, None, None], 0, state)
            stream.reset(torch.tensor([True, False]))
        y_t, state = layer.step(u_t, state)
        assert torch.equal(stream(u_t), y_t)
    assert torch.equal(stream.state, state)


def test_a_model_keeps_a_ring_a_layer() -> None:
    backbone = Backbone(D, 3, lambda: RTF(D, 4, horizon=32), inputs=2, norm="layer")
    model = Classifier(backbone, 5).eval().decoder()
    stream, state = Stream(model, 2), model.init_state(2)
    (rings, _) = stream._state
    assert all(isinstance(ring, Ring) for ring in rings)
    for u_t in signal(2, 3 * ROOM, 2, F32).unbind(1):
        y_t, state = model.step(u_t, state)
        torch.testing.assert_close(stream(u_t), y_t, rtol=1e-6, atol=1e-6)
    for mine, expected in zip(stream.state[0], state[0], strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5)


def test_signals_of_another_type_take_the_functional_way() -> None:
    layer = decoder(3, F32)
    stream, state = Stream(layer, 2), layer.init_state(2)
    for dtype in (F32, torch.bfloat16, F64, F32):
        u_t = signal(2, 1, D, dtype)[:, 0]
        y_t, state = layer.step(u_t, state)
        assert torch.equal(stream(u_t), y_t)
        assert stream.state.dtype == state.dtype
        assert torch.equal(stream.state, state)


def test_a_copy_of_a_stream_goes_its_own_way() -> None:
    layer = decoder(3)
    u = signal(2, 4, D)
    stream = Stream(layer, 2)
    stream(u[:, 0])
    other = copy.deepcopy(stream)
    expected = stream(u[:, 1])
    stream(u[:, 2])
    assert torch.equal(other(u[:, 1]), expected)


def test_a_ring_that_overflows_is_an_error() -> None:
    layer = Realization(TransferFunction(torch.ones(D, 1), torch.full((1, 1), -1e30), torch.zeros(D)))
    with pytest.warns(UserWarning, match="unstable"):
        stream = Stream(layer, 1)
    stream(torch.ones(1, D))
    stream(torch.ones(1, D))
    with pytest.raises(StateOverflowError, match="no longer finite after 1 more sample"):
        stream(torch.ones(1, D))


def test_a_state_of_another_shape_is_refused() -> None:
    stream = Stream(decoder(3), 2)
    with pytest.raises(ValueError, match=r"expected a state of shape \(2, 4, 3\), got \(2, 4, 5\)"):
        stream.state = torch.zeros(2, D, 5, dtype=F64)


@untyped  # the hook would be the first to complain
def test_a_sample_of_another_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a state of shape"):
        decoder(3).step(torch.zeros(3, D, dtype=F64), Ring(torch.zeros(2, D, 3, dtype=F64)))


def test_print() -> None:
    assert repr(Ring(torch.zeros(2, 4, 3))) == "Ring(shape=(2, 4, 3), dtype=torch.float32)"
