from __future__ import annotations

import math

import pytest
import torch

from transferfn.bench.constraints import Spread, at_combs, filters_of, spread, worst_of
from transferfn.bench.filters import comb
from transferfn.bench.maps import MAPS

EVERY_MAP = pytest.mark.parametrize("kind", MAPS, ids=lambda kind: kind.name)


@EVERY_MAP
@pytest.mark.parametrize("sign", [1, -1])
def test_every_map_starts_from_combs(kind, sign) -> None:
    a = comb(8, 64.0, sign=sign).a
    # The way there and back rounds each of 8 coefficients a few times, for sections by way of the poles.
    torch.testing.assert_close(kind.denominator(kind.parameters(a)), a, rtol=0, atol=1e-13)


@EVERY_MAP
def test_layers_learn_through_their_map(kind) -> None:
    layer = filters_of(kind, 3, 4, 32)
    layer(torch.ones(1, 20, 3)).sum().backward()
    (raw,) = (p for name, p in layer.named_parameters() if "denominator" in name)
    assert layer.system().a.dtype == torch.float64
    assert (raw.grad != 0).any()


def test_condition_and_stiffness_of_a_comb_are_those_of_the_closed_forms() -> None:
    found = {kind.name: at_combs(kind, 8) for kind in MAPS}
    k = math.exp(-8 / 512)
    assert found["none"]["stiffness, tau 512"] == pytest.approx((1 - k * k) ** -0.5, rel=1e-6)
    assert found["tanh reflection"]["stiffness, tau 512"] == pytest.approx(((1 + k) / (1 - k)) ** 0.5, rel=1e-6)
    for name in ("reflection", "tanh reflection"):
        assert found[name]["condition, tau 512"] == pytest.approx((1 + k) / (1 - k), rel=1e-6)
    # d a_n / d r_n is 1 - k^2, and the others 1 - k^2 times 1 +- k; without the scale, 1 +- k.
    for name, scale in (("reflection", 1 - k * k), ("tanh reflection", 1.0)):
        assert found[name]["largest, tau 512"] == pytest.approx(scale * (1 + k), rel=1e-6)
    assert found["reflection"]["smallest, tau 512"] == pytest.approx((1 - k * k) * (1 - k), rel=1e-6)
    assert found["none"]["largest, tau 512"] == found["none"]["smallest, tau 512"] == 1


def test_the_worst_of_several_are_their_extremes() -> None:
    assert worst_of([Spread(2, 5, 4, 2), Spread(3, 1, 9, 3)]) == Spread(3, 5, 9, 2)


def test_equal_sections_cannot_be_told_apart() -> None:
    sections = MAPS[-1]
    assert spread(sections, torch.zeros(1, 8))[0] > 1e15
