"""Law 9: filters are filters. scipy's lfilter, linearity in the numerator, the adjoint, the order of aliasing."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from torch import Tensor

from laws.filters import CHANNELS, F32, F64, LARGE, SMALL, TYPE_IDS, Case, Filter
from laws.runs import signal
from laws.tolerance import relative_error, tolerance
from transferfn.core import TransferFunction, aliased_kernel, impulse_response
from transferfn.nn import RTF, Realization
from transferfn.ops.choice import LARGEST_NOISE

GRID = SMALL + LARGE
filters = pytest.mark.parametrize("one", [one for one in GRID if one.fits(F64)], ids=str)
methods = pytest.mark.parametrize("method", ["fft", "scan"])
numerators = pytest.mark.parametrize("numerator", ["truncated", "exact"])
types = pytest.mark.parametrize("dtype", TYPE_IDS, ids=TYPE_IDS.get)
held = pytest.mark.parametrize(
    ("one", "dtype"),
    [(one, dtype) for dtype in TYPE_IDS for one in GRID if one.fits(dtype)],
    ids=lambda x: TYPE_IDS[x] if isinstance(x, torch.dtype) else str(x),
)


def by_scipy(system: TransferFunction, u: Tensor) -> tuple[Tensor, Tensor]:
    """Output and state from lfilter in extended precision."""
    u, b, a, h0 = (x.detach().double().numpy().astype(np.longdouble) for x in (u, system.b, system.a, system.h0))
    a = np.repeat(a, len(b) // len(a), 0)
    ys, states = [], []
    for d in range(len(b)):
        denominator = np.concatenate(([1], a[d]))
        ys.append(lfilter(np.concatenate(([h0[d]], b[d] + h0[d] * a[d])), denominator, u[:, :, d]))
        w = lfilter([np.longdouble(1)], denominator, u[:, :, d])
        states.append(w[:, : -len(a[d]) - 1 : -1])
    return torch.tensor(np.stack(ys, 2).astype(float)), torch.tensor(np.stack(states, 1).astype(float))


def of_layer(layer: RTF) -> TransferFunction:
    """The filters a layer holds, from its parameters as they were rounded, in float64."""
    return copy.deepcopy(layer).double().transfer_function()


@held
@numerators
@methods
def test_equals_scipy(one: Filter, dtype: torch.dtype, numerator: str, method: str) -> None:
    layer = Case(one, dtype, numerator, groups=2).layer(method=method)
    u = signal(2, 784, CHANNELS, dtype)
    expected = by_scipy(of_layer(layer), u)
    y, state = layer.extend(u)
    assert y.dtype == state.dtype == dtype
    errors = [relative_error(y, expected[0]), relative_error(layer(u), expected[0]), relative_error(state, expected[1])]
    assert max(errors) <= tolerance(layer, dtype), errors
    if one.kappa <= 1e3:
        assert max(errors) <= {F32: 2e-6, F64: 1e-12}[dtype], errors


@held
def test_a_realization_equals_scipy(one: Filter, dtype: torch.dtype) -> None:
    """Its coefficients are rounded once; from then on they are the truth."""
    module = Case(one, dtype).layer().realize()
    u = signal(2, 784, CHANNELS, dtype)
    expected = by_scipy(module.transfer_function(), u)
    y, state = module.extend(u)
    assert relative_error(y, expected[0]) <= tolerance(module, dtype)
    assert relative_error(state, expected[1]) <= tolerance(module, dtype)


@pytest.mark.parametrize("one", [one for one in SMALL if one.fits(F64)], ids=str)
def test_steps_equal_scipy(one: Filter) -> None:
    module = Case(one, F64).layer().realize()
    u = signal(2, 257, CHANNELS)
    expected, final = by_scipy(module.transfer_function(), u)
    state = module.init_state(2)
    ys = []
    for u_t in u.unbind(1):
        y_t, state = module.step(u_t, state)
        ys.append(y_t)
    assert relative_error(torch.stack(ys, 1), expected) <= tolerance(module, F64)
    assert relative_error(state, final) <= tolerance(module, F64)


@pytest.mark.parametrize("one", [one for one in GRID if one.fits(F32)], ids=str)
def test_float32_by_fft_is_as_good_as_its_signal(one: Filter) -> None:
    """Kernels are computed in float64, so that kappa does not show."""
    layer = Case(one, F32, "truncated").layer(method="fft")
    u = signal(2, 784, CHANNELS, F32)
    assert relative_error(layer(u), by_scipy(of_layer(layer), u)[0]) <= 2e-6


@pytest.mark.parametrize("one", [one for one in GRID if one.fits(F32)], ids=str)
@numerators
def test_auto_keeps_four_digits_in_float32(one: Filter, numerator: str) -> None:
    """Where a recurrence would not, the FFT is taken."""
    layer = Case(one, F32, numerator).layer()
    u = signal(2, 784, CHANNELS, F32)
    expected, _ = by_scipy(of_layer(layer), u)
    assert relative_error(layer(u), expected) <= LARGEST_NOISE
    assert relative_error(layer.extend(u)[0], expected) <= LARGEST_NOISE


@pytest.mark.parametrize("one", [one for one in GRID if not one.fits(F32)], ids=str)
@pytest.mark.parametrize("method", ["auto", "fft"])
def test_what_float32_cannot_hold_is_still_finite_and_right_by_fft(one: Filter, method: str) -> None:
    """Rounded, some of these are unstable; their kernel up to the horizon exists all the same."""
    layer = Case(one, F32, "truncated").layer(method=method)
    u = signal(2, 784, CHANNELS, F32)
    kernel = copy.deepcopy(layer).double().system().kernel()
    expected = torch.stack([torch.stack([convolve(x, k) for x, k in zip(row.mT, kernel, strict=True)], 1) for row in u])
    assert relative_error(layer(u), expected) <= 2e-6


def convolve(u: Tensor, kernel: Tensor) -> Tensor:
    return torch.tensor(np.convolve(u.double().numpy(), kernel.detach().numpy())[: len(u)])


@filters
@methods
def test_linear_in_the_numerator(one: Filter, method: str) -> None:
    bank = one.bank()
    other = TransferFunction(bank.b.roll(1, 0), bank.a, bank.h0.flip(0))
    mixed = TransferFunction(bank.b + 3 * other.b, bank.a, bank.h0 + 3 * other.h0)
    u = signal(2, 257, CHANNELS)
    y, y_other, y_mixed = (Realization(x, method=method)(u) for x in (bank, other, mixed))
    assert relative_error(y + 3 * y_other, y_mixed) <= tolerance(Realization(bank), F64)


@filters
@methods
@numerators
def test_time_reversal_is_the_adjoint(one: Filter, method: str, numerator: str) -> None:
    layer = Case(one, F64, numerator).layer(method=method)
    u = signal(2, 257, CHANNELS).requires_grad_()
    c = signal(2, 257, CHANNELS, seed=1)
    (adjoint,) = torch.autograd.grad((layer(u) * c).sum(), u)
    assert relative_error(adjoint, layer(c.flip(1)).flip(1)) <= tolerance(layer, F64)


@pytest.mark.parametrize("radius", [0.8, 0.9, 0.97])
@pytest.mark.parametrize("angle", [0.0, 0.7, 2.5, math.pi])
def test_aliasing_falls_as_radius_to_the_period(radius: float, angle: float) -> None:
    """Sampling the true b/a on a circle of P points folds the tail: measure the order, not only the closeness."""
    poles = radius * np.exp(1j * np.array([angle, -angle])) * np.array([1, 1 if angle % math.pi else 0.5])
    b, a, h0 = torch.tensor([[1.0, -0.3]]).double(), torch.tensor(np.poly(poles).real[None, 1:]), torch.ones(1).double()
    decay = -1 / math.log(radius)
    periods = [round(k * decay) for k in range(4, 20)]  # from exp(-4) to exp(-20)
    errors = []
    for period in periods:
        truth = impulse_response(b, a, h0, length=period)
        errors.append(float((aliased_kernel(b, a, h0, period=period) - truth).abs().max()))
    slope = np.polyfit(periods, np.log(errors), 1)[0]
    assert slope == pytest.approx(math.log(radius), rel=0.05)


@filters
def test_the_truncated_numerator_does_not_alias(one: Filter) -> None:
    bank = one.bank()
    truth = bank.impulse_response(784)
    assert relative_error(bank.truncate(784).kernel(), truth) <= tolerance(Realization(bank), F64)
