"""A layer that starts as given filters: in every mode, with gradients, and back."""

from __future__ import annotations

import copy

import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.banks import bank, banks, coefficients, denominator, system
from transferfn import RTF, Stream, TransferFunction, linear_filter, select
from transferfn.core.constrain import l1
from transferfn.interop.scipy_signal import from_ba, from_sos

F64 = torch.float64
KINDS = [
    ("truncated", None),
    ("exact", None),
    ("truncated", "reflection"),
    ("lattice", "reflection"),
    ("exact", "reflection"),
]
kinds = pytest.mark.parametrize(("numerator", "constraint"), KINDS)


def lowpass() -> TransferFunction:
    return from_ba(*scipy.signal.butter(4, 0.2), dt=0.5)


@kinds
@pytest.mark.parametrize("length", [1, 33, 90])  # within the horizon and beyond
def test_every_mode_is_the_filter(numerator, constraint, length: int) -> None:
    h = system(3)
    layer, error = RTF.from_transfer_function(h, horizon=40, numerator=numerator, constraint=constraint)
    assert {p.dtype for p in layer.parameters()} == {torch.float32}
    assert (layer.numerator_kind, layer.constraint, layer.horizon, layer.denominator_groups) == (
        numerator,
        constraint,
        40,
        2,
    )
    u = torch.randn(2, length, 4, generator=torch.Generator().manual_seed(0))
    expected, _ = linear_filter(u.double(), h)
    scale = float(expected.abs().max())
    torch.testing.assert_close(layer(u).double(), expected, rtol=0, atol=2e-5 * scale)
    stepped, state = [], layer.init_state(2)
    for u_t in u.unbind(1):
        y_t, state = layer.step(u_t, state)
        stepped.append(y_t)
    torch.testing.assert_close(torch.stack(stepped, 1).double(), expected, rtol=0, atol=2e-5 * scale)
    streamed = torch.cat([Stream(layer.realize(), batch_size=2)(u)])
    torch.testing.assert_close(streamed.double(), expected, rtol=0, atol=2e-5 * scale)
    assert float(error.max()) < 1e-5


@kinds
def test_it_learns(numerator, constraint) -> None:
    """All parameters get gradients, right ones, and a few steps of training bring the filter nearer to another."""
    h = lowpass()
    layer = RTF.from_transfer_function(h, horizon=64, numerator=numerator, constraint=constraint, dtype=F64).value
    u = torch.randn(2, 50, 1, dtype=F64, generator=torch.Generator().manual_seed(0))
    target, _ = linear_filter(u, 0.5 * h)
    optimizer = torch.optim.Adam(layer.param_groups(lr=1e-3))
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (layer(u) - target).square().mean()
        loss.backward()
        losses.append(loss.item())
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in layer.parameters())
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
    if constraint is None and numerator == "exact":  # against the naive twin: derivatives of the filter itself
        leaves = [x.detach().clone().requires_grad_() for x in (h.b, h.a, h.h0)]
        expected = torch.autograd.grad(linear_filter(u, TransferFunction(*leaves))[0].square().sum(), leaves)
        fresh = RTF.from_transfer_function(h, horizon=64, numerator="exact", dtype=F64).value
        found = torch.autograd.grad(fresh(u).square().sum(), [fresh.numerator, fresh.denominator, fresh.feedthrough])
        torch.testing.assert_close(found, expected)


@given(banks(largest=0.9, largest_order=5), st.sampled_from(KINDS[:4]), st.sampled_from([None, 0.5]))
@settings(max_examples=20)
def test_there_and_back(coefficients, kind, dt: float | None) -> None:
    h = TransferFunction(*coefficients, dt)
    numerator, constraint = kind
    try:
        layer = RTF.from_transfer_function(h, horizon=128, numerator=numerator, constraint=constraint, dtype=F64).value
    except (ArithmeticError, ValueError):
        assert constraint == "reflection"  # poles that coincide have no reflection coefficients to speak of
        return
    again = layer.transfer_function()
    assert again.dt == dt
    truth = h.impulse_response(200)
    torch.testing.assert_close(again.impulse_response(200), truth, rtol=0, atol=1e-6 * float(truth.abs().max()))
    free = "reflection" if numerator == "lattice" else None
    twice, error = RTF.from_transfer_function(again, horizon=128, numerator=numerator, constraint=free, dtype=F64)
    torch.testing.assert_close(
        twice.transfer_function().impulse_response(200), truth, rtol=0, atol=1e-6 * float(truth.abs().max())
    )
    assert error.shape == (4,)


def test_the_error_is_that_of_the_response() -> None:
    h = lowpass()
    made = RTF.from_transfer_function(h, horizon=64, length=300)
    truth, found = h.impulse_response(300), made.value.transfer_function().impulse_response(300).detach()
    assert made.length == 300
    assert float(made.error) == pytest.approx(float((found - truth).abs().max() / truth.abs().max()), rel=1e-9)
    assert 0 < float(made.error) < 1e-4


def test_both_directions() -> None:
    h = TransferFunction(*bank(3, leading=(2,)), 0.1)
    layer, error = RTF.from_transfer_function(h, horizon=50)
    assert layer.bidirectional
    assert error.shape == (2, 4)
    again = layer.transfer_function()
    torch.testing.assert_close(again.impulse_response(60), h.impulse_response(60), rtol=1e-4, atol=1e-4)
    same = RTF.from_transfer_function(again, horizon=50).value
    u = torch.randn(1, 40, 4)
    torch.testing.assert_close(same(u), layer(u), rtol=1e-4, atol=1e-4)


def test_a_copy_and_a_fresh_start() -> None:
    layer = RTF.from_transfer_function(system(3), horizon=20).value
    u = torch.ones(1, 9, 4)
    assert torch.equal(copy.deepcopy(layer)(u), layer(u))
    other = RTF(4, 3, horizon=20, denominator_groups=2)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(u), layer(u))
    before = layer(u)
    layer.reset_parameters(torch.Generator().manual_seed(0))
    assert not torch.allclose(layer(u), before)


def test_an_unstable_filter_may_learn_without_a_constraint() -> None:
    h = TransferFunction(*coefficients(denominator([1.02, 0.5]), channels=1))
    layer = RTF.from_transfer_function(h, horizon=64, length=64).value
    truth = h.impulse_response(64)
    u = torch.zeros(1, 64, 1)
    u[0, 0] = 1
    torch.testing.assert_close(layer(u)[0].T.double(), truth, rtol=0, atol=1e-5 * float(truth.abs().max()))
    with pytest.raises(ValueError, match=r"only stable .* have reflection.*radius up to 1\.02.*stabilize\(\)"):
        RTF.from_transfer_function(h, horizon=64, constraint="reflection")
    stable = h.stabilize(64)[0]
    assert RTF.from_transfer_function(stable, horizon=64, constraint="reflection", dtype=F64).value.constraint


def test_the_papers_constraint_holds_what_it_holds() -> None:
    a = l1(torch.tensor([[0.5, -1.0, 0.7]], dtype=F64), torch.tensor([0.3], dtype=F64))
    h = TransferFunction(*coefficients(a, channels=2))
    layer, error = RTF.from_transfer_function(h, horizon=30, constraint="l1")
    assert float(error.max()) < 1e-5
    torch.testing.assert_close(layer.transfer_function().a, a, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"'l1' holds denominators whose \|a_i\| add up to less than 1, got up to"):
        RTF.from_transfer_function(lowpass(), horizon=30, constraint="l1")


def test_what_float32_does_not_hold_is_refused() -> None:
    narrow = from_sos(scipy.signal.butter(4, 0.005, output="sos")).value
    with pytest.raises(ArithmeticError, match=r"parameters in float32 do not hold the filters: 1 of 1.*torch\.float64"):
        RTF.from_transfer_function(narrow, horizon=256, numerator="exact")
    assert float(RTF.from_transfer_function(narrow, horizon=256, numerator="exact", dtype=F64).error) < 1e-9
    loose = RTF.from_transfer_function(narrow, horizon=256, numerator="exact", tolerance=float("inf"))
    assert float(loose.error) > 1e-3


@pytest.mark.compile  # without the type-checking hook, which would speak first
def test_what_is_no_bank_is_named() -> None:
    with pytest.raises(TypeError, match=r"continuous time: sample it with transferfn\.c2d"):
        RTF.from_transfer_function(scipy.signal.lti([1.0], [1.0, 1.0]), horizon=8)  # pyright: ignore
    with pytest.raises(ValueError, match=r"one for each direction.*got \(3, 4, 2\)"):
        RTF.from_transfer_function(TransferFunction(*bank(2, leading=(3,))), horizon=8)
    with pytest.raises(ValueError, match="order must be at least 1"):
        RTF.from_transfer_function(select(system(0), [0]), horizon=8)
    with pytest.raises(ValueError, match=r"exceed the order, got horizon=3"):
        RTF.from_transfer_function(system(3), horizon=3)
