from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from transferfn.analysis import hankel
from transferfn.analysis.balanced import response_of
from transferfn.bench import filters


def kernel(length: int) -> torch.Tensor:
    return filters.STABLE["reflections-n16"]().impulse_response(length)[0]


def test_the_matrix_is_scipys() -> None:
    h = kernel(9)
    np.testing.assert_array_equal(hankel.hankel_matrix(h, 8).numpy(), scipy.linalg.hankel(h[1:]))
    np.testing.assert_array_equal(hankel.hankel_matrix(h, 4).numpy(), scipy.linalg.hankel(h[1:5], h[4:8]))


def test_the_leading_values_alone_are_the_leading_ones() -> None:
    h = kernel(700)
    values, system = hankel.truncate_response(h, 8)
    whole, all_of_it = hankel.truncate_response(h)
    assert len(values) == 8
    assert len(whole) == 699
    torch.testing.assert_close(values, whole[:8], rtol=1e-10, atol=0)
    torch.testing.assert_close(response_of(system, 50), response_of(_first(all_of_it, 8), 50), rtol=0, atol=1e-9)


@pytest.mark.parametrize("order", [2, 5, 12])
def test_a_truncated_response_is_stable_and_within_its_bound(order: int) -> None:
    h = kernel(200)
    values, system = hankel.truncate_response(h)
    small = _first(system, order)
    assert float(torch.linalg.eigvals(small.a).abs().max()) < 1
    found = response_of(small, 4000)
    difference = found.clone()
    difference[:200] -= h
    peak = torch.fft.rfft(difference, 1 << 14).abs().max()
    assert float(peak) <= 2 * float(values[order:].sum())
    assert float(peak) >= float(values[order])  # no system of that order comes nearer: Adamjan, Arov, Krein


def test_all_states_reproduce_the_response() -> None:
    h = kernel(40)
    _, system = hankel.truncate_response(h)
    torch.testing.assert_close(response_of(system, 60), torch.nn.functional.pad(h, (0, 20)), rtol=0, atol=1e-12)


def test_poles_are_read_from_one_and_from_several_responses() -> None:
    t = torch.arange(60, dtype=torch.float64)
    poles = torch.tensor([0.95, -0.6, 0.3])
    responses = torch.stack([sum(c * p**t for c, p in zip(row, poles.tolist(), strict=True)) for row in WEIGHTS])
    for h in (responses[:1], responses):
        found = hankel.shift_poles(h, 3)
        assert float(found.imag.abs().max()) < 1e-9
        np.testing.assert_allclose(np.sort(found.real), np.sort(poles), atol=1e-7)


def test_too_many_poles_are_refused() -> None:
    with pytest.raises(ValueError, match="less than 5, got order=5"):
        hankel.shift_poles(torch.ones(1, 10), 5)


WEIGHTS = ((1.0, 2.0, -1.0), (0.5, -1.0, 3.0))


def _first(system, order: int):
    return system._replace(a=system.a[:order, :order], b=system.b[:order], c=system.c[:order])
