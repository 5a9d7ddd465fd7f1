"""Sampling of ill-scaled systems against 80 digits: coefficients in powers of 1e7 rad/s are no worse than others."""

from __future__ import annotations

import functools
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.signal
import torch

from transferfn.core import c2d, continuous, from_state_space
from transferfn.core.polynomial import roots

LENGTH = 120
Coefficients = tuple[Any, Any]


def lowpass(order: int, hertz: float) -> Coefficients:
    _, p, k = scipy.signal.butter(order, 2 * np.pi * hertz, analog=True, output="zpk")
    return [k], np.poly(p).real


# Name: (num, den), sampling interval. Their coefficients spread over up to 54 decades.
SYSTEMS: dict[str, tuple[Coefficients, float]] = {
    "an amplifier": (([1e5], np.poly([-2 * np.pi * 10, -2 * np.pi * 3e6, -2 * np.pi * 2e7])), 1e-6),
    "a low-pass of 1 MHz": (lowpass(8, 1e6), 1e-7),
    "a room": ((np.poly([-1e-4]), np.poly([-1e-5, -3e-4, -2e-2])), 60.0),
    "a motor": (([0.01], [5e-6, 1.5e-6, 1.001e-4, 0.0]), 1e-4),
    "a fast and a slow pole": (([1e9, 1.0], np.poly([-1.0, -1e3, -1e6])), 1e-3),
}


@functools.cache
def true_response(name: str, method: str) -> np.ndarray:
    """Impulse response of the sampled system, the coefficients taken as they are."""
    system, dt = SYSTEMS[name]
    with mpmath.workdps(80):
        num, den = ([mpmath.mpf(float(x)) for x in part] for part in system)
        n, dt = len(den) - 1, mpmath.mpf(dt)
        num = [mpmath.mpf(0)] * (n + 1 - len(num)) + num
        num, den = ([x / den[0] for x in part] for part in (num, den))
        A, B, C = mpmath.zeros(n), mpmath.zeros(n, 1), mpmath.zeros(1, n)
        B[0], D = dt, num[0]
        for j in range(n):
            A[0, j], C[j] = -den[j + 1] * dt, num[j + 1] - D * den[j + 1]
            if j:
                A[j, j - 1] = dt
        one = mpmath.eye(n)
        if method == "bilinear":
            Q = (one - A / 2) ** -1
            A, B, C, D = Q * (one + A / 2), Q * B, C * Q, D + (C * Q * B)[0] / 2
        elif method == "impulse":
            A = mpmath.expm(A)
            B, D = A * B, (C * B)[0]
        else:
            whole = mpmath.zeros(n + 1)
            whole[:n, :n], whole[:n, n] = A, B
            whole = mpmath.expm(whole)
            A, B = whole[:n, :n], whole[:n, n]
        response = [D]
        for _ in range(LENGTH - 1):
            response.append((C * B)[0])
            B = A * B
        return np.array([float(x) for x in response])


def off_by(found: torch.Tensor, truth: np.ndarray) -> float:
    return float(np.abs(found.numpy() - truth).max() / np.abs(truth).max())


@pytest.mark.parametrize("form", ["coefficients", "matrices"])
@pytest.mark.parametrize("method", ["zoh", "bilinear", "impulse"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_sampling_is_that_of_eighty_digits(name: str, method, form: str) -> None:
    system, dt = SYSTEMS[name]
    given = system if form == "coefficients" else scipy.signal.tf2ss(*system)
    converted = c2d(given, dt, method=method)
    h, error = converted
    off = off_by(h.impulse_response(LENGTH)[0], true_response(name, method))
    assert off < 1e-11 + 2 * float(error)  # what is lost beyond 1e-11 is told
    # As far as rounding the coefficients of the result moves a pole, in every sample: the motor's are near each other.
    assert float(error) < converted.length * float(roots(h.a)[1].max())


def test_balancing_is_what_holds_them(monkeypatch) -> None:
    """Without it the exponential of the matrices loses the low-pass of 1 MHz, and the rest would not tell."""
    system, dt = SYSTEMS["a low-pass of 1 MHz"]
    truth, matrices = true_response("a low-pass of 1 MHz", "zoh"), scipy.signal.tf2ss(*system)
    assert off_by(c2d(matrices, dt).value.impulse_response(LENGTH)[0], truth) < 1e-11
    monkeypatch.setattr(continuous, "_balanced", lambda system: system)
    assert off_by(c2d(matrices, dt).value.impulse_response(LENGTH)[0], truth) > 1


def test_numbers_of_python_are_not_rounded_to_float32() -> None:
    h = c2d(([1.0], [1.0, 0.3]), 0.1).value
    assert float(h.a) == pytest.approx(-np.exp(-0.03), rel=1e-15)
    assert float(from_state_space([[0.3]], [[0.1]], [[1.0]], [[0.7]]).value.a) == -0.3
    backwards = np.array([2.0, 1.0])[::-1]  # strides that PyTorch does not have
    assert float(c2d(([1.0], backwards), 0.1).value.a) == pytest.approx(-np.exp(-0.2), rel=1e-15)
