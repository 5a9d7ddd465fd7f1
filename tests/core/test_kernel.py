from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from core.banks import (
    F32,
    F64,
    GRID,
    HORIZON,
    bank,
    banks,
    coefficients,
    denominator,
    over_each_argument,
    true_response,
)
from laws.tolerance import C, relative_error
from transferfn.bench import truth
from transferfn.bench.filters import STABLE
from transferfn.core import aliased_kernel, conditioning, impulse_response, naive
from transferfn.core.kernel import (
    BLOCK,
    _recursive_response_by_blocks,
    damped_response,
    recursive_response,
    spread,
)

grid = pytest.mark.parametrize("name", GRID)
responses = pytest.mark.parametrize(
    "respond", [recursive_response, _recursive_response_by_blocks], ids=["native", "blocks"]
)


def allowed(a: Tensor, period: int) -> float:
    """C eps kappa in the type of the coefficients."""
    return C * torch.finfo(a.dtype).eps * float(conditioning(a.double(), period=period).max())


@pytest.mark.parametrize(("groups", "channels"), [(1, 4), (2, 4), (4, 4), (2, 6)])
def test_channel_d_reads_row_d_times_g_over_d(groups: int, channels: int) -> None:
    rows = torch.arange(groups * 3).reshape(groups, 3)
    found = spread(rows, channels)
    assert [row.tolist() for row in found] == [rows[d * groups // channels].tolist() for d in range(channels)]
    assert torch.equal(spread(rows.mT, channels, axis=-1), found.mT)


@given(banks(), st.integers(1, 30))
def test_the_aliased_kernel_is_its_definition(coefficients, more: int) -> None:
    """Any order, odd, even and prime periods down to n + 1."""
    b, a, h0 = coefficients
    period = a.shape[-1] + more
    expected = naive.aliased_kernel(b, a, h0, period)
    of_definition = 2 * math.pi * period * torch.finfo(F64).eps  # its roots of unity are raised to powers up to P
    assert relative_error(aliased_kernel(b, a, h0, period=period), expected) <= allowed(a, period) + of_definition


@grid
def test_kernels_and_responses_are_true_to_kappa(name: str) -> None:
    system, h = GRID[name](), true_response(name)
    truncated = truth.truncate(*truth.coefficients(system)[:2], h, HORIZON)
    b_tilde, h0_tilde = truth.rounded(truncated[0])[None], truth.rounded([truncated[1]])
    kernel = aliased_kernel(b_tilde, system.a, h0_tilde, period=HORIZON)
    assert truth.relative_error(kernel[0], h[:-1]) <= allowed(system.a, HORIZON)
    response = impulse_response(system.b, system.a, system.h0, length=HORIZON)
    assert truth.relative_error(response[0], h[:-1]) <= allowed(system.a, HORIZON)


@grid
def test_responses_in_float32_are_true_to_kappa_of_float32(name: str) -> None:
    system = GRID[name]().to(dtype=F32)
    if allowed(system.a, HORIZON) < 0.1 and float(system.stability().radius) < 1:
        response = impulse_response(system.b, system.a, system.h0, length=HORIZON)
        assert response.dtype == F32
        assert truth.relative_error(response[0], true_response(name)[:-1]) <= allowed(system.a, HORIZON)


def test_the_grid_tries_float32_on_most_filters() -> None:
    assert sum(allowed(build().a.float(), HORIZON) < 0.1 for build in STABLE.values()) >= 10


def test_a_folded_response_is_the_sum_over_periods() -> None:
    """And what is folded falls as rho^P: the slope is fitted."""
    radius, periods = 0.9, range(60, 151, 10)
    b, a, h0 = coefficients(denominator([radius], [-radius]), channels=2)
    errors = []
    for period in periods:
        long = impulse_response(b, a, h0, length=20 * period)
        folded = long.unflatten(-1, (20, period)).sum(-2)
        kernel = aliased_kernel(b, a, h0, period=period)
        assert relative_error(kernel, folded) <= allowed(a, period) + radius ** (20 * period)
        errors.append(float((kernel - long[..., :period])[0].abs().max()))
    slope = np.polyfit(periods, np.log(errors), 1)[0]
    assert slope == pytest.approx(math.log(radius), rel=1e-3)


@pytest.mark.parametrize("period", [1, 3])
def test_a_period_must_exceed_the_order(period: int) -> None:
    with pytest.raises(ValueError, match=f"period={period} for order 3"):
        aliased_kernel(*bank(3), period=period)


@pytest.mark.parametrize("m", [0, 1, 4])
def test_a_pole_on_a_root_of_unity_is_guarded_and_reported(m: int) -> None:
    pole, period = np.exp(2j * np.pi * m / 8), 8
    a = denominator([pole.real, 0.5] if m in (0, 4) else [pole, pole.conj()]).requires_grad_()
    b, a, h0 = coefficients(a, channels=1)
    kernel = aliased_kernel(b, a, h0, period=period)
    assert kernel.isfinite().all()
    (gradient,) = torch.autograd.grad(kernel.sum(), a)
    assert gradient.isfinite().all()
    # The pole is rounded, so that |A| may come out as a few eps.
    assert float(conditioning(a, period=period).detach()) >= 0.05 / torch.finfo(F64).eps


def test_an_unstable_denominator_has_a_finite_kernel() -> None:
    b, a, h0 = coefficients(denominator([1.5, -0.3, 2.0]))
    assert impulse_response(b, a, h0, length=3000).isfinite().logical_not().any()
    kernel = aliased_kernel(b, a, h0, period=3000)
    bound = h0.abs() + b.abs().sum(-1) / (np.prod([0.5, 0.7, 1.0]))  # |h0| + sum|b| / min|A|
    assert (kernel.abs().amax(-1) <= bound).all()


@given(banks(largest=1.5), st.integers(1, 20))
def test_conditioning_is_its_definition(coefficients, more: int) -> None:
    _, a, _ = coefficients
    period = a.shape[-1] + more
    z = np.exp(2j * np.pi * np.arange(period) / period)
    for row, kappa in zip(a.numpy(), conditioning(a, period=period).tolist(), strict=True):
        total = 1 + np.abs(row).sum()
        smallest = np.abs(np.polyval([1, *row], z)).min()
        assert 1 <= kappa == pytest.approx(min(total / max(smallest, 1e-300), 2.0**52), rel=C * 2.0**-52 * kappa)


@responses
def test_the_response_of_order_0_is_an_impulse(respond) -> None:
    assert respond(torch.zeros(2, 1, 0), 3).tolist() == [[[1, 0, 0]]] * 2


@responses
@pytest.mark.parametrize("order", [1, 2, 7, BLOCK + 5])
@pytest.mark.parametrize("length", [1, 2, 5, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 1])
def test_the_recursion_is_its_definition(respond, order: int, length: int) -> None:
    a = bank(order, leading=(3,))[1] if order < 10 else torch.full((3, 2, order), 0.5 / order, dtype=F64)
    g = torch.zeros(3, 2, length, dtype=F64)
    for t in range(length):
        g[..., t] = float(t == 0) - sum(a[..., i - 1] * g[..., t - i] for i in range(1, min(t, order) + 1))
    found = respond(a, length)
    assert found.shape == g.shape
    assert relative_error(found, g) <= allowed(a, 2 * order)


@responses
@pytest.mark.parametrize("name", ["butterworth-n4-0.01", "butterworth-n8-0.05", "comb-n64"])
def test_the_recursion_is_true_where_shortcuts_are_not(respond, name: str) -> None:
    a = GRID[name]().a
    g = truth.recursive_response(truth.exact(a[0]), HORIZON)
    assert truth.relative_error(respond(a, HORIZON)[0], g) <= allowed(a, HORIZON)


@given(banks(), st.integers(1, 40))
def test_the_response_is_its_definition(coefficients, length: int) -> None:
    b, a, h0 = coefficients
    expected = naive.impulse_response(b, a, h0, length)
    found = impulse_response(b, a, h0, length=length)
    assert relative_error(found, expected) <= allowed(a, 64)


def test_bank_axes_are_independent() -> None:
    b, a, h0 = bank(3, leading=(2, 3))
    for function in (partial(aliased_kernel, period=9), partial(impulse_response, length=9)):
        whole = function(b, a, h0)
        assert whole.shape == (2, 3, 4, 9)
        for i in range(2):
            for j in range(3):
                assert relative_error(whole[i, j], function(b[i, j], a[i, j], h0[i, j])) <= allowed(a, 9)


def test_order_zero_is_a_gain() -> None:
    b, a, h0 = bank(0)
    assert torch.equal(aliased_kernel(b, a, h0, period=3)[:, 0], h0)
    assert torch.equal(impulse_response(b, a, h0, length=3), torch.nn.functional.pad(h0[:, None], (0, 2)))


DERIVATIVES = {
    "kernel": partial(aliased_kernel, period=5),
    "kernel, odd order": partial(aliased_kernel, period=4),
    "response": partial(impulse_response, length=6),
    "shorter than the order": partial(impulse_response, length=2),
}


@pytest.mark.parametrize("function", DERIVATIVES.values(), ids=DERIVATIVES)
def test_first_and_second_derivatives(function) -> None:
    inputs = [x.requires_grad_() for x in bank(3, leading=(2,))]
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


def test_derivatives_of_the_denominator_alone() -> None:
    a = bank(3)[1].requires_grad_()
    for function in (partial(_recursive_response_by_blocks, length=7), partial(recursive_response, length=7)):
        assert gradcheck(function, a)
        assert gradgradcheck(function, a)
    assert gradcheck(partial(conditioning, period=7), a)
    assert gradgradcheck(partial(conditioning, period=7), a)


def test_vmap() -> None:
    over_each_argument(partial(aliased_kernel, period=7), bank(3))
    over_each_argument(partial(impulse_response, length=7), bank(3))
    over_each_argument(partial(conditioning, period=7), bank(3)[1:2])
    over_each_argument(partial(_recursive_response_by_blocks, length=7), bank(3)[1:2])


def test_meta_and_each_device(device: torch.device) -> None:
    b, a, h0 = (x.to(device, F32 if device.type == "mps" else F64) for x in bank(3))
    expected = impulse_response(*bank(3), length=300)
    assert relative_error(impulse_response(b, a, h0, length=300).cpu(), expected) <= allowed(a.cpu(), 300)
    assert aliased_kernel(*(x.to("meta") for x in bank(3)), period=9).shape == (4, 9)


@pytest.mark.parametrize("length", [97, 784, 4001])
@pytest.mark.parametrize("name", GRID)
def test_a_damped_response_is_right_wherever_it_claims_to_be(name: str, length: int) -> None:
    filters = GRID[name]()
    b, a, h0 = filters.b, filters.a, filters.h0
    h, growth = damped_response(b, a, h0, length=length)
    expected = impulse_response(b, a, h0, length=length)
    if float(growth.max()) <= 3:
        error = float((h - expected).abs().max() / expected.abs().max())
        assert error <= 4e-10 * C * float(conditioning(a, period=4096).max())


def test_a_damped_response_knows_unstable_filters() -> None:
    b, h0 = torch.ones(2, 1, dtype=F64), torch.zeros(2, dtype=F64)
    a = torch.tensor([[-1.0001], [-1.01]], dtype=F64)
    h, growth = damped_response(b, a, h0, length=1000)
    assert growth[0] < 3 < growth[1]
    assert relative_error(h[:1], impulse_response(b, a, h0, length=1000)[:1]) < 1e-8
    *_, growth = damped_response(b, a * 100, h0, length=1000)
    assert not (growth <= 3).any()


def test_derivatives_of_a_damped_response(generator) -> None:
    b, a = (torch.rand(2, 3, dtype=F64, generator=generator) / 4 for _ in range(2))
    h0 = torch.rand(2, dtype=F64, generator=generator)
    gradients = []
    for respond in (lambda *x: damped_response(*x, length=9)[0], partial(impulse_response, length=9)):
        leaves = [x.clone().requires_grad_() for x in (b, a, h0)]
        gradients.append(torch.autograd.grad(respond(*leaves).square().sum(), leaves))
    for ours, expected in zip(*gradients, strict=True):
        assert relative_error(ours, expected) < 1e-8
    leaves = [x.clone().requires_grad_() for x in (b, a, h0)]
    assert gradcheck(lambda *x: damped_response(*x, length=9)[0], leaves)
    assert gradgradcheck(lambda *x: damped_response(*x, length=9)[0], leaves)
    scales = torch.tensor([1.0, 0.5, -0.25], dtype=F64)
    mapped = torch.vmap(lambda s: damped_response(b, s * a, h0, length=9)[0])(scales)
    looped = torch.stack([damped_response(b, s * a, h0, length=9)[0] for s in scales])
    # Each FFT may round another way when it has more rows, which the circle magnifies: the error that is claimed.
    assert relative_error(mapped, looped) < 2e-9


@given(banks(largest=0.99), st.integers(1, 40))
def test_a_damped_response_is_the_response(coefficients, length: int) -> None:
    """At any order, parity, length and place of the poles; 4e-10 kappa is what it claims."""
    b, a, h0 = coefficients
    h, growth = damped_response(b, a, h0, length=length)
    expected = impulse_response(b, a, h0, length=length)
    assert growth.shape == h0.shape
    kappa = float(conditioning(a, period=256).max())
    settled = growth <= 3
    error = (h - expected).abs().amax(-1) / expected.abs().amax(-1).clamp_min(torch.finfo(F64).tiny)
    assert (error[settled] <= 4e-10 * C * kappa).all()
