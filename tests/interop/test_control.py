"""Round trips between banks and python-control, whose responses are the judge."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import transferfn
from core.banks import banks, system
from transferfn.core import TransferFunction, c2d, d2c, minimal, select
from transferfn.core.state_space import state_space
from transferfn.interop import control as interop

control = pytest.importorskip("control")
OMEGA = np.linspace(0.1, 3, 7)
dts = st.sampled_from([None, 0.5, 1 / 44100])


def on_the_circle(made, dt: float | None) -> np.ndarray:
    """Values of a system at OMEGA rad/sample, (outputs, inputs, F) or (F)."""
    return made(np.exp(1j * OMEGA))


@given(banks(largest=0.8, largest_order=5), dts, st.integers(0, 3))
@settings(max_examples=30)
def test_transfer_functions_lead_back(given, dt: float | None, channel: int) -> None:
    h = TransferFunction(*given, dt)
    made = interop.to_tf(h, channel=channel)
    assert made.dt == (True if dt is None else dt)
    expected = h.frequency_response(torch.from_numpy(OMEGA))[channel].numpy()
    np.testing.assert_allclose(on_the_circle(made, dt), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    again, error = interop.from_control(made)
    assert (again.dt, again.channels, float(error)) == (dt, 1, 0)
    one = select(h, [channel])
    torch.testing.assert_close(again.impulse_response(50), one.impulse_response(50), rtol=1e-9, atol=1e-9)


@given(banks(largest=0.8, largest_order=4), dts)
@settings(max_examples=20)
def test_a_bank_is_a_diagonal_state_space_and_back(given, dt: float | None) -> None:
    h = TransferFunction(*given, dt)
    made = interop.to_ss(h)
    assert (made.ninputs, made.noutputs, made.nstates) == (4, 4, 4 * h.order)
    assert made.dt == (True if dt is None else dt)
    values = on_the_circle(made, dt)
    expected = h.frequency_response(torch.from_numpy(OMEGA)).numpy()
    for d in range(4):
        np.testing.assert_allclose(values[d, d], expected[d], rtol=1e-8, atol=1e-8 * np.abs(expected).max())
        assert np.abs(values[d, np.arange(4) != d]).max() == 0


def test_state_spaces_of_many_inputs_become_channels() -> None:
    h = system(2, groups=4)
    again, error = interop.from_control(interop.to_ss(h))
    assert (again.channels, again.order) == (16, 8)
    diagonal, _ = minimal(select(again, [0, 5, 10, 15]))
    assert diagonal.order == 2
    torch.testing.assert_close(diagonal.impulse_response(60), h.impulse_response(60), rtol=0, atol=1e-6)
    assert float(error[[0, 5, 10, 15]].max()) < 1e-6
    assert float(select(again, [1, 2, 3]).impulse_response(9).abs().max()) == 0


def test_transfer_functions_of_many_inputs_become_channels() -> None:
    num, den = [[[1.0, 0.5], [2.0]], [[3.0], [4.0]]], [[[1.0, 0.1], [1.0, 0.2, 0.3]], [[1.0, 0.4], [2.0]]]
    made = control.tf(num, den, 0.1)
    h = interop.from_control(made).value
    assert (h.channels, h.order, h.dt) == (4, 2, 0.1)
    values = on_the_circle(made, 0.1).reshape(4, -1)
    np.testing.assert_allclose(h.frequency_response(torch.from_numpy(OMEGA)).numpy(), values, rtol=1e-12)


@pytest.mark.parametrize("form", ["ss", "tf"])
@pytest.mark.parametrize("dt", [0.1, True])
def test_matrices_lead_back(form: str, dt: float | bool) -> None:
    """Two inputs and three outputs, none of the six like another: a transposed matrix would be seen."""
    given = control.rss(4, 3, 2, strictly_proper=False, dt=dt)
    h = interop.from_control(given).value
    again = interop.to_ss(h, inputs=2) if form == "ss" else interop.to_tf(h, inputs=2)
    assert (again.noutputs, again.ninputs, again.dt) == (3, 2, dt)
    np.testing.assert_allclose(on_the_circle(again, None), on_the_circle(given, None), rtol=1e-8, atol=1e-8)
    assert form == "tf" or again.nstates == 8  # four for each input: its outputs share a denominator


def test_matrices_of_filters_that_share_nothing() -> None:
    h = system(3, groups=4)
    made = interop.to_ss(h, inputs=2)
    assert (made.noutputs, made.ninputs, made.nstates) == (2, 2, 12)
    expected = h.frequency_response(torch.from_numpy(OMEGA)).numpy().reshape(2, 2, -1)
    np.testing.assert_allclose(on_the_circle(made, None), expected, rtol=1e-9)
    np.testing.assert_allclose(on_the_circle(interop.to_tf(h, inputs=2), None), expected, rtol=1e-9)


def test_continuous_systems_go_out() -> None:
    given = control.ss([[-1.0, 2.0], [0.0, -3.0]], [[1.0, 0.5], [1.0, -1.0]], [[1.0, 0.0], [1.0, 2.0]], np.eye(2))
    matrices, _ = d2c(c2d(given, 0.1).value)
    alone, matrix = interop.to_ss(matrices), interop.to_ss(matrices, inputs=2)
    assert alone.dt == matrix.dt == 0
    np.testing.assert_allclose(matrix(1j * OMEGA), given(1j * OMEGA), rtol=1e-8)
    for d, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        np.testing.assert_allclose(alone(1j * OMEGA)[d, d], given(1j * OMEGA)[row, column], rtol=1e-8, atol=1e-12)
    whole = interop.to_ss(state_space(given.A, given.B, given.C, given.D)._replace(dt=0.5))
    assert (whole.ninputs, whole.nstates, whole.dt) == (2, 2, 0.5)
    np.testing.assert_array_equal(whole.A, given.A)
    with pytest.raises(ValueError, match="inputs=2 takes systems of one input and one output, got 2 outputs"):
        interop.to_ss(state_space(given.A, given.B, given.C, given.D), inputs=2)


def test_channels_that_are_no_matrix() -> None:
    for convert in (interop.to_ss, interop.to_tf):
        with pytest.raises(ValueError, match=r"a divisor of the 4 channels, .* got 3"):
            convert(system(2), inputs=3)
    with pytest.raises(
        ValueError, match="the channel of one filter or the inputs of a matrix, got channel=0 and inputs=2"
    ):
        interop.to_tf(system(2), channel=0, inputs=2)


def test_the_algebra_is_that_of_python_control() -> None:
    g, h = (select(system(order, seed=order), [0]) for order in (2, 3))
    one, other = (interop.to_tf(x) for x in (g, h))
    for mine, theirs in (
        (g * h, one * other),
        (g + h, one + other),
        (g - h, one - other),
        (g.feedback(h), control.feedback(one, other)),
        (g.feedback(h, sign=1), control.feedback(one, other, 1)),
    ):
        found = mine.frequency_response(torch.from_numpy(OMEGA))[0].numpy()
        np.testing.assert_allclose(found, on_the_circle(theirs, None), rtol=1e-9)


def test_a_gain_without_states() -> None:
    h = TransferFunction(torch.zeros(2, 0), torch.zeros(1, 0), torch.tensor([2.0, 3.0]))
    made = interop.to_ss(h)
    assert made.nstates == 0
    assert interop.from_control(made).value.h0.tolist() == [2, 0, 0, 3]


@pytest.mark.parametrize("form", ["tf", "ss"])
def test_the_advice_to_sample_works_as_it_stands(form: str) -> None:
    """What the error says is run, word for word."""
    system = getattr(control, form)(control.tf([1.0, 3.0], [1.0, 2.0, 10.0]))
    with pytest.raises(TypeError, match=r"continuous time \(dt = 0\)") as refused:
        interop.from_control(system)
    advice = str(refused.value).split("sample it with ")[1]
    h, error = eval(advice, {"transferfn": transferfn, "system": system, "dt": 0.1})
    expected = interop.from_control(control.sample_system(system, 0.1, "zoh")).value
    torch.testing.assert_close(h.impulse_response(50), expected.impulse_response(50), rtol=0, atol=1e-12)
    assert h.dt == 0.1
    assert float(error) < 1e-12
    with pytest.raises(TypeError, match=r"discrete time already, dt=0\.5"):
        c2d(control.tf([1.0], [1.0, -0.5], 0.5), 0.1)


def test_continuous_systems_of_many_inputs_become_channels() -> None:
    num, den = [[[1.0], [2.0]], [[3.0, 1.0], [4.0]]], [[[1.0, 1.0], [1.0, 2.0, 3.0]], [[1.0, 4.0], [2.0]]]
    h, error = c2d(control.tf(num, den), 0.1)
    assert (h.channels, h.order, tuple(error.shape)) == (4, 2, (4,))
    for d, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        one = c2d((num[row][column], den[row][column]), 0.1).value.impulse_response(50)
        torch.testing.assert_close(h.impulse_response(50)[d : d + 1], one)


def test_objects_without_coefficients_are_not_told_to_be_sampled() -> None:
    """Advice that would fail: c2d takes no frequency response, either."""
    given = control.frd([1, 1j], [0.1, 0.2])
    for refuse in (interop.from_control, lambda x: c2d(x, 0.1), lambda x: system(2) * x):
        with pytest.raises(
            TypeError, match=r"got a FrequencyResponseData of control, which has no coeff.*transferfn\.fit"
        ):
            refuse(given)


@pytest.mark.compile  # without the type-checking hook, which would speak first
def test_what_does_not_fit_is_named(monkeypatch) -> None:
    with pytest.raises(TypeError, match="got int"):
        interop.from_control(1)  # pyright: ignore
    with pytest.raises(ValueError, match="the bank has 4: name one"):
        interop.to_tf(system(2))
    with pytest.raises(ValueError, match="not causal"):
        interop.from_control(control.tf([1.0, 0.0, 1.0], [1.0, 1.0], True))
    monkeypatch.setitem(sys.modules, "control", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'transferfn\[control\]'"):
        interop.to_ss(system(2))
