"""The picture of pole radii over training: how long filters remember at birth, and what training makes of it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transferfn.analysis.plots import COLOURS
from transferfn.training.radii import QUANTILES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, str]]
"""The log of a run."""

_TICKS = {
    -1.0: "0",
    **{-(10.0**-digits): f"0.{'9' * digits}" for digits in range(1, 7)},
    0.0: "1",
    **{10.0**-digits: f"{1 + 10.0**-digits:.{digits}f}" for digits in range(6, 0, -1)},
    **{1.0: "2", 10.0: "11", 100.0: "101", 1000.0: "1001"},
}
"""Distances to the unit circle, negative inside, and the radii that are written there."""

_TITLE = 42
"""Small characters that the width of one axes has room for."""


def radii_figure(groups: Sequence[tuple[str, Sequence[Rows]]]) -> Figure | None:
    """Draw the pole radii of filters over training, axes for each group of runs that differ only in their seed.

    The median, the middle 80 % and the largest of all filters; of several seeds the median of each of these, and the
    largest of all. The axis is logarithmic in the distance to the unit circle, on both sides of it, since that is what
    memory is inverse to; where radii are above 1 the ground is tinted.

    Args:
        groups: The label of each group and the logs of its runs; groups without filters are left out.

    Returns:
        The figure, or None if there are no filters.
    """
    found = [(label, len(runs), curves) for label, runs in groups if (curves := pooled(runs))]
    if not found:
        return None
    from matplotlib.figure import Figure

    across = min(4, len(found))
    down = -(-len(found) // across)
    figure = Figure(figsize=(max(2.3 * across + 0.8, 5.0), 2.1 * down + 0.9), layout="constrained")
    axes = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flatten()
    for (label, seeds, curves), ax in zip(found, axes, strict=False):
        _draw(ax, curves)
        title = label.replace(", ", "\n", 1) + (f" ({seeds} seeds)" if seeds > 1 else "")
        ax.set_title(wrapped(title), fontsize="x-small", loc="left")
    _distance_axis(axes[0], [curves[name] for _, _, curves in found for name in QUANTILES])
    for place, ax in enumerate(axes):
        ax.set_visible(place < len(found))
        ax.tick_params(labelbottom=place + across >= len(found))  # the lowest of each column
    figure.supxlabel("epoch (0: at birth)", fontsize="small")
    figure.supylabel("largest pole radius of each filter", fontsize="small")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False, fontsize=7)
    return figure


def wrapped(label: str, width: int = _TITLE) -> str:
    r"""Return a label with new lines at commas, so that no line but that of a single option is longer than its axes.

    Args:
        label: Options, separated by commas; it may have lines of its own.
        width: Characters that find room in a line.

    Example:
        >>> print(wrapped("rtf\norder 16, init zeros, constraint none (3 seeds)", 24))
        rtf
        order 16, init zeros,
        constraint none (3 seeds)
    """
    lines: list[str] = []
    for given in label.split("\n"):
        line = ""
        for option in given.split(", "):
            longer = f"{line}, {option}" if line else option
            if line and len(longer) >= width:
                lines.append(line + ",")
                longer = option
            line = longer
        lines.append(line)
    return "\n".join(lines)


def pooled(runs: Sequence[Rows]) -> dict[str, list[float]]:
    """Return the epochs, 0 for birth, and the quantiles of the radii after each, over all runs.

    Args:
        runs: Logs of runs that differ only in their seed; epochs that not all of them have are left out.

    Returns:
        ``epoch`` and the columns of the log; nothing if a run has no filters.
    """
    # The row of step 0 is from before the first epoch; runs of earlier versions have none.
    logs = [
        {0 if row["step"] == "0" else int(row["epoch"]) + 1: row for row in rows if row.get("radius_max")}
        for rows in runs
    ]
    epochs = sorted(set.intersection(*(set(log) for log in logs))) if logs else []
    if not epochs:
        return {}
    curves = {"epoch": [float(epoch) for epoch in epochs]}
    for name in QUANTILES:
        pool = max if name == "radius_max" else min if name == "radius_min" else statistics.median
        curves[name] = [pool(float(log[epoch][name]) for log in logs) for epoch in epochs]
    return curves


def _draw(ax: Axes, curves: dict[str, list[float]]) -> None:
    epochs = curves["epoch"]
    low, median, high, largest = (
        [radius - 1 for radius in curves[f"radius_{name}"]] for name in ("low", "median", "high", "max")
    )
    ax.axhspan(0, 1e9, color=COLOURS[1], alpha=0.12, linewidth=0, label="unstable")
    ax.axhline(0, color="0.3", linewidth=0.8)
    ax.fill_between(epochs, low, high, color=COLOURS[0], alpha=0.2, linewidth=0, label="middle 80 %")
    ax.plot(epochs, median, color=COLOURS[0], linewidth=1.3, label="median")
    ax.plot(epochs, largest, color=COLOURS[1], linewidth=1.0, linestyle=(0, (4, 2)), label="largest")
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize="x-small")


def _distance_axis(ax: Axes, curves: Sequence[Sequence[float]]) -> None:
    """Make the axis that all share logarithmic in the distance to 1, on both sides, and write radii at its ticks."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

    distances = [radius - 1 for curve in curves for radius in curve]
    # What is nearer to the circle than any filter comes is drawn to scale, in half a decade on each side.
    nearest = min((abs(distance) for distance in distances if abs(distance) > 1e-6), default=1e-6)
    linear = max(tick for tick in _TICKS if 0 < tick <= min(nearest, 0.1))
    ticks = [tick for tick in _TICKS if abs(tick) >= linear or tick == 0]
    low = max((tick for tick in ticks if tick < 0 and tick <= min(distances)), default=-1.0)
    high = min((tick for tick in ticks if tick > 0 and tick >= max(distances)), default=max(distances))
    shown: Any = ax
    shown.set_yscale("symlog", linthresh=linear, linscale=0.5)
    ax.set_ylim(1.1 * low, 1.1 * high)
    ax.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(lambda tick, _: _TICKS[min(ticks, key=lambda known: abs(known - tick))])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
