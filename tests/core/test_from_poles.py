from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from transferfn.core import TransferFunction
from transferfn.core.from_poles import from_poles


def modes(n: int, dt: float, length: int) -> tuple[Tensor, Tensor]:
    """Poles and response of S4D-Lin: n states at a step size."""
    continuous = -0.5 + 1j * torch.pi * torch.arange(n // 2, dtype=torch.float64)
    poles = torch.exp(continuous * dt)
    torch.manual_seed(0)
    C = torch.randn(n // 2, dtype=torch.complex128)
    powers = poles ** torch.arange(length, dtype=torch.float64)[:, None]
    return torch.cat((poles, poles.conj()))[None], 2 * (powers @ (C * (poles - 1) / continuous)).real[None]


@pytest.mark.parametrize(("n", "dt"), [(2, 0.1), (8, 0.1), (64, 0.1), (64, 0.3)])
def test_filters_that_coefficients_hold(n: int, dt: float) -> None:
    poles, response = modes(n, dt, 1000)
    system, error = from_poles(poles, response)
    assert float(error) < 1e-10
    assert system.order == n
    found = system.impulse_response(1000)
    assert float((found - response).abs().max() / response.abs().max()) == pytest.approx(float(error), abs=1e-15)


@pytest.mark.parametrize(("n", "dt"), [(16, 0.01), (8, 0.001)])
def test_filters_that_they_do_not_hold_are_refused(n: int, dt: float) -> None:
    """The limits that exact conversion has in float64."""
    with pytest.raises(
        ArithmeticError, match=rf"coefficients do not hold 1 of 1 filters.*{n} poles.*keep the modal form"
    ):
        from_poles(*modes(n, dt, 1000))


def test_the_tolerance_is_the_callers() -> None:
    poles, response = modes(64, 1.0, 1000)
    _, error = from_poles(poles, response)
    with pytest.raises(ArithmeticError, match="1e-09 was asked for"):
        from_poles(poles, response, tolerance=1e-9)
    assert 1e-9 < float(error) < 1e-3


def test_equal_poles_and_real_ones() -> None:
    """1 / (1 - z^-1 / 2)^3, whose response is (t + 1) (t + 2) / 2 over 2^t."""
    t = torch.arange(40, dtype=torch.float64)
    response = ((t + 1) * (t + 2) / 2 / 2**t)[None]
    system, error = from_poles(torch.full((1, 3), 0.5 + 0j), response)
    assert torch.allclose(system.a, torch.tensor(np.poly([0.5] * 3)[1:]))
    assert float(error) < 1e-14


def test_channels_are_independent() -> None:
    one, two = modes(8, 0.1, 300), modes(8, 0.4, 300)
    both, error = from_poles(*(torch.cat(pair) for pair in zip(one, two, strict=True)))
    for k, (poles, response) in enumerate((one, two)):
        alone, _ = from_poles(poles, response)
        assert torch.equal(both.a[k], alone.a[0])
        assert torch.equal(both.b[k], alone.b[0])
    assert error.shape == (2,)


def test_coordinates_do_not_matter() -> None:
    """Two realizations of one system have the same coefficients."""
    torch.manual_seed(0)
    A = 0.3 * torch.randn(6, 6, dtype=torch.float64)
    B, C = torch.randn(6, 1, dtype=torch.float64), torch.randn(1, 6, dtype=torch.float64)
    T = torch.randn(6, 6, dtype=torch.float64)
    systems: list[TransferFunction] = []
    for state, inward, outward in ((A, B, C), (T @ A @ T.inverse(), T @ B, C @ T.inverse())):
        powers = [torch.linalg.matrix_power(state, k) for k in range(30)]
        response = torch.stack([torch.zeros(()).double(), *((outward @ power @ inward).squeeze() for power in powers)])
        systems.append(from_poles(torch.linalg.eigvals(state)[None], response[None])[0])
    assert torch.allclose(systems[0].a, systems[1].a, rtol=0, atol=1e-11)
    assert torch.allclose(systems[0].b, systems[1].b, rtol=0, atol=1e-10)


def test_a_response_that_is_too_short() -> None:
    with pytest.raises(ValueError, match="2 poles need a response of at least 3 samples, got 2"):
        from_poles(torch.zeros(1, 2) + 0j, torch.zeros(1, 2))


@pytest.mark.parametrize(("n", "dt", "length"), [(10, 0.01, 30), (8, 0.001, 12), (6, 0.001, 100)])
def test_filters_that_rounding_makes_unstable_are_refused(n: int, dt: float, length: int) -> None:
    """However well their responses agree at the beginning."""
    with pytest.raises(ArithmeticError, match=rf"rounded to float64 they are unstable.*the largest of {n} poles"):
        from_poles(*modes(n, dt, length))


def test_unstable_filters_convert() -> None:
    t = torch.arange(30, dtype=torch.float64)
    system, error = from_poles(torch.tensor([[1.25 + 0j]]), (1.25**t)[None])
    assert float(error) < 1e-14
    assert system.a.item() == -1.25
