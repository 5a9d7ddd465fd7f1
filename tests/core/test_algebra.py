from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from core.banks import F64, bank, coefficients, denominator, over_each_argument, system
from transferfn import Realization
from transferfn.core import TransferFunction, algebra, select

OMEGA = torch.linspace(0.1, 3, 9, dtype=F64)
sizes = st.tuples(st.integers(0, 5), st.sampled_from([1, 2, 4]), st.integers(0, 9))


def build(size: tuple[int, int, int]) -> TransferFunction:
    order, groups, seed = size
    return TransferFunction(*bank(order, groups=groups, seed=seed))


def assert_is(h: TransferFunction, expected: torch.Tensor) -> None:
    """Responses of these well-conditioned filters agree to 1e-10; a wrong rule is off by ones."""
    assert_close(h.frequency_response(OMEGA), expected, rtol=1e-10, atol=1e-10)


@given(sizes, sizes)
def test_values_add_up_on_the_circle(first, second) -> None:
    g, h = build(first), build(second)
    at_g, at_h = g.frequency_response(OMEGA), h.frequency_response(OMEGA)
    assert_is(g * h, at_g * at_h)
    assert_is(g + h, at_g + at_h)
    assert_is(g - h, at_g - at_h)
    assert (g * h).order == (g + h).order == g.order + h.order
    for sign in (-1, 1):
        if (1 - sign * g.h0 * h.h0).abs().min() > 0.05:  # else the loop is nearly algebraic
            closed = g.feedback(h, sign=sign)
            expected = at_g / (1 - sign * at_g * at_h)
            assert_close(closed.frequency_response(OMEGA), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


def test_scalars_scale_and_shift() -> None:
    h = system(3)
    at = h.frequency_response(OMEGA)
    assert_is(2.5 * h, 2.5 * at)
    assert_is(h * -2, -2 * at)
    assert_is(h + 0.5, at + 0.5)
    assert_is(0.5 + h, at + 0.5)
    assert_is(h - 0.5, at - 0.5)
    assert_is(0.5 - h, 0.5 - at)
    assert_is(-h, -at)
    for same in (2.5 * h, h + 1, -h, h - 1):
        assert same.order == h.order
        assert same.a is h.a
    assert_is(h.feedback(0.3), at / (1 + 0.3 * at))
    assert_is(h.feedback(), at / (1 + at))
    assert h.feedback(0.3).order == h.order


@pytest.mark.parametrize("number", [2, np.float32(2), np.int64(2), torch.tensor(2.0)], ids=lambda x: type(x).__name__)
def test_any_number_scales_and_shifts(number) -> None:
    h = system(3)
    at = h.frequency_response(OMEGA)
    for scaled in (h * number, number * h):
        assert_is(scaled, 2 * at)
    for shifted in (h + number, number + h):
        assert_is(shifted, at + 2)
    assert_is(number - h, 2 - at)
    assert_is(h.feedback(number), at / (1 + 2 * at))


@pytest.mark.parametrize("other", ["2", [2], None, torch.ones(4, dtype=torch.complex64)], ids=str)
def test_nothing_else_does(other) -> None:
    h = system(3)
    for combine in (lambda x: h * x, lambda x: h / x, lambda x: h + x, lambda x: x + h, lambda x: h - x):
        with pytest.raises(TypeError):
            combine(other)


@given(sizes)
def test_filters_divide(size: tuple[int, int, int]) -> None:
    h = build(size)
    assume(float(h.h0.abs().min()) > 0.05)
    at = h.frequency_response(OMEGA)
    one = torch.zeros(4, 20, dtype=F64)
    one[:, 0] = 1
    assert_close(
        (h * (1 / h)).impulse_response(20), one, rtol=0, atol=1e-6 * float((1 / h).impulse_response(20).abs().max())
    )
    g = system(2, seed=1)
    for found, expected in ((1 / h, 1 / at), (3 / h, 3 / at), (g / h, g.frequency_response(OMEGA) / at)):
        assert_close(found.frequency_response(OMEGA), expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))
    assert ((1 / h).order, (1 / h).channels, (g / h).order) == (h.order, 4, 2 + h.order)


def test_powers() -> None:
    h = replace(system(2), dt=0.5)
    at = h.frequency_response(OMEGA)
    for n in (-2, -1, 0, 1, 2, 3):
        found = h**n
        assert_close(found.frequency_response(OMEGA), at**n, rtol=1e-8, atol=1e-8 * float((at**n).abs().max()))
        assert (found.order, found.channels, found.dt) == (2 * abs(n), 4, 0.5)
    assert (h ** np.int64(2)).order == 4


def test_inverses_have_derivatives() -> None:
    b, a, h0 = (x.clone().requires_grad_() for x in bank(2, groups=2, seed=3))
    assert gradcheck(lambda *x: algebra.inverse(x), (b, a, h0))


@pytest.mark.compile  # without the type-checking hook, which would speak first
def test_filters_that_begin_with_a_delay_have_no_inverse() -> None:
    h = system(2)
    late = replace(h, h0=h.h0 * torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=F64))
    for divide in (lambda: h / late, lambda: 1 / late, lambda: late**-1, lambda: h / (h - h)):
        with pytest.raises(ZeroDivisionError, match=r"of 4 filters have zero feedthrough: they begin with a delay"):
            divide()
    for nonsense in (lambda: h**0.5, lambda: h**True, lambda: "1" / h):
        with pytest.raises(TypeError, match="unsupported operand"):
            nonsense()
    with pytest.raises(ZeroDivisionError):
        h / 0


@pytest.mark.parametrize("channels", [4, 1])
@pytest.mark.parametrize(
    "kind", [torch.tensor, lambda x: torch.tensor(x, dtype=F64), np.array], ids=["f32", "f64", "np"]
)
def test_gains_are_one_a_channel(kind, channels: int) -> None:
    """Of a single filter as many channels as there are gains, which share its denominator."""
    h = select(system(3), [0]) if channels == 1 else system(3)
    values = [2.0, -0.5, 0.0, 4.0]
    gains, column, at = kind(values), torch.tensor(values, dtype=F64)[:, None], h.frequency_response(OMEGA)
    for found, expected in (
        (h * gains, at * column),
        (gains * h, at * column),
        (h / kind([2.0, -0.5, 1.0, 4.0]), at / torch.tensor([2.0, -0.5, 1.0, 4.0], dtype=F64)[:, None]),
        (h + gains, at + column),
        (gains + h, at + column),
        (h - gains, at - column),
        (gains - h, column - at),
        (h.feedback(gains), at / (1 + at * column)),
    ):
        assert_is(found, expected)
        assert (found.channels, found.b.dtype) == (4, F64)
    assert (h * gains).denominator_groups == h.denominator_groups
    assert Realization(h + gains)(torch.ones(2, 9, 4, dtype=F64)).shape == (2, 9, 4)


def test_gains_that_do_not_fit_are_named() -> None:
    h = system(3)
    for combine in (lambda x: h * x, lambda x: h / x, lambda x: h + x, lambda x: x - h, lambda x: h.feedback(x)):
        with pytest.raises(ValueError, match=r"one a channel, \(4,\), got \(3,\)"):
            combine(torch.ones(3))
        with pytest.raises(ValueError, match=r"one a channel, \(4,\), got \(4, 1\)"):
            combine(np.ones((4, 1)))


def test_one_filter_goes_with_many() -> None:
    g, h = select(system(2, seed=1), [0]), system(3)
    at_g, at_h = g.frequency_response(OMEGA), h.frequency_response(OMEGA)
    for found, expected in (
        (g * h, at_g * at_h),
        (h * g, at_g * at_h),
        (g + h, at_g + at_h),
        (g - h, at_g - at_h),
        (h - g, at_h - at_g),
        ((0.1 * g).feedback(h), 0.1 * at_g / (1 + 0.1 * at_g * at_h)),
        (h.feedback(0.1 * g), at_h / (1 + 0.1 * at_g * at_h)),
    ):
        assert_is(found, expected)
        assert found.channels == 4
    assert (g * h).denominator_groups == (g + h).denominator_groups == h.denominator_groups == 2


def test_a_gain_has_derivatives() -> None:
    h, gain = system(2), torch.tensor(0.3, dtype=F64, requires_grad=True)
    each = torch.tensor([0.3, 0.1, -0.2, 0.5], dtype=F64, requires_grad=True)
    for use in (lambda x: (h * x).b, lambda x: (h / x).b, lambda x: (h + x).h0, lambda x: h.feedback(x).a):
        assert gradcheck(use, gain)
        assert gradcheck(use, each)


def test_series_is_filtering_twice_and_parallel_adds_in_time() -> None:
    g, h = system(3), system(2, seed=1)
    first, second = g.impulse_response(20), h.impulse_response(20)
    convolved = torch.stack([sum(first[:, s] * second[:, t - s] for s in range(t + 1)) for t in range(20)], -1)
    assert_close((g * h).impulse_response(20), convolved, rtol=1e-11, atol=1e-11)
    assert_close((g + h).impulse_response(20), first + second, rtol=1e-11, atol=1e-11)


def test_feedback_satisfies_its_difference_equation() -> None:
    """y = g * (u + sign h * y), sample by sample."""
    g, h = system(3), system(2, seed=1)
    g = TransferFunction(g.b, g.a, torch.zeros_like(g.h0))
    first, second = g.impulse_response(16), h.impulse_response(16)
    for sign in (-1, 1):
        y, e = [], []  # the error is known before the output, since g has a delay
        for t in range(16):
            y.append(sum((first[:, t - s] * e[s] for s in range(t)), torch.zeros(4, dtype=F64)))
            back = sum(second[:, t - s] * y[s] for s in range(t + 1))
            e.append(float(t == 0) + sign * back)
        closed = g.feedback(h, sign=sign).impulse_response(16)
        assert_close(closed, torch.stack(y, 1), rtol=1e-9, atol=1e-9 * float(closed.abs().max()))


def test_denominators_are_tied_as_far_as_both_are() -> None:
    groups = {(1, 1): 1, (1, 2): 2, (2, 4): 4, (2, 2): 2}
    for (first, second), together in groups.items():
        g, h = system(2, groups=first), system(3, groups=second)
        assert (g * h).denominator_groups == (g + h).denominator_groups == together
        assert g.feedback(h * 0.1).denominator_groups == 4
    six = [coefficients(denominator(*[[0.1 * k] for k in range(1, g + 1)]), channels=6) for g in (2, 3)]
    assert (TransferFunction(*six[0]) * TransferFunction(*six[1])).denominator_groups == 6


def test_an_algebraic_loop_is_refused() -> None:
    b, a, _ = bank(2)
    g = TransferFunction(b, a, torch.tensor([0.5, 2.0, 1.0, 0.1], dtype=F64))
    with pytest.raises(ValueError, match=r"algebraic.*Put a delay"):
        g.feedback(1.0, sign=1)  # the third channel: 1 - 1 * 1 = 0
    with pytest.raises(ValueError, match="algebraic"):
        g.feedback(-0.5)  # the second
    delayed = TransferFunction(b, a, torch.zeros(4, dtype=F64))
    assert delayed.feedback(g, sign=1).impulse_response(5).isfinite().all()


@pytest.mark.parametrize("sign", [0, 2, -2])
def test_a_sign_is_a_sign(sign: int) -> None:
    with pytest.raises(ValueError, match=f"got {sign}"):
        system(2).feedback(sign=sign)


def test_banks_and_intervals_must_fit() -> None:
    g = TransferFunction(*bank(2), 0.1)
    assert (g * system(2)).dt == (system(2) + g).dt == g.feedback(0.1).dt == (-g).dt == (g + 1).dt == 0.1
    other = TransferFunction(*bank(2), 0.2)
    two = TransferFunction(*coefficients(denominator([0.5]), channels=2))
    for combine in (lambda x: g * x, lambda x: g + x, lambda x: g - x, lambda x: g.feedback(x)):
        with pytest.raises(ValueError, match=r"dt=0.1 and dt=0.2"):
            combine(other)
        with pytest.raises(
            ValueError, match=r"as many channels, or one of them one, got numerators \(4, 2\) and \(2, 1\)"
        ):
            combine(two)


def test_bank_axes() -> None:
    g, h = (TransferFunction(*bank(order, leading=(2,))) for order in (2, 3))
    for whole, combine in ((g * h, algebra.series), (g + h, algebra.parallel)):
        for k in range(2):
            b, a, h0 = combine(*((x.b[k], x.a[k], x.h0[k]) for x in (g, h)))
            assert_close((whole.b[k], whole.a[k], whole.h0[k]), (b, a, h0), rtol=1e-13, atol=1e-13)
    one = system(2)
    assert_is(one * h, one.frequency_response(OMEGA) * h.frequency_response(OMEGA))
    gains = torch.tensor([1.0, 2, 3, 4], dtype=F64)
    assert_is(h * gains, gains[:, None] * h.frequency_response(OMEGA))


CONNECTIONS = [algebra.series, algebra.parallel, partial(algebra.feedback, sign=-1)]


@pytest.mark.parametrize("connect", CONNECTIONS, ids=["series", "parallel", "feedback"])
def test_derivatives_and_vmap(connect) -> None:
    def flat(*tensors):
        return connect(tensors[:3], tensors[3:])

    inputs = [x.requires_grad_() for x in (*bank(2), *bank(1, groups=4, seed=1))]
    assert gradcheck(flat, inputs)
    assert gradgradcheck(flat, inputs)
    over_each_argument(flat, [x.detach() for x in inputs])
