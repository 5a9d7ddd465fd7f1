from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from transferfn.analysis import plots
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
    plots.pole_zero(bank(), channels=[0, 3], labels=["integrator", "resonance"], zeros=True, ax=ax)
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
