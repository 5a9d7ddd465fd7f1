"""States of diagonal plus low rank systems, block by block, against powers of the full matrices and a loop of steps."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from laws.tolerance import relative_error
from transferfn.core.dplr import DPLR, DiscreteDPLR
from transferfn.core.dplr_blocks import reached

D, N, B, F64 = 3, 6, 2, torch.float64


def systems(rank: int) -> tuple[Tensor, ...]:
    """Leaves of stable systems: Lambda, P and B as pairs, and step sizes."""
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(rank), dtype=F64)
    Lambda = torch.stack((-draw(D, N // 2).exp(), 3 * draw(D, N // 2)), -1)
    leaves = Lambda, draw(D, rank, N // 2, 2), draw(D, N // 2, 2), (0.5 * draw(D)).exp() * 0.1
    return tuple(x.requires_grad_() for x in leaves)


def discrete(leaves: tuple[Tensor, ...]) -> DiscreteDPLR:
    Lambda, P, b = (torch.view_as_complex(x) for x in leaves[:3])
    return DPLR(Lambda, P, b, leaves[3]).bilinear(b, leaves[3])


def by_steps(system: DiscreteDPLR, u: Tensor, ends: Tensor | None) -> Tensor:
    rows = []
    for row, x in enumerate(u):
        state = torch.zeros(1, D, N // 2, 2, dtype=u.dtype)
        for u_t in x[: None if ends is None else ends[row]]:
            _, state = system.step(u_t[None], state)
        rows.append(state)
    return torch.cat(rows)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 3, 16, 61, 64])
@pytest.mark.parametrize("bounded", [False, True])
def test_values_and_derivatives(rank: int, length: int, bounded: bool) -> None:
    leaves = systems(rank)
    u = torch.randn(B, length, D, dtype=F64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    ends = torch.tensor([length, length // 3]) if bounded else None
    found, expected = reached(discrete(leaves), u, ends), by_steps(discrete(leaves), u, ends)
    assert relative_error(found, expected) < 1e-13
    assert relative_error(discrete(leaves).dense().reached(u, ends), expected) < 1e-13
    weight = torch.randn(found.shape, dtype=F64, generator=torch.Generator().manual_seed(1))
    for one, other in zip(
        torch.autograd.grad((weight * found).sum(), (u, *leaves)),
        torch.autograd.grad((weight * expected).sum(), (u, *leaves)),
        strict=True,
    ):
        assert relative_error(one, other) < 1e-12


def test_narrow_signals_are_summed_in_the_type_of_the_system() -> None:
    system, u = discrete(systems(1)), torch.randn(B, 500, D)
    found = reached(system, u, None)
    assert found.dtype == torch.float32
    assert torch.equal(found, reached(system, u.double(), None).float())
