from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import signal

from transferfn.core import TransferFunction
from transferfn.core.constrain import step_up
from transferfn.core.forms import lattice, modes, refined_poles, second_order_sections
from transferfn.core.lattice_system import companion_to_lattice

F64 = torch.float64


def from_scipy(b, a) -> TransferFunction:
    b, a = (torch.as_tensor(np.asarray(x, dtype=float)) for x in (b, a))
    return TransferFunction((b - b[0] * a)[None, 1:], a[None, 1:], b[:1])


def bank(order: int, groups: int = 2, channels: int = 4, *, seed: int = 0) -> TransferFunction:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, dtype=F64, generator=generator)  # noqa: E731
    return TransferFunction(draw(channels, order), step_up(torch.tanh(0.4 * draw(groups, order))), draw(channels))


def response_of_sections(sections: torch.Tensor, length: int) -> torch.Tensor:
    impulse = np.eye(1, length)[0]
    return torch.as_tensor(np.stack([signal.sosfilt(sos, impulse) for sos in sections.numpy()]))


ORDERS = pytest.mark.parametrize("order", [1, 2, 3, 4, 7, 8])


@ORDERS
def test_every_form_is_the_same_filter(order: int) -> None:
    h = bank(order)
    truth = h.impulse_response(200)
    allowed = 100 * torch.finfo(F64).eps * float(h.conditioning(4096).max()) * float(truth.abs().max())
    assert (response_of_sections(second_order_sections(h), 200) - truth).abs().max() <= allowed
    assert (modes(h).kernel(200, F64) - truth).abs().max() <= allowed
    k, c, v = lattice(h)
    a, matrix = companion_to_lattice(k, c)
    matrix = matrix.repeat_interleave(2, 0)
    found = TransferFunction((v[:, None] @ matrix)[:, 0], a, h.h0)
    assert (found.impulse_response(200) - truth).abs().max() <= allowed


def test_lattice_states_have_the_variance_of_white_noise() -> None:
    """The states of a normalised lattice are orthonormal: M P M^T = 1, with P the covariance of the companion state."""
    h = bank(5, 1, 1)
    k, c, _ = lattice(h)
    _, matrix = companion_to_lattice(k, c)
    g = TransferFunction(-h.a, h.a, torch.ones(1, dtype=F64)).impulse_response(4000)[0]
    covariance = torch.stack([torch.dot(g[: 4000 - i], g[i:]) for i in range(5)])
    lags = (torch.arange(5)[:, None] - torch.arange(5)).abs()
    found = matrix[0] @ covariance[lags] @ matrix[0].T
    torch.testing.assert_close(found, torch.eye(5, dtype=F64), rtol=0, atol=1e-10)


def test_sections_are_those_of_scipy_for_a_design() -> None:
    """The same poles in the same order; gains are spread otherwise."""
    z, p, k = signal.ellip(6, 1, 60, 0.2, output="zpk")
    found = second_order_sections(from_scipy(*signal.zpk2tf(z, p, k)))[0]
    expected = torch.as_tensor(signal.zpk2sos(z, p, k))
    torch.testing.assert_close(found[:, 4:], expected[:, 4:], rtol=0, atol=1e-9)
    directions = [x[:, :3] / x[:, :3].norm(dim=1, keepdim=True) for x in (found, expected)]
    torch.testing.assert_close(*directions, rtol=0, atol=1e-6)


def test_partial_cascades_have_a_gain_of_1() -> None:
    sections = second_order_sections(from_scipy(*signal.butter(6, 0.1)))[0]
    ratio = np.fft.rfft(sections[:, :3], 8192) / np.fft.rfft(sections[:, 3:], 8192)
    np.testing.assert_allclose(np.abs(np.cumprod(ratio, 0)).max(-1), 1, rtol=1e-9)


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_pure_delays_survive_in_sections(delay: int) -> None:
    b, a = np.array([0.0] * delay + [2.0, -1.0])[:4], np.array([1.0, -0.5, 0.25, -0.1])
    b = np.pad(b, (0, 4 - len(b)))
    found = response_of_sections(second_order_sections(from_scipy(b, a)), 50)[0]
    np.testing.assert_allclose(found, signal.lfilter(b, a, np.eye(1, 50)[0]), rtol=0, atol=1e-14)


def test_a_silent_channel_is_silent() -> None:
    h = TransferFunction(torch.zeros(1, 3, dtype=F64), torch.full((1, 3), 0.1, dtype=F64), torch.zeros(1, dtype=F64))
    assert not response_of_sections(second_order_sections(h), 20).any()
    assert not modes(h).kernel(20, F64).any()
    assert not lattice(h)[2].any()


def test_roots_of_clusters_are_those_that_the_coefficients_say() -> None:
    """Multiplied out again in extended precision they give the coefficients back, which the eigenvalues do not."""
    a = signal.butter(16, 0.2)[1]
    poles, reals = refined_poles(a[1:])
    assert reals == 0
    assert np.array_equal(poles[:8], poles[8:].conj())
    rebuilt = np.poly(poles)
    eigenvalues = np.poly(np.roots(a))
    wide = np.finfo(np.longdouble).eps < np.finfo(float).eps
    error = np.abs(rebuilt - a).max() / np.abs(a).max()
    assert error < (1e-17 if wide else 1e-13)
    assert error < np.abs(eigenvalues - a).max() / np.abs(a).max()


def test_real_and_zero_roots_are_told_from_pairs() -> None:
    poles, reals = refined_poles(np.poly([0, 0, 0.5, -0.25, 0.5 + 0.25j, 0.5 - 0.25j]).real[1:])
    assert reals == 4
    np.testing.assert_allclose(np.sort(poles[:4].real.astype(float)), [-0.25, 0, 0, 0.5], atol=1e-15)
    assert not poles[:4].imag.any()


def test_what_a_form_does_not_hold_is_refused() -> None:
    delay = TransferFunction(torch.ones(1, 2, dtype=F64), torch.zeros(1, 2, dtype=F64), torch.ones(1, dtype=F64))
    with pytest.raises(ArithmeticError, match="2 of 2 poles are 0"):
        modes(delay)
    unstable = TransferFunction(*(torch.tensor(x, dtype=F64) for x in ([[1.0]], [[-1.1]], [1.0])))
    with pytest.raises(ArithmeticError, match="1 of 1 denominators are not stable"):
        lattice(unstable)
