"""Kernels, states and outputs of modal and dense systems against the loop over time, with gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from core.states import F64, ROUNDING, SYSTEMS, D, N, a_signal, a_state, leaves, loop, tensors
from transferfn.core.blocks import by_blocks, split

kinds = pytest.mark.parametrize("kind", SYSTEMS)
lengths = pytest.mark.parametrize("length", [1, 2, 3, 31, 32, 33, 61])


def assert_close(found: Tensor, expected: Tensor, rounding: float = ROUNDING) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    scale = expected.abs().max().clamp_min(1)
    assert (found - expected).abs().max() <= rounding * torch.finfo(found.dtype).eps * scale


def assert_same(system: Any, inputs: list[Tensor], fast: Any, slow: Any) -> None:
    """Values and all gradients of two functions of a system and tensors."""
    results = []
    for function in (fast, slow):
        one, given = leaves(system), [x.clone().requires_grad_() for x in inputs]
        values = function(one, *given)
        values = values if isinstance(values, tuple) else (values,)
        weights = torch.Generator().manual_seed(3)
        loss = sum((x * torch.randn(x.shape, generator=weights, dtype=x.dtype)).sum() for x in values)
        gradients = torch.autograd.grad(loss, [*tensors(one), *given], allow_unused=True, materialize_grads=True)
        results.append([*values, *gradients])
    for found, expected in zip(*results, strict=True):
        assert_close(found, expected)


@kinds
@lengths
def test_kernel(kind: str, length: int) -> None:
    pulse = torch.zeros(1, length, D, dtype=F64)
    pulse[0, 0] = 1
    assert_same(SYSTEMS[kind](), [], lambda s: s.kernel(length, F64), lambda s: loop(s, pulse)[0][0].mT)


@kinds
def test_several_outputs(kind: str) -> None:
    system = SYSTEMS[kind](outputs=2)
    found = system.kernel(9, F64)
    for k in range(2):
        one = type(system)(system.A, system.B, system.C[k], system.D[k])
        assert_close(found[k], one.kernel(9, F64))


@kinds
def test_a_kernel_is_rounded_once(kind: str) -> None:
    """Powers are taken in float64, whatever the type of the result."""
    system = SYSTEMS[kind]()
    found, expected = system.kernel(61, torch.float32), system.kernel(61, F64)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() <= 20 * torch.finfo(torch.float32).eps * expected.abs().max()


@kinds
@lengths
def test_response_to_a_state(kind: str, length: int) -> None:
    system = SYSTEMS[kind]()
    silence = torch.zeros(2, length, D, dtype=F64)
    assert_same(system, [a_state(system, 2)], lambda s, x: s.response(x, length), lambda s, x: loop(s, silence, x)[0])


ENDS = [None, (0, 1, 61), (5, 60, 32)]


@kinds
@pytest.mark.parametrize("ends", ENDS, ids=str)
def test_advanced(kind: str, ends: tuple[int, ...] | None) -> None:
    system, at = SYSTEMS[kind](), None if ends is None else torch.tensor(ends)
    silence = torch.zeros(3, 61, D, dtype=F64)
    assert_same(
        system, [a_state(system, 3)], lambda s, x: s.advanced(x, 61, at), lambda s, x: loop(s, silence, x, at)[1]
    )


@kinds
@lengths
def test_reached(kind: str, length: int) -> None:
    assert_same(SYSTEMS[kind](), [a_signal(2, length)], lambda s, u: s.reached(u, None), lambda s, u: loop(s, u)[1])


@kinds
@pytest.mark.parametrize("ends", ENDS[1:], ids=str)
def test_reached_at_lengths(kind: str, ends: tuple[int, ...]) -> None:
    at = torch.tensor(ends)
    assert_same(SYSTEMS[kind](), [a_signal(3, 61)], lambda s, u: s.reached(u, at), lambda s, u: loop(s, u, None, at)[1])


@kinds
@pytest.mark.parametrize("length", [1, 2, 13, 16, 17])
@pytest.mark.parametrize("bounded", [False, True], ids=["whole", "bounded"])
def test_scan(kind: str, length: int, bounded: bool) -> None:
    system = SYSTEMS[kind]()
    resets = torch.rand(3, length, generator=torch.Generator().manual_seed(4)) < 0.2
    at = torch.tensor([length, length // 2, 0]) if bounded else None
    u = a_signal(3, length)
    if at is not None:
        u[torch.arange(length) >= at[:, None]] = 0

    def slow(s: Any, u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return loop(s, u, x, at, resets)

    def fast(s: Any, u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        y, after = s.scan(u, x, at, resets)
        return (y if at is None else torch.where((torch.arange(length) < at[:, None])[..., None], y, 0)), after

    assert_same(system, [u, a_state(system, 3)], fast, slow)


@kinds
def test_step(kind: str) -> None:
    system = SYSTEMS[kind]()
    u = a_signal(2, 1)
    assert_same(
        system,
        [u, a_state(system, 2)],
        lambda s, u, x: s.step(u[:, 0], x),
        lambda s, u, x: (loop(s, u, x)[0][:, 0], loop(s, u, x)[1]),
    )


def test_nothing_of_size_d_n_l_is_kept() -> None:
    """What a kernel and a state save for their gradients is no larger than the signal, padded."""
    system, sizes = SYSTEMS["complex"](), []
    one = leaves(system)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        one.kernel(4096, F64)
        one.reached(a_signal(1, 4096), None)
    assert 0 < max(sizes) <= 2 * D * 4096 < D * N * 4096


def test_blocks() -> None:
    u = torch.arange(1.0, 6.0)[None, :, None]
    assert by_blocks(u, None, 2).tolist() == [[[[5, 4], [3, 2], [1, 0]]]]
    assert by_blocks(u, torch.tensor([3]), 2).tolist() == [[[[3, 2], [1, 0], [0, 0]]]]
    assert all(split(n) ** 2 >= n / 2 and split(n) ** 2 <= 2 * n for n in range(1, 3000))
