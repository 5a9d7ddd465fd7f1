"""Pictures of filters and of their training, drawn on matplotlib axes.

Colours are those of Okabe and Ito, which colour-blind people can tell apart; lines also differ in style.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from transferfn.analysis._axes import COLOURS as COLOURS
from transferfn.analysis._axes import (
    GREY,
    MOST_NAMED,
    angle_axis,
    as_array,
    at_least,
    axes_or_new,
    finished,
    frequencies_of,
    frequency_axis,
    in_unit,
    looks_of,
    mark_frequencies,
    rows_of,
    two_axes_or_new,
    unwrapped,
)
from transferfn.analysis.banks import FilterBank
from transferfn.analysis.memory_plots import hankel_values as hankel_values
from transferfn.analysis.memory_plots import time_constants as time_constants

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST_DECIBELS, LEAST_DEGREES, LEAST_DELAY = 1.0, 1.0, 0.1
"""Spans of a vertical axis at least, the delay's in samples: less of a flat response would be rounding."""

FURTHEST = 3.0
"""Radius up to which zeros are drawn wherever the poles are."""


def impulse_response(
    h: FilterBank,
    length: int = 128,
    *,
    channels: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw impulse responses over time.

    Args:
        h: The filters.
        length: Number of samples.
        channels: Which filters; None means all.
        labels: What to call them; None means by their channel.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes; time is in seconds if the filters have a sampling interval, else in samples.

    Example:
        >>> from transferfn.core import TransferFunction
        >>> h = TransferFunction(torch.tensor([[0.9]]), torch.tensor([[-0.9]]), torch.tensor([1.0]))
        >>> impulse_response(h, 64).get_xlabel()
        'time (samples)'
    """
    ax = axes_or_new(ax)
    rows = rows_of(h, channels)
    values = as_array(h.impulse_response(length))[rows]
    time = np.arange(length) * (1.0 if h.dt is None else h.dt)
    ax.axhline(0, color=GREY, linewidth=0.6, zorder=0)
    for row, look in zip(values, looks_of(rows, labels), strict=True):
        # Few samples are drawn as samples; of many only the course can be seen.
        look["linewidth"] = 1.3 if length <= 256 else 0.8
        ax.plot(time, row, marker="o" if length <= 48 else None, markersize=3, **look)
    ax.set_xlabel("time (samples)" if h.dt is None else "time (s)")
    ax.set_ylabel("impulse response")
    ax.set_xlim(time[0], time[-1] if length > 1 else 1)
    return finished(ax, len(rows))


def step_response(
    h: FilterBank,
    length: int = 128,
    *,
    channels: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw step responses over time as what they are, values that change at samples; dotted where they settle.

    Args:
        h: The filters.
        length: Number of samples.
        channels: Which filters; None means all.
        labels: What to call them; None means by their channel.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes; time is in seconds if the filters have a sampling interval, else in samples.

    Example:
        >>> from transferfn.core import TransferFunction
        >>> h = TransferFunction(torch.tensor([[0.9]]), torch.tensor([[-0.9]]), torch.tensor([1.0]))
        >>> step_response(h, 64).get_ylabel()
        'step response'
    """
    ax = axes_or_new(ax)
    rows = rows_of(h, channels)
    values = as_array(h.impulse_response(length))[rows].cumsum(-1)
    at_rest = as_array(h.frequency_response([0.0]).real)[rows, 0]
    radius = np.abs(as_array(h.poles())).max(-1, initial=0)
    time = np.arange(length) * (1.0 if h.dt is None else h.dt)
    ax.axhline(0, color=GREY, linewidth=0.6, zorder=0)
    for channel, row, settled, look in zip(rows, values, at_rest, looks_of(rows, labels), strict=True):
        look["linewidth"] = 1.3 if length <= 256 else 0.8
        ax.plot(time, row, drawstyle="steps-post", **look)
        if radius[channel * h.denominator_groups // h.channels] < 1:
            ax.axhline(settled, color=look["color"], linewidth=0.7, linestyle=(0, (1, 2)), zorder=0)
    ax.set_xlabel("time (samples)" if h.dt is None else "time (s)")
    ax.set_ylabel("step response")
    ax.set_xlim(time[0], time[-1] if length > 1 else 1)
    return finished(ax, len(rows))


def pole_zero(
    h: FilterBank,
    *,
    channels: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    zeros: bool | None = None,
    marks: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw poles as crosses and zeros as circles against the unit circle.

    All poles are in the picture, and the zeros up to radius 3, or as far out as the poles are: a zero outside the
    circle, which makes a filter non-minimum-phase, is seen; of those still further out there is a note.

    Args:
        h: The filters.
        channels: Which filters; None means all.
        labels: What to call them; None means by their channel.
        zeros: Whether to draw the zeros, too; None means of up to 8 filters, since those of more hide the poles.
        marks: Whether to write frequencies around the circle, in rad/sample, or in Hz if there is a sampling interval.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes.

    Example:
        >>> from transferfn.core import TransferFunction
        >>> h = TransferFunction(torch.tensor([[0.9]]), torch.tensor([[-0.9]]), torch.tensor([0.1]))
        >>> pole_zero(h).get_title(loc="right")  # h0 + 0.9 / (z - 0.9) is 0 at -8.1
        '1 zero further out'
    """
    from matplotlib.ticker import MaxNLocator

    ax = axes_or_new(ax)
    rows = rows_of(h, channels)
    poles = as_array(h.poles())[[row * h.denominator_groups // h.channels for row in rows]]
    zeros = len(rows) <= MOST_NAMED if zeros is None else zeros
    nulls = as_array(h.zeros())[rows] if zeros else np.empty((len(rows), 0), complex)
    furthest = max(FURTHEST, np.abs(poles).max(initial=0))
    near: list[Any] = [row[np.abs(row) <= furthest] for row in nulls]
    _unit_circle(ax)
    for mine, zero, look in zip(poles, near, looks_of(rows, labels), strict=True):
        look["linestyle"] = "none"
        ax.plot(mine.real, mine.imag, marker="x", markersize=5.5, markeredgewidth=1.4, **look)
        if zeros:
            look["label"] = "_nolegend_"
            ax.plot(zero.real, zero.imag, marker="o", markersize=5, markerfacecolor="none", **look)
    if left_out := int(np.isfinite(nulls).sum()) - sum(map(len, near)):
        ax.set_title(f"{left_out} zero{'s' * (left_out > 1)} further out", loc="right", fontsize="small")
    points: Any = np.concatenate([poles.ravel(), *near])
    wide, high = (1.6 if marks and h.dt is not None else 1.2), 1.2  # room for what is written around the circle
    left, right = points.real.min(initial=-wide), points.real.max(initial=wide)
    top = np.abs(points.imag).max(initial=high)
    edge = 0.04 * max(right - left, 2 * top)
    ax.set_aspect("equal")
    ax.set_xlim(left - edge, right + edge)
    ax.set_ylim(-top - edge, top + edge)
    if marks:
        mark_frequencies(h.dt, ax)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.set_xlabel("real part")
    ax.set_ylabel("imaginary part")
    return finished(ax, len(rows), grid=False)


def bode_magnitude(
    h: FilterBank,
    *,
    channels: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    points: int = 1024,
    log: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the magnitude of the frequency response in decibels.

    The frequencies are a grid and, so that no resonance falls between its points, the angles of the poles. The axis
    spans a decibel at least.

    Args:
        h: The filters.
        channels: Which filters; None means all.
        labels: What to call them; None means by their channel.
        points: Number of frequencies of the grid.
        log: Whether the frequency axis is logarithmic, over three decades or, of slow filters, more, or linear from 0.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes; frequency is in Hz if the filters have a sampling interval, else in rad/sample.

    Example:
        >>> from transferfn.core import TransferFunction
        >>> h = TransferFunction(torch.tensor([[0.9]]), torch.tensor([[-0.9]]), torch.tensor([1.0]), dt=0.001)
        >>> bode_magnitude(h).get_xlabel()
        'frequency (Hz)'
    """
    from matplotlib.ticker import MaxNLocator

    ax = axes_or_new(ax)
    rows = rows_of(h, channels)
    omega = frequencies_of(h, points, log=log)
    response = np.abs(as_array(h.frequency_response(torch.from_numpy(omega))))[rows]
    decibels = 20 * np.log10(np.maximum(response, 1e-12))
    for row, look in zip(decibels, looks_of(rows, labels), strict=True):
        ax.plot(in_unit(omega, h.dt), row, **look)
    at_least(LEAST_DECIBELS, decibels, ax)
    frequency_axis(ax, omega, h.dt, log=log)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 4, 10]))
    ax.set_ylabel("magnitude (dB)")
    return finished(ax, len(rows))


def bode_phase(
    h: FilterBank,
    *,
    channels: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    points: int = 1024,
    log: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the phase of the frequency response in degrees, without jumps of a turn, on the grid of ``bode_magnitude``.

    Args:
        h: The filters.
        channels: Which filters; None means all.
        labels: What to call them; None means by their channel.
        points: Number of frequencies of the grid.
        log: Whether the frequency axis is logarithmic, over three decades or, of slow filters, more, or linear from 0.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes; frequency is in Hz if the filters have a sampling interval, else in rad/sample.

    Example:
        >>> from transferfn.core import TransferFunction
        >>> h = TransferFunction(torch.tensor([[0.9]]), torch.tensor([[-0.9]]), torch.tensor([1.0]))
        >>> bode_phase(h).get_ylabel()
        'phase (degrees)'
    """
    ax = axes_or_new(ax)
    rows = rows_of(h, channels)
    omega = frequencies_of(h, points, log=log)
    response = as_array(h.frequency_response(torch.from_numpy(omega)))[rows]
    degrees = np.degrees([unwrapped(row) for row in response])
    for row, look in zip(degrees, looks_of(rows, labels), strict=True):
        ax.plot(in_unit(omega, h.dt), row, **look)
    at_least(LEAST_DEGREES, degrees, ax)
    frequency_axis(ax, omega, h.dt, log=log)
    angle_axis(ax)
    ax.set_ylabel("phase (degrees)")
    return finished(ax, len(rows))


def bode(
    h: FilterBank,
    *,
    channels: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    points: int = 1024,
    log: bool = True,
    axes: tuple[Axes, Axes] | None = None,
) -> tuple[Axes, Axes]:
    """Draw the frequency response as a Bode plot: magnitude in decibels above phase in degrees.

    Args:
        h: The filters.
        channels: Which filters; None means all.
        labels: What to call them; None means by their channel.
        points: Number of frequencies of the grid, to which the angles of the poles are added.
        log: Whether the frequency axis is logarithmic, over three decades or, of slow filters, more, or linear from 0.
        axes: Where to draw, for the magnitude and for the phase; None makes a figure.

    Returns:
        Both axes; frequency is in Hz if the filters have a sampling interval, else in rad/sample.

    Example:
        >>> from transferfn.core import TransferFunction
        >>> h = TransferFunction(torch.tensor([[0.9]]), torch.tensor([[-0.9]]), torch.tensor([1.0]), dt=0.001)
        >>> [ax.get_ylabel() for ax in bode(h)]
        ['magnitude (dB)', 'phase (degrees)']
    """
    upper, lower = two_axes_or_new(axes)
    bode_magnitude(h, channels=channels, labels=labels, points=points, log=log, ax=upper)
    bode_phase(h, channels=channels, labels=labels, points=points, log=log, ax=lower)
    upper.set_xlabel("")  # that of the phase is for both
    upper.tick_params(axis="x", labelbottom=False)
    if (legend := lower.get_legend()) is not None:
        legend.remove()
    return upper, lower


def group_delay(
    h: FilterBank,
    *,
    channels: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    points: int = 1024,
    log: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw the group delay, how much later each frequency comes out: the negative derivative of the phase.

    A zero on the unit circle turns the phase by half at once: the delay there is a spike of no meaning.

    Args:
        h: The filters, stable ones.
        channels: Which filters; None means all.
        labels: What to call them; None means by their channel.
        points: Number of frequencies of the grid.
        log: Whether the frequency axis is logarithmic, over three decades or, of slow filters, more, or linear from 0.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes; the delay is in seconds if the filters have a sampling interval, else in samples.

    Example:
        >>> from transferfn.core import TransferFunction
        >>> h = TransferFunction(torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2), torch.tensor([0.0]))
        >>> group_delay(h).get_lines()[0].get_ydata().round(6)[[0, -1]]
        array([2., 2.])
    """
    ax = axes_or_new(ax)
    rows = rows_of(h, channels)
    omega = frequencies_of(h, points, log=log)
    # Over a step this small no phase bends: a central difference is exact to rounding, a few millionths of a sample.
    apart = 1e-6
    after, before = (
        as_array(h.frequency_response(torch.from_numpy(omega + side * apart)))[rows] for side in (0.5, -0.5)
    )
    delay = -np.angle(after * before.conj()) / apart * (1.0 if h.dt is None else h.dt)
    for row, look in zip(delay, looks_of(rows, labels), strict=True):
        ax.plot(in_unit(omega, h.dt), row, **look)
    at_least(LEAST_DELAY * (1.0 if h.dt is None else h.dt), delay, ax)
    frequency_axis(ax, omega, h.dt, log=log)
    ax.set_ylabel("group delay (samples)" if h.dt is None else "group delay (s)")
    return finished(ax, len(rows))


def learning_curve(
    epochs: ArrayLike,
    curves: Mapping[str, ArrayLike],
    *,
    ylabel: str = "accuracy (%)",
    marked: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw what was measured after each epoch.

    Args:
        epochs: Numbers of the epochs, (E).
        curves: Values by their name, (E) each.
        ylabel: What was measured, with its unit.
        marked: Number of the epoch to mark, e.g. the one that was kept.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes.

    Example:
        >>> learning_curve([1, 2], {"training": [60.0, 80.0]}).get_xlabel()
        'epoch'
    """
    from matplotlib.ticker import MaxNLocator

    ax = axes_or_new(ax)
    x = np.asarray(epochs)
    if marked is not None:
        ax.axvline(marked, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
    for values, look in zip(curves.values(), looks_of(range(len(curves)), list(curves)), strict=True):
        ax.plot(x, np.asarray(values), marker="o", markersize=3, **look)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")
    ax.set_ylabel(ylabel)
    return finished(ax, len(curves))


def _unit_circle(ax: Axes) -> None:
    """The circle, its shaded inside, where filters are stable, and both axes."""
    angle = np.linspace(0, 2 * np.pi, 361)
    ax.fill(np.cos(angle), np.sin(angle), color="0.96", zorder=0)
    ax.plot(np.cos(angle), np.sin(angle), color=GREY, linewidth=0.8, zorder=1)
    ax.axhline(0, color=GREY, linewidth=0.5, zorder=1)
    ax.axvline(0, color=GREY, linewidth=0.5, zorder=1)
