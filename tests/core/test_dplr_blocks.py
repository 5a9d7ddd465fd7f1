"""Diagonal plus low rank systems, block by block and by powers of the full matrices, against a loop of steps."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from laws.tolerance import relative_error
from transferfn.core import dplr_blocks
from transferfn.core.dplr import DPLR, DiscreteDPLR
from transferfn.core.dplr_blocks import ParallelDPLR

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


@pytest.fixture(params=["blocks", "powers"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the two ways to filter, whatever the size."""
    monkeypatch.setattr(dplr_blocks, "POWERS_PAY", 0 if request.param == "blocks" else N**2 + 1)


def assert_same(found: Tensor, expected: Tensor, leaves: tuple[Tensor, ...]) -> None:
    """In values and derivatives."""
    assert relative_error(found, expected) < 1e-13
    weight = torch.randn(found.shape, dtype=F64, generator=torch.Generator().manual_seed(1))
    grads = [
        torch.autograd.grad((weight * y).sum(), leaves, retain_graph=True, materialize_grads=True)
        for y in (found, expected)
    ]
    for one, other in zip(*grads, strict=True):
        assert (one - other).abs().max() <= 1e-12 * other.abs().max()


def ends_of(length: int) -> list[Tensor | None]:
    return [None, torch.tensor([length, length // 3])]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 3, 16, 61, 64])
@pytest.mark.parametrize("bounded", [False, True])
def test_states_that_inputs_lead_to(rank: int, length: int, bounded: bool) -> None:
    leaves = systems(rank)
    u = torch.randn(B, length, D, dtype=F64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    ends = ends_of(length)[bounded]
    found = ParallelDPLR(discrete(leaves)).reached(u, ends)
    assert_same(found, by_steps(discrete(leaves), u, ends), (u, *leaves))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("length", [1, 2, 3, 16, 61, 64])
def test_responses_to_an_impulse_and_to_a_state(rank: int, length: int) -> None:
    """And the state after them, where rows end."""
    leaves = systems(rank)
    draw = torch.randn(B, D, N // 2, 2, dtype=F64, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def stepped(state: Tensor, first: float) -> tuple[Tensor, list[Tensor]]:
        ys, states = [], [state]
        for t in range(length):
            u = torch.full((len(state), D), first if t == 0 else 0.0, dtype=F64)
            y, state = discrete(leaves).step(u, state)
            ys.append(y)
            states.append(state)
        return torch.stack(ys, 1), states

    system = ParallelDPLR(discrete(leaves))
    y, _ = stepped(torch.zeros(1, D, N // 2, 2, dtype=F64), 1.0)
    assert_same(system.kernel(length, F64), y[0].mT, leaves)
    y, states = stepped(draw, 0.0)
    assert_same(system.response(draw, length), y, (draw, *leaves))
    for ends in ends_of(length):
        after = [states[length if ends is None else int(ends[row])][row] for row in range(B)]
        assert_same(system.advanced(draw, length, ends), torch.stack(after), (draw, *leaves))


@pytest.mark.usefixtures("way")
def test_a_kernel_of_each_direction() -> None:
    system = discrete(systems(1))
    both = DiscreteDPLR(
        system.a, system.g, system.h, system.B, torch.stack((system.C, 2j * system.C)), system.D.expand(2, -1)
    )
    found = ParallelDPLR(both).kernel(20, F64)
    assert relative_error(found, both.dense().kernel(20, F64)) < 1e-13


@pytest.mark.usefixtures("way")
def test_narrow_signals_are_summed_in_the_type_of_the_system() -> None:
    system, u = ParallelDPLR(discrete(systems(1))), torch.randn(B, 500, D)
    found = system.reached(u, None)
    assert found.dtype == torch.float32
    assert torch.equal(found, system.reached(u.double(), None).float())
