"""What `transferfn distill` tells: a row for each filter, tables beside the published figures, and a picture."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transferfn.bench.layer import table
from transferfn.bench.machine import machine_line
from transferfn.bench.pictures import COLORS
from transferfn.files import replacing
from transferfn.training.published import DISTILLED

if TYPE_CHECKING:
    from torch import Tensor

    from transferfn.analysis import Distillation

Row = dict[str, Any]

MEDIAN, WORST = "error of a filter, median", "worst"
SQUARED = "mean squared error of a filter"
NOTE = (
    "The error of a filter is the distance of its impulse response to that of the long filter, up to the horizon, "
    "relative to the norm of the latter; its mean squared error is that of the samples, over all filters, and grows "
    "with their scale. Published figures are mean squared errors of filters of another model (Parnichkun et al. 2024, "
    "arXiv:2405.06147), for transfer functions and for modes: it was trained longer, on other text, and the scale of "
    "its filters is not told."
)


def filter_rows(order: int, found: dict[str, Distillation], power: dict[str, Tensor]) -> list[Row]:
    """A row for each filter.

    Args:
        order: Order of the new filters.
        found: What each layer's cost, by its name.
        power: Mean square of the samples of each layer's long filters, (D), by its name.
    """
    return [
        {
            "order": order,
            "layer": name,
            "channel": channel,
            "error": float(one.error[channel]),
            "squared error": float(one.error[channel].square() * power[name][channel]),
            "error of the closed form": float(one.start_error[channel]),
            "rounding": float(one.rounding[channel]),
            "closed form": one.starts[channel],
            "steps": int(one.steps[channel]),
        }
        for name, one in found.items()
        for channel in range(len(one.error))
    ]


def summary(order: int, rows: list[Row]) -> Row:
    """The errors of all filters of an order, beside what was published.

    Args:
        order: The order.
        rows: Rows of filters, of this order and others.
    """
    errors = [row["error"] for row in rows if row["order"] == order]
    closed = [row["error of the closed form"] for row in rows if row["order"] == order]
    squared = [row["squared error"] for row in rows if row["order"] == order]
    theirs = DISTILLED.get(order, (None, None))
    return {
        MEDIAN: statistics.median(errors),
        WORST: max(errors),
        "of the closed form, median": statistics.median(closed),
        SQUARED: statistics.fmean(squared),
        "the same, published of another model, RTF": theirs[0],
        "and modes": theirs[1],
    }


def lines(found: Row) -> list[str]:
    """What came out, as Markdown.

    Args:
        found: What was found.
    """
    told = machine_line(found["machine"])
    names = list(dict.fromkeys(name for row in found["models"] for name in row))
    names.sort(key=lambda name: list(found["models"][-1]).index(name))  # the row before lacks most of them
    rows = [{name: _cell(row.get(name)) for name in names} for row in found["models"]]
    text = ["## Filters and scores", "", *table(rows), "", NOTE]
    if found["decoding"]:
        contexts = list(dict.fromkeys(context for row in found["decoding"].values() for context in row))
        contexts.sort()
        columns = [(f"step after {context:,}, ms", context, "step, ms") for context in contexts]
        columns += [(f"state after {context:,}, KiB", context, "state, KiB a row") for context in (contexts[-2:])]
        timed = [
            {"filters": name} | {title: _cell(row.get(context, {}).get(what)) for title, context, what in columns}
            for name, row in found["decoding"].items()
        ]
        text += ["", "## Decoding, one row", "", *table(timed), ""]
        text += [f'On {told}, {found["threads"]} threads. "-": past the horizon, where long filters are not known.']
    return text


def draw(found: Row, file: Path) -> bool:
    """Draw the errors of all filters, the score over the order, and the time of a step over the context.

    Args:
        found: What was found.
        file: The picture.

    Returns:
        Whether there is one: without matplotlib there is none.
    """
    if find_spec("matplotlib") is None:
        return False
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3 if found["decoding"] else 2, figsize=(11 if found["decoding"] else 7.5, 3.4))
    orders = list(dict.fromkeys(row["order"] for row in found["filters"]))
    colors = dict(zip(orders, COLORS * (1 + len(orders) // len(COLORS)), strict=False))
    _draw_errors(axes[0], found["filters"], colors)
    _draw_scores(axes[1], found["models"], colors)
    if found["decoding"]:
        _draw_steps(axes[2], found["decoding"], colors)
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    with replacing(file) as part:
        figure.savefig(part, dpi=150, format="png")
    plt.close(figure)
    return True


def _draw_errors(axis: Any, rows: list[Row], colors: Mapping[int, str]) -> None:
    for order, color in colors.items():
        errors = sorted(row["error"] for row in rows if row["order"] == order)
        axis.plot(
            [100 * (i + 0.5) / len(errors) for i in range(len(errors))], errors, color=color, label=f"order {order}"
        )
    axis.set_yscale("log")
    axis.set(title="Error of a filter", xlabel="share of the filters with no more, %", ylabel="relative error")


def _draw_scores(axis: Any, models: list[Row], colors: Mapping[int, str]) -> None:
    metric = next(name for name in ("bits a byte", "bits a token", "accuracy", "rmse") if name in models[0])
    values = [row[metric] for row in models[1:]]
    for (order, color), value in zip(colors.items(), values, strict=True):
        axis.plot([str(order)], [value], "o", color=color)
    axis.axhline(models[0][metric], color="0.4", ls="--", label="before")
    margin = max(0.02 * models[0][metric], 1.2 * max(abs(value - models[0][metric]) for value in values))
    axis.set_ylim(models[0][metric] - margin, models[0][metric] + margin)  # rounding is not to look like a loss
    axis.set(title="Score on the test samples", xlabel="order", ylabel=metric)


def _draw_steps(axis: Any, decoding: Row, colors: Mapping[int, str]) -> None:
    for name, color in {"before": "0.4", **{f"order {order}": color for order, color in colors.items()}}.items():
        contexts = list(decoding[name])
        times = [decoding[name][context]["step, ms"] for context in contexts]
        axis.plot(contexts, times, "s--" if name == "before" else "o-", color=color, label=name, markersize=4)
    axis.set_xscale("log", base=2)
    axis.set_ylim(bottom=0)
    axis.set(title="Decoding step, one row", xlabel="context, samples", ylabel="milliseconds")
    axis.xaxis.set_major_formatter(lambda x, _: f"{x:g}")


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    return f"{value:.2g}" if value < 0.1 else f"{value:.4g}"
