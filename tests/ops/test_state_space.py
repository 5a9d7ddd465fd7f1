"""Filtering by state-space systems against the loop over time, with lengths and resets, in and out of transforms."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from core.states import F64, ROUNDING, SYSTEMS, D, a_signal, a_state, loop
from transferfn.ops.state_space import convolution_filter, scan_both_ways, state_space_filter, state_space_step

kinds = pytest.mark.parametrize("kind", SYSTEMS)
L = 17


def close(found: Tensor, expected: Tensor) -> bool:
    scale = ROUNDING * torch.finfo(found.dtype).eps * float(expected.abs().max().clamp_min(1))
    return found.shape == expected.shape and bool(((found - expected).abs() <= scale).all())


def bounds() -> tuple[Tensor, Tensor]:
    resets = torch.rand(3, L, generator=torch.Generator().manual_seed(4)) < 0.2
    return torch.tensor([L, 9, 0]), resets


@kinds
@pytest.mark.parametrize("dtype", [F64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("from_rest", [True, False], ids=["rest", "state"])
@pytest.mark.parametrize("limits", ["none", "lengths", "resets", "both"])
def test_against_the_loop(kind: str, limits: str, from_rest: bool, dtype: torch.dtype) -> None:
    system, u = SYSTEMS[kind](), a_signal(3, L)
    lengths, resets = bounds()
    lengths, resets = (
        (lengths if limits in ("lengths", "both") else None),
        (resets if limits in ("resets", "both") else None),
    )
    state = None if from_rest else a_state(system, 3)
    expected, there = loop(system, u, state, lengths, resets)
    narrow = None if state is None else state.to(dtype)
    y, after = state_space_filter(u.to(dtype), system, narrow, lengths=lengths, resets=resets)
    assert after is not None
    assert (y.dtype, after.dtype) == (dtype, dtype)
    assert close(y, expected.to(dtype))
    assert close(after, there.to(dtype))
    assert state_space_filter(u, system, state, lengths=lengths, resets=resets, return_state=False)[1] is None


@kinds
def test_function_transforms(kind: str) -> None:
    """Where values are hidden rows are not cut, yet the numbers are the same."""
    system, u, state = SYSTEMS[kind](), a_signal(3, L), None
    lengths, resets = bounds()
    state = a_state(system, 3)

    def run(u: Tensor) -> tuple[Tensor, Tensor]:
        y, after = state_space_filter(u, system, state, lengths=lengths, resets=resets)
        assert after is not None
        return (y**2).sum() + (after**2).sum(), y.detach()

    leaf = u.clone().requires_grad_()
    value, expected = run(leaf)
    value.backward()
    gradient, y = torch.func.grad(run, has_aux=True)(u)
    assert close(y, expected)
    assert close(gradient, leaf.grad)


@kinds
def test_both_ways(kind: str) -> None:
    """With two kernels, and with two scans where rows cannot be cut: the definition, piece by piece."""
    two, u = SYSTEMS[kind](outputs=2), a_signal(3, L)
    feedthrough = two.D * torch.tensor([[1.0], [0.0]], dtype=F64)
    causal, anticausal = (type(two)(two.A, two.B, two.C[k], feedthrough[k]) for k in range(2))
    lengths, resets = bounds()
    expected = torch.zeros_like(u)
    for row in range(3):
        end = int(lengths[row])
        begins = [0, *(t for t in range(1, end) if resets[row, t]), end] if end else []
        for begin, stop in itertools.pairwise(begins):
            piece = u[row : row + 1, begin:stop]
            back, _ = loop(anticausal, piece.flip(1))
            ahead = torch.cat((back.flip(1)[:, 1:], torch.zeros(1, 1, D, dtype=F64)), 1)
            expected[row, begin:stop] = (loop(causal, piece)[0] + ahead)[0]
    kernels = torch.stack((causal.kernel(L, F64), anticausal.kernel(L, F64)))
    assert close(convolution_filter(u, kernels, lengths=lengths, resets=resets), expected)
    assert close(scan_both_ways(u, causal, anticausal, lengths=lengths, resets=resets), expected)


@kinds
def test_nothing_to_filter(kind: str) -> None:
    system = SYSTEMS[kind]()
    state = a_state(system, 2)
    for given, expected in ((state, state), (None, torch.zeros_like(state))):
        y, after = state_space_filter(a_signal(2, 0), system, given)
        assert y.shape == (2, 0, D)
        assert after is not None
        assert torch.equal(after, expected)
    assert convolution_filter(a_signal(0, 5), system.kernel(5, F64), lengths=None, resets=None).shape == (0, 5, D)


@kinds
def test_narrow_signals_are_filtered_wide(kind: str) -> None:
    system, u = SYSTEMS[kind](), a_signal(2, L).bfloat16()
    y, after = state_space_filter(u, system)
    wide, there = state_space_filter(u.float(), system)
    assert torch.equal(y, wide.bfloat16())
    assert after is not None
    assert torch.equal(after, there)
    assert after.dtype == torch.float32
    y_t, after = state_space_step(u[:, 0], system, after)
    assert (y_t.dtype, after.dtype) == (torch.bfloat16, torch.float32)
