"""Lattices as state-space systems against the recurrence of rotations, with gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from transferfn.core.lattice_system import Lattice, LatticeSystem, rotate

F64 = torch.float64
CLOSE = 1e-13  # a few hundred rotations of states of order 1
ORDERS = pytest.mark.parametrize("order", [1, 2, 5, 8])
SCALES = pytest.mark.parametrize("scale", [0.5, 4.0])  # with the second one coefficients of float64 hold no such filter


def a_lattice(order: int, *, scale: float = 0.5, groups: int = 2, channels: int = 4) -> Lattice:
    generator = torch.Generator().manual_seed(order)
    draw = lambda *shape: torch.randn(*shape, dtype=F64, generator=generator)  # noqa: E731
    raw = scale * draw(groups, order)
    return Lattice(raw.tanh(), 1 / raw.cosh(), draw(channels, order), draw(channels))


def a_signal(length: int, channels: int = 4) -> Tensor:
    return torch.randn(2, length, channels, dtype=F64, generator=torch.Generator().manual_seed(length))


def by_rotations(given: Lattice, u: Tensor, x: Tensor, ends: Tensor | None = None, resets: Tensor | None = None):
    """Outputs, and the states after each sample and before the first."""
    k, c = (part.repeat_interleave(len(given.v) // len(part), 0) for part in (given.k, given.c))
    ys, xs = [], [x]
    for t, u_t in enumerate(u.unbind(1)):
        if resets is not None:
            x = torch.where(resets[:, t, None, None], 0, x)
        ys.append(given.h0 * u_t + (given.v * x).sum(-1))
        x = rotate(u_t, x, k, c)
        xs.append(x)
    all_states = torch.stack(xs, 1)
    last = all_states[:, -1] if ends is None else all_states[torch.arange(len(u)), ends]
    return torch.stack(ys, 1), last


def assert_same(given: Lattice, fast, slow) -> None:
    """Values, and gradients at angles, taps and feedthroughs."""
    results = []
    for function in (fast, slow):
        leaves = Lattice(*(x.clone().requires_grad_() for x in given[:4]))
        values = function(leaves)
        values = values if isinstance(values, tuple) else (values,)
        loss = sum((x * torch.sin(torch.arange(x.numel(), dtype=F64)).view_as(x)).sum() for x in values)
        gradients = torch.autograd.grad(loss, leaves[:4], allow_unused=True, materialize_grads=True)
        results.append([*values, *gradients])
    for found, expected in zip(*results, strict=True):
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= CLOSE * expected.abs().max().clamp_min(1)


@SCALES
@ORDERS
def test_rotations_keep_lengths(order: int, scale: float) -> None:
    """The next states and the output of an all-pass filter are as long as a sample and the states before it."""
    states = a_lattice(order, scale=scale).system().states
    into = torch.cat((states.A, states.B[..., None]), -1)[:, :order]
    assert torch.allclose(into @ into.mT, torch.eye(order, dtype=F64), atol=CLOSE)


@SCALES
@ORDERS
@pytest.mark.parametrize("length", [1, 2, 33])
def test_kernel(order: int, length: int, scale: float) -> None:
    pulse = torch.zeros(1, length, 4, dtype=F64)
    pulse[:, 0] = 1
    rest = torch.zeros(1, 4, order, dtype=F64)
    assert_same(
        a_lattice(order, scale=scale),
        lambda one: one.system().kernel(length, F64),
        lambda one: by_rotations(one, pulse, rest)[0][0].mT,
    )


@SCALES
@ORDERS
def test_states_and_what_they_drive(order: int, scale: float) -> None:
    u, x, ends = a_signal(40), torch.randn(2, 4, order, dtype=F64), torch.tensor([40, 7])
    given, silence, rest = a_lattice(order, scale=scale), torch.zeros(2, 40, 4, dtype=F64), torch.zeros_like(x)
    assert_same(given, lambda one: one.system().response(x, 40), lambda one: by_rotations(one, silence, x)[0])
    assert_same(given, lambda one: one.system().response(x, 1), lambda one: by_rotations(one, silence[:, :1], x)[0])
    for end in (None, ends):
        assert_same(
            given,
            lambda one, e=end: one.system().advanced(x, 40, e),
            lambda one, e=end: by_rotations(one, silence, x, e)[1],
        )
        assert_same(
            given, lambda one, e=end: one.system().reached(u, e), lambda one, e=end: by_rotations(one, u, rest, e)[1]
        )


@SCALES
@ORDERS
def test_steps_and_the_scan_with_resets(order: int, scale: float) -> None:
    u, x, ends = a_signal(40), torch.randn(2, 4, order, dtype=F64), torch.tensor([40, 7])
    resets = torch.rand(2, 40, generator=torch.Generator().manual_seed(1)) < 0.2
    given = a_lattice(order, scale=scale)
    assert_same(given, lambda one: one.system().step(u[:, 0], x), lambda one: first(by_rotations(one, u[:, :1], x)))
    for end in (None, ends):
        assert_same(
            given,
            lambda one, e=end: one.system().scan(u, x, e, resets),
            lambda one, e=end: by_rotations(one, u, x, e, resets),
        )


def first(found: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return found[0][:, 0], found[1]


@ORDERS
def test_coefficients_are_the_same_filter_where_they_hold_it(order: int) -> None:
    given = a_lattice(order)
    system, matrix = given.companion()
    assert torch.allclose(system.impulse_response(50), given.system().kernel(50, F64), atol=1e-12)
    assert matrix.shape == (4, order, order)


def test_banks_are_taken_apart() -> None:
    one, other = a_lattice(3), a_lattice(3, scale=0.3)
    both = Lattice(*(torch.stack(parts) for parts in zip(one[:4], other[:4], strict=True)), dt=0.1)
    assert one.banks() == [one]
    for bank, given in zip(both.banks(), (one, other), strict=True):
        assert bank.dt == 0.1
        assert isinstance(bank.system(), LatticeSystem)
        assert torch.equal(bank.system().kernel(9, F64), given.system().kernel(9, F64))
