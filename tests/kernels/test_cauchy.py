"""The native Cauchy sums against those in PyTorch's operations, which serve other devices."""

from __future__ import annotations

import math

import pytest
import torch

from transferfn.kernels import cauchy as native
from transferfn.ops import cauchy


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30)).detach())


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
@pytest.mark.parametrize(("channels", "modes", "points"), [(1, 1, 2), (3, 5, 17), (2, 8, 64), (5, 3, 100)])
def test_values_and_gradients(channels: int, modes: int, points: int, count: int) -> None:
    torch.manual_seed(0)
    real = torch.randn(channels, 2 * count, modes, dtype=torch.float64, requires_grad=True)
    poles = torch.complex(*torch.randn(2, channels, modes, dtype=torch.float64))
    size, decay = poles.abs().requires_grad_(), (-poles.real.abs()).requires_grad_()
    angles = torch.linspace(0, math.pi / 2, points, dtype=torch.float64)
    expected = cauchy._sums(real, size, decay, angles)
    g = torch.randn_like(expected)
    gradients = torch.autograd.grad(expected, (real, size, decay), g)
    assert error(native.sums(real, size, decay, angles), expected.detach()) < 1e-13
    for one, other in zip(native.gradients(g, real, size, decay, angles), gradients, strict=True):
        assert one.shape == other.shape
        assert error(one, other) < 1e-12


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    torch.manual_seed(0)
    real = torch.randn(33, 8, 16, dtype=torch.float64)
    size, decay = 1 + torch.rand(33, 16, dtype=torch.float64), -torch.rand(33, 16, dtype=torch.float64)
    angles = torch.linspace(0, math.pi / 2, 300, dtype=torch.float64)
    g = torch.randn(33, 4, 300, dtype=torch.complex128)
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            given = real, size, decay, angles
            found.append((native.sums(*given), *native.gradients(g, *given)))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(x, y) for x, y in zip(found[0], other, strict=True))


def test_second_derivatives_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    v = torch.randn(2, 2, 3, dtype=torch.complex128, requires_grad=True)
    poles = torch.complex(-torch.rand(2, 3, dtype=torch.float64) - 0.5, torch.randn(2, 3, dtype=torch.float64))
    angles = torch.linspace(0.1, 1.4, 5, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda v, p: cauchy.cauchy(v, p, angles), (v, poles.requires_grad_()))
