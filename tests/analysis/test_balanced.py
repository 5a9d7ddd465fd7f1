from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from transferfn.analysis import balanced
from transferfn.bench import filters
from transferfn.core.polynomial import companion, roots

BENIGN = ["montel-n4", "reflections-n16", "butterworth-n4-0.2", "butterworth-n8-0.2", "comb-n64"]


def realized(name: str) -> tuple[balanced.StateSpace, torch.Tensor, torch.Tensor]:
    h = filters.STABLE[name]()
    poles = roots(h.a)[0][0]
    response = h.impulse_response(balanced.samples_to_read(poles))[0]
    return balanced.realize_orthonormal(poles, response), response, h.a[0]


@pytest.mark.parametrize("name", BENIGN)
def test_states_are_orthonormal_and_the_response_is_kept(name: str) -> None:
    system, response, _ = realized(name)
    gramian = system.a @ system.a.mT + torch.outer(system.b, system.b)
    torch.testing.assert_close(gramian, torch.eye(len(system.b), dtype=torch.float64), rtol=0, atol=1e-14)
    error = (balanced.response_of(system, len(response)) - response).norm() / response.norm()
    assert error < 1e-10


def test_poles_are_those_given() -> None:
    given = torch.tensor([0.9, -0.5, 0.3 + 0.8j, 0.3 - 0.8j], dtype=torch.complex128)
    a, _ = balanced.orthonormal_states(given)
    found = torch.linalg.eigvals(a)
    assert all(float((found - p).abs().min()) < 1e-14 for p in given)


@pytest.mark.parametrize("name", ["montel-n4", "reflections-n16", "butterworth-n4-0.2"])
def test_hankel_singular_values_are_those_of_the_companion_form(name: str) -> None:
    system, _, denominator = realized(name)
    found = torch.linalg.svdvals(balanced.observability_factor(system.a, system.c))
    n = len(denominator)
    a = companion(denominator).numpy()
    first = np.eye(n)[:, :1]
    h = filters.STABLE[name]()
    c = h.b.numpy()
    p = scipy.linalg.solve_discrete_lyapunov(a, first @ first.T)
    q = scipy.linalg.solve_discrete_lyapunov(a.T, c.T @ c)
    expected = np.sort(np.sqrt(np.linalg.eigvals(p @ q).real))[::-1]
    np.testing.assert_allclose(
        found.numpy(), expected, rtol=1e-5
    )  # squares of values 1e-3 of the largest lose 6 digits


def test_small_singular_values_keep_their_digits() -> None:
    """The factor is summed, not its square: a pole that hardly shows has its own value, far below sqrt(eps)."""
    poles = torch.tensor([0.5, 0.9], dtype=torch.complex128)
    t = torch.arange(1024, dtype=torch.float64)
    for size in (1e-3, 1e-9, 1e-11):
        response = 0.9**t + size * 0.5**t
        system = balanced.realize_orthonormal(poles, response)
        values = torch.linalg.svdvals(balanced.observability_factor(system.a, system.c))
        # of h_t = sum_i c_i p_i^t, t > 0, the product of both is det(c) det(Gramian of the powers)
        c = torch.tensor([0.9, 0.5 * size], dtype=torch.float64).prod()
        p = poles.real
        gramian = 1 / (1 - p[:, None] * p)
        expected = c * torch.linalg.det(gramian)
        # the response itself holds the small part to eps / size
        assert float(values.prod() / expected - 1) == pytest.approx(0, abs=20 * torch.finfo(torch.float64).eps / size)
