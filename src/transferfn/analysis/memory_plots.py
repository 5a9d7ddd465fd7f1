"""Pictures of how long filters remember, and of how many states that takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from transferfn.analysis._axes import as_array, axes_or_new, finished, frequency_axis, in_unit, looks_of, rows_of
from transferfn.analysis.banks import ON_CIRCLE, FilterBank, channels_of
from transferfn.analysis.banks import hankel_values as values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALLEST = 1e-12  # of Hankel singular values that are drawn, relative to the largest: below is rounding
MARKERS = ("o", "s", "^", "D", "v")


def time_constants(
    h: FilterBank,
    *,
    channels: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw each mode at its frequency and its time constant -1 / ln |p|, in which it falls by e.

    A pair of poles is one mode. Poles at zero, which are delays, have no time constant. Neither have those that are, to
    rounding, on or outside the unit circle; a line says how many of these there are. The frequency axis ends a quarter
    above the highest mode, at half the sampling rate at most.

    Args:
        h: The filters.
        channels: Which filters; None means all.
        labels: What to call them; None means by their channel.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes; in seconds and Hz if the filters have a sampling interval, else in samples and rad/sample.

    Example:
        >>> import torch
        >>> from transferfn.core import TransferFunction
        >>> h = TransferFunction(torch.tensor([[0.9]]), torch.tensor([[-0.9]]), torch.tensor([1.0]), dt=0.01)
        >>> time_constants(h).get_lines()[0].get_ydata().round(4)
        array([0.0949])
    """
    ax = axes_or_new(ax)
    rows = rows_of(h, channels)
    poles = as_array(h.poles())
    highest, left_out, found = 0.0, 0, []
    for row, look in zip(rows, looks_of(rows, labels), strict=True):
        mine = poles[row * h.denominator_groups // h.channels]
        mine = mine[(mine.imag >= 0) & (mine != 0)]
        shown = mine[np.abs(mine) < 1 - ON_CIRCLE]
        left_out += len(mine) - len(shown)
        angle = np.abs(np.angle(shown))
        highest = max(highest, angle.max(initial=0))
        times = -1 / np.log(np.abs(shown)) * (1.0 if h.dt is None else h.dt)
        found.extend(times)
        look["linestyle"] = "none"
        marker = MARKERS[row % len(MARKERS)] if len(rows) > 1 else "o"
        ax.plot(in_unit(angle, h.dt), times, marker=marker, markersize=5, alpha=0.8, clip_on=False, **look)
    ax.set_yscale("log")
    if found and max(found) < 10 * min(found):  # a decade at least, so that numbers stand at the axis
        ax.set_ylim(10 ** np.floor(np.log10(min(found) / 1.1)), 10 ** np.ceil(np.log10(1.1 * max(found))))
    frequency_axis(ax, np.array([0, min(1.25 * highest, np.pi) or np.pi]), h.dt, log=False)
    ax.set_ylabel("time constant (samples)" if h.dt is None else "time constant (s)")
    _tell(ax, left_out, "mode", "not inside the unit circle")
    return finished(ax, len(rows))


def hankel_values(
    h: FilterBank,
    *,
    channels: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the Hankel singular values of each filter, largest first: what each state is worth.

    What balanced truncation leaves out changes no frequency response by more than twice the sum of the values left out.
    Values below a rounding error of the largest are not drawn. Filters that are not stable have none; a line says how
    many there are, those included whose values are not computed
    (:func:`~transferfn.analysis.banks.hankel_values`).

    Args:
        h: The filters; few of them, as each takes a decomposition.
        channels: Which filters; None means all.
        labels: What to call them; None means by their channel.
        ax: Where to draw; None makes a figure.

    Returns:
        The axes.

    Example:
        >>> import torch
        >>> from transferfn.core import TransferFunction
        >>> h = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0]))
        >>> hankel_values(h).get_lines()[0].get_ydata().round(4)
        array([0.6667])
    """
    from matplotlib.ticker import MaxNLocator

    ax = axes_or_new(ax)
    rows = rows_of(h, channels)
    values = as_array(values_of(channels_of(h, rows)))
    for row, look in zip(values, looks_of(rows, labels), strict=True):
        seen = np.where(row >= SMALLEST * row.max(initial=0), row, np.nan)
        look["label"] += ": none" * bool(np.isnan(row).any())
        ax.plot(np.arange(1, len(row) + 1), seen, marker="o", markersize=4, **look)
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlim(0.5, max(values.shape[1], 1) + 0.5)
    ax.set_xlabel("state")
    ax.set_ylabel("Hankel singular value")
    _tell(ax, int(np.isnan(values).any(-1).sum()), "filter", "not stable, or not computed")
    return finished(ax, len(rows))


def _tell(ax: Axes, count: int, what: str, why: str) -> None:
    """Say in the corner what the picture leaves out."""
    if count:
        text = f"{count} {what}{'s' * (count > 1)} not shown: {why}"
        ax.set_title(text, loc="right", fontsize="x-small", color="0.35")
