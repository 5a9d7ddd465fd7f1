from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.banks import F32, F64, GRID, banks, denominator, over_each_argument
from transferfn.bench import truth
from transferfn.core import spectral_radius, stability
from transferfn.core.constrain import reflection, reflection_parameters
from transferfn.core.init import resonators
from transferfn.core.polynomial import multiply
from transferfn.core.stability import LARGEST_EIGEN, _radius_by_bisection, schur_cohn, winding


def true_radius(a: torch.Tensor) -> float:
    """From the roots of the very coefficients, in mpmath."""
    roots = truth.mpmath().polyroots([1, *truth.exact(a)], maxsteps=500, extraprec=2000)
    return float(max(abs(z) for z in roots))


@pytest.mark.parametrize("name", [name for name in GRID if "n64" not in name])
def test_the_verdict_and_the_radius_are_true(name: str) -> None:
    a = GRID[name]().a
    verdict, radius = stability(a), true_radius(a[0])
    # At kappa = 3e14 it takes but 16 eps in each coefficient to carry a pole over the circle.
    expected = "undecided" if name == "butterworth-n8-0.01" else "stable" if radius < 1 else "unstable"
    assert verdict.verdict == expected
    assert abs(float(verdict.radius) - radius) <= float(verdict.uncertainty)
    assert float(verdict.margin) == 1 - float(verdict.radius)
    assert float(spectral_radius(a)) == float(verdict.radius)


@settings(max_examples=25)
@given(banks(largest=1.3))
def test_no_verdict_is_wrong(coefficients) -> None:
    """Whatever the poles, clusters on the circle included: certainty is right, and doubt is rare."""
    a = coefficients[1]
    verdict = stability(a)
    assert not (verdict.stable & verdict.unstable).any()
    for row, stable, unstable in zip(a, verdict.stable, verdict.unstable, strict=True):
        radius = true_radius(row) if row.any() else 0.0
        assert not stable or radius < 1
        assert not unstable or radius >= 1
        assert stable or unstable or abs(radius - 1) < 0.05


@pytest.mark.parametrize(
    "poles", [[1.0], [-1.0], [1.0, 1.0], [1j, -1j], [1.0, 0.5], [0.999999999999999, -1.0]], ids=str
)
def test_on_the_circle_it_does_not_know(poles: list[complex]) -> None:
    verdict = stability(denominator(poles))
    assert verdict.verdict == "undecided"
    assert not verdict.stable.any()
    assert not verdict.unstable.any()
    assert "undecided" in repr(verdict)


@pytest.mark.parametrize("last", [1.0, -1.0, 1 - 2**-53, 2**-53 - 1, 1 + 2**-52])
@pytest.mark.parametrize("order", [1, 64, LARGEST_EIGEN + 1, 1024])
def test_on_the_circle_it_does_not_know_at_any_order(last: float, order: int) -> None:
    a = torch.zeros(1, order, dtype=F64)
    a[0, -1] = last
    verdict = stability(a)
    assert verdict.verdict == "undecided"
    assert abs(float(verdict.radius) - 1) <= float(verdict.uncertainty)


@pytest.mark.parametrize("order", [3, LARGEST_EIGEN + 1])
def test_what_is_not_finite_is_not_judged(order: int) -> None:
    a = torch.full((2, order), torch.nan, dtype=F64)
    verdict = stability(a)
    assert not (verdict.stable | verdict.unstable).any()


@pytest.mark.parametrize(("distance", "expected"), [(1e-12, "stable"), (-1e-12, "unstable")])
@pytest.mark.parametrize("order", [1, 4, 64, LARGEST_EIGEN + 1])
def test_it_knows_next_to_the_circle(distance: float, expected: str, order: int) -> None:
    a = torch.zeros(1, order, dtype=F64)
    a[0, -1] = (1 - distance) ** order
    verdict = stability(a)
    assert verdict.verdict == expected
    assert abs(float(verdict.radius) - (1 - distance)) <= float(verdict.uncertainty) + 1e-15


@pytest.mark.parametrize("order", [1, 2, 5, 16, 64])
@pytest.mark.parametrize("spread", [0.1, 0.5])
def test_eigenvalues_and_bisection_agree(order: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(order)
    a = spread * torch.randn(5, order, dtype=F64, generator=generator)
    verdict = stability(a)
    low, high = _radius_by_bisection(a)
    assert (low <= verdict.radius + verdict.uncertainty).all()
    assert (high >= verdict.radius - verdict.uncertainty).all()
    if order <= 16:  # beyond, rounding stops the step-down recursion before the bracket is narrow
        assert (high - low <= 1e-6).all()
    inside, outside = schur_cohn(a)
    assert not (inside & verdict.unstable).any()
    assert not (outside & verdict.stable).any()
    assert (inside | outside).all() or order > 16


@pytest.mark.parametrize("order", [LARGEST_EIGEN + 1, 400])
def test_large_orders_are_bracketed(order: int) -> None:
    for radius in (0.9, 1.01):
        a = torch.zeros(2, order, dtype=F64)
        a[:, -1] = radius**order
        a[1, -1] *= -1
        verdict = stability(a)
        assert verdict.verdict == ("stable" if radius < 1 else "unstable")
        assert (abs(verdict.radius - radius) <= verdict.uncertainty + 1e-12).all()  # the power above is rounded
        assert (verdict.uncertainty <= 1e-6).all()


@settings(max_examples=25)
@given(banks(largest=1.3))
def test_winding_tells_what_the_poles_tell(coefficients) -> None:
    a = coefficients[1]
    for row, inside, outside in zip(a, *winding(a), strict=True):
        distances = np.abs(np.abs(np.roots([1, *row.tolist()])) - 1)
        radius = true_radius(row) if row.any() else 0.0
        assert not inside or radius < 1
        assert not outside or radius >= 1
        # Each pole takes its distance away from |A|, and more than one of them near the circle all together.
        assert inside or outside or distances.min() < 0.02 or np.prod(np.minimum(distances, 1)) < 1e-3


@pytest.mark.parametrize(("order", "poles"), [(900, 1.00001), (1024, 0.999999), (1024, 1.0001)])
def test_large_orders_are_judged_where_rounding_stops_the_step_down_recursion(order: int, poles: float) -> None:
    """Resonators that have learned for a while, and a pair of poles that nothing but the pair can hide."""
    generator = torch.Generator().manual_seed(order)
    _, a, _ = resonators(1, order - 2, horizon=4 * order, denominator_groups=1, generator=generator)
    raw = reflection_parameters(a)
    learned = reflection(0.9 * raw + 0.02 * torch.randn(raw.shape, dtype=F64, generator=generator))
    assert not any(bool(x) for x in schur_cohn(learned))
    alone = stability(learned)
    assert alone.verdict == "stable"
    assert float(alone.uncertainty) < 1e-3
    pair = torch.tensor([[1.0, -2 * poles * np.cos(1.0), poles**2]], dtype=F64)
    verdict = stability(multiply(torch.cat((torch.ones(1, 1, dtype=F64), learned), -1), pair)[:, 1:])
    assert verdict.verdict == ("stable" if poles < 1 else "unstable")
    expected = max(poles, float(alone.radius))
    assert abs(float(verdict.radius) - expected) <= float(verdict.uncertainty + alone.uncertainty)


@given(st.lists(st.floats(-0.99, 0.99), min_size=1, max_size=8))
def test_reflection_coefficients_inside_one_are_inside(k: list[float]) -> None:
    """Step-up is the inverse of the test; close to 1 rounding may leave it undecided, never outside."""
    a = torch.zeros(0, dtype=F64)
    for x in k:
        a = torch.cat((a + x * a.flip(0), a.new_tensor([x])))
    inside, outside = schur_cohn(a[None])
    assert not outside.any()
    assert inside.all() or min(1 - abs(x) for x in k) < 0.1
    outer = torch.cat((a + 1.01 * a.flip(0), a.new_tensor([1.01])))
    inside, outside = schur_cohn(outer[None])
    assert outside.all()
    assert not inside.any()


def test_a_bank_is_judged_row_by_row() -> None:
    a = denominator([0.5, 0.9], [0.5, 1.1], [0.5, 1.0], [0.2, 0.3]).reshape(2, 2, 2)
    verdict = stability(a.requires_grad_())
    assert verdict.stable.tolist() == [[True, False], [False, True]]
    assert verdict.unstable.tolist() == [[False, True], [False, False]]
    assert verdict.verdict == "unstable"
    assert not verdict.radius.requires_grad
    assert np.allclose(verdict.radius, [[0.9, 1.1], [1.0, 0.3]], rtol=0, atol=1e-12)


def test_float32_coefficients_are_judged_as_they_are() -> None:
    """Exactly, in float64: rounding may have carried a pole over the circle."""
    a = GRID["butterworth-n8-0.05"]().a
    assert stability(a).verdict == "stable"
    rounded = a.to(F32)
    assert stability(rounded).radius.dtype == F64
    assert stability(rounded).verdict == stability(rounded.double()).verdict == "unstable"


def test_no_poles_are_stable() -> None:
    verdict = stability(torch.zeros(2, 0))
    assert verdict.verdict == "stable"
    assert (verdict.radius == 0).all()
    assert stability(torch.zeros(1, 3)).verdict == "stable"


def test_vmap() -> None:
    a = denominator([0.5, 0.9], [0.5, 1.1], [0.5, 1.0])
    over_each_argument(lambda row: torch.stack(schur_cohn(row[None])).double(), (a[1],))
