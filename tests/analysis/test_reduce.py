from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.signal
import torch

from transferfn.analysis.reduce import reduce
from transferfn.bench import filters
from transferfn.core import TransferFunction, c2d, stack
from transferfn.core.polynomial import companion
from transferfn.interop.arrays import from_ba

CERTAIN = [name for name, build in filters.STABLE.items() if bool(build().stability().stable.all())]


def bank() -> TransferFunction:
    """Four filters with two denominators: order 16, and the same mirrored in frequency."""
    h = filters.STABLE["reflections-n16"]()
    signs = (-1.0) ** torch.arange(1, 17, dtype=torch.float64)
    a = torch.cat((h.a, h.a * signs))
    b = torch.randn(4, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return TransferFunction(b, a, torch.tensor([0.0, 1.0, 0.5, -1.0], dtype=torch.float64), dt=0.5)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("name", CERTAIN)
def test_the_error_is_within_its_bound(name: str, share: float) -> None:
    h = filters.STABLE[name]()
    order = max(1, int(share * h.order))
    found = reduce(h, order=order)
    assert found.system.order == order
    assert bool(found.system.stability().stable.all())
    rounding = 2.3e-16 * float(h.conditioning(1 << 14).max())
    assert float(found.peak_error) <= float(found.bound) + 100 * rounding
    # no filter of that order comes nearer than the first value left out
    peak = float(h.frequency_response(torch.linspace(0, np.pi, 4000)).abs().max())
    assert float(found.peak_error) >= 0.99 * float(found.hankel[0, order]) / peak - 100 * rounding


@pytest.mark.parametrize("name", ["montel-n4", "butterworth-n4-0.2", "reflections-n16"])
def test_it_is_balanced_truncation_of_the_companion_form(name: str) -> None:
    h = filters.STABLE[name]()
    order = h.order // 2
    a, first, c = companion(h.a[0]).numpy(), np.eye(h.order)[:, :1], h.b.numpy()
    p = scipy.linalg.solve_discrete_lyapunov(a, first @ first.T)
    q = scipy.linalg.solve_discrete_lyapunov(a.T, c.T @ c)
    left, right = np.linalg.cholesky(p), np.linalg.cholesky(q)
    u, values, v = np.linalg.svd(right.T @ left)
    to, back = v[:order] / np.sqrt(values[:order, None]), u[:, :order] / np.sqrt(values[:order])
    a_r, b_r, c_r = back.T @ right.T @ a @ left @ to.T, back.T @ right.T @ first, c @ left @ to.T
    expected = [h.h0.item()] + [(c_r @ np.linalg.matrix_power(a_r, t) @ b_r).item() for t in range(60)]
    found = reduce(h, order=order).system.impulse_response(61)[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("method", ["balanced", "hankel"])
@pytest.mark.parametrize("tolerance", [0.1, 1e-3])
def test_the_tolerance_is_kept_with_the_lowest_order(method, tolerance: float) -> None:
    h = bank()
    found = reduce(h, tolerance=tolerance, method=method)
    assert bool((found.peak_error <= found.bound + 1e-12).all())
    assert bool((found.bound <= tolerance).all())
    assert found.system.dt == 0.5
    peaks = h.frequency_response(torch.linspace(0, np.pi, 4000)).abs().amax(-1)
    for channel, order in enumerate(found.orders.tolist()):
        if order > 1:  # one state less, and the bound is beyond the tolerance
            bound = 2 * found.hankel[channel, order - 1 :].sum() / peaks[channel]
            assert float(bound) > 0.99 * tolerance


def test_each_channel_gets_its_own_denominator_and_order() -> None:
    h = bank()
    found = reduce(h, order=6)
    assert found.system.denominator_groups == 4
    assert not torch.allclose(found.system.a[0], found.system.a[1])
    alone = reduce(TransferFunction(h.b[3:], h.a[1:], h.h0[3:]), order=6)
    torch.testing.assert_close(
        found.system.impulse_response(50)[3:], alone.system.impulse_response(50), atol=1e-9, rtol=0
    )


def test_the_measured_error_of_responses_is_right() -> None:
    h = bank()
    found = reduce(h, order=5)
    before, after = (x.impulse_response(found.length) for x in (h, found.system))
    torch.testing.assert_close(found.error, (after - before).norm(dim=-1) / before.norm(dim=-1))
    omega = torch.linspace(0, np.pi, 20_000, dtype=torch.float64)
    peak = (h.frequency_response(omega) - found.system.frequency_response(omega)).abs().amax(-1)
    peak = peak / h.frequency_response(omega).abs().amax(-1)
    torch.testing.assert_close(found.peak_error, peak, rtol=0.02, atol=0)


def test_cancelled_poles_are_taken_out() -> None:
    """A filter of order 2 written with order 6: four poles under zeros."""
    small = filters.STABLE["butterworth-n2-0.2"]()
    ones = torch.ones(1, dtype=torch.float64)
    extra = filters.STABLE["montel-n4"]()
    same = TransferFunction(torch.zeros_like(extra.b), extra.a, ones)  # A / A
    found = reduce(small * same, order=6)
    assert found.orders.tolist() == [2]
    torch.testing.assert_close(found.system.a, small.a, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.system.b, small.b, rtol=0, atol=1e-9)


def test_float32_filters_are_reduced_in_float64() -> None:
    found = reduce(bank().to(dtype=torch.float32), order=4)
    assert found.system.a.dtype == torch.float64


ELLIPTIC = from_ba(*scipy.signal.ellip(6, 1, 40, 0.2))
UNSTABLE = {
    "integrator": (from_ba([0, 1], [1, -1]), ELLIPTIC, 1),
    "double integrator": (from_ba([0, 0, 1], [1, -2, 1]), from_ba(*scipy.signal.butter(4, 0.3)), 2),
    "oscillator": (from_ba([0, 1], np.poly(np.exp([0.3j, -0.3j])).real), ELLIPTIC, 2),
    "growth": (from_ba([0, 0.1], [1, -1.05]), ELLIPTIC, 1),
}


@pytest.mark.parametrize("method", ["balanced", "hankel"])
@pytest.mark.parametrize("name", UNSTABLE)
def test_the_stable_part_of_an_unstable_filter_is_reduced(name: str, method) -> None:
    """What is lost is what the stable part alone loses; beside a stable filter nothing changes for that one."""
    outer, stable, poles = UNSTABLE[name]
    h = outer + stable  # these are the parts
    order = stable.order - 1
    found, alone = reduce(h, order=order + poles, method=method), reduce(stable, order=order, method=method)
    assert (found.unstable.tolist(), found.orders.tolist()) == ([poles], [order + poles])
    torch.testing.assert_close(found.hankel[:, : stable.order], alone.hankel, rtol=1e-3, atol=1e-6)
    length = found.length
    change = found.system.impulse_response(length) - h.impulse_response(length)
    expected = alone.system.impulse_response(length) - stable.impulse_response(length)
    torch.testing.assert_close(change, expected, rtol=0, atol=1e-4 * float(h.impulse_response(length).abs().max()))
    assert float(found.peak_error) <= float(found.bound) + 1e-6
    radius = float(found.system.stability().radius)
    assert radius == pytest.approx(float(outer.stability().radius), abs=1e-5)
    both = reduce(stack([stable, h]), order=order + poles if poles == 1 else order, method=method)
    assert both.unstable.tolist() == [0, poles]
    assert bool(both.system.stability().stable[0])


def test_a_series_of_both_is_reduced_too() -> None:
    """A sampled plant on an unstable axis with fast stable modes."""
    plant = c2d(([1.0], np.poly([3.1, -3.1, -20, -50 + 200j, -50 - 200j]).real), 0.01).value
    found = reduce(plant, tolerance=1e-3)
    assert found.system.order < plant.order == 5
    assert float(found.error) < 1e-4
    assert found.unstable.tolist() == [1]
    assert found.system.dt == 0.01


@pytest.mark.parametrize("inside", [[0.9999, 0.9997], [1 - 1e-7]], ids=["inexact", "cancelling"])
def test_poles_too_close_to_the_circle_are_not_split_off(inside: list[float]) -> None:
    with pytest.raises(ValueError, match=r"cannot be told from the other 1: split into.*times as large.*stabilize\(\)"):
        reduce(from_ba([0, 1.0], np.poly([1.0, *inside])), tolerance=0.01)


def test_refusals_name_the_cause_and_a_way_out() -> None:
    h = bank()
    unstable = TransferFunction(h.b, h.a.index_fill(1, torch.tensor([15]), 1.5), h.h0)
    with pytest.raises(ValueError, match=r"4 of 4 channels.*pole radius up to.*so that order=2 leaves.*stabilize\(\)"):
        reduce(unstable, order=2)
    with pytest.raises(ValueError, match=r"1 of 1 channels.*up to 1\.2\): no pole is certainly inside.*stabilize\(\)"):
        reduce(from_ba([0, 1], np.poly([1.2, 1.1])), order=1)
    with pytest.raises(ValueError, match="the order or the tolerance, one of them"):
        reduce(h)
    with pytest.raises(ValueError, match="one of them"):
        reduce(h, order=2, tolerance=0.1)
    with pytest.raises(ValueError, match="at most that of the filters, 16, got order=17"):
        reduce(h, order=17)
    with pytest.raises(ValueError, match="positive share"):
        reduce(h, tolerance=0.0)
    with pytest.raises(ValueError, match="one bank"):
        reduce(TransferFunction(h.b[None], h.a[None], h.h0[None]), order=2)
