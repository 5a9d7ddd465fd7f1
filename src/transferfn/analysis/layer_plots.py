"""Pictures of many filters at once: what a whole layer does, in distributions and bands, not in hundreds of lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from transferfn.analysis import plots
from transferfn.analysis.banks import FilterBank

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 60
SMALLEST = 1e-12  # of relative Hankel singular values that are drawn: below is rounding


def distributions(
    rows: Mapping[str, ArrayLike], *, xlabel: str, marked: Literal["largest", "smallest"] = "largest", ax: Axes
) -> Axes:
    """Draw positive values as one hill a row over a common logarithmic axis; ticks mark its median and its extreme.

    What is zero, negative, infinite or no number has no place on the axis; a row says how many such values it has.

    Args:
        rows: Values by the name of their row, from top to bottom.
        xlabel: What they are, with their unit.
        marked: Which end of each row is marked, by a short tick.
        ax: Where to draw.

    Returns:
        The axes.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = distributions({"layer 1": [1.0, 2.0, 2.0, 4.0]}, xlabel="time (samples)", ax=Figure().subplots())
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['layer 1']
    """
    from matplotlib.ticker import NullFormatter

    values = {name: np.asarray(row, float).ravel() for name, row in rows.items()}
    shown = {name: row[np.isfinite(row) & (row > 0)] for name, row in values.items()}
    together = np.concatenate([*shown.values(), np.zeros(0)])
    low, high = (together.min(), together.max()) if len(together) else (1.0, 1.0)
    low, high = low / 1.3, high * 1.3
    if high < 10 * low:  # a decade at least, so that numbers stand at the axis
        low, high = 10 ** np.floor(np.log10(low)), 10 ** np.ceil(np.log10(high))
    edges = np.geomspace(low, high, BINS + 1)
    middle = np.sqrt(edges[1:] * edges[:-1])
    for place, (name, row) in enumerate(shown.items()):
        base = len(shown) - 1 - place
        ax.axhline(base, color="0.9", linewidth=0.6, zorder=0)
        if len(row):
            count = np.histogram(row, edges)[0].astype(float)
            count = np.convolve(count, [0.25, 0.5, 0.25], "same")
            ax.fill_between(
                middle, base, base + 0.8 * count / count.max(), color=plots.COLOURS[0], alpha=0.35, linewidth=0
            )
            ax.plot(np.median(row), base, marker="|", markersize=11, markeredgewidth=2, color=plots.COLOURS[0])
            extreme = row.max() if marked == "largest" else row.min()
            ax.plot(extreme, base, marker="|", markersize=7, markeredgewidth=1.5, color=plots.COLOURS[1])
        if left_out := len(values[name]) - len(row):
            ax.annotate(
                f"{left_out:,} not shown", (0.995, base + 0.1), xycoords=("axes fraction", "data"), ha="right",
                fontsize="x-small", color=plots.COLOURS[1],
            )  # fmt: skip
    ax.set_xscale("log")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(low, high)
    ax.set_ylim(-0.25, len(shown) - 0.1)
    ax.set_yticks(range(len(shown) - 1, -1, -1), list(shown))
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(xlabel)
    ax.spines[["top", "right", "left"]].set_visible(False)
    return ax


def pole_cloud(poles: torch.Tensor, *, ax: Axes) -> Axes:
    """Draw many poles as faint dots, to lie behind a few that are drawn clearly.

    Args:
        poles: Poles, complex, of any shape.
        ax: Where to draw.

    Returns:
        The axes.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = pole_cloud(torch.tensor([0.5 + 0.1j, 0.5 - 0.1j]), ax=Figure().subplots())
        >>> len(ax.get_lines()[0].get_xdata())
        2
    """
    z = poles.detach().cpu().flatten().resolve_conj()
    # Thousands of dots as drawing commands would make a file of megabytes.
    ax.plot(
        z.real.numpy(), z.imag.numpy(), linestyle="none", marker=".", markersize=2.5, markeredgewidth=0, alpha=0.35,
        color="0.55", rasterized=len(z) > 400, zorder=1.5, label="_nolegend_",
    )  # fmt: skip
    return ax


def magnitude_band(h: FilterBank, *, points: int = 512, log: bool = True, ax: Axes) -> Axes:
    """Draw at each frequency the magnitude that the median channel has and the band that holds the middle 80 %.

    Args:
        h: The filters.
        points: Number of frequencies.
        log: Whether the frequency axis is logarithmic, over three decades, or linear from 0.
        ax: Where to draw.

    Returns:
        The axes; frequency is in Hz if the filters have a sampling interval, else in rad/sample.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from transferfn.core import TransferFunction
        >>> h = TransferFunction(torch.tensor([[0.9]]), torch.tensor([[-0.9]]), torch.tensor([1.0]))
        >>> len(magnitude_band(h, ax=Figure().subplots()).get_lines()[0].get_xdata())
        512
    """
    omega = np.geomspace(np.pi / 1000, np.pi, points) if log else np.linspace(0, np.pi, points)
    response = h.frequency_response(torch.from_numpy(omega)).abs().cpu().numpy()
    decibels = 20 * np.log10(np.clip(response, 1e-12, 1e12))
    low, median, high = np.quantile(decibels, [0.1, 0.5, 0.9], axis=0)
    frequency = omega if h.dt is None else omega / (2 * np.pi * h.dt)
    ax.fill_between(frequency, low, high, color="0.55", alpha=0.25, linewidth=0, zorder=0, label="_nolegend_")
    ax.plot(frequency, median, color="0.55", linewidth=1.2, zorder=1, label="median of all")
    return ax


def hankel_decay(values: ArrayLike, *, labels: Sequence[str] | None = None, ax: Axes) -> Axes:
    """Draw Hankel singular values relative to the largest of each filter: what each state more is worth.

    Args:
        values: Values of each filter, largest first, (D, n); filters that have none hold no numbers.
        labels: What to call the filters; None means by their channel.
        ax: Where to draw.

    Returns:
        The axes.

    Example:
        >>> from matplotlib.figure import Figure
        >>> ax = hankel_decay([[2.0, 1.0]], ax=Figure().subplots())
        >>> ax.get_lines()[0].get_ydata()
        array([1. , 0.5])
    """
    rows = np.atleast_2d(np.asarray(values, float))
    names = [f"channel {row}" for row in range(len(rows))] if labels is None else list(labels)
    from matplotlib.ticker import MaxNLocator

    for place, (row, name) in enumerate(zip(rows, names, strict=True)):
        relative = row / row[0] if len(row) and row[0] > 0 else np.full(len(row), np.nan)
        relative = np.where(relative >= SMALLEST, relative, np.nan)
        ax.plot(
            np.arange(1, len(row) + 1), relative, color=plots.COLOURS[place % len(plots.COLOURS)], label=name,
            marker=".", markersize=4, linewidth=0.9,
        )  # fmt: skip
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("state")
    ax.set_ylabel("relative Hankel singular value")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    return ax
