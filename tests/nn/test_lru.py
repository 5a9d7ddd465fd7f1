"""The linear recurrent unit: a loop over time, its parametrisation and how it starts. The laws hold the rest."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from laws.filters import F32, F64
from laws.runs import reset_mask, signal
from laws.tolerance import assert_same, relative_error, tolerance
from nn.layers import untyped
from nn.loops import by_loop, gradients
from transferfn.nn import LRU

H, N = 3, 5


def make(dtype: torch.dtype = F64, **options: Any) -> LRU:
    torch.manual_seed(0)
    return LRU(**({"channels": H, "states": N, "r_min": 0.3, "r_max": 0.95, "dtype": dtype} | options)).eval()


@pytest.mark.parametrize("bidirectional", [False, True], ids=["causal", "both"])
@pytest.mark.parametrize("bounds", [(None, None), ([41, 17, 0], [[5, 32], [0, 16, 20], [3]])], ids=["whole", "bounded"])
@pytest.mark.parametrize("length", [1, 41, 97])
def test_a_loop_over_time(bidirectional: bool, bounds: Any, length: int) -> None:
    """Values, the final state and every gradient, from a state; the paper's formulas, in complex128."""
    layer = make(bidirectional=bidirectional)
    u = signal(3, length, H).requires_grad_()
    given: dict[str, Any] = {}
    if bounds[0] is not None:
        given["lengths"] = torch.tensor(bounds[0]).clamp_max(length)
        given["resets"] = reset_mask([[t for t in row if t < length] for row in bounds[1]], length)
    inputs = {"input": u} | dict(layer.named_parameters())
    state = None
    if layer.is_causal:
        generator = torch.Generator().manual_seed(3)
        state = inputs["initial state"] = torch.randn(3, N, 2, dtype=F64, generator=generator).requires_grad_()
    found = layer.extend(u, state, **given) if layer.is_causal else (layer(u, **given), None)

    a = torch.exp(torch.complex(-layer.nu_log.exp(), layer.theta_log.exp()))
    B, C = torch.view_as_complex(layer.input_matrix), torch.view_as_complex(layer.output_matrix)
    v = layer.gamma_log.exp() * (u.to(C.dtype) @ B.mT)
    expected = by_loop(u, a.expand_as(v), v, C, layer.feedthrough, state, **given)
    assert_same(gradients(found, inputs), gradients(expected, inputs), tolerance(layer, F64))


def test_the_poles_start_in_the_ring() -> None:
    """Uniform over its area: squared magnitudes and phases are uniform."""
    layer = make(states=4000, r_min=0.5, r_max=0.9, max_phase=1.0)
    a = layer.poles()
    square, phase = (a.abs().square() - 0.25) / (0.81 - 0.25), a.angle()
    for values in (square, phase):
        assert values.min() >= -1e-12
        assert values.max() <= 1 + 1e-12
        ranks = torch.linspace(0, 1, 4000, dtype=F64)
        assert (values.sort().values - ranks).abs().max() <= 0.04  # Kolmogorov and Smirnov: 0.04 is below 1e-5 likely


def test_the_whole_disc_is_the_default() -> None:
    torch.manual_seed(0)
    layer = LRU(1, 100_000)
    assert all(x.isfinite().all() for x in layer.parameters())
    assert (layer.poles().abs() < 1).all()
    assert layer.poles().abs().max() > 0.999
    assert LRU(1, 100_000, r_min=1 - 1e-9).gamma_log.isfinite().all()


def test_states_start_with_the_variance_of_their_input() -> None:
    layer = make(channels=16, states=64, r_min=0.5, r_max=0.9)
    torch.manual_seed(1)
    u = torch.randn(400, 100, 16, dtype=F64)
    _, state = layer.extend(u)
    # Each |B u|^2 has the mean 1; 64 states with the same 16 inputs.
    assert float(state.detach().square().sum(-1).mean()) == pytest.approx(1, abs=0.15)
    assert torch.allclose(layer.gamma_log.exp(), (1 - layer.poles().abs().square()).sqrt(), rtol=1e-9)


def test_it_is_stable_wherever_training_leads() -> None:
    layer = make()
    with torch.no_grad():
        for value in (-3.0, 0.0, 5.0):
            layer.nu_log.fill_(value)
            assert (layer.poles().abs() < 1).all()


def test_variances_of_the_draws() -> None:
    layer = make(channels=40, states=60)
    assert float(layer.input_matrix.detach().square().mean()) == pytest.approx(
        1 / 80, rel=0.11
    )  # five standard deviations
    assert float(layer.output_matrix.detach().square().mean()) == pytest.approx(1 / 60, rel=0.11)
    assert float(layer.feedthrough.detach().square().mean()) == pytest.approx(1, abs=1.0)


def test_reset_parameters_takes_its_randomness_from_the_generator() -> None:
    layer = make()
    before = [x.clone() for x in layer.parameters()]
    layer.reset_parameters(torch.Generator().manual_seed(5))
    once = [x.clone() for x in layer.parameters()]
    assert not any(torch.equal(x, y) for x, y in zip(once, before, strict=True))
    layer.reset_parameters(torch.Generator().manual_seed(5))
    assert all(torch.equal(x, y) for x, y in zip(layer.parameters(), once, strict=True))


@untyped
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"states": -1}, "states must be at least 1, got -1"),
        ({"r_min": 0.95}, "0 <= r_min < r_max <= 1, got r_min=0.95, r_max=0.95"),
        ({"r_max": 1.1}, "got r_min=0.3, r_max=1.1"),
        ({"r_min": -0.1}, "got r_min=-0.1"),
        ({"max_phase": 0.0}, "max_phase is an angle.*got 0.0"),
        ({"max_phase": 7.0}, "at most 2 pi; got 7.0"),
        ({"dtype": torch.complex64}, "not torch.complex64"),
    ],
    ids=str,
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_print_and_parameters() -> None:
    assert repr(make()) == "LRU(3, 5, r_min=0.3, r_max=0.95, max_phase=6.283)"
    assert repr(make(bidirectional=True)).endswith("max_phase=6.283, bidirectional=True)")
    slow, rest = make().param_groups(lr=0.1)
    assert [x.dim() for x in slow["params"]] == [1, 1, 1, 3]
    assert (slow["lr"], set(rest), len(rest["params"])) == (0.1, {"params"}, 2)
    assert LRU(2, 3, dtype=torch.float16).nu_log.dtype == F32


def test_long_memory_in_float32() -> None:
    """Poles at 0.9999 over 4000 samples: powers are those of the exact pole."""
    layer = make(F32, r_min=0.9998, r_max=0.9999)
    wide = make(F64, r_min=0.9998, r_max=0.9999)
    wide.load_state_dict(layer.state_dict())
    u = signal(1, 4000, H, F32)
    assert relative_error(layer(u), wide(u.double())) <= 1e-4
    assert 2 * math.pi * 0.999 > float(layer.theta_log.detach().exp().max())
