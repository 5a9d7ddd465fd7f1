from __future__ import annotations

import functools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from transferfn.bench.filters import STABLE, UNSTABLE, butterworth, comb
from transferfn.core import IllConditionedWarning, TransferFunction, conditioning, constrain, stability
from transferfn.core.lattice import reflection_coefficients, step_down, step_up
from transferfn.core.polynomial import monic, on_circle
from transferfn.nn import RTF

EPS = torch.finfo(torch.float64).eps
ORDERS = [1, 2, 3, 8, 17, 64]


def draw(*shape: int, spread: float = 0.5, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return (spread * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))).to(dtype)


def true_step_up(k: list) -> list:
    a: list = []
    for k_m in k:
        a = [x + k_m * y for x, y in zip(a, reversed(a), strict=True)] + [k_m]
    return a


def true_step_down(a: list) -> list:
    k: list = []
    while a:
        k_m = a[-1]
        k.insert(0, k_m)
        a = [(x - k_m * y) / (1 - k_m**2) for x, y in zip(a[:-1], reversed(a[:-1]), strict=True)]
    return k


def true_reflection(raw: list) -> list:
    scale, k = mp.mpf(1), []
    for raw_m in reversed(raw):
        k.insert(0, mp.tanh(scale * raw_m))
        scale *= 1 - k[0] ** 2
    return true_step_up(k)


def exact(x: Tensor) -> list:
    return [mp.mpf(value) for value in x.tolist()]


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(120):
        yield


def worst(found: Tensor, truth: list) -> float:
    return float(max(abs(x - y) for x, y in zip(exact(found), truth, strict=True)))


def growth(k: Tensor) -> float:
    """Bound of every |a_i|, and of how much the step-up amplifies an error made in an earlier stage."""
    return float((1 + k.abs()).prod(-1).max()) if k.numel() else 1.0


def stiff_sum(raw: Tensor) -> Tensor:
    """Stand-in for a loss that weighs every coefficient differently."""
    a = constrain.reflection(raw)
    return (a * torch.arange(1, a.shape[-1] + 1, dtype=a.dtype).cos()).sum()


@pytest.mark.parametrize("order", ORDERS)
def test_step_up_and_down_are_levinsons_recursions(order, dtype) -> None:
    k = draw(order, spread=0.3, dtype=dtype).clamp(-0.9, 0.9)
    eps = torch.finfo(dtype).eps
    a = step_up(k)
    # Each of n stages adds two roundings to each coefficient, amplified by the stages above it.
    assert worst(a, true_step_up(exact(k))) <= 2 * order * eps * growth(k)
    back = true_step_down(exact(a))
    # A stage down adds three roundings (of at most `growth`) and divides by 1 - |k|.
    amplified = growth(k) / float((1 - k.abs()).prod())
    assert worst(step_down(a), back) <= 4 * order * eps * amplified


@pytest.mark.parametrize("order", ORDERS)
def test_reflection_is_what_its_definition_says(order, dtype, device) -> None:
    raw = draw(order, dtype=dtype).to(device)
    a = constrain.reflection(raw)
    assert (a.dtype, a.device, a.shape) == (raw.dtype, raw.device, raw.shape)
    # k carries an error of a few eps from tanh and the running scale, whose error is one more eps a factor 1 - k^2.
    bound = (2 * order + 4 * order) * torch.finfo(dtype).eps * growth(reflection_coefficients(raw))
    assert worst(a.cpu(), true_reflection(exact(raw))) <= bound


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bank", [(), (3,), (2, 0, 3), (2, 3, 2)], ids=str)
def test_the_operator_is_the_plain_loops(order, bank, dtype) -> None:
    raw = draw(*bank, 2 * order, dtype=dtype)[..., ::2].requires_grad_()  # not contiguous
    results = []
    for function in (constrain.reflection, lambda x: step_up(reflection_coefficients(x))):
        a = function(raw)
        results.append((a, *torch.autograd.grad((a * a.detach().cos()).sum(), raw)))
    # A gradient sums n such coefficients' derivatives, each as rounded as the coefficients.
    bound = 2 * order * order * torch.finfo(dtype).eps * growth(reflection_coefficients(raw.detach()))
    for ours, plain in zip(*results, strict=True):
        assert ours.shape == plain.shape
        torch.testing.assert_close(ours, plain, rtol=0, atol=max(bound, 8 * torch.finfo(dtype).eps))


@pytest.mark.parametrize("order", [1, 2, 3, 5, 8])
def test_derivatives_of_reflection_by_differences(order) -> None:
    raw = draw(2, order).requires_grad_()
    assert gradcheck(constrain.reflection, raw, check_batched_grad=True)
    assert gradgradcheck(constrain.reflection, raw)


def test_derivatives_of_the_rest_by_differences() -> None:
    k = draw(2, 4, spread=0.2).requires_grad_()
    slack = draw(2).requires_grad_()
    for function, inputs in [
        (step_up, (k,)),
        (step_down, (k,)),
        (reflection_coefficients, (k,)),
        (constrain.reflection_parameters, (k,)),
        (constrain.l1, (k, slack)),
        (constrain.l1_parameters, (k,)),
    ]:
        assert gradcheck(function, inputs)
        assert gradgradcheck(function, inputs)


def test_third_derivatives_are_those_of_the_loops() -> None:
    raw = draw(4)

    def third(function):
        return torch.func.jacrev(torch.func.jacrev(torch.func.jacrev(lambda x: function(x).sin().sum())))(raw)

    plain = third(lambda x: step_up(reflection_coefficients(x)))
    torch.testing.assert_close(third(constrain.reflection), plain, rtol=1e-12, atol=1e-13)  # a few hundred roundings


def test_forward_mode_raises_instead_of_giving_zeros() -> None:
    with pytest.raises(RuntimeError, match="jvp"):
        torch.func.jvp(constrain.reflection, (draw(2, 3),), (torch.ones(2, 3, dtype=torch.float64),))


@pytest.mark.parametrize("axis", [0, 1])
def test_vmap_over_any_axis(axis) -> None:
    raw = draw(2, 3, 4)
    mapped = torch.vmap(constrain.reflection, axis, axis)(raw)
    torch.testing.assert_close(mapped, constrain.reflection(raw), rtol=0, atol=4 * EPS)
    gradients = torch.vmap(torch.func.grad(stiff_sum))(raw)
    torch.testing.assert_close(gradients, torch.func.grad(stiff_sum)(raw), rtol=0, atol=20 * EPS)
    a = constrain.reflection(raw)
    mapped = torch.vmap(constrain.reflection_parameters)(a)
    torch.testing.assert_close(mapped, constrain.reflection_parameters(a), rtol=0, atol=EPS)
    mapped = torch.vmap(constrain.l1)(raw, raw[..., 0])
    torch.testing.assert_close(mapped, constrain.l1(raw, raw[..., 0]), rtol=0, atol=EPS)


@given(
    order=st.integers(1, 12),
    spread=st.sampled_from([0.01, 0.3, 1.0, 3.0]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=40)
def test_parameters_and_back(order, spread, seed) -> None:
    a = constrain.reflection(draw(2, order, spread=spread, seed=seed))
    try:
        back = constrain.reflection(constrain.reflection_parameters(a))
    except ValueError:
        assert float(conditioning(a, period=4096).max()) > 1e9  # only what float64 hardly holds is refused
    else:
        assert float(((back - a).abs().sum(-1) / (1 + a.abs().sum(-1))).max()) <= 1e-10


@given(
    pairs=st.lists(st.tuples(st.floats(0, 0.9), st.floats(0, math.pi)), max_size=3),
    real=st.lists(st.floats(-0.9, 0.9), max_size=3),
)
@settings(max_examples=60)
def test_every_stable_denominator_is_reached(pairs, real) -> None:
    poles = [r * np.exp(1j * w * sign) for r, w in pairs for sign in (1, -1)] + list(real)
    if not poles:
        return
    a = torch.from_numpy(np.real(np.poly(poles))[1:].copy())
    raw = constrain.reflection_parameters(a)
    k = reflection_coefficients(raw)
    # Stepping down divides the rounding of a by the product of 1 - k^2, stepping up multiplies by that of 1 + |k|.
    bound = 20 * len(poles) * EPS * growth(k) ** 2 / float((1 - k * k).prod())
    assert float((constrain.reflection(raw) - a).abs().max()) <= min(bound, 1e-9)


@pytest.mark.parametrize("name", STABLE)
def test_the_grid_of_filters_is_reached(name) -> None:
    system = STABLE[name]()
    if float(conditioning(system.a, period=4096)) > 1e10:
        with pytest.raises(ValueError, match=r"rounding in float64 hides|cannot be shown to be stable"):
            constrain.reflection_parameters(system.a)
        return
    rebuilt = TransferFunction(system.b, constrain.reflection(constrain.reflection_parameters(system.a)), system.h0)
    truth, found = system.impulse_response(4001), rebuilt.impulse_response(4001)
    assert float((found - truth).abs().max() / truth.abs().max()) <= 1e-3


def test_parameters_of_float32_coefficients_are_found_in_float64() -> None:
    a = STABLE["reflections-n16"]().a.float()
    raw = constrain.reflection_parameters(a)
    assert raw.dtype == torch.float32
    assert torch.equal(raw, constrain.reflection_parameters(a.double()).float())


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("order", "tau"), [(1, 1e6), (4, 64.0), (8, 1e5), (64, 1e5), (256, 1e6)])
def test_combs_keep_their_memory(order, tau, sign) -> None:
    a = comb(order, tau, sign=sign).a
    raw = constrain.reflection_parameters(a)
    assert (raw[..., :-1] == 0).all()
    # d tanh is 1 - k^2, about twice the margin 1 - |k|: rounding the parameter moves the margin by 2 |raw| eps of it.
    for dtype, back in [
        (torch.float64, constrain.reflection(raw)),
        (torch.float32, constrain.reflection(raw.float().double())),
    ]:
        assert (back[..., :-1] == 0).all()
        margin, found = 1 - float(a.abs().sum()), 1 - float(back.abs().sum())
        relative = 2 * float(raw.abs().max()) * torch.finfo(dtype).eps
        assert abs(found - margin) <= relative * margin + 3 * EPS  # k itself is rounded to float64
    free, slack = constrain.l1_parameters(a)
    for dtype in (torch.float64, torch.float32):
        found = constrain.l1(*(x.to(dtype).double() for x in (free, slack)))
        assert abs(float(found.abs().sum() - a.abs().sum())) <= 4 * torch.finfo(dtype).eps * margin + (order + 8) * EPS


@pytest.mark.parametrize("spread", [0.3, 1.0, 4.0, 1e3])
@pytest.mark.parametrize("order", [1, 2, 5, 8])
def test_in_exact_arithmetic_every_result_is_stable(order, spread) -> None:
    for dtype in (torch.float32, torch.float64):
        k = reflection_coefficients(draw(3, order, spread=spread, dtype=dtype))
        assert (k.abs() < 1).all()
        for row in k:
            poles = mp.polyroots([1, *true_step_up(exact(row))], maxsteps=500, extraprec=2000, error=False)
            assert max(abs(z) for z in poles) < 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("spread", [0.1, 0.5, 1.0, 3.0])
def test_the_verdict_is_about_the_coefficients_that_are_used(spread, dtype) -> None:
    raw = draw(8, 48, spread=spread)
    a = step_up(raw.tanh()).to(dtype)  # unscaled coefficients get much nearer to the boundary than scaled ones
    verdict = stability(a)
    for row, stable, unstable in zip(a, verdict.stable, verdict.unstable, strict=True):
        truly = all(abs(k) < 1 for k in true_step_down(exact(row)))
        assert not (stable and not truly)
        assert not (unstable and truly)


def test_rounding_long_denominators_can_undo_stability() -> None:
    a = step_up(draw(16, 64, spread=0.7).tanh())
    assert stability(a.float()).unstable.any()


@given(order=st.integers(1, 70), log_scale=st.floats(-8, 30), slack=st.floats(-2, 2), seed=st.integers(0, 10**6))
@settings(max_examples=60)
def test_l1_holds_for_the_rounded_coefficients(order, log_scale, slack, seed) -> None:
    for dtype in (torch.float32, torch.float64):
        raw = draw(order, spread=10**log_scale, dtype=dtype, seed=seed)
        a = constrain.l1(raw, torch.tensor(slack, dtype=dtype))
        assert sum(abs(Fraction(x)) for x in a.tolist()) < 1


def test_l1_is_stable_and_its_verdict_says_so() -> None:
    a = constrain.l1(draw(5, 32, spread=3.0), torch.full((5,), 0.1, dtype=torch.float64))
    assert stability(a).stable.all()


def test_l1_parameters_give_back_what_fits_and_scale_the_rest() -> None:
    fitting, rest = draw(3, 6, spread=0.02), draw(3, 6, spread=2.0)
    raw, slack = constrain.l1_parameters(torch.cat((fitting, rest)))
    a = constrain.l1(raw, slack)
    torch.testing.assert_close(a[:3], fitting, rtol=20 * EPS, atol=0)
    # The paper's own constraint on its xavier initialisation, with a slack of 1.
    torch.testing.assert_close(a[3:], rest / (rest.abs().sum(-1, keepdim=True) + 1 + 1e-6), rtol=20 * EPS, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("size", [20.0, 1e4, 1e30])
def test_saturated_parameters_do_no_harm(size, dtype) -> None:
    raw = torch.full((2, 40), size, dtype=dtype)
    raw[1, ::2] *= -1
    raw = torch.cat((raw, torch.tensor([size] + [0.3] * 38 + [size], dtype=dtype)[None])).requires_grad_()
    a = constrain.reflection(raw)
    (gradient,) = torch.autograd.grad(a.sum(), raw)
    assert a.isfinite().all()
    assert gradient.isfinite().all()
    assert (reflection_coefficients(raw).abs() < 1).all()


@pytest.mark.parametrize("name", UNSTABLE)
def test_unstable_denominators_are_refused_by_name(name) -> None:
    a = torch.cat((torch.zeros_like(UNSTABLE[name]().a), UNSTABLE[name]().a))
    radius = float(stability(a).radius.max())
    with pytest.raises(ValueError, match=f"row 1 of 2 cannot be shown to be stable: pole radius up to {radius:.6g}"):
        constrain.reflection_parameters(a)


def test_what_the_layer_does_with_a_start_outside_the_constraint() -> None:
    with pytest.raises(ValueError, match="Choose a stable initialisation"):
        RTF(8, 64, horizon=100, init="xavier", constraint="reflection")
    assert stability(RTF(8, 64, horizon=100, init="xavier", constraint="l1").system().a).stable.all()


def test_coefficients_that_rounding_hides_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rounding in float64 hides|cannot be shown to be stable"):
        constrain.reflection_parameters(butterworth(16, 0.02).a)


def test_parameters_that_rounding_makes_another_filter_of_are_refused_or_told_of() -> None:
    """The coefficients come back to 13 digits, of which kappa takes 12."""
    with pytest.raises(ValueError, match="rounding in float64 hides the reflection coefficients of row 0"):
        constrain.reflection_parameters(butterworth(8, 0.02).a)
    with pytest.warns(IllConditionedWarning, match="in float32 change the response of some denominator by up to 0"):
        constrain.reflection_parameters(butterworth(4, 0.01).a.float())
    constrain.reflection_parameters(butterworth(4, 0.05).a.float())  # says nothing


def test_why_the_coefficients_are_scaled() -> None:
    """z^-m A_(m-1)(1/z) / A_n has the mean square 1 / (g_m (1 - k_m^2)) on the circle: the identity of the module."""
    k = draw(9, spread=0.4).tanh()
    spectrum = on_circle(monic(step_up(k)), 2**14)  # poles far enough inside for the mean to be exact
    weights = torch.full(spectrum.shape, 2.0, dtype=torch.float64)
    weights[[0, -1]] = 1
    for m in range(1, 10):
        mirrored = on_circle(monic(step_up(k[: m - 1]) if m > 1 else k[:0]).flip(-1), 2**14)
        mean_square = float((weights * (mirrored / spectrum).abs() ** 2).sum() / weights.sum())
        assert mean_square == pytest.approx(1 / float((1 - k[m - 1 :] ** 2).prod()), rel=1e-10)


@pytest.mark.parametrize("tau", [64.0, 2048.0])
@pytest.mark.parametrize("order", [8, 64])
def test_the_jacobian_at_combs_is_well_conditioned(order, tau) -> None:
    raw = constrain.reflection_parameters(comb(order, tau).a)[0]
    values = torch.linalg.svdvals(torch.func.jacrev(constrain.reflection)(raw))
    k = math.exp(-order / tau)
    expected = (1 + k) / (1 - k)
    # The smallest singular value is g (1 - k), in which 1 - k has lost 1 / (1 - k) units of rounding.
    assert float(values[0] / values[-1]) == pytest.approx(expected, rel=100 * EPS * expected)
    assert expected <= 1e4


@pytest.mark.compile
def test_compiles_as_one_graph() -> None:
    raw = draw(3, 64, dtype=torch.float32).requires_grad_()
    compiled = torch.compile(functools.partial(constrain.reflection), fullgraph=True)
    results = []
    for function in (compiled, constrain.reflection):
        a = function(raw)
        results.append((a, *torch.autograd.grad(a.square().sum(), raw)))
    for ours, eager in zip(*results, strict=True):
        torch.testing.assert_close(ours, eager, rtol=1e-6, atol=1e-6)
