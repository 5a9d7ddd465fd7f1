from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from core.banks import F64, GRID, bank, banks, denominator, over_each_argument
from transferfn.bench import truth
from transferfn.core.polynomial import LARGEST_DIRECT, companion, monic, multiply, on_circle, roots, toeplitz

EPS = torch.finfo(F64).eps


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def test_monic_writes_out_the_one() -> None:
    assert monic(torch.tensor([[2.0, 3.0]])).tolist() == [[1.0, 2.0, 3.0]]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_toeplitz_is_its_definition(size: int, rows: int, columns: int) -> None:
    c = random(2, size)
    matrix = toeplitz(c, rows, columns)
    assert matrix.shape == (2, rows, columns)
    for i in range(rows):
        for j in range(columns):
            expected = c[:, i - j] if 0 <= i - j < size else torch.zeros(2, dtype=F64)
            assert torch.equal(matrix[:, i, j], expected)


@given(st.integers(1, 40), st.integers(1, 40))
def test_short_products_are_exact_to_rounding_in_each_coefficient(m: int, k: int) -> None:
    p, q = random(3, m), random(1, k, seed=1) * 10.0 ** torch.arange(k, dtype=F64)  # wildly different sizes
    bound = 2 * min(m, k) * EPS * multiply(p.abs(), q.abs())  # two sums of so many terms are compared
    for found, row, allowed in zip(multiply(p, q), p, bound, strict=True):
        assert (np.abs(found.numpy() - np.convolve(row, q[0])) <= allowed.numpy()).all()


def test_long_products_are_exact_to_rounding_of_the_largest() -> None:
    p, q = random(2, LARGEST_DIRECT // 64), random(2, 65, seed=1)
    for found, x, y in zip(multiply(p, q), p, q, strict=True):
        # An FFT errs by about eps log2(size) relative to the norms of what is multiplied.
        allowed = EPS * np.log2(len(x) + len(y)) * float(x.norm() * y.norm())
        assert np.abs(found.numpy() - np.convolve(x, y)).max() <= allowed


@pytest.mark.parametrize("sizes", [(7, 3), (3, 7), (LARGEST_DIRECT // 64, 65)], ids=str)
def test_what_is_kept_of_a_product_is_its_head(sizes: tuple[int, int]) -> None:
    p, q = random(2, sizes[0]), random(2, sizes[1], seed=1)
    whole = multiply(p, q)
    for keep in (1, 5, whole.shape[-1], whole.shape[-1] + 3):
        kept = multiply(p, q, keep=keep)
        assert kept.shape[-1] == min(keep, whole.shape[-1])
        assert_close(kept, whole[..., :keep], rtol=0, atol=100 * EPS * float(p.norm() * q.norm()))


@pytest.mark.parametrize("order", [0, 1, 2, 7])
def test_the_companion_matrix_has_the_denominator_as_characteristic_polynomial(order: int) -> None:
    _, a, _ = bank(order, leading=(3,))
    matrices = companion(a)
    assert matrices.shape == (3, 2, order, order)
    for matrix, row in zip(matrices.reshape(6, order, order), monic(a).reshape(6, order + 1), strict=True):
        found = torch.tensor(np.poly(matrix.numpy()) if order else np.ones(1))
        assert_close(found, row, rtol=0, atol=100 * EPS)


@given(st.integers(1, 8), st.integers(0, 9))
def test_on_circle_evaluates_the_polynomial(size: int, extra: int) -> None:
    points = size + extra
    z = np.exp(2j * np.pi * np.arange(points // 2 + 1) / points)
    c = random(2, size)
    expected = torch.tensor(np.array([sum(x * z**-i for i, x in enumerate(row)) for row in c.numpy()]))
    assert_close(on_circle(c, points), expected, rtol=0, atol=10 * size * EPS * float(c.abs().max()))


@pytest.mark.parametrize("name", [name for name in GRID if "n64" not in name])
def test_roots_are_as_near_to_the_truth_as_they_say(name: str) -> None:
    """mpmath finds the roots of the very coefficients; each of ours lies within its radius of one."""
    a = GRID[name]().a[0]
    found, radius = roots(a)
    expected = truth.mpmath().polyroots([1, *truth.exact(a)], maxsteps=500, extraprec=2000)
    for z, r in zip(found.tolist(), radius.tolist(), strict=True):
        assert min(abs(z - x) for x in expected) <= r


@pytest.mark.parametrize("order", [64, 256])
@pytest.mark.parametrize("sign", [1, -1])
def test_roots_of_a_comb_too(order: int, sign: int) -> None:
    """Its coefficients hardly move its roots, finding them as eigenvalues does."""
    a = torch.zeros(order, dtype=F64)
    a[-1] = sign * 0.99
    found, radius = roots(a)
    angles = (torch.arange(order, dtype=F64) + (0.5 if sign > 0 else 0.0)) * 2 * torch.pi / order
    expected = torch.polar(torch.full_like(angles, 0.99 ** (1 / order)), angles)
    assert ((found[:, None] - expected).abs().amin(-1) <= radius).all()
    assert radius.max() < 1e-13


@given(banks(largest=1.2), st.integers(0, 99))
def test_rounding_moves_no_root_beyond_its_radius(coefficients, seed: int) -> None:
    _, a, _ = coefficients
    noise = torch.rand(a.shape, dtype=F64, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    before, radius = roots(a, rounding=1e-7)
    after, _ = roots(a * (1 + 1e-7 * noise))
    moved = (before[..., :, None] - after[..., None, :]).abs().amin(-1)
    assert (moved <= 2 * radius).all()  # twice: what is near is near in first order


def test_a_cluster_is_given_the_radius_of_its_multiplicity() -> None:
    for k in (2, 4, 8):
        _, radius = roots(denominator([0.5] * k))
        assert (radius > 0.05 * EPS ** (1 / k)).all()
    _, radius = roots(denominator([0.5, -0.5]))
    assert (radius < 10 * EPS).all()


def test_huge_roots_overflow_nothing() -> None:
    z, radius = roots(denominator([1e150, -1e100, 0.5]))
    assert z.isfinite().all()
    assert_close(z.abs().amax(), torch.tensor(1e150, dtype=F64))
    assert not radius.isnan().any()


def test_derivatives() -> None:
    p, q = random(2, 4).requires_grad_(), random(2, 3, seed=1).requires_grad_()
    assert gradcheck(multiply, (p, q))
    assert gradgradcheck(multiply, (p, q))
    for function in (monic, companion, lambda c: on_circle(c, 7), lambda c: toeplitz(c, 5, 3)):
        assert gradcheck(function, (p,))


def test_vmap() -> None:
    over_each_argument(multiply, (random(4), random(3, seed=1)))
    over_each_argument(lambda c: on_circle(c, 7).abs(), (random(4),))
    over_each_argument(companion, (random(4),))
