"""The decoder of an RTF layer: fixed coefficients, computed once."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.autograd import forward_ad

from laws.runs import signal
from laws.tolerance import relative_error, tolerance
from nn.layers import F64, D, N, make, untyped
from transferfn.core import TransferFunction
from transferfn.nn import RTF, Realization
from transferfn.ops import linear_filter


def coefficients(decoder: Realization) -> list[torch.Tensor]:
    tf = decoder.transfer_function()
    return [tf.b, tf.a, tf.h0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("numerator", ["truncated", "exact"])
def test_has_the_true_coefficients_rounded_once(numerator: str, dtype: torch.dtype) -> None:
    layer = make(numerator=numerator, dtype=dtype, denominator_groups=2)
    exact = layer.transfer_function()
    for given, expected_type in (
        (None, dtype),
        (F64, F64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
    ):
        decoder = layer.realize(given)
        for found, true in zip(coefficients(decoder), (exact.b, exact.a, exact.h0), strict=True):
            assert found.dtype == expected_type
            assert torch.equal(found, true.to(expected_type))


def test_does_not_follow_the_layer() -> None:
    layer = make()
    decoder = layer.realize()
    before = copy.deepcopy(decoder.state_dict())
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1)
    assert all(torch.equal(x, before[name]) for name, x in decoder.state_dict().items())


def test_owns_its_coefficients() -> None:
    tf = make().transfer_function()
    decoder = Realization(tf)
    tf.b.detach().zero_()
    assert bool(decoder.b.all())


def test_nothing_is_trained_or_cached() -> None:
    """The verbs leave no trace: no gradient, no parameter, no changed coefficient and no new attribute."""
    decoder = make().realize()
    attributes, before = set(vars(decoder)), copy.deepcopy(decoder.state_dict())
    u = signal(2, 9, D)
    y, state = decoder.extend(u)
    decoder.step(u[:, 0], state)
    decoder.train().init_state(2)
    assert not decoder(u).requires_grad
    assert not y.requires_grad
    assert list(decoder.parameters()) == []
    assert set(vars(decoder)) == attributes
    assert all(torch.equal(x, before[name]) for name, x in decoder.state_dict().items())


def test_gradients_flow_to_input_and_state() -> None:
    decoder = make().realize()
    u, state = signal(2, 9, D).requires_grad_(), torch.ones(2, D, N, dtype=F64, requires_grad=True)
    y, after = decoder.extend(u, state)
    (y.sum() + after.sum()).backward()
    assert u.grad is not None
    assert state.grad is not None
    assert bool(u.grad.any() & state.grad.any())


def test_computes_in_the_type_of_the_signal() -> None:
    decoder, u = make().realize(F64), signal(2, 9, D)
    assert relative_error(decoder(u.float()), decoder(u)) <= tolerance(decoder, torch.float32)
    y_t, state = decoder.step(u[:, 0].float(), decoder.init_state(2, dtype=torch.float32))
    assert (y_t.dtype, state.dtype) == (torch.float32, torch.float32)
    assert decoder.init_state(2).dtype == F64


def test_survives_copies_and_files() -> None:
    decoder, u = make().realize(), signal(2, 9, D)
    other = make(init="montel").realize()
    other.load_state_dict(decoder.state_dict())
    for twin in (other, copy.deepcopy(decoder), pickle.loads(pickle.dumps(decoder))):
        assert torch.equal(twin(u), decoder(u))
    assert {x.dtype for x in copy.deepcopy(decoder).bfloat16().state_dict().values()} == {F64}


def test_keeps_the_sampling_interval() -> None:
    tf = TransferFunction(torch.ones(2, 1), torch.zeros(1, 1), torch.ones(2), dt=0.25)
    assert Realization(tf).transfer_function().dt == 0.25


def test_print() -> None:
    assert repr(make().realize(torch.float32)) == "Realization(channels=4, order=3, dtype=torch.float32)"


@untyped
def test_checks_what_it_is_given() -> None:
    decoder, u = make().realize(), signal(2, 9, D)
    with pytest.raises(ValueError, match=r"channels=4\), got \(9, 4\)"):
        decoder(u[0])
    with pytest.raises(ValueError, match=r"one sample of shape"):
        decoder.step(u, decoder.init_state(2))
    with pytest.raises(ValueError, match=r"\(2, 4, 3\), got \(3, 4, 3\)"):
        decoder.extend(u, decoder.init_state(3))


def test_a_step_has_forward_derivatives() -> None:
    layer = RTF(3, 2, horizon=8).realize(F64)
    u, state = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, 2, dtype=torch.float64)
    tangents = torch.ones_like(u), torch.ones_like(state)
    with forward_ad.dual_level():
        duals = (forward_ad.make_dual(x, t) for x, t in zip((u, state), tangents, strict=True))
        found = [forward_ad.unpack_dual(x).tangent for x in layer.step(*duals)]
    expected = layer.step(*tangents)  # a step is linear
    assert all(torch.allclose(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


@untyped
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64], ids=str)
def test_a_state_is_real(dtype: torch.dtype) -> None:
    decoder, u = make().realize(), torch.randn(2, 5, D, dtype=F64)
    state = torch.zeros(2, D, N, dtype=dtype)
    for use in (lambda: decoder.extend(u, state), lambda: decoder.step(u[:, 0], state)):
        with pytest.raises(TypeError, match=rf"expected a real floating-point state, got {dtype}"):
            use()
    with pytest.raises(TypeError, match="expected a real floating-point state"):
        linear_filter(u, decoder.transfer_function(), state)
