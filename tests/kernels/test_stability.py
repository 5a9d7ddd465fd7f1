from __future__ import annotations

import pytest
import torch

from transferfn.core.kernel import recursive_response
from transferfn.core.lattice import lattice_denominator, step_up
from transferfn.core.stability import schur_cohn
from transferfn.kernels.stability import noise_gain, seem_stable


@pytest.mark.parametrize("order", [0, 1, 2, 5, 33])
def test_the_noise_gain_is_the_energy_of_the_response(order: int, generator: torch.Generator) -> None:
    raw = 0.4 * torch.randn(3, order, dtype=torch.float64, generator=generator)
    a = lattice_denominator(raw) if order else raw
    energy = recursive_response(a, 30_000).square().sum(-1)
    expected = float(((1 + a.abs().sum(-1)) * energy.sqrt()).max())
    assert noise_gain(a) == pytest.approx(expected, rel=1e-9)
    assert noise_gain(a.float()) == pytest.approx(expected, rel=1e-4)


def test_the_noise_gain_is_that_of_the_worst_stable_denominator() -> None:
    a = torch.tensor([[-0.6], [-0.8], [-1.0], [1.5], [float("nan")]], dtype=torch.float64)
    assert noise_gain(a) == pytest.approx(1.8 / 0.6)
    assert noise_gain(a[2:]) == noise_gain(a[:0]) == 0


@pytest.mark.parametrize("order", [1, 4, 64])
def test_what_seems_stable_is_not_certainly_unstable(order: int) -> None:
    """The quick look and the verdict with its bound on rounding, from far inside to far outside."""
    generator = torch.Generator().manual_seed(order)
    for spread in (0.05, 0.2, 0.5):
        for scale in (0.5, 1.0, 1.02):
            a = step_up(torch.tanh(spread * torch.randn(16, order, dtype=torch.float64, generator=generator)))
            a = a * scale ** torch.arange(1, order + 1)  # poles move out or in by a factor
            inside, outside = schur_cohn(a)
            assert seem_stable(a) is not bool(outside.any()) or not bool((inside | outside).all())
            for row, is_inside, is_outside in zip(a, inside, outside, strict=True):
                if is_inside or is_outside:
                    assert seem_stable(row[None]) is bool(is_inside)


def test_not_a_number_does_not_seem_stable() -> None:
    assert not seem_stable(torch.tensor([[torch.nan, 0.1]]))
