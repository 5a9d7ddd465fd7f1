"""The picture of runs side by side as they learned."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transferfn.cli.groups import Finished, Group, by_task
from transferfn.training.published import published, published_order, unlike
from transferfn.training.run import read_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def learning_figure(groups: Sequence[Group]) -> Figure | None:
    """Draw the score after each epoch: a panel a task, a line for the median of each group, dotted ones as published.

    Of several seeds each has a thin line: they may come to two ends, with nothing between.

    Args:
        groups: The groups.

    Returns:
        The figure, or None if there is nothing to draw.
    """
    curves = {task: _curves(members) for task, members in by_task(groups).items()}
    curves = {task: found for task, found in curves.items() if found}
    if not curves:
        return None
    from matplotlib.figure import Figure

    # Panels of one size; the picture grows by the legends beside them, whose labels may be long.
    figure = Figure(figsize=(4.4, 3.6 * len(curves)))
    panels = figure.subplots(len(curves), squeeze=False, gridspec_kw={"hspace": 0.4}).flatten()
    for (task, found), ax in zip(curves.items(), panels, strict=True):
        _draw_curves(ax, found)
        if len(curves) > 1:
            ax.set_title(task, fontsize="small", loc="left", pad=10)
    return figure


_AXES = {
    "accuracy": "validation accuracy (%)",
    "rmse": "validation root mean squared error",
    "bits": "validation bits a token",
}


_STYLES = ("-", "--", ":", "-.")


def _curves(groups: Sequence[Group]) -> list[tuple[Group, list[list[float]]]]:
    """Return the scores of the runs of each group after each epoch; groups of a single epoch are left out."""
    found = []
    for group in groups:
        result = group.runs[0].result
        column = f"{'train' if result.validation_score is None else 'val'}_{result.metric}"
        scores = [_column(run, column) for run in group.runs]
        if all(len(values) > 1 for values in scores):
            found.append((group, scores))
    return found


def _draw_curves(ax: Any, curves: Sequence[tuple[Group, list[list[float]]]]) -> None:
    metric = curves[0][0].runs[0].result.metric  # one task is judged in one way
    scale = 100 if metric == "accuracy" else 1
    for place, (group, found) in enumerate(curves):
        length = min(len(values) for values in found)
        epochs = range(1, length + 1)
        median = [scale * statistics.median(values[at] for values in found) for at in range(length)]
        colour, style = f"C{place % 10}", _STYLES[place // 10 % len(_STYLES)]  # there are ten colours
        thin = {"color": colour, "linestyle": style, "linewidth": 0.5, "alpha": 0.6}
        for values in found if len(found) > 1 else ():
            ax.plot(range(1, len(values) + 1), [scale * value for value in values], **thin)
        ax.plot(
            epochs, median, color=colour, linestyle=style, linewidth=1.6, marker="o", markersize=2.5, label=group.label
        )
    if metric == "rmse":
        ax.set_yscale("log")
    groups = [group for group, _ in curves]
    marks = dict.fromkeys(mark for group in groups for mark in unlike(group.config))
    _draw_published(ax, {name: scale * value for name, value in _published(groups).items()}, list(marks))
    ax.set_xlabel("epoch")
    ax.set_ylabel(_AXES[metric])
    _tidy(ax)
    columns = 1 + len(curves) // 16
    ax.legend(frameon=False, fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5), ncols=columns)


def _published(groups: Sequence[Group]) -> dict[str, float]:
    """Return what was published on a task by layer, and by order where it depends on that."""
    found: dict[str, float] = {}
    for group in groups:
        order = published_order(group.config)
        at = "" if order is None else f" of order {order}"
        found |= {f"{name}{at}": value for name, value in published(group.config).items()}
    return found


def _draw_published(ax: Any, figures: dict[str, float], marks: Sequence[str]) -> None:
    """Draw dotted lines, with what they are of and the runs are not; names of those that nearly coincide together."""
    for value in figures.values():
        ax.axhline(value, color="0.6", linewidth=0.8, linestyle=(0, (1, 2)))
    to_axes = ax.transData + ax.transAxes.inverted()
    bunches: list[list[tuple[str, float]]] = []
    height = -1.0
    for name, value in sorted(figures.items(), key=lambda one: one[1]):
        above, height = height, float(to_axes.transform((1, value))[1])
        if bunches and height - above < 0.045:  # of the panel's height: a line of text
            bunches[-1].append((name, value))
        else:
            bunches.append([(name, value)])
    what = f"published ({', '.join(marks)})" if marks else "published"
    for bunch in bunches:
        names = ", ".join(name for name, _ in bunch)
        ax.annotate(f"{names}, {what}", (1, bunch[-1][1]), fontsize="x-small", color="0.4", va="bottom")


def _tidy(ax: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)


def _column(run: Finished, name: str) -> list[float]:
    return [float(row[name]) for row in read_rows(run.folder.metrics) if row.get(name)]
