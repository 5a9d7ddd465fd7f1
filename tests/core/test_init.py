from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.banks import F64
from transferfn.core import aliased_kernel, impulse_response, init, stability
from transferfn.core.lattice import step_up
from transferfn.core.lattice_system import Lattice
from transferfn.core.polynomial import companion

EVERY = [init.resonators, init.comb, init.bands, init.zeros, init.xavier, init.montel]
every = pytest.mark.parametrize("function", EVERY, ids=lambda f: f.__name__)
every_numerator = pytest.mark.parametrize("numerator", get_args(init.NumeratorKind))


def draw(function, channels=8, order=4, horizon=100, groups=4, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return function(channels, order, horizon=horizon, denominator_groups=groups, generator=generator, **options)


@every
@pytest.mark.parametrize(("channels", "groups"), [(8, 8), (8, 2), (6, 1), (1, 1)])
@pytest.mark.parametrize("order", [1, 2, 7])
def test_shapes_types_and_seeds(function, channels: int, groups: int, order: int) -> None:
    b, a, h0 = draw(function, channels=channels, groups=groups, order=order)
    assert (b.shape, a.shape, h0.shape) == ((channels, order), (groups, order), (channels,))
    assert b.dtype == a.dtype == h0.dtype == F64
    for one, other in zip((b, a, h0), draw(function, channels=channels, groups=groups, order=order), strict=True):
        assert torch.equal(one, other)
    state = torch.get_rng_state()
    draw(function)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
    if function is not init.zeros and channels > 1:  # one number of norm one is +-1
        assert not torch.equal(b, draw(function, channels=channels, groups=groups, order=order, seed=1)[0])


@given(
    function=st.sampled_from(EVERY),
    groups=st.integers(1, 5),
    members=st.integers(1, 3),
    order=st.integers(1, 70),
    longer=st.integers(1, 300),
    numerator=st.sampled_from(get_args(init.NumeratorKind)),
    seed=st.integers(0, 2**32),
)
def test_any_size_gives_finite_coefficients(function, groups, members, order, longer, numerator, seed) -> None:
    sizes = {"channels": groups * members, "groups": groups, "order": order, "horizon": order + longer}
    b, a, h0 = draw(function, **sizes, numerator=numerator, seed=seed)
    assert (b.shape, a.shape, h0.shape) == ((groups * members, order), (groups, order), (groups * members,))
    assert all(x.isfinite().all() for x in (b, a, h0))
    if numerator == "lattice":
        assert function is init.xavier or (a.abs() < 1).all()
    elif function is init.resonators:
        assert stability(a).verdict == "stable"
    elif function not in (init.xavier, init.bands):  # bands need other coordinates
        assert (a.abs().sum(-1) < 1).all()  # which is sufficient for stability


def kernels(b, a, h0, *, horizon: int, numerator: init.NumeratorKind) -> torch.Tensor:
    """What a layer that reads b so has as its kernels; of taps, until they have died out."""
    if numerator == "truncated":
        return aliased_kernel(b, a, h0, period=horizon)
    if numerator == "exact":
        return impulse_response(b, a, h0, length=horizon)
    return Lattice(a, ((1 - a) * (1 + a)).sqrt(), b, h0).system().kernel(50 * horizon, F64)


@every_numerator
@pytest.mark.parametrize(("order", "horizon"), [(1, 2), (4, 784), (64, 1025), (7, 8)])
def test_a_comb_is_stable_with_kernels_of_norm_one(numerator, order: int, horizon: int) -> None:
    b, a, h0 = draw(init.comb, order=order, horizon=horizon, numerator=numerator)
    assert numerator == "lattice" or stability(a).verdict == "stable"
    assert (a[:, :-1] == 0).all()
    assert (h0 == 0).all()
    norms = kernels(b, a, h0, horizon=horizon, numerator=numerator).norm(dim=-1)
    # A true response is folded on a larger circle, which costs 2e-9.
    assert torch.allclose(norms, torch.ones(8, dtype=F64), rtol=1e-12 if numerator == "truncated" else 1e-8)


@every_numerator
@pytest.mark.parametrize(("order", "horizon"), [(1, 2), (2, 3), (4, 784), (7, 8), (33, 784), (64, 1025)])
def test_resonators_are_stable_with_kernels_of_norm_one(numerator, order: int, horizon: int) -> None:
    b, a, h0 = draw(init.resonators, order=order, horizon=horizon, numerator=numerator)
    assert stability(step_up(a) if numerator == "lattice" else a).verdict == "stable"
    assert (h0 == 0).all()
    norms = kernels(b, a, h0, horizon=horizon, numerator=numerator).norm(dim=-1)
    assert torch.allclose(norms, torch.ones(8, dtype=F64), rtol=1e-8)


@pytest.mark.parametrize(("order", "horizon"), [(1, 2), (2, 3), (4, 784), (7, 8), (8, 20_000), (33, 784)])
def test_bands_have_kernels_of_norm_one(order: int, horizon: int) -> None:
    b, k, h0 = draw(init.bands, order=order, horizon=horizon, numerator="lattice")
    assert (h0 == 0).all()
    norms = kernels(b, k, h0, horizon=horizon, numerator="lattice").norm(dim=-1)
    assert torch.allclose(norms, torch.ones(8, dtype=F64), rtol=1e-8)  # what is left after 25 time constants


@pytest.mark.parametrize(
    ("order", "horizon", "lowest"),
    [(2, 1000, None), (4, 500, None), (4, 2000, 0.00711), (8, 1000, 0.1688), (17, 300, 0.9095)],
)
def test_bands_are_combs_of_all_sampling_rates(order: int, horizon: int, lowest: float | None) -> None:
    """Poles at odd multiples of W / n, time constants of pi n / W, and widths evenly spread in their logarithm."""
    groups = 16
    lowest = math.pi * order / (2 * horizon) if lowest is None else lowest
    _, k, _ = draw(init.bands, channels=groups, order=order, horizon=horizon, groups=groups, numerator="lattice")
    filters = Lattice(k, ((1 - k) * (1 + k)).sqrt(), torch.zeros_like(k), torch.zeros(groups, dtype=F64))
    poles = torch.linalg.eigvals(filters.system().states.A[:, :order, :order])
    width = -math.pi * order * poles.abs().log().mean(-1)
    assert not torch.equal(width, width.sort().values), "dealt at random"
    assert Lattice(k, ((1 - k) * (1 + k)).sqrt(), k, k[:, 0]).rounding() < 1e-3  # coefficients hold them
    quantiles = (torch.arange(groups, dtype=F64) + 0.5) / groups
    expected = lowest * (math.pi / lowest) ** quantiles
    assert torch.allclose(width.sort().values, expected, rtol=2e-3)
    multiple = poles.angle() * order / width[:, None]
    odd = 2 * torch.arange(order, dtype=F64) + 1 - order
    assert torch.allclose(multiple.sort(-1).values, odd.expand(groups, -1), rtol=0, atol=0.05)


@pytest.mark.parametrize("order", [1, 2, 7, 8])
def test_each_pair_of_resonators_has_its_own_angle_and_time_constant(order: int) -> None:
    horizon, groups = 300, 40
    _, a, _ = draw(init.resonators, channels=groups, order=order, horizon=horizon, groups=groups)
    poles = torch.linalg.eigvals(companion(a))
    multiple = poles.angle().abs() / (math.pi / order)
    assert torch.allclose(multiple, multiple.round(), rtol=0, atol=1e-6)
    odd = multiple.round() % 2
    assert (odd == odd[:, :1]).all(), "all odd or all even multiples of pi / n"
    assert int(odd[:, 0].sum()) == groups // 2, "half of either"
    assert odd[: groups // 2, 0].sum() not in (0, groups // 2), "at random"
    tau = -1 / poles.abs().log()
    assert ((tau > order / 2) & (tau < 2 * horizon)).all()
    # Evenly spread in the logarithm: which of the time constants there are is the same in all denominators.
    count = order // 2 + 1
    step = math.log(4 * horizon / order) / count
    places = (tau.log() - math.log(order / 2)) / step - 0.5
    assert torch.allclose(places, places.round(), rtol=0, atol=1e-5)
    for found in places.round():
        values, times = found.unique(return_counts=True)
        assert set(times.tolist()) <= {1, 2}, "a pair each, or a real pole"
        assert len(values) >= order // 2


def test_many_resonators_are_written_out_without_loss() -> None:
    order, horizon = 1000, 4000
    _, a, _ = draw(init.resonators, channels=2, order=order, horizon=horizon, groups=2)
    assert a.abs().max() < 2
    # The sum of the poles' inverse powers is what Newton's identities say, here of the first: a_1 = -sum p.
    exact = torch.linalg.eigvals(companion(a))
    assert torch.allclose(exact.sum(-1).real, -a[:, 0], rtol=0, atol=1e-9)
    assert (exact.abs() < math.exp(-1 / (2.2 * horizon))).all()
    assert (exact.abs() > math.exp(-2.2 / order)).all()


@pytest.mark.parametrize("horizon", [784, 3, 5])
def test_the_memory_of_a_comb_runs_from_the_order_to_twice_the_horizon(horizon: int) -> None:
    order, groups = 4, 64
    _, a, _ = draw(init.comb, channels=64, order=order, horizon=max(horizon, 5), groups=groups, numerator="exact")
    tau = -order / a[:, -1].abs().log()
    low, high = order, 2 * max(horizon, 5)
    assert ((tau > low) & (tau < high)).all()
    steps = tau.log().sort().values.diff()  # evenly spread in the logarithm
    assert torch.allclose(steps, torch.full_like(steps, math.log(high / low) / groups), rtol=1e-9)
    assert not torch.equal(tau, tau.sort().values), "dealt at random"
    assert (a[tau.argsort(), -1].sign() == torch.tensor([1, -1]).repeat(groups // 2)).all(), "alternating"
    positive = a[:, -1] > 0
    assert int(positive.sum()) == groups // 2, "half of either sign"
    assert int(positive[: groups // 2].sum()) not in (0, groups // 2), "dealt at random"


@pytest.mark.parametrize("function", [init.comb, init.resonators])
@pytest.mark.parametrize("seed", range(5))
def test_two_denominators_share_out_the_angles_whatever_the_seed(function, seed: int) -> None:
    """Or seeds would differ in how long a memory a layer of few channels has: Delay of 1,000 with order 512 did."""
    order, shared = 8, {"channels": 4, "order": 8, "horizon": 300, "seed": seed}
    _, a, _ = draw(function, **shared, groups=2)
    angles = torch.linalg.eigvals(companion(a)).angle() / (math.pi / order)
    assert set(angles.round().to(int).remainder(2 * order).flatten().tolist()) == set(range(2 * order))
    _, a, _ = draw(function, **shared, groups=1)
    alone = torch.linalg.eigvals(companion(a)).angle() / (math.pi / order)
    assert set(alone.round().to(int).remainder(2 * order).flatten().tolist()) == set(range(1, 2 * order, 2))


def test_one_comb_has_the_geometric_mean() -> None:
    _, a, _ = draw(init.comb, order=4, horizon=784, groups=1)
    assert -4 / math.log(abs(float(a[0, -1]))) == pytest.approx(math.sqrt(4 * 2 * 784), rel=1e-12)


def test_zeros_are_the_identity() -> None:
    b, a, h0 = draw(init.zeros)
    assert not b.any()
    assert not a.any()
    assert (h0 == 1).all()


@pytest.mark.parametrize(("function", "power"), [(init.xavier, 0.5), (init.montel, 1.0)])
@pytest.mark.parametrize("order", [4, 64])
def test_uniform_within_their_bounds(function, power: float, order: int) -> None:
    b, a, h0 = draw(function, channels=256, order=order, groups=256)
    bound = order**-power
    for x in (b, a):
        assert (x.abs() <= bound).all()
        assert x.max() > 0.98 * bound
        assert x.min() < -0.98 * bound
        assert abs(x.mean()) < 5 * bound / math.sqrt(3 * x.numel())  # five standard errors
    assert (h0 == 1).all()


def test_montel_is_always_stable_and_xavier_often_not() -> None:
    for order in (4, 64):
        _, a, _ = draw(init.montel, channels=100, order=order, groups=100)
        assert (a.abs().sum(-1) < 1).all()
        assert stability(a).verdict == "stable"
    shares = [
        float(stability(draw(init.xavier, channels=200, order=n, groups=200)[1]).unstable.double().mean())
        for n in (4, 64)
    ]
    # About 10 % and 60 %, within four standard errors of 200 draws.
    assert abs(shares[0] - 0.10) < 4 * math.sqrt(0.10 * 0.90 / 200)
    assert abs(shares[1] - 0.60) < 4 * math.sqrt(0.60 * 0.40 / 200)
