from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from transferfn.analysis.regressor import TransferFunctionRegressor


def data(samples: int = 900, *, noise: float = 0.1, inputs: int = 1, seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((samples, inputs))
    y = sum(scipy.signal.lfilter([0, 1, 0.5 - k], [1, -1.5, 0.7], X[:, k]) for k in range(inputs))
    return X, y + noise * y.std() * rng.standard_normal(samples)


def test_it_fits_predicts_and_scores() -> None:
    X, y = data(inputs=2)
    model = TransferFunctionRegressor(order=2, dt=0.1).fit(X, y + 3)
    assert model.score(X, y + 3) < 0.99
    model = TransferFunctionRegressor(order=2, fit_intercept=True, dt=0.1).fit(X, y + 3)
    assert model.intercept_ == pytest.approx(3, abs=0.1)
    assert model.n_features_in_ == 2
    assert model.system_.dt == 0.1
    expected = 1 - (1 - model.fit_percent_ / 100) ** 2
    assert model.score(X, y + 3, initial=y + 3) == pytest.approx(expected, abs=1e-9)
    fresh, clean = data(noise=0.0, inputs=2, seed=1)
    error = model.predict(fresh) - (clean + 3)
    assert error.std() < 0.05 * clean.std()


def test_the_score_is_that_of_what_is_predicted() -> None:
    """A record that begins in the midst: from rest both are wrong, with the state found both are right."""
    X, y = data(400, noise=0.0)
    model = TransferFunctionRegressor().fit(X, y)
    X, y = X[100:140], y[100:140]
    gone = y.copy()
    gone[20:] = np.nan  # the state is found from the first half alone
    scores = []
    for initial in (None, y, gone):
        found = model.predict(X, initial=initial)
        expected = 1 - np.square(found - y).sum() / np.square(y - y.mean()).sum()
        scores.append(model.score(X, y, initial=initial))
        assert scores[-1] == pytest.approx(expected, abs=1e-12)
    assert scores[0] < 0.9
    assert min(scores[1:]) > 1 - 1e-9
    twice, both = np.concatenate((X, X)), np.concatenate((y, y))
    again = model.predict(twice, [40, 40], initial=both)
    np.testing.assert_allclose(again, both, atol=1e-6)
    assert model.score(twice, both, [40, 40]) == pytest.approx(scores[0], abs=1e-9)
    with pytest.raises(ValueError, match="X has 40 samples and y 39"):
        model.score(X, y[1:])


def test_records_below_each_other() -> None:
    X, y = data()
    lengths = [200, 300, 400]
    model = TransferFunctionRegressor().fit(X, y, lengths=lengths)
    whole = np.concatenate([model.predict(X[:200]), model.predict(X[200:500]), model.predict(X[500:])])
    np.testing.assert_allclose(model.predict(X, lengths=lengths), whole, atol=1e-12)
    y[::7] = np.nan
    assert model.score(X, y, lengths=lengths) > 0.98
    with pytest.raises(ValueError, match="add up to the 900 samples"):
        model.fit(X, y, lengths=[100])


def test_a_stream_comes_to_what_all_data_give() -> None:
    X, y = data(3000)
    whole = TransferFunctionRegressor().fit(X, y)
    stream = TransferFunctionRegressor()
    for at in (0, 20):
        with pytest.raises(ValueError, match=f"call fit.X, y. first; {at} known" if at else "call fit"):
            stream.predict(X)
        stream.partial_fit(X[at : at + 20], y[at : at + 20])
    stream = TransferFunctionRegressor()
    for at in range(0, 3000, 50):
        stream.partial_fit(X[at : at + 50], y[at : at + 50])
        # 5 unknowns and 2 a block for its initial state: 50 samples are 5 times 7
        assert stream.result_.fit_percent > 70
    np.testing.assert_allclose(stream.system_.a, whole.system_.a, atol=0.01)
    assert stream.score(X, y) > whole.score(X, y) - 1e-3


@pytest.mark.parametrize("size", [1, 7, 100])
@pytest.mark.parametrize("delay", [0, 3])
def test_short_blocks_that_continue_each_other_come_to_what_all_data_give(size: int, delay: int) -> None:
    X, y = data(2000)
    y = np.concatenate((np.full(delay, 5.0), y[: len(y) - delay]))  # what was before is not known
    whole = TransferFunctionRegressor(delay=delay).fit(X, y)
    y[50:60] = np.nan
    stream = TransferFunctionRegressor(delay=delay)
    most = 0
    for at in range(0, 2000, size):
        stream.partial_fit(X[at : at + size], y[at : at + size], continues=True)
        most = max(most, stream._waiting.count)
    assert most <= 140  # samples that wait: it is a model that is kept, not the data
    np.testing.assert_allclose(stream.system_.a, whole.system_.a, atol=0.01)
    assert stream.score(X, whole.predict(X)) > 0.999


def test_a_slow_plant_is_learned_from_single_samples() -> None:
    rng = np.random.default_rng(0)
    u = rng.standard_normal(6000)
    y = scipy.signal.lfilter([0, 1], [1, -0.998], u)
    y += 0.1 * y.std() * rng.standard_normal(6000)
    whole = TransferFunctionRegressor(order=1).fit(u, y)
    stream = TransferFunctionRegressor(order=1)
    for at in range(6000):
        stream.partial_fit(u[at : at + 1], y[at : at + 1], continues=True)
    np.testing.assert_allclose(stream.system_.a, whole.system_.a, atol=2e-4)


def test_short_blocks_with_gaps_wait_no_longer_than_they_must_or_are_refused() -> None:
    X, y = data(300, noise=0.0)
    stream = TransferFunctionRegressor()
    for at in range(0, 300, 10):
        stream.partial_fit(X[at : at + 5], y[at : at + 5])
    assert stream.score(X, y) > 0.999
    told = r"a block of 2 known samples tells nothing .* initial state of 2 numbers: give blocks of more than 2"
    with pytest.raises(ValueError, match=told):
        stream.partial_fit(X[:2], y[:2])
    with pytest.raises(ValueError, match="after the delay of 3 tells nothing"):
        TransferFunctionRegressor(delay=3).partial_fit(X[:5], y[:5])
    with pytest.raises(ValueError, match="earlier blocks had 1 inputs, this one has 2"):
        stream.partial_fit(np.ones((2, 2)), y[:2], continues=True)


def test_a_stream_waits_until_the_output_moves() -> None:
    X, y = data(200)
    stream = TransferFunctionRegressor().partial_fit(0 * X, np.zeros(200), continues=True)  # the plant is at rest
    with pytest.raises(ValueError, match="200 known samples wait"):
        stream.predict(X)
    stream.partial_fit(X, y, continues=True)
    assert stream.score(X, y) > 0.9


def test_forgetting_follows_a_change() -> None:
    X, y = data(2000, noise=0.02)
    later = scipy.signal.lfilter([0, 1], [1, 0.9], X[:, 0])
    kept, forgetful = TransferFunctionRegressor(), TransferFunctionRegressor(forgetting=0.98)
    for model in (kept, forgetful):
        for target in (y, later):
            for at in range(0, 2000, 200):
                model.partial_fit(X[at : at + 200], target[at : at + 200])
    assert forgetful.score(X, later) > 0.999
    assert kept.score(X, later) < 0.99
    with pytest.raises(ValueError, match="forgetting must be above 0"):
        TransferFunctionRegressor(forgetting=1.5).partial_fit(X, y)
    with pytest.raises(ValueError, match="earlier blocks had 1 inputs, this one has 2"):
        kept.partial_fit(np.concatenate((X, X), 1), y)


def test_fit_starts_from_scratch() -> None:
    X, y = data()
    model = TransferFunctionRegressor().partial_fit(X, y)
    model.fit(X, -y)
    model.partial_fit(X, -y)
    assert model.score(X, -y) > 0.98


def test_it_is_an_estimator_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn")
    from sklearn.base import clone, is_regressor
    from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils.validation import check_is_fitted

    X, y = data(600)
    model = TransferFunctionRegressor(order=3, fit_intercept=True)
    assert is_regressor(model)
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(sklearn.exceptions.NotFittedError):
        check_is_fitted(model)
    search = GridSearchCV(model, {"order": [1, 2]}, cv=TimeSeriesSplit(2), error_score="raise").fit(X, y)
    assert search.best_params_ == {"order": 2}
    assert search.best_score_ > 0.98
    from sklearn.metrics import r2_score

    assert search.score(X, y) == pytest.approx(r2_score(y, search.predict(X)), abs=1e-12)
    check_is_fitted(search.best_estimator_)
    assert make_pipeline(StandardScaler(), clone(model)).fit(X, y).score(X, y) > 0.98


def test_parameters() -> None:
    model = TransferFunctionRegressor().set_params(order=4, delay=1)
    assert model.get_params()["order"] == 4
    assert repr(model).startswith("TransferFunctionRegressor(order=4, delay=1")
    with pytest.raises(ValueError, match="no parameter is called 'n'; there are order, delay"):
        model.set_params(n=3)
