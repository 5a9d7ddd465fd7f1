"""Copies that RTF makes of itself, and those kept in files."""

from __future__ import annotations

import io
import pickle
import warnings
from typing import Any

import pytest
import scipy.signal
import torch
from torch import nn

from laws.runs import signal
from laws.tolerance import relative_error, tolerance
from nn.layers import F64, D, P, causal_options, make, unstable
from transferfn.interop.scipy_signal import from_ba
from transferfn.nn import RTF, NotCausalError


@causal_options
@pytest.mark.parametrize("horizon", [21, 33, 4, 64])
def test_with_horizon_is_the_same_filter(options: dict[str, Any], horizon: int) -> None:
    layer = make(**options).eval()
    next(layer.parameters()).requires_grad_(False)
    other = layer.with_horizon(horizon)
    assert other.horizon == horizon
    u = signal(2, 50, D)
    assert relative_error(other(u), layer(u)) <= max(tolerance(layer, F64), tolerance(other, F64))
    if layer.numerator_kind == "truncated":
        assert not torch.equal(other.truncated_numerator, layer.truncated_numerator)
    assert [x.requires_grad for x in other.parameters()] == [x.requires_grad for x in layer.parameters()]
    assert other.training is False
    own = {x.data_ptr() for x in layer.parameters()}
    assert not own & {x.data_ptr() for x in other.parameters()}
    assert layer.horizon == P
    with pytest.raises(ValueError, match=r"the horizon must .*, got horizon=0"):
        layer.with_horizon(0)


def test_with_horizon_of_an_unstable_filter() -> None:
    layer = make(init=unstable(1.05))
    u = signal(2, P, D)
    assert relative_error(layer.with_horizon(37)(u), layer(u)) <= tolerance(layer, F64) * 1.05**37  # eps rho^P
    with pytest.raises(ValueError, match="got horizon=3 for order=3"):
        layer.with_horizon(3)


@pytest.mark.parametrize("numerator", ["truncated", "exact", "lattice"])
def test_stabilize_leaves_alone_what_is_stable_though_its_coefficients_do_not_bear_rounding(numerator: Any) -> None:
    """Poles that crowd at 1: reflection coefficients in float32 hold them, coefficients of float32 do not."""
    h = from_ba(*scipy.signal.butter(8, 0.05))
    layer = RTF.from_transfer_function(h, horizon=1024, numerator=numerator, constraint="reflection").value
    again, error = layer.stabilize(margin=1e-4)
    assert float(error) == 0
    assert all(torch.equal(x, y) for x, y in zip(again.parameters(), layer.parameters(), strict=True))


@pytest.mark.parametrize(
    "options",
    [{}, {"numerator": "exact"}, {"denominator_groups": 2}, {"dtype": torch.float32}, {"bidirectional": True}],
    ids=str,
)
def test_stabilize(options: dict[str, Any]) -> None:
    layer = make(init=unstable(1.02), **options).eval()
    before = {name: x.clone() for name, x in layer.state_dict().items()}
    stable, error = layer.stabilize(margin=0.01)
    assert all(torch.equal(x, before[name]) for name, x in layer.state_dict().items())
    assert layer.transfer_function().stability().verdict == "unstable"
    verdict = stable.transfer_function().stability()
    assert verdict.verdict == "stable"
    assert float(verdict.radius.max()) <= 0.99 + float(verdict.uncertainty.max()) + 1e-6  # float32 coefficients

    # The error it reports is the distance of the responses; both are rounded to the parameters' type.
    old, new = (x.transfer_function().impulse_response(P) for x in (layer, stable))
    measured = (new - old).norm(dim=-1) / old.norm(dim=-1)
    eps = torch.finfo(layer.denominator.dtype).eps
    assert error.shape == measured.shape
    assert torch.allclose(error, measured, rtol=0, atol=tolerance(stable, layer.denominator.dtype))
    assert float(error.min()) > 100 * eps

    if stable.is_causal:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            state = stable.init_state(2)
            y, state = stable.extend(torch.ones(2, 5000, D, dtype=stable.denominator.dtype), state)
        assert y.isfinite().all()
        assert float(y.detach().abs().max()) < 1e3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("numerator", ["truncated", "exact"])
def test_stabilize_leaves_long_memory_alone(numerator: Any, dtype: torch.dtype) -> None:
    """A fresh layer is stable, though its poles are as near to the circle as its horizon asks."""
    layer = make(init="comb", horizon=4000, denominator_groups=4, numerator=numerator, dtype=dtype)
    stable, error = layer.stabilize()
    assert torch.equal(stable.denominator, layer.denominator)
    assert float(error.max()) == 0
    assert float(layer.transfer_function().stability().radius.max()) > 1 - 2 / 4000


@pytest.mark.parametrize("constraint", [None, "l1", "reflection"])
def test_stabilize_leaves_stable_filters_alone(constraint: Any) -> None:
    layer = make(init="montel", constraint=constraint)
    stable, error = layer.stabilize()
    assert float(error.max()) <= 1e-14
    u = signal(2, 50, D)
    assert relative_error(stable(u), layer(u)) <= tolerance(layer, F64)
    assert torch.equal(stable.system().a, layer.system().a) or constraint is not None


def test_realize_needs_a_recurrence() -> None:
    with pytest.raises(NotCausalError, match=r"RTF\.realize\(\) needs a causal layer"):
        make(bidirectional=True).realize()


def test_a_checkpoint_of_another_horizon_is_refused() -> None:
    """Its shapes would fit, and its filters would silently be others."""
    file = io.BytesIO()
    torch.save(nn.Sequential(make()).state_dict(), file)
    file.seek(0)
    stored = torch.load(file)
    with pytest.raises(
        RuntimeError, match=r"'0\.truncated_numerator' is relative to a horizon of 20.*with_horizon\(40\)"
    ):
        nn.Sequential(make(horizon=40)).load_state_dict(stored)
    plain = dict(stored)  # what safetensors and hand-made checkpoints are: without the metadata of a state dict
    with pytest.raises(RuntimeError, match="relative to a horizon of 20"):
        nn.Sequential(make(horizon=40)).load_state_dict(plain)
    other = nn.Sequential(make(horizon=40))
    before = {name: x.clone() for name, x in other.state_dict().items()}
    with pytest.raises(RuntimeError, match="relative to a horizon of 20"):
        other.load_state_dict({name.replace("m.", "0."): x for name, x in plain.items()})
    assert all(torch.equal(x, before[name]) for name, x in other.state_dict().items())
    u = signal(2, 50, D)
    loaded = nn.Sequential(make(init="comb"))
    loaded.load_state_dict(stored)
    assert torch.equal(loaded(u), make()(u))
    make(horizon=40).with_horizon(P).load_state_dict(make().state_dict())
    make(horizon=40, numerator="exact").load_state_dict(make(numerator="exact").state_dict())


@pytest.mark.parametrize(
    "options", [{}, {"constraint": "reflection", "bidirectional": True, "numerator": "exact"}], ids=str
)
def test_pickle(options: dict[str, Any]) -> None:
    layer, u = make(**options), signal(2, 9, D)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(u), layer(u))
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(u), layer(u))
