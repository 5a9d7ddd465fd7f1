"""Diagonal plus low rank systems against their definition with full matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from core.states import F64, D, N, a_signal, a_state, dplr, loop
from transferfn.core.dplr import DPLR, output_modes, output_row, side_by_side, truncate, untruncate

ranks = pytest.mark.parametrize("rank", [1, 2])


def full(system: DPLR) -> tuple[Tensor, Tensor]:
    """A and B over all modes and their conjugates, as the paper writes them."""
    Lambda, B = (torch.cat((x, x.conj()), -1) for x in (system.Lambda, system.B))
    P = torch.cat((system.P, system.P.conj()), -1)
    return torch.diag_embed(Lambda) - P.mT @ P.conj(), B


def by_definition(system: DPLR) -> tuple[Tensor, Tensor]:
    A, B = full(system)
    one, half = torch.eye(2 * N, dtype=A.dtype), system.dt[:, None, None] / 2
    inverse = torch.linalg.inv(one - half * A)
    return inverse @ (one + half * A), 2 * half[..., 0] * (inverse @ B[..., None])[..., 0]


@ranks
def test_bilinear(rank: int) -> None:
    """What is diagonal plus low rank, in real numbers, is the matrix of the definition."""
    system, C, feedthrough = dplr(rank=rank)
    A, B = by_definition(system)
    found = system.bilinear(C, feedthrough)
    # The real coordinates of (x, conj(x)): one column a stored mode's real part, one its imaginary part.
    unit = torch.eye(N, dtype=torch.complex128)
    basis = torch.stack((torch.cat((unit, unit)), torch.cat((1j * unit, -1j * unit))), -1).flatten(1)
    assert torch.allclose(torch.linalg.solve(basis, A @ basis).real, found.matrix(), rtol=1e-12, atol=1e-12)
    assert torch.allclose(found.B, B[:, :N], rtol=1e-12, atol=1e-12)


@ranks
def test_a_step_is_that_of_the_matrix(rank: int) -> None:
    system, C, feedthrough = dplr(rank=rank)
    discrete = system.bilinear(C, feedthrough)
    u = a_signal(2, 1)
    state = a_state(discrete.dense(), 2)
    y, after = discrete.step(u[:, 0], state)
    expected, there = loop(discrete.dense(), u, state)
    assert torch.allclose(y, expected[:, 0], rtol=1e-13, atol=1e-13)
    assert torch.allclose(after, there, rtol=1e-13, atol=1e-13)


def test_steps_do_not_drift() -> None:
    """A hundred steps of the low rank form stay with the matrix, to 1e-12."""
    system, C, feedthrough = dplr()
    discrete, u = system.bilinear(C, feedthrough), a_signal(1, 100)
    state = a_state(discrete.dense(), 1)
    expected, there = loop(discrete.dense(), u, state)
    for t in range(100):
        y, state = discrete.step(u[:, t], state)
        assert torch.allclose(y, expected[:, t], rtol=1e-12, atol=1e-12)
    assert torch.allclose(state, there, rtol=1e-12, atol=1e-12)


def test_real_and_complex_outputs(generator: torch.Generator) -> None:
    C = torch.randn(2, D, N, dtype=torch.complex128, generator=generator)
    x = torch.randn(D, N, dtype=torch.complex128, generator=generator)
    assert torch.allclose((output_row(C) * side_by_side(x)).sum(-1), 2 * (C * x).sum(-1).real)
    assert torch.equal(output_modes(output_row(C)), C)


@pytest.mark.parametrize("outputs", [0, 2])
@pytest.mark.parametrize("horizon", [1, 20, 33])
def test_truncation(horizon: int, outputs: int) -> None:
    """c~ = c (I - A^P) is what the first P samples add up to, and leads back."""
    system, C, feedthrough = dplr(outputs=outputs)
    A, row = system.bilinear(C, feedthrough).matrix(), output_row(C)
    found = truncate(row, A, horizon)
    if not outputs:
        expected = torch.stack([row[d] - row[d] @ torch.linalg.matrix_power(A[d], horizon) for d in range(D)])
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
    else:
        assert torch.allclose(found[1], truncate(row[1], A, horizon), rtol=1e-12, atol=1e-12)
    assert found.shape == row.shape
    assert torch.allclose(untruncate(found, A, horizon), row, rtol=1e-9, atol=1e-9)


def test_gradients() -> None:
    system, C, feedthrough = dplr(rank=2)
    given = [x.clone().requires_grad_() for x in (system.Lambda, system.P, system.B, system.dt, C)]

    def response(Lambda: Tensor, P: Tensor, B: Tensor, dt: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        discrete = DPLR(Lambda, P, B, dt).bilinear(C, feedthrough)
        row = untruncate(output_row(C), discrete.matrix(), 7)
        return discrete.step(torch.ones(1, D, dtype=F64), torch.ones(1, D, N, 2, dtype=F64))[0], row

    assert torch.autograd.gradcheck(response, given)
