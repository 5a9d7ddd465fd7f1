from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.signal
import torch

from transferfn.analysis import output_error
from transferfn.analysis.identify import fit
from transferfn.interop.scipy_signal import to_ba
from transferfn.ops import lfilter

SYSTEMS = {
    "ljung": ((0.0, 1.0, 0.5), (1.0, -1.5, 0.7)),
    "butterworth": scipy.signal.butter(4, 0.2),
    "elliptic": scipy.signal.ellip(6, 1, 40, 0.3),
    "band": scipy.signal.butter(3, [0.1, 0.12], btype="band"),
}


def data(name: str, *, noise: float, samples: int = 2000, seed: int = 0):
    """Input, output in the middle of a longer record, and the output without noise."""
    rng = np.random.default_rng(seed)
    num, den = SYSTEMS[name]
    u = rng.standard_normal(samples + 100)
    clean = scipy.signal.lfilter(num, den, u)
    y = clean + noise * clean.std() * rng.standard_normal(len(u))
    return u[100:], y[100:], clean[100:]


def percent(found, wanted) -> float:
    wanted = torch.as_tensor(wanted)
    return 100 * (1 - float((wanted - found).norm() / (wanted - wanted.mean()).norm()))


@pytest.mark.parametrize("name", SYSTEMS)
def test_without_noise_the_system_itself_is_found(name: str) -> None:
    u, y, _ = data(name, noise=0.0)
    num, den = (np.asarray(c) for c in SYSTEMS[name])
    found = fit(u, y, order=len(den) - 1, dt=0.1)
    assert found.system.dt == 0.1
    assert found.fit_percent > 99.9999
    np.testing.assert_allclose(found.system.a[0], den[1:], atol=1e-6 * np.abs(den).max())
    h0 = float(found.system.h0)
    whole = np.r_[h0, found.system.b[0] + h0 * found.system.a[0]]
    np.testing.assert_allclose(whole, np.r_[num, np.zeros(len(den) - len(num))], atol=1e-6 * np.abs(num).max())
    assert not found.residuals.unexplained


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_noise_is_left_and_the_rest_explained(name: str, noise: float) -> None:
    """White noise on the output: residuals are as large as the noise, and what is simulated is nearly free of it."""
    u, y, clean = data(name, noise=noise)
    found = fit(u, y, order=len(SYSTEMS[name][1]) - 1)
    level = noise * clean.std()
    assert found.residuals.std == pytest.approx(level, rel=0.05)
    parameters = 3 * len(SYSTEMS[name][1])
    assert percent(found.simulate(u, y), clean) > 100 * (1 - 3 * noise * np.sqrt(parameters / len(y)))
    assert not found.residuals.unexplained
    assert bool(found.system.stability().stable.all())


def test_the_fit_is_the_least_that_scipy_finds_from_the_truth() -> None:
    """An independent search over (b, a), by scipy from the true parameters, finds no lower simulation error."""
    u, y, _ = data("ljung", noise=0.3, samples=300)
    found = fit(u, y, order=2, from_rest=True)

    def errors(x):
        return scipy.signal.lfilter(x[:3], np.r_[1, x[3:]], u) - y

    best = scipy.optimize.least_squares(errors, [0, 1, 0.5, -1.5, 0.7], xtol=1e-14, ftol=1e-14, gtol=1e-14)
    assert found.model.cost == pytest.approx(2 * best.cost, rel=1e-8)
    np.testing.assert_allclose(found.system.a[0], best.x[3:], atol=1e-5)


def test_missing_samples_and_records_of_different_lengths() -> None:
    u, y, clean = data("butterworth", noise=0.1)
    rng = np.random.default_rng(1)
    y = np.where(rng.random(len(y)) < 0.4, np.nan, y)
    cuts = [300, 1000]
    found = fit(np.split(u, cuts), np.split(y, cuts), order=4)
    simulated = found.simulate(np.split(u, cuts), np.split(y, cuts))
    assert [len(row) for row in simulated] == [300, 700, 1000]
    assert percent(torch.cat(simulated), clean) > 98.5


def test_initial_states_are_found() -> None:
    """Free decay on top of the response: a fit from rest cannot explain it, an estimated state does."""
    num, den = SYSTEMS["ljung"]
    rng = np.random.default_rng(0)
    u = rng.standard_normal(200)
    y = scipy.signal.lfilter(num, den, u, zi=[30.0, -20.0])[0]
    found = fit(u, y, order=2)
    assert found.fit_percent > 99.9999
    assert fit(u, y, order=2, from_rest=True).fit_percent < 90
    assert percent(found.simulate(u, y), y) > 99.9999
    assert percent(found.simulate(u), scipy.signal.lfilter(num, den, u)) > 99.9999


@pytest.mark.parametrize("delay", [1, 3])
@pytest.mark.parametrize("feedthrough", [True, False])
def test_delays_and_feedthrough(delay: int, feedthrough: bool) -> None:
    rng = np.random.default_rng(0)
    u = rng.standard_normal(400)
    num, den = [0.7 if feedthrough else 0.0, 0.5], [1, -0.8]
    y = scipy.signal.lfilter(np.r_[np.zeros(delay), num], den, u)
    found = fit(u, y, order=1, delay=delay, feedthrough=feedthrough)
    assert found.system.order == 1 + delay
    expected = scipy.signal.lfilter(np.r_[np.zeros(delay), num], den, np.eye(20)[0])
    np.testing.assert_allclose(found.system.impulse_response(20)[0], expected, atol=1e-9)
    np.testing.assert_allclose(found.simulate(u), y, atol=1e-9)


@pytest.mark.parametrize("shared", [True, False])
def test_several_inputs(shared: bool) -> None:
    rng = np.random.default_rng(0)
    u = rng.standard_normal((1500, 2))
    dens = [[1, -1.5, 0.7], [1, -1.5, 0.7] if shared else [1, 0.4, 0.3]]
    y = sum(scipy.signal.lfilter([0, 1, k], den, u[:, k]) for k, den in enumerate(dens)) + 5
    found = fit(u, y, order=2, intercept=True, shared_denominator=shared)
    assert found.system.denominator_groups == (1 if shared else 2)
    assert found.intercept == pytest.approx(5, abs=1e-6)
    np.testing.assert_allclose(found.system.a, np.array(dens)[: found.system.denominator_groups, 1:], atol=1e-6)


def test_an_unstable_start_ends_stable() -> None:
    """An integrator: least squares puts the pole on or beyond the circle, the result is certainly inside."""
    rng = np.random.default_rng(0)
    u = rng.standard_normal(500)
    y = np.cumsum(u) + 0.5 * rng.standard_normal(500)
    found = fit(u, y, order=1)
    assert bool(found.system.stability().stable.all())
    assert found.fit_percent > 80


def test_steps_of_zero_keep_the_closed_form() -> None:
    u, y, _ = data("butterworth", noise=0.5)
    closed, refined = fit(u, y, order=4, steps=0), fit(u, y, order=4)
    assert closed.steps == 0
    assert closed.fit_percent == pytest.approx(closed.start_fit_percent)
    assert refined.start_fit_percent == pytest.approx(closed.fit_percent)
    assert refined.fit_percent > closed.fit_percent


def test_what_is_not_explained_is_seen() -> None:
    u, y, _ = data("butterworth", noise=0.1)
    assert fit(u, y, order=1).residuals.unexplained


def driven(samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.5, 1.5, samples)


def test_a_hammerstein_system_is_a_filter_of_several_curves() -> None:
    """Noise, and a fresh record: the linear model cannot tell it, the curve is read from the numerators."""
    num, den = SYSTEMS["ljung"]

    def curves(u: np.ndarray) -> np.ndarray:
        return np.stack((u, u**2, u**3), 1)

    def clean(u: np.ndarray) -> np.ndarray:
        return scipy.signal.lfilter(num, den, curves(u) @ [1.0, 0.5, -0.3])

    u, fresh = driven(2000, 0), driven(1000, 1)
    noise = np.random.default_rng(2).standard_normal(2000)
    y = clean(u) + 0.1 * clean(u).std() * noise
    linear, found = fit(u, y, order=2, intercept=True), fit(curves(u), y, order=2)
    ratios = found.system.b[:, 0] / found.system.b[0, 0]
    np.testing.assert_allclose(ratios, [1, 0.5, -0.3], atol=0.05)
    np.testing.assert_allclose(found.system.a[0], den[1:], atol=0.01)
    assert percent(linear.simulate(fresh), clean(fresh)) < 85
    assert percent(found.simulate(curves(fresh)), clean(fresh)) > 97


def test_a_wiener_system_is_trained_through_lfilter() -> None:
    """An unknown curve behind the filter: both are trained from the linear model, and judged on a fresh record.

    The slope of the curve at 0 is 1, or a gain could go from the filter to the curve.
    """
    num, den = SYSTEMS["ljung"]
    curve = np.array([1.0, 0.15, -0.02])

    def powers(x):
        return (x, x**2, x**3)

    def clean(u: np.ndarray) -> np.ndarray:
        return sum(c * p for c, p in zip(curve, powers(scipy.signal.lfilter(num, den, u)), strict=True))

    u, fresh = driven(2000, 0), driven(1000, 1)
    y = clean(u) + 0.02 * clean(u).std() * np.random.default_rng(2).standard_normal(2000)
    linear = fit(u, y, order=2, intercept=True)
    b, a = (torch.from_numpy(x[0]).requires_grad_() for x in to_ba(linear.system))
    bend = torch.zeros(2, dtype=torch.float64, requires_grad=True)

    def model(u: np.ndarray) -> torch.Tensor:
        first, second, third = powers(lfilter(b, torch.cat((torch.ones(1), a[1:])), torch.from_numpy(u)))
        return first + bend[0] * second + bend[1] * third

    optimizer = torch.optim.LBFGS([b, a, bend], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = (model(u) - torch.from_numpy(y)).square().mean()
        value.backward()
        return value

    optimizer.step(loss)
    np.testing.assert_allclose(bend.detach(), curve[1:], atol=0.01)
    np.testing.assert_allclose(a.detach(), den, atol=0.01)
    assert percent(linear.simulate(fresh), clean(fresh)) < 85
    assert percent(model(fresh).detach(), clean(fresh)) > 98


def test_models_print_what_they_are_and_say_what_does_not_fit() -> None:
    u, y, _ = data("ljung", noise=0.1, samples=200)
    found = fit(u, y, order=2)
    assert repr(found).startswith("Identification(order 2, 1 inputs: fit 90")
    with pytest.raises(ValueError, match="1 inputs, got 2"):
        found.simulate(np.stack((u, u), 1))
    with pytest.raises(ValueError, match=r"4 known samples .* cannot tell 7 unknowns"):
        fit(u[:4], y[:4], order=2)
    with pytest.raises(ValueError, match="order must be at least 1, got 0"):
        fit(u, y, order=0)
    with pytest.raises(ValueError, match="later than the delay"):
        fit(u, y, order=1, delay=500)


@pytest.mark.parametrize("value", [0.0, 5.0, 0.1])
@pytest.mark.parametrize("intercept", [False, True])
def test_an_output_that_does_not_move_is_refused(value: float, intercept: bool) -> None:
    u, y, _ = data("ljung", noise=0.0, samples=200)
    y[:] = value
    y[3] = np.nan
    with pytest.raises(ValueError, match=f"the output is constant: all 199 known samples are {value:g}"):
        fit(u, y, order=1, intercept=intercept)


def test_a_mean_that_no_filter_explains_asks_for_an_intercept() -> None:
    u, y, _ = data("ljung", noise=0.1, samples=500)
    with pytest.warns(UserWarning, match=r"mean of the output, 99.6, .* intercept=True adds a constant") as caught:
        fit(u, y + 100, order=2)
    assert caught[0].filename == __file__
    assert fit(u, y + 100, order=2, intercept=True).fit_percent > 80
    level = scipy.signal.lfilter([0, 0.1], [1, -0.9], u + 100)
    assert fit(u + 100, level, order=1).fit_percent > 99  # the mean of the input explains it: nothing to warn of


def test_predictions_need_no_known_outputs() -> None:
    u, y, _ = data("ljung", noise=0.0, samples=300)
    found = fit(u, y, order=2)
    nothing = np.full(len(y), np.nan)
    nothing[0] = 0.0
    assert len(found.simulate(u, nothing)) == len(y)
    model = output_error.solve(output_error.Records(*_padded(u, y)), found.model.a, found.form)
    torch.testing.assert_close(model.numerators, found.model.numerators, rtol=0, atol=1e-9)


def _padded(u, y):
    u, y = torch.from_numpy(u)[None, :, None], torch.from_numpy(y)[None]
    return u, y, torch.ones_like(y, dtype=torch.bool), torch.tensor([y.shape[1]])
