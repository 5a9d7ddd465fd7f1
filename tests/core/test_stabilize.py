from __future__ import annotations

import pytest
import torch

from core.banks import F32, F64, GRID, coefficients, denominator
from transferfn.core import impulse_response, stability
from transferfn.core.convert import LARGEST_SOLVE
from transferfn.core.stabilize import stabilize

types = pytest.mark.parametrize("dtype", [F32, F64], ids=["f32", "f64"])


def mixed(dtype: torch.dtype):
    """Stable, unstable, on the circle."""
    rows = [[0.5, 0.3, -0.2, 0.1], [1.02, 0.9j, -0.9j, 0.2], [1.0, -0.5, 0.5j, -0.5j]]
    b, a, h0 = coefficients(denominator(*rows), channels=6)
    return b.to(dtype), a.to(dtype), h0.to(dtype)


@types
def test_what_is_stable_stays_to_the_last_bit_and_the_rest_is_certified(dtype: torch.dtype) -> None:
    b, a, h0 = mixed(dtype)
    new_b, new_a, error = stabilize(b, a, h0, margin=1e-3, horizon=60)
    assert new_b.dtype == new_a.dtype == dtype
    assert error.dtype == F64
    assert torch.equal(new_a[0], a[0])
    assert torch.equal(new_b[:2], b[:2])
    assert (error[:2] == 0).all()
    verdict = stability(new_a)
    assert verdict.verdict == "stable"
    assert (verdict.radius <= 1 - 1e-3 + 10 * torch.finfo(dtype).eps).all()


@types
def test_the_error_is_the_distance_of_the_responses(dtype: torch.dtype) -> None:
    b, a, h0 = mixed(dtype)
    new_b, new_a, error = stabilize(b, a, h0, margin=1e-3, horizon=60)
    before = impulse_response(b.double(), a.double(), h0.double(), length=60)
    after = impulse_response(new_b.double(), new_a.double(), h0.double(), length=60)
    assert torch.allclose(error, (after - before).norm(dim=-1) / before.norm(dim=-1), rtol=1e-9, atol=1e-14)
    assert 0 < error[2:].max() < 0.5


def test_no_other_numerator_is_nearer() -> None:
    b, a, h0 = mixed(F64)
    new_b, new_a, error = stabilize(b, a, h0, margin=1e-2, horizon=60)
    before = impulse_response(b, a, h0, length=60)
    for step in torch.eye(4, dtype=F64) * 1e-4:
        for sign in (1, -1):
            other = impulse_response(new_b + sign * step, new_a, h0, length=60)
            assert ((other - before).norm(dim=-1)[2:] >= (error * before.norm(dim=-1))[2:]).all()


def test_angles_are_kept() -> None:
    b, a, h0 = coefficients(denominator([1.3 * complex(0.8, 0.6), 1.3 * complex(0.8, -0.6)]), channels=1)
    _, new_a, _ = stabilize(b, a, h0, margin=0.1, horizon=20)
    expected = denominator([0.9 * complex(0.8, 0.6), 0.9 * complex(0.8, -0.6)])
    assert torch.allclose(new_a, expected, rtol=1e-12)


def test_a_stable_bank_comes_back_as_it_is() -> None:
    b, a, h0 = (x[:1] for x in mixed(F64))
    new_b, new_a, error = stabilize(b, a, h0, margin=1e-3, horizon=60)
    assert torch.equal(new_a, a)
    assert torch.equal(new_b, b)
    assert (error == 0).all()


def test_within_the_margin_poles_are_pulled_too() -> None:
    b, a, h0 = coefficients(denominator([0.95]), channels=1)
    assert torch.equal(stabilize(b, a, h0, margin=0.04, horizon=20)[1], a)
    assert torch.allclose(stabilize(b, a, h0, margin=0.1, horizon=20)[1], denominator([0.9]))


@pytest.mark.parametrize(
    ("margin", "horizon", "message"), [(0.0, 60, "got 0"), (1.0, 60, "got 1"), (0.1, 4, "got horizon=4")]
)
def test_bad_arguments(margin: float, horizon: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stabilize(*mixed(F64), margin=margin, horizon=horizon)


def test_it_says_when_no_stable_coefficients_are_near() -> None:
    """Twenty poles at one place, in float32: no margin up to one half helps."""
    b, a, h0 = coefficients(denominator([1.01] * 20).float(), channels=1)
    with pytest.raises(ArithmeticError, match="second-order sections"):
        stabilize(b, a, h0, margin=1e-3, horizon=60)


def test_the_margin_is_doubled_where_rounding_asks_for_it() -> None:
    system = GRID["butterworth-n8-0.01"]().to(dtype=F32)
    assert system.stability().verdict == "unstable"
    repaired, error = system.stabilize(200)
    assert repaired.stability().verdict == "stable"
    assert float(repaired.stability().radius) < 1 - 2e-3
    assert error.isfinite().all()


def test_large_orders() -> None:
    a = torch.zeros(1, LARGEST_SOLVE + 6, dtype=F64)
    a[:, -1] = -1.5
    _, new_a, _ = stabilize(*coefficients(a, channels=2), margin=1e-3, horizon=100)
    assert stability(new_a).verdict == "stable"
