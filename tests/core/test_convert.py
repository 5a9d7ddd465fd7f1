from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from core.banks import F64, GRID, HORIZON, bank, banks, coefficients, denominator, over_each_argument, true_response
from laws.tolerance import C, relative_error
from transferfn.bench import truth
from transferfn.core import aliased_kernel, conditioning, impulse_response, naive
from transferfn.core.convert import (
    LARGEST_SOLVE,
    truncate,
    truncation_error,
    untruncate,
    untruncate_by_kernel,
    untruncate_by_solving,
)
from transferfn.core.polynomial import companion

EPS = torch.finfo(F64).eps
back = pytest.mark.parametrize("back", [untruncate_by_solving, untruncate_by_kernel], ids=["solving", "kernel"])


def allowed(a: Tensor, horizon: int) -> float:
    return C * EPS * float(conditioning(a, period=horizon).max())


@settings(max_examples=25)
@given(banks(largest=1.1), st.integers(1, 30))
def test_truncation_is_its_definition(coefficients, more: int) -> None:
    """Any order, odd, even and prime horizons down to n + 1, stable or not."""
    b, a, h0 = coefficients
    horizon = a.shape[-1] + more
    expected = naive.truncate(b, a, h0, horizon)
    # An error in A^j is carried on by A^(P-j): powers of matrices err by their largest norm squared.
    powers = [np.linalg.matrix_power(m, j) for m in companion(a).numpy() for j in range(horizon + 1)]
    size = max(np.linalg.norm(power) for power in powers) ** 2 * float(b.abs().max())
    for found, wanted in zip(truncate(b, a, h0, horizon=horizon), expected, strict=True):
        assert float((found - wanted).abs().max()) <= C * EPS * size


@given(banks(largest=1.1), st.integers(1, 30))
def test_the_kernel_of_the_truncated_is_the_response_of_the_true(coefficients, more: int) -> None:
    b, a, h0 = coefficients
    horizon = a.shape[-1] + more
    b_tilde, h0_tilde = truncate(b, a, h0, horizon=horizon)
    kernel, h = aliased_kernel(b_tilde, a, h0_tilde, period=horizon), impulse_response(b, a, h0, length=horizon)
    # b~ is a difference of numbers as large as the response times |a|.
    grown = float((1 + a.abs().sum(-1)).max())
    assert float((kernel - h).abs().max()) <= allowed(a, horizon) * grown * float(h.abs().max() + b.abs().max())


@pytest.mark.parametrize("name", GRID)
def test_conversions_are_true_to_kappa(name: str) -> None:
    """Each way against 60 digits: the truncated coefficients, and the responses of what comes back."""
    system, h = GRID[name](), true_response(name)
    limit = allowed(system.a, HORIZON)
    b_tilde, h0_tilde = truth.truncate(*truth.coefficients(system)[:2], h, HORIZON)
    found = truncate(system.b, system.a, system.h0, horizon=HORIZON)
    assert truth.relative_error(torch.cat((found[0][0], found[1])), [*b_tilde, h0_tilde]) <= limit
    given = (truth.rounded(b_tilde)[None], system.a, truth.rounded([h0_tilde]))
    backs = [untruncate(*given, horizon=HORIZON), untruncate(found[0], system.a, found[1], horizon=HORIZON)]
    if name not in ("xavier-n8", "xavier-n64"):  # growth g costs what is read off the kernel g eps
        backs.append(untruncate_by_kernel(*given, horizon=HORIZON))
    for b, h0 in backs:
        response = impulse_response(b, system.a, h0, length=HORIZON)
        assert truth.relative_error(response[0], h[:-1]) <= limit


@back
@pytest.mark.parametrize("order", [1, 2, 5, LARGEST_SOLVE + 1])
@pytest.mark.parametrize("more", [1, 2, 30])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_there_and_back(back, order: int, more: int, groups: int) -> None:
    horizon = order + more
    a = bank(order, groups=groups)[1] if order < 10 else torch.full((groups, order), 0.9 / order, dtype=F64)
    b, a, h0 = coefficients(a)
    again = back(*_swapped(truncate(b, a, h0, horizon=horizon), a), horizon=horizon)
    assert relative_error(torch.cat((again[0], again[1][:, None]), -1), torch.cat((b, h0[:, None]), -1)) <= allowed(
        a, horizon
    ) * (1 + float(a.abs().sum(-1).max()))


def _swapped(truncated: tuple[Tensor, Tensor], a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return truncated[0], a, truncated[1]


def test_what_has_died_out_is_returned_to_the_last_bits() -> None:
    b, a, h0 = coefficients(denominator([0.1, -0.2]))
    b_tilde, h0_tilde = truncate(b, a, h0, horizon=100)
    assert torch.equal(b_tilde, b)
    assert torch.equal(h0_tilde, h0)
    again = untruncate(b_tilde, a, h0_tilde, horizon=100)
    assert relative_error(again[0], b) <= 4 * EPS


@pytest.mark.parametrize("function", [truncate, untruncate])
def test_a_horizon_must_exceed_the_order(function) -> None:
    with pytest.raises(ValueError, match="horizon=3 for order 3"):
        function(*bank(3), horizon=3)


def test_the_error_is_measured() -> None:
    b, a, h0 = bank(5)
    b_tilde, h0_tilde = truncate(b, a, h0, horizon=20)
    error = truncation_error(b, a, h0, b_tilde, h0_tilde, horizon=20)
    assert error.shape == (4,)
    assert (error <= allowed(a, 20)).all()
    wrong = b_tilde.clone()
    wrong[2, 0] += 1e-3 * impulse_response(b, a, h0, length=20)[2].abs().max()
    error = truncation_error(b, a, h0, wrong, h0_tilde, horizon=20)
    assert 1e-4 < error[2] < 1e-1
    assert (error[[0, 1, 3]] <= allowed(a, 20)).all()


@back
@pytest.mark.parametrize(
    "poles", [[1.0], [1.0, 0.5], [-1.0, 0.5], [1j, -1j], [1.0, -1.0], [1.2, 0.5]], ids=lambda p: str(p)
)
@pytest.mark.parametrize("horizon", [8, 252])
def test_what_cannot_be_recovered_is_finite(back, poles: list[complex], horizon: int) -> None:
    """Poles on roots of unity, or growth by 1e20: no singular matrix, no NaN, no gradient that is one."""
    b, a, h0 = (x.requires_grad_() for x in coefficients(denominator(poles), channels=1))
    again = back(b, a, h0, horizon=horizon)
    for x in (*again, *torch.autograd.grad(sum(x.sum() for x in again), (b, a, h0))):
        assert x.isfinite().all()


def test_order_zero_is_left_alone() -> None:
    b, a, h0 = bank(0)
    for function in (truncate, untruncate):
        assert torch.equal(function(b, a, h0, horizon=1)[1], h0)


def test_bank_axes_are_independent() -> None:
    b, a, h0 = bank(3, leading=(2,))
    for function in (truncate, untruncate_by_solving, untruncate_by_kernel):
        whole = function(b, a, h0, horizon=10)
        for k in range(2):
            for found, expected in zip(whole, function(b[k], a[k], h0[k], horizon=10), strict=True):
                assert relative_error(found[k], expected) <= allowed(a, 10)


WAYS = [truncate, untruncate_by_solving, untruncate_by_kernel]


@pytest.mark.parametrize("function", WAYS, ids=lambda f: f.__name__)
@pytest.mark.parametrize(("order", "horizon"), [(1, 2), (3, 4), (2, 9)])
def test_first_and_second_derivatives(function, order: int, horizon: int) -> None:
    inputs = [x.requires_grad_() for x in bank(order, leading=(2,))]
    assert gradcheck(partial(function, horizon=horizon), inputs)
    assert gradgradcheck(partial(function, horizon=horizon), inputs)


def test_vmap() -> None:
    for function in WAYS:
        over_each_argument(partial(function, horizon=9), bank(3))


def test_longer_horizons_truncate_ever_less() -> None:
    """b~ - b falls as rho^P: the slope is fitted."""
    b, a, h0 = coefficients(denominator([0.9]), channels=1)
    horizons = range(20, 101, 10)
    left = [float((truncate(b, a, h0, horizon=p)[0] - b).abs().max()) for p in horizons]
    assert np.polyfit(horizons, np.log(left), 1)[0] == pytest.approx(np.log(0.9), rel=1e-6)
