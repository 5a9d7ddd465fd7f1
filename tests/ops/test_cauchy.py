"""Cauchy sums over conjugate pairs against the sum as it is written, and the kernels made of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from core.states import F64, D, N, dplr
from transferfn.core.dplr import DPLR, output_modes, output_row, truncate
from transferfn.ops import cauchy as module
from transferfn.ops.cauchy import cauchy
from transferfn.ops.generating import generated_kernel


def naive(v: Tensor, poles: Tensor, angles: Tensor) -> Tensor:
    """Pair by pair and point by point."""
    found = []
    for phi in angles.tolist():
        at = 1j * math.sin(phi) - poles * math.cos(phi)
        conjugate = 1j * math.sin(phi) - poles.conj() * math.cos(phi)
        found.append((v / at[:, None] + v.conj() / conjugate[:, None]).sum(-1))
    return torch.stack(found, -1)


@pytest.fixture
def given(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    draw = {"dtype": F64, "generator": generator}
    poles = torch.complex(-0.1 - torch.rand(D, N, **draw), torch.randn(D, N, **draw))
    v = torch.view_as_complex(torch.randn(D, 5, N, 2, **draw))
    return v, poles, torch.linspace(0, math.pi / 2, 13, dtype=F64)


@pytest.fixture(params=["at once", "in groups"])
def groups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "in groups":
        monkeypatch.setattr(module, "ROOM", 3 * D * N)
    return request.param


def test_values_and_gradients(given: tuple[Tensor, Tensor, Tensor], groups: Any) -> None:
    v, poles, angles = given
    results = []
    for function in (cauchy, naive):
        leaves = v.clone().requires_grad_(), poles.clone().requires_grad_()
        found = function(*leaves, angles)
        weights = torch.randn(found.shape, dtype=found.dtype, generator=torch.Generator().manual_seed(1))
        results.append((found, *torch.autograd.grad((found * weights).real.sum(), leaves)))
    for x, y in zip(*results, strict=True):
        # The nearest pole is 0.1 from a point, so that gradients of order 100 lose as many eps.
        assert (x - y).abs().max() <= 1e-13 * y.abs().max()


def test_second_derivatives(given: tuple[Tensor, Tensor, Tensor], groups: Any) -> None:
    v, poles, angles = given
    leaves = v[:1, :1].clone().requires_grad_(), poles[:1].clone().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda v, poles: cauchy(v, poles, angles), leaves)


def test_function_transforms(given: tuple[Tensor, Tensor, Tensor], groups: Any) -> None:
    v, poles, angles = given

    def size(poles: Tensor) -> Tensor:
        return cauchy(v, poles, angles).abs().sum()

    expected = torch.autograd.grad(size(leaf := poles.clone().requires_grad_()), leaf)[0]
    assert torch.allclose(torch.func.grad(size)(poles), expected, rtol=1e-12)


def test_memory_is_that_of_the_sums(given: tuple[Tensor, Tensor, Tensor]) -> None:
    v, poles, _ = given
    angles = torch.linspace(0, 1.5, 100_000, dtype=F64)
    sizes = []
    v.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        found = cauchy(v, poles, angles)
    assert sum(sizes) <= 4 * angles.numel()
    found.abs().sum().backward()
    assert v.grad is not None


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("horizon", [1, 2, 31, 32, 33])
@pytest.mark.parametrize("outputs", [0, 2])
def test_generated_kernel(horizon: int, rank: int, outputs: int) -> None:
    """The generating function gives the samples of the recurrence, and the gradients of every parameter."""
    system, C, feedthrough = dplr(rank=rank, outputs=outputs)
    results = []
    for fast in (True, False):
        leaves = [x.clone().requires_grad_() for x in (system.Lambda, system.P, system.B, system.dt, C)]
        one = DPLR(*leaves[:4])
        discrete = one.bilinear(leaves[4], 0 * feedthrough)
        if fast:
            row = truncate(output_row(leaves[4]), discrete.matrix(), horizon)
            k = generated_kernel(one, output_modes(row), horizon)
        else:
            k = discrete.dense().kernel(horizon, F64)
        weights = torch.randn(k.shape, dtype=F64, generator=torch.Generator().manual_seed(1))
        results.append((k, *torch.autograd.grad((k * weights).sum(), leaves)))
    for x, y in zip(*results, strict=True):
        assert x.shape == y.shape
        assert (x - y).abs().max() <= 1e-11 * y.abs().max()
