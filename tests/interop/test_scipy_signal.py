"""Round trips between banks and what scipy.signal has, and what each conversion says it lost."""

from __future__ import annotations

import warnings
from functools import partial

import mpmath
import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.banks import banks, system
from transferfn.core import IllConditionedWarning, TransferFunction, stack
from transferfn.interop import scipy_signal as interop

LENGTH = 200
CLOSE = 1e-9  # a wrong rule is off by ones; poles lie at 0.95 at most
dts = st.sampled_from([None, 0.5, 1 / 44100])
designs = st.tuples(
    st.sampled_from(["butter", "cheby1", "ellip"]),
    st.integers(1, 6),
    st.sampled_from(["low", "high", "band"]),
    st.floats(0.15, 0.4),
)


def design(kind: tuple[str, int, str, float], output: str):
    """One of scipy's filters."""
    name, order, band, cut = kind
    ripple = {"butter": (), "cheby1": (1,), "ellip": (1, 40)}[name]
    edges = [cut, cut + 0.3] if band == "band" else cut
    return getattr(scipy.signal, name)(order, *ripple, edges, band, output=output)


def impulse(sos) -> torch.Tensor:
    return torch.from_numpy(scipy.signal.sosfilt(sos, np.r_[1.0, np.zeros(LENGTH - 1)]))


def same_response(one: TransferFunction, other: TransferFunction) -> None:
    expected = other.impulse_response(LENGTH)
    scale = float(expected.abs().max())
    torch.testing.assert_close(one.impulse_response(LENGTH), expected, rtol=0, atol=1e-6 * scale)


@given(banks(), dts)
@settings(max_examples=30)
def test_arrays_are_those_of_lfilter(given, dt: float | None) -> None:
    h = TransferFunction(*given, dt)
    b, a = interop.to_ba(h)
    x = np.r_[1.0, np.zeros(49)]
    found = np.stack([scipy.signal.lfilter(*row, x) for row in zip(b, a, strict=True)])
    np.testing.assert_allclose(found, h.impulse_response(50).numpy(), rtol=0, atol=CLOSE * np.abs(found).max())
    again = interop.from_ba(3 * b, 3 * a, dt=dt)
    torch.testing.assert_close(again.b, h.b, rtol=CLOSE, atol=CLOSE * np.abs(b).max())
    assert again.dt == dt
    assert again.channels == h.channels


def test_denominators_may_be_shared_and_shorter() -> None:
    h = interop.from_ba([[1.0, 2, 3], [4, 5, 6]], [2.0, 1.0])
    assert (h.channels, h.denominator_groups, h.order) == (2, 1, 2)
    expected = scipy.signal.lfilter([4, 5, 6], [2, 1], np.r_[1.0, np.zeros(9)])
    np.testing.assert_allclose(h.impulse_response(10)[1].numpy(), expected, atol=1e-15)


@given(banks(largest=0.8, largest_order=5))
@settings(max_examples=30)
def test_zeros_poles_and_sections_lead_back(given) -> None:
    """Multiple poles among them, whose roots are uncertain by roots of eps: the error says how much that costs."""
    h = TransferFunction(*given, 0.5)
    zpk, error = interop.to_zpk(h, length=LENGTH)
    back = stack([interop.from_zpk(*one, dt=0.5).value for one in zpk])
    same_response(back, h)
    assert back.order == h.order
    sos, error_of_sections = interop.to_sos(h, length=LENGTH)
    assert sos.shape == (h.channels, -(-h.order // 2), 6)
    same_response(interop.from_sos(sos, dt=0.5).value, h)
    torch.testing.assert_close(error, error_of_sections, rtol=0, atol=1e-12)
    for row, d in zip(sos, range(h.channels), strict=True):
        truth = h.impulse_response(LENGTH)[d]
        measured = (impulse(row) - truth).abs().max() / truth.abs().max()
        assert float(measured) == pytest.approx(float(error[d]), abs=1e-13)


@given(designs, dts)
@settings(max_examples=30)
def test_designs_mean_the_same_in_every_form(kind, dt: float | None) -> None:
    sos = design(kind, "sos")
    by_sections, error = interop.from_sos(sos, dt=dt)
    assert float(error) < 1e-6
    by_zpk, _ = interop.from_zpk(*design(kind, "zpk"), dt=dt)
    by_arrays = interop.from_ba(*design(kind, "ba"), dt=dt)
    expected = impulse(sos)[None]
    for h in (by_sections, by_zpk, by_arrays):
        assert h.dt == dt
        torch.testing.assert_close(h.impulse_response(LENGTH), expected, rtol=0, atol=1e-6)


@given(banks(largest=0.8, largest_order=5), dts, st.sampled_from(["tf", "zpk", "ss"]), st.integers(0, 3))
@settings(max_examples=40)
def test_objects_lead_back(given, dt: float | None, form, channel: int) -> None:
    h = TransferFunction(*given, dt)
    made = interop.to_dlti(h, channel=channel, form=form)
    assert isinstance(made, scipy.signal.dlti)
    assert made.dt == (True if dt is None else dt)
    _, (response,) = scipy.signal.dimpulse(made, n=LENGTH)
    expected = h.impulse_response(LENGTH)[channel].numpy()
    np.testing.assert_allclose(response[:, 0], expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    again, error = interop.from_dlti(made)
    assert again.dt == dt
    assert float(error.max()) < 1e-6
    same_response(again, TransferFunction(h.b[[channel]], h.a[[channel * h.denominator_groups // 4]], h.h0[[channel]]))


def test_delays_are_kept() -> None:
    """Fewer zeros than poles, none at all, and powers of z that are missing."""
    for z, p in (([], [0.5]), ([0.2], [0.5, 0.4, 0.3]), ([], [0.5 + 0.2j, 0.5 - 0.2j, 0.1]), ([0.0], [0.5, 0.0])):
        h = interop.from_zpk(z, p, 2.0).value
        _, (expected,) = scipy.signal.dimpulse(scipy.signal.dlti(z, p, 2.0), n=20)
        np.testing.assert_allclose(h.impulse_response(20)[0].numpy(), expected[:, 0], atol=1e-14)
        (found,), _ = interop.to_zpk(h)
        np.testing.assert_allclose(np.sort_complex(found[1]), np.sort_complex(np.asarray(p, complex)), atol=1e-7)
        assert len(found[0]) == len(z)
        same_response(interop.from_sos(interop.to_sos(h).value).value, h)
    delayed = interop.from_dlti(scipy.signal.dlti([3.0], [1.0, 0.5, 0.25])).value
    np.testing.assert_allclose(delayed.impulse_response(3).numpy(), [[0, 0, 3]])
    silent = interop.from_ba([0.0], [1.0, 0.5])
    assert interop.to_sos(silent).value[0, 0, :3].tolist() == [0, 0, 0]
    with pytest.warns(scipy.signal.BadCoefficients):  # scipy's opinion of filters that are zero
        assert interop.to_dlti(silent).num.tolist() == [0]


def test_many_inputs_and_outputs() -> None:
    rng = np.random.default_rng(0)
    A, B, C, D = 0.3 * rng.normal(size=(3, 3)), rng.normal(size=(3, 2)), rng.normal(size=(2, 3)), np.eye(2)
    h, _ = interop.from_dlti(scipy.signal.dlti(A, B, C, D, dt=0.1))
    assert (h.channels, h.denominator_groups) == (4, 1)
    _, responses = scipy.signal.dimpulse(scipy.signal.dlti(A, B, C, D, dt=0.1), n=30)
    found = h.impulse_response(30).reshape(2, 2, 30)  # output, input
    for k, response in enumerate(responses):
        np.testing.assert_allclose(found[:, k].numpy().T, response, atol=1e-12)
    two = interop.from_dlti(scipy.signal.TransferFunction([[1.0, 2.0], [0.0, 4.0]], [1.0, 0.5], dt=0.1)).value
    np.testing.assert_allclose(two.impulse_response(2).numpy(), [[1, 1.5], [0, 4]])


def test_what_coefficients_cannot_hold_is_refused() -> None:
    """A band-pass of order 20 at a hundredth: sections have it, one polynomial does not."""
    sos = scipy.signal.butter(10, [0.01, 0.011], "bandpass", output="sos")
    with pytest.raises(ArithmeticError, match=r"order 20 do not hold.*Keep the second-order sections.*modal.*reduce"):
        interop.from_sos(sos)
    with pytest.raises(ArithmeticError, match="order 20 do not hold"):
        interop.from_zpk(*scipy.signal.butter(10, [0.01, 0.011], "bandpass", output="zpk"))
    slow = scipy.signal.butter(6, 0.002, output="sos")
    with pytest.raises(ArithmeticError, match=r"order 6 do not hold 1 of 1 filters: rounded, they are unstable|off by"):
        interop.from_sos(np.tile(slow, (3, 1)), length=100)


@pytest.mark.compile  # without the type-checking hook, which would speak first
def test_what_does_not_fit_is_named() -> None:
    h = system(3)
    for call, raised, match in [
        (lambda: interop.from_ba([1.0], [0.0, 1.0]), ValueError, r"a\[0\] must not be zero"),
        (lambda: interop.from_ba([1.0j], [1.0]), TypeError, "b must be real, got complex128"),
        (lambda: interop.from_ba(np.ones((3, 2)), np.ones((2, 2))), ValueError, "got 2 and 3"),
        (lambda: interop.from_ba([], [1.0]), ValueError, r"not empty, got \(1, 0\)"),
        (lambda: interop.from_zpk([1, 2], [0.5], 1.0), ValueError, "not causal: it has 2 zeros and 1 poles"),
        (lambda: interop.from_sos(np.ones((2, 5))), ValueError, r"got \(2, 5\)"),
        (lambda: interop.from_sos(np.zeros((2, 6))), ValueError, "a0 of a section"),
        (lambda: interop.to_dlti(h), ValueError, "the bank has 4: name one"),
        (lambda: interop.to_dlti(h, channel=7), ValueError, r"0\.\.3"),
        (lambda: interop.to_dlti(h, channel=0, form="sos"), ValueError, "got 'sos'"),  # pyright: ignore
        (lambda: interop.from_dlti(scipy.signal.lti([1.0], [1.0, 1.0])), TypeError, "continuous time: sample it with"),
        (lambda: interop.from_dlti((1, 2)), TypeError, "got tuple"),  # pyright: ignore
        (lambda: interop.from_dlti(scipy.signal.dlti([1.0, 2.0], [1.0])), ValueError, "not causal: .*degree 1 in z"),
        (lambda: interop.to_ba(TransferFunction(h.b[None], h.a[None], h.h0[None])), ValueError, "expected one bank"),
    ]:
        with pytest.raises(raised, match=match):
            call()


@pytest.mark.parametrize("form", ["arrays", "object"])
def test_coefficients_that_float64_cannot_run_are_warned_of(form: str) -> None:
    crowded = scipy.signal.butter(10, [1000, 1100], "bandpass", fs=48000)
    if form == "arrays":
        convert = partial(interop.from_ba, *crowded)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", scipy.signal.BadCoefficients)
            convert = partial(interop.from_dlti, scipy.signal.dlti(*crowded))
    with pytest.warns(IllConditionedWarning, match=r"order 20 is not the filter.*second-order sections"):
        convert()
    with pytest.warns(IllConditionedWarning, match="within 300 samples"):
        convert(length=300, tolerance=1e-9)
    convert(length=300, tolerance=10.0)  # says nothing


@pytest.mark.parametrize("a", [[1.0, -1.0], [1.0, -3.0, 3.0, -1.0], [1.0, -2.2, 1.1], [1.0, -9.0]], ids=str)
def test_integrators_and_unstable_filters_are_what_they_are(a: list[float]) -> None:
    """Filters that grow are no rounding: nothing is said of them before they run."""
    assert interop.from_ba([1.0], a).order == len(a) - 1


def test_the_loss_that_is_warned_of_is_that_of_exact_arithmetic() -> None:
    """The truth is the recurrence in numbers of 1,000 bits."""
    b, a = scipy.signal.butter(5, [1000, 1100], "bandpass", fs=48000)
    with pytest.warns(IllConditionedWarning) as caught:
        h = interop.from_ba(np.stack([b, b]), np.stack([np.eye(11)[0], a]), length=600)
    exact_b, exact_a, samples = [mpmath.mpf(float(x)) for x in b], [mpmath.mpf(float(x)) for x in a], []
    with mpmath.workprec(1000):
        for t in range(600):
            past = mpmath.fsum(exact_a[i] * samples[t - i] for i in range(1, min(t, 10) + 1))
            samples.append((exact_b[t] if t < 11 else 0) - past)
    truth = np.array([float(x) for x in samples])
    error = np.abs(h.impulse_response(600)[1].numpy() - truth).max() / np.abs(truth).max()
    assert error > 1e-3
    assert f"1 of 2 filters of order 10 is not the filter: rounding changes the response by up to {error:.1g}" in str(
        caught[0].message
    )
