"""Sampling, its inverse, and other rates: against scipy, python-control and the response in continuous time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from core.banks import F64, bank, coefficients, denominator, system
from transferfn.core import TransferFunction, c2d, d2c, with_rate
from transferfn.core.state_space import markov, state_space
from transferfn.interop.arrays import from_ba, to_ba

NUM, DEN = scipy.signal.butter(4, 2 * np.pi * 50, analog=True)
ANALOG = {
    "lowpass": (NUM, DEN),
    "bandpass": scipy.signal.butter(2, [2 * np.pi * 20, 2 * np.pi * 80], "bandpass", analog=True),
    "integrator": ([1.0], [1.0, 0.0]),
    "lead": ([1.0, 10.0], [1.0, 100.0]),
}


def same_filter(found: TransferFunction, num: np.ndarray, den: np.ndarray) -> None:
    b, a = to_ba(found)
    num = np.atleast_1d(np.squeeze(num))
    np.testing.assert_allclose(a[0], np.atleast_1d(np.squeeze(den)), rtol=0, atol=1e-11)
    np.testing.assert_allclose(b[0], np.r_[np.zeros(b.shape[1] - len(num)), num], rtol=0, atol=1e-11)


@pytest.mark.parametrize("method", ["zoh", "bilinear", "impulse"])
@pytest.mark.parametrize("name", ANALOG)
def test_sampling_is_scipys(name: str, method) -> None:
    num, den = ANALOG[name]
    if method == "impulse" and len(num) == len(den):
        with pytest.raises(ValueError, match="feedthrough"):
            c2d((num, den), 1e-3, method=method)
        return
    h, error = c2d((num, den), 1e-3, method=method)
    expected = scipy.signal.cont2discrete((num, den), 1e-3, method)
    same_filter(h, expected[0], expected[1])
    assert h.dt == 1e-3
    assert float(error) < 1e-9


@pytest.mark.parametrize("prewarp", [None, 50.0])
def test_the_bilinear_rule_is_that_of_python_control(prewarp: float | None) -> None:
    control = pytest.importorskip("control")
    frequency = None if prewarp is None else 2 * np.pi * prewarp
    expected = control.sample_system(control.tf(NUM, DEN), 1e-3, "bilinear", prewarp_frequency=frequency)
    h = c2d((NUM, DEN), 1e-3, method="bilinear", prewarp_hz=prewarp).value
    same_filter(h, expected.num[0][0], expected.den[0][0])
    if prewarp is not None:
        at = torch.tensor([prewarp], dtype=F64)
        analog = scipy.signal.freqs(NUM, DEN, [2 * np.pi * prewarp])[1]
        np.testing.assert_allclose(h.frequency_response(at, unit="Hz")[0].numpy(), analog, rtol=1e-9)


def test_several_filters_and_matrices() -> None:
    numerators = np.stack([NUM, 2 * NUM])
    both = c2d((numerators, DEN), 1e-3).value
    assert both.channels == 2
    torch.testing.assert_close(both.b[1], 2 * both.b[0])
    A, B, C, D = scipy.signal.tf2ss(NUM, DEN)
    same_filter(c2d((A, B, C, D), 1e-3).value, *to_ba(c2d((NUM, DEN), 1e-3).value))


@pytest.mark.parametrize("method", ["zoh", "bilinear"])
def test_a_gain_stays_one(method) -> None:
    h, error = c2d(([3.0], [2.0]), 0.1, method=method)
    assert (h.order, h.h0.item(), error.item()) == (0, 1.5, 0)


def test_step_responses_agree_where_the_input_is_held() -> None:
    h = c2d(([1.0, 3.0], [1.0, 2.0, 10.0]), 0.1).value
    time, step = scipy.signal.step(([1.0, 3.0], [1.0, 2.0, 10.0]), T=np.arange(40) * 0.1)
    np.testing.assert_allclose(h.impulse_response(40)[0].cumsum(-1).numpy(), step, atol=1e-10)
    assert len(time) == 40


@given(order=st.integers(0, 6), seed=st.integers(0, 30), method=st.sampled_from(["zoh", "bilinear"]))
@settings(max_examples=25)
def test_back_to_continuous_time_and_again(order: int, seed: int, method) -> None:
    h = TransferFunction(*bank(order, seed=seed), 1e-3)
    poles = h.poles()
    assume(method != "zoh" or not bool(((poles.imag == 0) & (poles.real <= 0)).any()))
    continuous, error = d2c(h, method=method, prewarp_hz=100.0 if method == "bilinear" else None)
    again, _ = c2d(continuous, 1e-3, method=method, prewarp_hz=100.0 if method == "bilinear" else None)
    torch.testing.assert_close(again.impulse_response(100), h.impulse_response(100), rtol=1e-7, atol=1e-7)
    assert float(error.max()) < 1e-7
    assert continuous.A.shape == (4, order, order)
    if method == "zoh":  # the poles are logarithms
        for d in range(4):
            inside = torch.linalg.eigvals(continuous.A[d]).mul(1e-3).exp()
            distance = (inside[:, None] - poles[d // 2]).abs()
            assert order == 0 or float(distance.amin(1).max()) < 1e-8


def test_errors_are_of_what_they_say() -> None:
    """The error of d2c is the difference of responses once sampled again."""
    h = c2d((NUM, DEN), 1e-3).value
    continuous, error = d2c(h)
    A, B, C, D = (x[0].numpy() for x in continuous[:4])
    sampled = scipy.signal.cont2discrete((A, B, C, D), 1e-3)[:4]
    response = markov(state_space(*sampled), 1024)
    truth = h.impulse_response(1024)
    assert float((response[0, 0] - truth).abs().max() / truth.abs().max()) == pytest.approx(float(error), abs=1e-11)


def test_a_held_input_has_the_same_response_at_twice_the_rate() -> None:
    h = c2d((NUM, DEN), 1e-3).value
    fast, _ = with_rate(h, 5e-4)
    slow, _ = with_rate(h, 2e-3)
    step = h.impulse_response(200).cumsum(-1)
    torch.testing.assert_close(fast.impulse_response(400).cumsum(-1)[:, ::2], step, rtol=0, atol=1e-10)
    torch.testing.assert_close(slow.impulse_response(100).cumsum(-1), step[:, ::2], rtol=0, atol=1e-10)
    assert (fast.dt, slow.dt) == (5e-4, 2e-3)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.7])
def test_the_cost_of_another_rate_is_measured_in_the_band(ratio: float) -> None:
    h = c2d((NUM, DEN), 1e-3, method="bilinear").value
    new, error = with_rate(h, 1e-3 * ratio, method="bilinear", prewarp_hz=50.0, up_to_hz=100.0)
    f = np.linspace(0, 100, 1024)
    one, other = (scipy.signal.freqz(*(x[0] for x in to_ba(g)), worN=2 * np.pi * f * g.dt)[1] for g in (h, new))
    assert float(error) == pytest.approx(np.abs(other - one).max() / np.abs(one).max(), abs=1e-9)
    at = torch.tensor([50.0], dtype=F64)
    torch.testing.assert_close(new.frequency_response(at, unit="Hz"), h.frequency_response(at, unit="Hz"))
    assert (float(error) < 1e-9) == (ratio == 1.0)


def test_frequencies_in_hz() -> None:
    h = TransferFunction(*bank(3), 0.01)
    f = torch.tensor([0.0, 10.0, 50.0], dtype=F64)
    torch.testing.assert_close(h.frequency_response(f, unit="Hz"), h.frequency_response(2 * math.pi * 0.01 * f))
    with pytest.raises(ValueError, match="'Hz' of filters with a dt; got 'Hz' and dt=None"):
        system(3).frequency_response(f, unit="Hz")


def test_what_has_no_continuous_time_is_refused() -> None:
    alternating = TransferFunction(*coefficients(denominator([-0.5]), channels=1), 0.1)
    with pytest.raises(ArithmeticError, match=r"has the pole -0\.5.*bilinear"):
        d2c(alternating)
    assert d2c(alternating, method="bilinear").value.A.item() == pytest.approx(-2 / 0.1 * 1.5 / 0.5)
    delay = from_ba([0.0, 1.0], [1.0], dt=0.1)
    with pytest.raises(ArithmeticError, match=r"the pole 0.*delays.*minimal"):
        d2c(delay)
    at_minus_one = TransferFunction(*coefficients(denominator([-1.0]), channels=1), 0.1)
    with pytest.raises(ArithmeticError, match="z = -1 comes from infinity"):
        d2c(at_minus_one, method="bilinear")


def test_arguments_are_named() -> None:
    h = TransferFunction(*bank(2), 0.1)
    for dt in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="must be positive"):
            c2d(([1.0], [1.0, 1.0]), dt)
        with pytest.raises(ValueError, match="must be positive"):
            with_rate(h, dt)
    with pytest.raises(ValueError, match="no sampling interval"):
        d2c(system(2))
    with pytest.raises(ValueError, match="not proper: its numerator is of degree 2"):
        c2d(([1.0, 0.0, 0.0], [1.0, 1.0]), 0.1)
    with pytest.raises(ValueError, match="must not be zero"):
        c2d(([1.0], [0.0, 1.0]), 0.1)
    with pytest.raises(ValueError, match="half the sampling rate, 5 Hz, got 6"):
        c2d(([1.0], [1.0, 1.0]), 0.1, method="bilinear", prewarp_hz=6.0)
    with pytest.raises(ValueError, match="belongs to method='bilinear'"):
        c2d(([1.0], [1.0, 1.0]), 0.1, prewarp_hz=1.0)
    with pytest.raises(ValueError, match=r"\(0, 2\.5\].*got 3"):
        with_rate(h, 0.2, up_to_hz=3.0)


@pytest.mark.compile  # without the type-checking hook, which would speak first
@pytest.mark.parametrize("method", ["tustin", "foh"])
def test_other_rules_are_told_the_name_of_tustins(method) -> None:
    with pytest.raises(ValueError, match=rf"'bilinear' \(Tustin's\) or for c2d 'impulse', got '{method}'"):
        c2d(([1.0], [1.0, 1.0]), 0.1, method=method)


@pytest.mark.parametrize("form", ["to_tf", "to_ss", "to_zpk"])
def test_objects_of_scipy_are_sampled(form: str) -> None:
    system = getattr(scipy.signal.lti(NUM, DEN), form)()
    h, _ = c2d(system, 1e-3)
    same_filter(h, *to_ba(c2d((NUM, DEN), 1e-3).value))
    with pytest.raises(TypeError, match=r"discrete time already, dt=True: take from_state_space, from_dlti"):
        c2d(scipy.signal.dlti(NUM, DEN), 1e-3)
    with pytest.raises(TypeError, match=r"expected \(num, den\).*got int"):
        c2d(3, 1e-3)
