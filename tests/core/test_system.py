from __future__ import annotations

import copy
import dataclasses
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from scipy import signal
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close
from torch.utils import _pytree as pytree

from core.banks import F32, F64, GRID, bank, banks, coefficients, denominator, over_each_argument, system
from laws.tolerance import C, relative_error
from transferfn.core import IllConditionedWarning, TransferFunction, TruncatedTransferFunction, aliased_kernel
from transferfn.core.checks import check_bank
from transferfn.core.polynomial import roots

EPS = torch.finfo(F64).eps
OMEGA = torch.linspace(0, torch.pi, 33, dtype=F64)


def in_scipys_convention(h: TransferFunction, channel: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.concatenate(([1], h.a[channel * h.denominator_groups // h.channels]))
    h0 = float(h.h0[channel])
    return np.concatenate(([h0], h.b[channel].numpy() + h0 * a[1:])), a


def assert_same_set(found: torch.Tensor, expected: np.ndarray, tolerance: float) -> None:
    distance = np.abs(found.numpy()[:, None] - expected)
    assert found.shape == expected.shape
    assert distance.min(0).max() <= tolerance
    assert distance.min(1).max() <= tolerance


# ------------------------------------------------------------------------------------------------- the value


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((4, 3), (2, 2), (4,)), r"\(4, 3\), \(2, 2\) and \(4,\)"),
        (((4, 3), (2, 3), (3,)), "feedthrough"),
        (((3,), (1, 3), ()), "numerator"),
        (((4, 3), (3, 3), (4,)), "3 denominators for 4 channels"),
        (((4, 3), (8, 3), (4,)), "8 denominators for 4 channels"),
        (((2, 4, 3), (2, 3), (2, 4)), "same leading axes"),
        (((4, 3), (2, 1, 3), (4,)), "same leading axes"),
    ],
    ids=str,
)
def test_shapes_must_fit(shapes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_bank(*(torch.zeros(s) for s in shapes))  # the constructor itself is stopped earlier by the type checker


@pytest.mark.parametrize("dt", [0.0, -1.0, float("nan"), float("inf")])
def test_a_sampling_interval_is_positive(dt: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        TransferFunction(*bank(2), dt)


def test_types_and_devices_must_be_one() -> None:
    b, a, h0 = bank(2)
    for wrong in ((b.float(), a, h0), (b, a, h0.int()), (b.int(), a.int(), h0.int()), (b.cfloat(),) * 2 + (h0,)):
        with pytest.raises(ValueError, match="floating-point type"):
            check_bank(*wrong)
    for value in (TransferFunction, lambda *x: TruncatedTransferFunction(*x, horizon=9)):
        with pytest.raises(ValueError, match="one device"):
            value(b, a.to("meta"), h0)
        with pytest.raises(ValueError, match="floating-point type"):
            value(b, a.float(), h0)


def test_a_horizon_must_exceed_the_order() -> None:
    with pytest.raises(ValueError, match=r"horizon=3 for order 3.*longer horizon"):
        TruncatedTransferFunction(*bank(3), horizon=3)
    with pytest.raises(ValueError, match="horizon=3 for order 3"):
        system(3).truncate(3)


@pytest.mark.parametrize("value", [system(3), system(3).truncate(9)], ids=["true", "truncated"])
def test_a_value_is_frozen_copied_and_pickled(value) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.a = value.a + 1
    for other in (copy.deepcopy(value), pickle.loads(pickle.dumps(value)), dataclasses.replace(value)):
        assert type(other) is type(value)
        for mine, its in zip(pytree.tree_leaves(value), pytree.tree_leaves(other), strict=True):
            assert torch.equal(mine, its)


@pytest.mark.parametrize("value", [system(3), system(3).truncate(9)], ids=["true", "truncated"])
def test_a_value_is_a_pytree(value) -> None:
    leaves, spec = pytree.tree_flatten(dataclasses.replace(value, dt=0.5))
    assert len(leaves) == 3
    again = pytree.tree_unflatten(leaves, spec)
    assert again.dt == 0.5
    doubled = pytree.tree_map(lambda x: 2 * x, value)
    assert torch.equal(doubled.a, 2 * value.a)
    placeholders = pytree.tree_map(lambda x: None, value)  # as transforms do: nothing is checked
    assert placeholders.a is None


def test_vmap_over_a_value() -> None:
    stacked = TransferFunction(*bank(3, leading=(2,)))
    found = torch.func.vmap(lambda h: h.impulse_response(7))(stacked)
    assert_close(found, stacked.impulse_response(7))
    kernels = torch.func.vmap(lambda h: h.truncate(9).kernel())(stacked)
    assert_close(kernels, stacked.impulse_response(9))


def test_sizes_and_types() -> None:
    h = TransferFunction(*bank(3), 0.1)
    assert (h.order, h.channels, h.denominator_groups) == (3, 4, 2)
    narrow = h.to(dtype=F32)
    assert narrow.a.dtype == narrow.b.dtype == narrow.h0.dtype == F32
    assert narrow.dt == 0.1
    assert h.to(device="meta").a.is_meta
    t = h.truncate(9)
    assert (t.order, t.channels, t.horizon, t.dt) == (3, 4, 9, 0.1)
    assert t.transfer_function().dt == 0.1


# ------------------------------------------------------------------------------------------------- what it says


@pytest.mark.parametrize("length", [0, -1])
def test_a_response_has_a_sample(length: int) -> None:
    with pytest.raises(ValueError, match=f"got {length}"):
        system(2).impulse_response(length)


@given(banks())
def test_the_impulse_response_is_scipys(coefficients) -> None:
    h = TransferFunction(*coefficients)
    impulse = np.zeros(40)
    impulse[0] = 1
    for d, found in enumerate(h.impulse_response(40)):
        expected = torch.tensor(signal.lfilter(*in_scipys_convention(h, d), impulse))
        assert relative_error(found, expected) <= C * EPS * float(h.conditioning(64).max())


@given(banks())
def test_the_frequency_response_is_scipys(coefficients) -> None:
    h = TransferFunction(*coefficients)
    found = h.frequency_response(OMEGA)
    for d in range(h.channels):
        _, expected = signal.freqz(*in_scipys_convention(h, d), worN=OMEGA.numpy())
        # Near a pole A(z) cancels: kappa at this point of the circle.
        a = h.a[d * h.denominator_groups // h.channels].numpy()
        kappa = (1 + np.abs(a).sum()) / np.abs(np.polyval([1, *a], np.exp(1j * OMEGA.numpy())))
        size = np.abs(expected) + float(h.h0[d].abs() + h.b[d].abs().sum())
        assert (np.abs(found[d].numpy() - expected) <= C * EPS * kappa * size).all()


def test_the_frequency_response_in_float32_is_that_of_its_coefficients() -> None:
    h = GRID["butterworth-n4-0.05"]().to(dtype=F32)
    assert torch.equal(h.frequency_response(OMEGA.float()), h.to(dtype=F64).frequency_response(OMEGA.float()))
    assert h.frequency_response(OMEGA).dtype == torch.complex128


def test_the_frequency_response_is_the_kernels_spectrum_and_differentiable() -> None:
    b, a, h0 = bank(3, leading=(2,))
    h = TransferFunction(b, a, h0)
    period = 16
    omega = 2 * torch.pi * torch.arange(period // 2 + 1, dtype=F64) / period
    spectrum = torch.fft.rfft(aliased_kernel(b, a, h0, period=period))
    assert_close(h.frequency_response(omega), spectrum, rtol=1e-12, atol=1e-12)
    inputs = [x.requires_grad_() for x in bank(2)]
    assert gradcheck(lambda b, a, h0: TransferFunction(b, a, h0).frequency_response(OMEGA[:4]), inputs)
    assert gradgradcheck(lambda b, a, h0: TransferFunction(b, a, h0).frequency_response(OMEGA[:4]), inputs)
    over_each_argument(lambda b, a, h0: TransferFunction(b, a, h0).frequency_response(OMEGA[:4]).abs(), bank(2))


def test_frequencies_come_as_lists_arrays_and_tensors() -> None:
    h = system(3)
    expected = h.frequency_response(OMEGA)
    assert torch.equal(h.frequency_response(OMEGA.numpy()), expected)
    assert torch.equal(h.frequency_response(OMEGA.tolist()), expected)
    assert torch.equal(h.frequency_response([0, 1]), h.frequency_response(torch.tensor([0.0, 1.0])))


@pytest.mark.compile  # without the type-checking hook, which would speak first
def test_samples_come_in_whole_numbers() -> None:
    h = system(3)
    for use in (h.impulse_response, h.truncate):
        with pytest.raises(TypeError, match=r"is a whole number, got 7\.5"):
            use(7.5)  # pyright: ignore[reportArgumentType]
    assert h.impulse_response(np.int64(5)).shape == (4, 5)


def test_the_frequency_response_at_a_pole_is_infinite() -> None:
    a = torch.tensor([[-1.0]], dtype=F64, requires_grad=True)
    h = TransferFunction(torch.tensor([[1.0]], dtype=F64), a, torch.tensor([0.5], dtype=F64))
    at = h.frequency_response(torch.tensor([0.0, 1.0], dtype=F64))
    assert at.abs().isinf().tolist() == [[True, False]]
    assert not at.real.isnan().any()
    (gradient,) = torch.autograd.grad(at[:, 1].abs().sum(), a)
    assert gradient.isfinite().all()  # that of the other frequency


@pytest.mark.parametrize("order", [1, 2, 5, 8])
def test_poles_and_zeros_are_scipys(order: int) -> None:
    h = system(order)
    for d in range(h.channels):
        whole, a = in_scipys_convention(h, d)
        zeros, poles, _ = signal.tf2zpk(whole, a)
        # Both are eigenvalues, good to eps times the condition of a root: below 1e4 for these.
        assert_same_set(h.poles()[d * 2 // 4], poles, 1e4 * EPS)
        assert_same_set(h.poles()[d * 2 // 4], np.roots(a), 1e4 * EPS)
        assert_same_set(h.zeros()[d], zeros, 1e4 * EPS * (1 + np.abs(zeros).max()))


def test_derivatives_of_poles_and_zeros() -> None:
    """In polar coordinates, sorted, so that eigenvalues may come in any order."""

    def polar(z):
        order = (z.detach().imag + 1e-3 * z.detach().real).argsort(-1)
        z = z.gather(-1, order)
        return z.abs(), z.angle()

    b, a, h0 = (x.requires_grad_() for x in bank(4))
    assert gradcheck(lambda a: polar(TransferFunction(b, a, h0).poles()), a)
    assert gradgradcheck(lambda a: polar(TransferFunction(b, a, h0).poles()), a)
    assert gradcheck(lambda *x: polar(TransferFunction(*x).zeros()), (b, a, h0))
    assert gradgradcheck(lambda *x: polar(TransferFunction(*x).zeros()), (b, a, h0))
    zero = torch.zeros_like(h0)  # one zero of each channel is infinite; the others have derivatives all the same
    assert gradcheck(lambda b, a: polar(TransferFunction(b, a, zero).zeros()[..., :-1]), (b, a))
    over_each_argument(lambda *x: TransferFunction(*x).poles().abs().sort().values, bank(4))
    over_each_argument(lambda *x: TransferFunction(*x).zeros().abs().sort().values, bank(4))

    def radii(a):
        return torch.view_as_real(TransferFunction(torch.zeros_like(a), a, a[..., 0]).poles()).square().sum()

    a = torch.cat((bank(3, groups=4)[1], torch.zeros(4, 1, dtype=F64)), -1)  # a pole at 0 and three others
    assert gradgradcheck(radii, a.requires_grad_())
    assert_close(torch.vmap(torch.func.grad(radii))(a[:, None])[:, 0], torch.func.grad(radii)(a))


def test_a_huge_pole_has_finite_derivatives() -> None:
    a = denominator([1e100, -1e70, 0.5]).requires_grad_()
    poles, _ = roots(a)
    largest = poles.abs().amax()
    (gradient,) = torch.autograd.grad(largest, a)
    assert_close(gradient[0, 0].abs(), torch.tensor(1.0, dtype=F64))  # the largest pole is about -a_1


def test_poles_of_banks_with_leading_axes() -> None:
    h = TransferFunction(*bank(3, leading=(2,)))
    assert h.poles().shape == (2, 2, 3)
    assert h.zeros().shape == (2, 4, 3)
    assert_close(h.zeros()[1], TransferFunction(h.b[1], h.a[1], h.h0[1]).zeros())


def test_a_feedthrough_of_rounding_size_is_no_zero_far_away() -> None:
    b = torch.tensor([[0.5, 1.0]], dtype=F64)
    h = TransferFunction(b, torch.zeros_like(b), torch.tensor([1e-24], dtype=F64))
    zeros = h.zeros()[0]
    assert zeros[0] == -2
    assert zeros[1].isinf()


def test_missing_zeros_are_at_infinity_in_last_place() -> None:
    a = denominator([0.5, 0.3, -0.2])
    b = torch.tensor([[1.0, -0.5, 0.0], [0.0, 1.0, -0.5], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]], dtype=F64)
    zeros = TransferFunction(b, a, torch.zeros(4, dtype=F64)).zeros()
    assert zeros.isinf().sum(-1).tolist() == [1, 2, 3, 3]
    assert_same_set(zeros[0, :2], np.array([0.5, 0.0]), 10 * EPS)
    assert_same_set(zeros[1, :1], np.array([0.5]), 10 * EPS)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_the_realisation_is_scipys(order: int) -> None:
    h = system(order)
    matrices = h.state_space()[:4]
    assert [tuple(m.shape) for m in matrices] == [(4, order, order), (4, order, 1), (4, 1, order), (4, 1, 1)]
    for d in range(h.channels):
        for found, expected in zip(matrices, signal.tf2ss(*in_scipys_convention(h, d)), strict=True):
            assert_close(found[d], torch.tensor(expected), rtol=0, atol=10 * EPS)  # b + h0 a - h0 a is not quite b


def test_the_realisation_runs_the_filter() -> None:
    h = system(3)
    a, b, c, d = h.state_space()[:4]
    x, ys = torch.zeros(4, 3, 1, dtype=F64), []
    for t in range(12):
        u = float(t == 0)
        ys.append((c @ x + d * u).flatten())
        x = a @ x + b * u
    assert_close(torch.stack(ys, 1), h.impulse_response(12), rtol=1e-12, atol=1e-13)


def test_order_zero_is_a_gain() -> None:
    h = system(0)
    assert h.poles().shape == (2, 0)
    assert h.zeros().shape == (4, 0)
    assert [tuple(m.shape) for m in h.state_space()[:4]] == [(4, 0, 0), (4, 0, 1), (4, 1, 0), (4, 1, 1)]
    assert torch.equal(h.impulse_response(3)[:, 0], h.h0)
    assert torch.equal(h.truncate(1).kernel()[:, 0], h.h0)
    assert torch.equal(h.truncate(3).transfer_function().h0, h.h0)
    assert torch.equal(h.frequency_response(OMEGA)[:, 5].real, h.h0)
    assert h.stability().verdict == "stable"
    assert torch.equal(h.stabilize(4)[0].h0, h.h0)
    assert_close((h * system(2)).impulse_response(5), h.h0[:, None] * system(2).impulse_response(5))


def test_conditioning_is_computed_in_float64() -> None:
    h = GRID["butterworth-n8-0.2"]()
    assert_close(h.to(dtype=F32).conditioning(785).log10(), h.conditioning(785).log10(), rtol=1e-2, atol=0)
    assert torch.equal(h.truncate(785).conditioning(), h.conditioning(785))


# ------------------------------------------------------------------------------------------------- what it warns of


def clustered(dtype: torch.dtype, multiplicity: int = 8) -> TransferFunction:
    return TransferFunction(*(x.to(dtype) for x in coefficients(denominator([0.9] * multiplicity), channels=1)))


WARNED = {
    "poles of a Butterworth 8 @ 0.01": (GRID["butterworth-n8-0.01"](), TransferFunction.poles),
    "poles of a Butterworth 8 @ 0.01, float32": (GRID["butterworth-n8-0.01"]().to(dtype=F32), TransferFunction.poles),
    "Wilkinson's poles": (TransferFunction(*coefficients(denominator(np.arange(1, 21) / 20))), TransferFunction.poles),
    "eight poles at one place": (clustered(F64), TransferFunction.poles),
    "eight zeros at one place": (GRID["butterworth-n8-0.05"](), TransferFunction.zeros),
    "truncating a Butterworth 8 @ 0.01": (GRID["butterworth-n8-0.01"](), lambda h: h.truncate(784)),
    "truncating it in float32": (GRID["butterworth-n8-0.01"]().to(dtype=F32), lambda h: h.truncate(784)),
    "eight poles at one place in float32": (clustered(F32), lambda h: h.truncate(784)),
    "a pole on a root of unity": (
        TransferFunction(*coefficients(denominator([1.0, 0.5]), channels=1)),
        lambda h: h.truncate(8),
    ),
    "growth by 1e20": (
        TransferFunction(*coefficients(denominator([1.2, 0.5]), channels=1)),
        lambda h: h.truncate(252),
    ),
    "growth without bound": (
        TransferFunction(*coefficients(denominator([1.2, 0.5]), channels=1)),
        lambda h: h.truncate(5000),
    ),
}


@pytest.mark.parametrize("case", WARNED)
def test_what_the_coefficients_do_not_determine_is_warned_of(case: str) -> None:
    h, function = WARNED[case]
    with pytest.warns(IllConditionedWarning, match=str(h.a.dtype).removeprefix("torch.")) as caught:
        function(h)
    assert len(caught) == 1


def test_the_way_back_warns_too() -> None:
    for poles, horizon, match in (([1.0], 8, "kappa"), ([1.2, 0.5], 252, "grows by"), ([1.2, 0.5], 5000, "beyond")):
        t = TruncatedTransferFunction(*coefficients(denominator(poles), channels=1), horizon=horizon)
        assert t.kernel().isfinite().all()
        with pytest.warns(IllConditionedWarning, match=match):
            t.transfer_function()


@pytest.mark.parametrize("name", [name for name in GRID if "n8-0" not in name])
def test_what_they_determine_is_not(name: str) -> None:
    """Warnings are errors here."""
    h = GRID[name]()
    h.poles()
    h.truncate(784).transfer_function()
    if float(h.conditioning(784)) * torch.finfo(F32).eps < 1e-4:
        h.to(dtype=F32).truncate(784).transfer_function()


def test_nothing_is_looked_at_inside_a_transform() -> None:
    b, a, h0 = (x.detach() for x in coefficients(denominator([1.0, 0.5]), channels=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.func.vmap(lambda a: TransferFunction(b, a, h0).truncate(8).b_tilde)(a[None])
        TransferFunction(*(x.to("meta") for x in (b, a, h0))).truncate(8)
