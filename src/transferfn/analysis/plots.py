"""Pictures of filters and of their training, drawn on matplotlib axes.

Colours are those of Okabe and Ito, which colour-blind people can tell apart; lines also differ in style.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from transferfn.analysis.banks import FilterBank
from transferfn.core import TransferFunction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette without its yellow, which is too light for lines."""

_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
_GREY = "0.55"


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
        >>> import torch
        >>> h = TransferFunction(torch.tensor([[0.9]]), torch.tensor([[-0.9]]), torch.tensor([1.0]))
        >>> impulse_response(h, 64).get_xlabel()
        'time (samples)'
    """
    ax = _axes(ax)
    rows = _channels(h, channels)
    values = _array(h.impulse_response(length))[rows]
    time = np.arange(length) * (1.0 if h.dt is None else h.dt)
    ax.axhline(0, color=_GREY, linewidth=0.6, zorder=0)
    for row, look in zip(values, _looks(rows, labels), strict=True):
        # Few samples are drawn as samples; of many only the course can be seen.
        look["linewidth"] = 1.3 if length <= 256 else 0.8
        ax.plot(time, row, marker="o" if length <= 48 else None, markersize=3, **look)
    ax.set_xlabel("time (samples)" if h.dt is None else "time (s)")
    ax.set_ylabel("impulse response")
    ax.set_xlim(time[0], time[-1] if length > 1 else 1)
    return _finish(ax, len(rows))


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
        >>> import torch
        >>> h = TransferFunction(torch.tensor([[0.9]]), torch.tensor([[-0.9]]), torch.tensor([1.0]))
        >>> step_response(h, 64).get_ylabel()
        'step response'
    """
    ax = _axes(ax)
    rows = _channels(h, channels)
    values = _array(h.impulse_response(length))[rows].cumsum(-1)
    at_rest = _array(h.frequency_response([0.0])).real[rows, 0]
    radius = np.abs(_array(h.poles())).max(-1, initial=0)
    time = np.arange(length) * (1.0 if h.dt is None else h.dt)
    ax.axhline(0, color=_GREY, linewidth=0.6, zorder=0)
    for channel, row, settled, look in zip(rows, values, at_rest, _looks(rows, labels), strict=True):
        look["linewidth"] = 1.3 if length <= 256 else 0.8
        ax.plot(time, row, drawstyle="steps-post", **look)
        if radius[channel * h.denominator_groups // h.channels] < 1:
            ax.axhline(settled, color=look["color"], linewidth=0.7, linestyle=(0, (1, 2)), zorder=0)
    ax.set_xlabel("time (samples)" if h.dt is None else "time (s)")
    ax.set_ylabel("step response")
    ax.set_xlim(time[0], time[-1] if length > 1 else 1)
    return _finish(ax, len(rows))


def pole_zero(
    h: FilterBank,
    *,
    channels: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    zeros: bool = False,
    marks: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw poles, and zeros if wanted, against the unit circle.

    Args:
        h: The filters.
        channels: Which filters; None means all.
        labels: What to call them; None means by their channel.
        zeros: Whether to draw the zeros, too, as circles; those beyond radius 1.5 are left out.
        marks: Whether to write frequencies around the circle, in rad/sample, or in Hz if there is a sampling interval.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes.

    Example:
        >>> import torch
        >>> h = TransferFunction(torch.tensor([[0.9]]), torch.tensor([[-0.9]]), torch.tensor([1.0]))
        >>> pole_zero(h).get_xlabel()
        'real part'
    """
    ax = _axes(ax)
    rows = _channels(h, channels)
    poles = _array(h.poles())
    angle = np.linspace(0, 2 * np.pi, 361)
    ax.fill(np.cos(angle), np.sin(angle), color="0.96", zorder=0)
    ax.plot(np.cos(angle), np.sin(angle), color=_GREY, linewidth=0.8, zorder=1)
    ax.axhline(0, color=_GREY, linewidth=0.5, zorder=1)
    ax.axvline(0, color=_GREY, linewidth=0.5, zorder=1)
    nulls = _array(h.zeros()) if zeros else None
    reach = 1.0
    for row, look in zip(rows, _looks(rows, labels), strict=True):
        mine = poles[row * h.denominator_groups // h.channels]
        reach = max(reach, np.abs(mine).max(initial=0))
        look["linestyle"] = "none"
        ax.plot(mine.real, mine.imag, marker="x", markersize=5.5, markeredgewidth=1.4, **look)
        if nulls is not None:
            near = nulls[row][np.abs(nulls[row]) < 1.5]
            reach = max(reach, np.abs(near).max(initial=0))
            look["label"] = "_nolegend_"
            ax.plot(near.real, near.imag, marker="o", markersize=5, markerfacecolor="none", **look)
    if marks:
        reach = max(reach, 1.15)
        _mark_frequencies(h.dt, ax)
    ax.set_aspect("equal")
    ax.set_xlim(-1.08 * reach, 1.08 * reach)
    ax.set_ylim(-1.08 * reach, 1.08 * reach)
    ax.set_xticks([-1, 0, 1])
    ax.set_yticks([-1, 0, 1])
    ax.set_xlabel("real part")
    ax.set_ylabel("imaginary part")
    return _finish(ax, len(rows), grid=False)


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

    The frequencies are a grid and, so that no resonance falls between its points, the angles of the poles.

    Args:
        h: The filters.
        channels: Which filters; None means all.
        labels: What to call them; None means by their channel.
        points: Number of frequencies of the grid.
        log: Whether the frequency axis is logarithmic, over three decades, or linear from 0.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes; frequency is in Hz if the filters have a sampling interval, else in rad/sample.

    Example:
        >>> import torch
        >>> h = TransferFunction(torch.tensor([[0.9]]), torch.tensor([[-0.9]]), torch.tensor([1.0]), dt=0.001)
        >>> bode_magnitude(h).get_xlabel()
        'frequency (Hz)'
    """
    ax = _axes(ax)
    rows = _channels(h, channels)
    omega = _frequencies(h, points, log=log)
    response = np.abs(_array(h.frequency_response(torch.from_numpy(omega))))[rows]
    for row, look in zip(response, _looks(rows, labels), strict=True):
        ax.plot(_scaled(omega, h.dt), 20 * np.log10(np.maximum(row, 1e-12)), **look)
    _frequency_axis(ax, omega, h.dt, log=log)
    ax.set_ylabel("magnitude (dB)")
    return _finish(ax, len(rows))


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
        log: Whether the frequency axis is logarithmic, over three decades, or linear from 0.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes; frequency is in Hz if the filters have a sampling interval, else in rad/sample.

    Example:
        >>> import torch
        >>> h = TransferFunction(torch.tensor([[0.9]]), torch.tensor([[-0.9]]), torch.tensor([1.0]))
        >>> bode_phase(h).get_ylabel()
        'phase (degrees)'
    """
    from matplotlib.ticker import MaxNLocator

    ax = _axes(ax)
    rows = _channels(h, channels)
    omega = _frequencies(h, points, log=log)
    response = _array(h.frequency_response(torch.from_numpy(omega)))[rows]
    for row, look in zip(response, _looks(rows, labels), strict=True):
        ax.plot(_scaled(omega, h.dt), np.degrees(_unwrapped(row)), **look)
    _frequency_axis(ax, omega, h.dt, log=log)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 1.8, 3, 4.5, 9, 10]))
    ax.set_ylabel("phase (degrees)")
    return _finish(ax, len(rows))


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
        log: Whether the frequency axis is logarithmic, over three decades, or linear from 0.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes; the delay is in seconds if the filters have a sampling interval, else in samples.

    Example:
        >>> import torch
        >>> h = TransferFunction(torch.tensor([[0.0, 1.0]]), torch.zeros(1, 2), torch.tensor([0.0]))
        >>> group_delay(h).get_lines()[0].get_ydata().round(6)[[0, -1]]
        array([2., 2.])
    """
    ax = _axes(ax)
    rows = _channels(h, channels)
    omega = _frequencies(h, points, log=log)
    # Over a step this small no phase bends: a central difference is exact to rounding, a few millionths of a sample.
    apart = 1e-6
    after, before = (_array(h.frequency_response(torch.from_numpy(omega + side * apart)))[rows] for side in (0.5, -0.5))
    delay = -np.angle(after * before.conj()) / apart * (1.0 if h.dt is None else h.dt)
    for row, look in zip(delay, _looks(rows, labels), strict=True):
        ax.plot(_scaled(omega, h.dt), row, **look)
    _frequency_axis(ax, omega, h.dt, log=log)
    ax.set_ylabel("group delay (samples)" if h.dt is None else "group delay (s)")
    return _finish(ax, len(rows))


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

    ax = _axes(ax)
    x = np.asarray(epochs)
    if marked is not None:
        ax.axvline(marked, color=_GREY, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
    for values, look in zip(curves.values(), _looks(range(len(curves)), list(curves)), strict=True):
        ax.plot(x, np.asarray(values), marker="o", markersize=3, **look)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")
    ax.set_ylabel(ylabel)
    return _finish(ax, len(curves))


def _frequencies(h: FilterBank, points: int, *, log: bool) -> np.ndarray:
    """A grid and, so that no resonance falls between its points, the angles of the poles."""
    grid = np.geomspace(np.pi / 1000, np.pi, points) if log else np.linspace(0, np.pi, points)
    angles = np.abs(np.angle(_array(h.poles()))).ravel()
    return np.unique(np.concatenate([grid, angles[(angles >= grid[0]) & (angles <= np.pi)]]))


def _scaled(omega: np.ndarray, dt: float | None) -> np.ndarray:
    return omega if dt is None else omega / (2 * np.pi * dt)


def _frequency_axis(ax: Axes, omega: np.ndarray, dt: float | None, *, log: bool) -> None:
    if log:
        ax.set_xscale("log")
    elif dt is None:
        ax.set_xticks(np.linspace(0, np.pi, 5), ["0", "π/4", "π/2", "3π/4", "π"])
    ends = _scaled(omega, dt)
    ax.set_xlim(ends[0], ends[-1])
    ax.set_xlabel("frequency (rad/sample)" if dt is None else "frequency (Hz)")


def _unwrapped(response: np.ndarray) -> np.ndarray:
    """Phase without jumps of a turn, which starts within half a turn of 0; none where the response is no number."""
    found = np.full(response.shape, np.nan)
    good = np.isfinite(response)
    found[good] = np.unwrap(np.angle(response[good]))
    return found


def _mark_frequencies(dt: float | None, ax: Axes) -> None:
    for eighths, name in enumerate(("0", "π/4", "π/2", "3π/4", "π")):
        angle = eighths * np.pi / 4
        hertz = 0 if dt is None else eighths / 8 / dt
        text = name if dt is None else (f"{hertz:,.0f}" if hertz >= 100 else f"{hertz:.3g}") + " Hz" * (eighths == 4)
        for side in (1, -1) if 0 < eighths < 4 else (1,):
            x, y = np.cos(angle), side * np.sin(angle)
            ax.plot([0.97 * x, 1.03 * x], [0.97 * y, 1.03 * y], color=_GREY, linewidth=0.8, zorder=1)
            above = 0.07 if eighths in (0, 4) else 0.0  # clear of the axis
            ax.text(1.13 * x, 1.13 * y + above, text, ha="center", va="center", fontsize=7, color="0.35")


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError:
        raise ModuleNotFoundError("drawing needs matplotlib: pip install 'transferfn[plots]'") from None
    return pyplot.subplots(figsize=(5.0, 3.2), layout="constrained")[1]


def _channels(h: FilterBank, channels: Sequence[int] | None) -> list[int]:
    if isinstance(h, TransferFunction) and h.b.dim() != 2:
        raise ValueError(f"expected one bank of filters, numerator (D, n), got {tuple(h.b.shape)}: pick one, e.g. [0]")
    rows = list(range(h.channels)) if channels is None else [int(channel) for channel in channels]
    if wrong := [row for row in rows if not 0 <= row < h.channels]:
        raise ValueError(f"channels must lie in 0..{h.channels - 1}, got {wrong}")
    return rows


def _looks(rows: Sequence[int], labels: Sequence[str] | None) -> list[dict[str, Any]]:
    names = [f"channel {row}" for row in rows] if labels is None else list(labels)
    if len(names) != len(rows):
        raise ValueError(f"expected {len(rows)} labels, one a channel, got {len(names)}")
    # A channel has the same look in every picture, whichever others are in it.
    return [
        {
            "color": COLOURS[row % len(COLOURS)],
            "linestyle": _DASHES[row % len(_DASHES)] if len(rows) > 1 else "-",
            "linewidth": 1.3,
            "label": name,
        }
        for row, name in zip(rows, names, strict=True)
    ]


def _array(values: torch.Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()


def _finish(ax: Axes, lines: int, *, grid: bool = True) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    if grid:
        ax.grid(color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)
    if 1 < lines <= 8:
        ax.legend(frameon=False, fontsize="small")
    return ax
