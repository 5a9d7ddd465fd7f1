from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from transferfn.analysis import plots
from transferfn.analysis._axes import angle_axis
from transferfn.core import TransferFunction

figure = pytest.importorskip("matplotlib.figure")


@pytest.fixture
def ax():
    return figure.Figure(figsize=(5, 3), layout="constrained").add_subplot()


def bank(dt: float | None = None) -> TransferFunction:
    """A leaky integrator, a resonance at 0.5 rad/sample of radius 0.99, and two with a common denominator."""
    a = torch.tensor([[-0.9, 0.0], [-2 * 0.99 * math.cos(0.5), 0.99**2]], dtype=torch.float64)
    b = torch.tensor([[0.9, 0.0], [1.0, 0.2], [1.0, 0.0], [0.5, -0.5]], dtype=torch.float64)
    return TransferFunction(b, a, torch.tensor([1.0, 0.5, 0.0, 1.0], dtype=torch.float64), dt)


def lines(ax, marker: str | None = None) -> list:
    """The lines that stand for filters: those with a name or with a marker."""
    return [
        line
        for line in ax.get_lines()
        if (not line.get_label().startswith("_") if marker is None else line.get_marker() == marker)
    ]


@pytest.mark.parametrize("dt", [None, 0.25])
def test_impulse_responses_are_drawn_as_they_are(ax, dt: float | None) -> None:
    found = plots.impulse_response(bank(dt), 20, channels=[2, 0], ax=ax)
    assert found is ax
    drawn = lines(ax)
    assert [line.get_label() for line in drawn] == ["channel 2", "channel 0"]
    for line, channel in zip(drawn, (2, 0), strict=True):
        np.testing.assert_allclose(line.get_ydata(), bank().impulse_response(20)[channel])
        np.testing.assert_allclose(line.get_xdata(), np.arange(20) * (dt or 1))
    assert ax.get_xlabel() == ("time (samples)" if dt is None else "time (s)")
    assert ax.get_ylabel() == "impulse response"


def test_poles_and_zeros_are_where_they_are(ax) -> None:
    plots.pole_zero(bank(), channels=[0, 3], labels=["integrator", "resonance"], ax=ax)
    crosses, circles = lines(ax, "x"), lines(ax, "o")
    assert [line.get_label() for line in crosses] == ["integrator", "resonance"]
    radius = [sorted(np.hypot(line.get_xdata(), line.get_ydata())) for line in crosses]
    np.testing.assert_allclose(radius, [[0, 0.9], [0.99, 0.99]], atol=1e-12)
    zeros = bank().zeros()[3].numpy()
    np.testing.assert_allclose(sorted(circles[1].get_xdata()), sorted(zeros.real), atol=1e-12)
    assert ax.get_aspect() == 1
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("real part", "imaginary part")


def test_poles_outside_the_circle_are_in_the_picture(ax) -> None:
    h = TransferFunction(torch.ones(1, 1), torch.tensor([[-1.5]]), torch.zeros(1))
    plots.pole_zero(h, ax=ax)
    assert ax.get_xlim()[1] > 1.5


def test_zeros_outside_the_circle_are_in_the_picture_or_counted(ax) -> None:
    pytest.importorskip("scipy.signal")
    from transferfn.interop.scipy_signal import from_ba

    plots.pole_zero(from_ba([0, 1, -3], [1, -0.5, 0.2]), ax=ax)
    (circle,) = lines(ax, "o")
    np.testing.assert_allclose(circle.get_xydata(), [[3, 0]])
    assert ax.get_xlim()[1] > 3
    assert ax.get_ylim()[1] < 1.5  # the circle stays large
    assert ax.get_title(loc="right") == ""
    far = plots.pole_zero(from_ba([1, -50, 400], [1, -0.5, 0.2]), ax=figure.Figure().add_subplot())
    assert far.get_title(loc="right") == "2 zeros further out"
    assert far.get_xlim()[1] < 1.5


@pytest.mark.filterwarnings("ignore::transferfn.IllConditionedWarning")
def test_zeros_and_frequencies_are_drawn_unless_there_are_many_filters(ax) -> None:
    plots.pole_zero(bank(), ax=ax)
    assert len(lines(ax, "o")) == 4
    assert len(ax.texts) == 8
    many = TransferFunction(torch.randn(9, 2), torch.tensor([[-0.5, 0.2]]), torch.ones(9))
    assert not lines(plots.pole_zero(many, ax=figure.Figure().add_subplot()), "o")
    assert len(lines(plots.pole_zero(many, zeros=True, ax=figure.Figure().add_subplot()), "o")) == 9


@pytest.mark.parametrize("dt", [None, 1 / 48000])
def test_rounding_is_not_drawn_over_the_whole_height(dt: float | None) -> None:
    b, a, h0 = (torch.tensor(c, dtype=torch.float64) for c in ([[0.75]], [[0.5]], [0.5]))
    upper, lower = (figure.Figure().add_subplot() for _ in range(2))
    plots.bode(TransferFunction(b, a, h0, dt), axes=(upper, lower))  # an all-pass
    low, high = upper.get_ylim()
    assert -0.6 < low < -0.4
    assert 0.4 < high < 0.6
    delay = TransferFunction(torch.tensor([[0.0, 0.0, 1.0]]), torch.zeros(1, 3), torch.zeros(1), dt)
    ax = plots.group_delay(delay, ax=figure.Figure().add_subplot())
    assert np.ptp(ax.get_ylim()) > 0.09 * (dt or 1)
    plots.bode_phase(delay, ax=lower)  # a later line still widens the axis
    assert np.ptp(lower.get_ylim()) > 500


@pytest.mark.parametrize("log", [True, False])
def test_a_resonance_reaches_its_true_height(ax, log: bool) -> None:
    plots.bode_magnitude(bank(), channels=[2], points=16, log=log, ax=ax)
    (line,) = lines(ax)
    peak = bank().frequency_response(torch.tensor([0.5]))[2].abs()
    assert max(line.get_ydata()) >= 20 * math.log10(peak) - 1e-9
    assert ax.get_xlabel() == "frequency (rad/sample)"
    assert ax.get_ylabel() == "magnitude (dB)"
    assert ax.get_xscale() == ("log" if log else "linear")
    assert ax.get_xlim()[1] == pytest.approx(math.pi)


def test_with_a_sampling_interval_frequency_is_in_hertz(ax) -> None:
    plots.bode_magnitude(bank(dt=0.001), ax=ax)
    assert ax.get_xlabel() == "frequency (Hz)"
    assert ax.get_xlim()[1] == pytest.approx(500)


def test_a_learning_curve(ax) -> None:
    plots.learning_curve([1, 2, 3], {"training": [50, 70, 80], "validation": [45, 60, 75]}, marked=3, ax=ax)
    assert [line.get_label() for line in lines(ax)] == ["training", "validation"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "accuracy (%)")
    assert ax.get_legend() is not None


def test_without_axes_a_figure_is_made() -> None:
    from matplotlib import pyplot

    with pyplot.rc_context({"backend": "agg"}):
        ax = plots.impulse_response(bank(), 8)
        pyplot.close(ax.figure)


def test_many_filters_have_no_legend(ax) -> None:
    h = TransferFunction(torch.randn(9, 1), torch.full((1, 1), -0.5), torch.zeros(9))
    assert plots.impulse_response(h, 8, ax=ax).get_legend() is None


@pytest.mark.parametrize("draw", [plots.impulse_response, plots.pole_zero, plots.bode_magnitude])
def test_channels_and_labels_are_checked(ax, draw) -> None:
    with pytest.raises(ValueError, match=r"0\.\.3, got \[4\]"):
        draw(bank(), channels=[4], ax=ax)
    with pytest.raises(ValueError, match="expected 2 labels"):
        draw(bank(), channels=[0, 1], labels=["one"], ax=ax)


@pytest.mark.parametrize("dt", [None, 0.5])
def test_a_step_response_settles_where_the_gain_at_rest_is(ax, dt: float | None) -> None:
    plots.step_response(bank(dt), 200, channels=[0], ax=ax)
    drawn = lines(ax)[0]
    np.testing.assert_allclose(drawn.get_ydata(), bank().impulse_response(200)[0].cumsum(0))
    assert drawn.get_drawstyle() == "steps-post"
    settled = [line.get_ydata()[0] for line in ax.get_lines() if line.get_label().startswith("_")]
    assert max(settled) == pytest.approx(10)
    assert ax.get_xlabel() == ("time (samples)" if dt is None else "time (s)")


def test_a_step_response_that_grows_settles_nowhere(ax) -> None:
    plots.step_response(TransferFunction(torch.ones(1, 1), torch.tensor([[-1.5]]), torch.zeros(1)), 8, ax=ax)
    assert len(ax.get_lines()) == 2


@pytest.mark.parametrize("log", [True, False])
def test_phase_and_group_delay_are_those_of_scipy(log: bool) -> None:
    signal = pytest.importorskip("scipy.signal")
    b, a = signal.butter(4, 0.3)
    h = TransferFunction(torch.tensor(b[1:] - b[0] * a[1:])[None], torch.tensor(a[1:])[None], torch.tensor(b[:1]))
    ax = figure.Figure().add_subplot()
    (line,) = lines(plots.bode_phase(h, log=log, ax=ax))
    inside = line.get_xdata() < 3.0  # a fourfold zero lies at pi
    omega = line.get_xdata()[inside]
    expected = np.degrees(np.unwrap(np.angle(signal.freqz(b, a, omega)[1])))
    np.testing.assert_allclose(line.get_ydata()[inside], expected, atol=1e-6)
    (line,) = lines(plots.group_delay(h, log=log, ax=figure.Figure().add_subplot()))
    np.testing.assert_allclose(line.get_ydata()[inside], signal.group_delay((b, a), omega)[1], atol=1e-4)


def test_group_delay_is_in_seconds_where_there_is_an_interval(ax) -> None:
    h = TransferFunction(torch.tensor([[0.0, 0.0, 1.0]]), torch.zeros(1, 3), torch.zeros(1), dt=0.01)
    plots.group_delay(h, ax=ax)
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), 0.03, atol=1e-6)
    assert ax.get_ylabel() == "group delay (s)"


@pytest.mark.parametrize(("dt", "top"), [(None, "π"), (0.001, "500 Hz")])
def test_frequencies_are_written_around_the_circle(ax, dt: float | None, top: str) -> None:
    plots.pole_zero(bank(dt), ax=ax)
    found = {text.get_text(): text.get_position() for text in ax.texts}
    assert len(ax.texts) == 8
    assert found[top][0] < -1


def test_a_slow_filter_is_seen_from_a_decade_below_its_corner(ax) -> None:
    b, a, h0 = (torch.tensor(c, dtype=torch.float64) for c in ([[1e-4]], [[1e-4 - 1]], [0.0]))
    plots.bode_magnitude(TransferFunction(b, a, h0), ax=ax)
    (line,) = lines(ax)
    x, y = line.get_xdata(), line.get_ydata()
    assert x[0] == pytest.approx(1e-5, rel=1e-3)
    assert y[0] == pytest.approx(0, abs=0.05)  # dB: the plateau below the corner
    assert np.interp(1e-4, x, y) == pytest.approx(-3, abs=0.1)


@pytest.mark.parametrize("dt", [None, 0.001])
@pytest.mark.parametrize("log", [True, False])
def test_a_bode_plot_is_both_halves(dt: float | None, log: bool) -> None:
    def fresh():
        return figure.Figure().add_subplot()

    upper, lower = fresh(), fresh()
    assert plots.bode(bank(dt), channels=[0, 2], labels=["x", "y"], log=log, points=64, axes=(upper, lower)) == (
        upper,
        lower,
    )
    for ax, half in ((upper, plots.bode_magnitude), (lower, plots.bode_phase)):
        alone = half(bank(dt), channels=[0, 2], labels=["x", "y"], log=log, points=64, ax=fresh())
        for mine, theirs in zip(lines(ax), lines(alone), strict=True):
            np.testing.assert_array_equal(mine.get_xydata(), theirs.get_xydata())
        assert ax.get_ylabel() == alone.get_ylabel()
        assert ax.get_xlim() == alone.get_xlim()
    assert (upper.get_xlabel(), upper.get_legend() is None, lower.get_legend()) == ("", False, None)
    assert lower.get_xlabel() == ("frequency (rad/sample)" if dt is None else "frequency (Hz)")


def test_a_bode_plot_is_that_of_python_control() -> None:
    control = pytest.importorskip("control")
    from transferfn.core import select
    from transferfn.interop.control import to_tf

    h = select(bank(0.001), [2])
    upper, lower = plots.bode(h, axes=(figure.Figure().add_subplot(), figure.Figure().add_subplot()))
    hertz, decibels = lines(upper)[0].get_data()
    inside = hertz < 499  # python-control leaves half the rate out
    theirs = control.frequency_response(to_tf(h), 2 * np.pi * hertz[inside])
    np.testing.assert_allclose(decibels[inside], 20 * np.log10(np.abs(theirs.frdata[0, 0])), atol=1e-9)
    turns = (lines(lower)[0].get_ydata()[inside] - np.degrees(np.angle(theirs.frdata[0, 0]))) / 360
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-9)


def test_phase_is_marked_at_parts_of_a_turn(ax) -> None:
    steps = []
    for top in (10, 100, 700, 4000):
        ax.set_ylim(0, top)
        angle_axis(ax)
        steps.append(float(np.diff(ax.get_yticks())[0]))
    assert steps == [2, 30, 180, 720]


@pytest.mark.parametrize("dt", [None, 0.25])
def test_time_constants_are_those_of_the_poles(ax, dt: float | None) -> None:
    unit = 1.0 if dt is None else dt
    plots.time_constants(bank(dt), channels=[0, 3], ax=ax)
    integrator, resonance = lines(ax)
    np.testing.assert_allclose(integrator.get_xydata(), [[0, -unit / math.log(0.9)]])  # its pole at zero is a delay
    frequency = 0.5 if dt is None else 0.5 / (2 * np.pi * dt)
    np.testing.assert_allclose(resonance.get_xydata(), [[frequency, -unit / math.log(0.99)]])
    assert ax.get_xlim()[1] == pytest.approx(1.25 * frequency)
    assert integrator.get_marker() != resonance.get_marker()
    assert ax.get_xlabel() == ("frequency (rad/sample)" if dt is None else "frequency (Hz)")
    assert ax.get_ylabel() == ("time constant (samples)" if dt is None else "time constant (s)")
    assert (ax.get_yscale(), ax.get_title(loc="right")) == ("log", "")


def test_what_does_not_decay_has_no_time_constant(ax) -> None:
    a = torch.tensor(np.poly([1.5, 1.0, 0.3])[None, 1:])
    h = TransferFunction(torch.ones(1, 3, dtype=torch.float64), a, torch.zeros(1, dtype=torch.float64))
    plots.time_constants(h, ax=ax)
    np.testing.assert_allclose(lines(ax)[0].get_ydata(), [-1 / math.log(0.3)])
    assert ax.get_title(loc="right") == "2 modes not shown: not inside the unit circle"
    empty = TransferFunction(torch.zeros(1, 0), torch.zeros(1, 0), torch.ones(1))  # a gain
    assert plots.time_constants(empty, ax=figure.Figure().add_subplot()).get_lines()[0].get_xdata().size == 0


def test_hankel_values_are_drawn_as_they_are(ax) -> None:
    from transferfn.analysis.banks import hankel_values

    plots.hankel_values(bank(), channels=[2, 0], labels=["resonance", "integrator"], ax=ax)
    resonance, integrator = lines(ax)
    expected = hankel_values(bank())
    np.testing.assert_allclose(resonance.get_ydata(), expected[2])
    np.testing.assert_allclose(integrator.get_ydata(), [expected[0, 0], np.nan])  # the other is rounding
    assert list(resonance.get_xdata()) == [1, 2]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("state", "Hankel singular value")
    assert ax.get_title(loc="right") == ""


def test_filters_without_hankel_values_are_told(ax) -> None:
    a = torch.tensor([[-1.0], [-0.5]], dtype=torch.float64)
    h = TransferFunction(torch.ones(2, 1).double(), a, torch.zeros(2).double())
    plots.hankel_values(h, ax=ax)
    assert [line.get_label() for line in lines(ax)] == ["channel 0: none", "channel 1"]
    np.testing.assert_allclose(lines(ax)[1].get_ydata(), [1 / 0.75])
    assert ax.get_title(loc="right") == "1 filter not shown: not stable, or not computed"
