"""Discretization of diagonal systems, around zero, too."""

from __future__ import annotations

import cmath
from typing import Any

import mpmath
import pytest
import torch

from transferfn.core.discretize import bilinear, discretize, zero_order_hold

POINTS = [
    0j,
    1e-300 + 0j,
    1e-17j,
    -1e-9 + 1e-9j,
    1e-5j,
    -0.0999 + 0j,
    0.0999j,
    -0.1 + 0j,
    0.1001j,
    -3 + 1j,
    40j,
    -700 + 0j,
]


@pytest.mark.parametrize("z", POINTS, ids=str)
def test_zero_order_hold_is_exact(z: complex) -> None:
    """To 20 eps, values and derivatives by Lambda, which is z here as dt = 1."""
    Lambda = torch.tensor([z], dtype=torch.complex128, requires_grad=True)
    A, B = zero_order_hold(Lambda, torch.ones(1, dtype=torch.complex128), torch.ones((), dtype=torch.float64))
    (slope,) = torch.autograd.grad(B.real.sum(), Lambda)
    with mpmath.workdps(60):
        exact = mpmath.mpc(z)
        mean = mpmath.expm1(exact) / exact if z else mpmath.mpc(1)
        change = (mpmath.exp(exact) - mean) / exact if abs(z) > 1e-200 else mpmath.mpc(0.5)
        mean, change = complex(mean), complex(change)
    A, B = A.detach(), B.detach()
    assert abs(complex(A) - cmath.exp(z)) <= 20 * 2.3e-16 * abs(cmath.exp(z))
    assert abs(complex(B) - mean) <= 20 * 2.3e-16 * abs(mean)
    assert abs(complex(slope).conjugate() - change) <= 200 * 2.3e-16 * abs(change) + 1e-300


@pytest.mark.parametrize("method", ["zoh", "bilinear"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=["real", "complex"])
def test_against_matrices(method: Any, dtype: torch.dtype, generator: torch.Generator) -> None:
    """The definitions, with matrix functions."""
    draw = {"dtype": dtype, "generator": generator}
    Lambda, B = -torch.rand(2, 3, **draw), torch.randn(2, 3, **draw)
    dt = torch.tensor([0.3, 1.7], dtype=torch.float64)
    A_bar, B_bar = discretize(method, Lambda, B, dt)
    for d in range(2):
        A, one = torch.diag(Lambda[d]), torch.eye(3, dtype=dtype)
        if method == "zoh":
            both = torch.zeros(4, 4, dtype=dtype)
            both[:3, :3], both[:3, 3] = A * dt[d], B[d] * dt[d]
            both = torch.linalg.matrix_exp(both)
            expected, into = both[:3, :3], both[:3, 3]
        else:
            inverse = torch.linalg.inv(one - A * dt[d] / 2)
            expected, into = inverse @ (one + A * dt[d] / 2), dt[d] * inverse @ B[d]
        assert torch.allclose(torch.diag(A_bar[d]), expected, rtol=1e-13, atol=1e-13)
        assert torch.allclose(B_bar[d], into, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("method", [zero_order_hold, bilinear])
def test_gradients(method: Any) -> None:
    Lambda = torch.tensor([0.0 + 0j, 0.02 - 0.01j, -0.5 + 3j], dtype=torch.complex128, requires_grad=True)
    B = torch.tensor([1 + 1j, 2.0, -1j], dtype=torch.complex128, requires_grad=True)
    dt = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(method, (Lambda, B, dt))
    assert torch.autograd.gradgradcheck(method, (Lambda, B, dt))
