"""`transferfn report RUNS...`: finished runs side by side, and beside what was published, as a table and pictures."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from transferfn.files import replacing, write_json, write_text
from transferfn.training import Result, RunError, TrainConfig
from transferfn.training.config import kind_name, to_dict
from transferfn.training.objective import Metric, told
from transferfn.training.published import published
from transferfn.training.radii import QUANTILES
from transferfn.training.run import RunFolder, read_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True, slots=True)
class Compare:
    """Compare runs with each other and with what was published: a table (Markdown, CSV, JSON) and pictures."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs, or folders that hold such folders. Runs that differ only in their seed are one row; those that
    were reduced or distilled are rows of their own."""

    out: Path = Path("runs") / "report"
    """Where it goes: with .md, .csv, .json and, of the pictures, -*.png at its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """A run that was read."""

    folder: RunFolder
    """Where it is."""

    config: TrainConfig
    """What it computed."""

    result: Result
    """What it came to."""

    derivation: str | None
    """How it was made from another run with the same configuration; None if it was trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Runs that differ only in their seed."""

    label: str
    """What sets it apart from the other groups."""

    runs: tuple[Finished, ...]
    """The runs."""

    @property
    def config(self) -> TrainConfig:
        """What they computed."""
        return self.runs[0].config

    @property
    def scores(self) -> list[float]:
        """Their test scores."""
        return [run.result.test_score for run in self.runs]


def compare(command: Compare) -> None:
    """Read, write the tables and pictures, and print the table.

    Args:
        command: Which runs.

    Raises:
        RunError: if there is no finished run.
    """
    groups = grouped([run for path in command.runs for run in finished(path)])
    if not groups:
        told_paths = ", ".join(str(path) for path in command.runs)
        raise RunError(f"no finished run in {told_paths}: a finished run has a result.json; train first")
    command.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [row(group) for group in groups]
    text = table(rows) + "".join(f"\n{line}\n" for line in beside(groups))
    write_text(command.out.with_suffix(".md"), text)
    write_text(command.out.with_suffix(".csv"), comma_separated(rows))
    write_json(command.out.with_suffix(".json"), rows)
    pictures = {"learning": learning_figure(groups), "radii": radii_figure(groups)}
    for name, figure in pictures.items():
        if figure is not None:
            path = command.out.with_name(f"{command.out.name}-{name}.png")
            with replacing(path) as part:
                figure.savefig(part, dpi=150, format="png", bbox_inches="tight", pad_inches=0.06)
    print(text, end="")


def finished(path: Path) -> list[Finished]:
    """Return the finished runs at a path, or one level below it.

    Args:
        path: A folder.

    Raises:
        RunError: if it is no folder.
    """
    if not path.is_dir():
        raise RunError(f"{path} is no folder with runs")
    found = []
    for folder in [path, *sorted(below for below in path.iterdir() if below.is_dir())]:
        run = RunFolder(path=folder)
        if (result := run.read_result()) is not None:
            derivation = run.read_derivation()
            found.append(Finished(folder=run, config=run.read_config(), result=result, derivation=derivation))
    return found


def grouped(runs: Sequence[Finished]) -> list[Group]:
    """Put runs together that differ only in their seeds, and label each by what sets it apart from others of its mixer.

    Args:
        runs: The runs.
    """
    groups: dict[tuple[str, str | None], list[Finished]] = {}
    for run in runs:
        same = replace(run.config, seed=0, data=replace(run.config.data, seed=0) if _seeded(run) else run.config.data)
        groups.setdefault((repr(same), run.derivation), []).append(run)
    flat = [_flat(to_dict(members[0].config)) for members in groups.values()]
    found = []
    for values, members in zip(flat, groups.values(), strict=True):
        # Other mixers have other learning rates, and options that mean nothing to this one.
        alike = [other for other in flat if other["model.mixer"] == values["model.mixer"]]
        names = [name for name in values if name not in _UNTOLD and len({repr(o.get(name)) for o in alike}) > 1]
        if names != ["epoch_steps"]:  # runs of equal time do as many steps as they can
            names = [name for name in names if name != "epoch_steps"]
        parts = [f"{name.removeprefix('model.')} {values[name]}" for name in names]
        parts += [] if members[0].derivation is None else [members[0].derivation]
        found.append(Group(label=", ".join([members[0].config.model.mixer, *parts]), runs=tuple(members)))
    return found


_UNTOLD = ("seed", "data.seed", "data.kind", "model.kind")


def row(group: Group) -> dict[str, Any]:
    """Return what is known of a group, by the names of the table's columns.

    Args:
        group: The runs.
    """
    results = [run.result for run in group.runs]
    scores, metric = group.scores, results[0].metric
    return {
        "task": kind_name(type(group.config.data)),
        "model": group.label,
        "parameters": results[0].parameters,
        "seeds": len(results),
        "metric": metric,
        "mean": statistics.fmean(scores),
        "lowest": min(scores),
        "highest": max(scores),
        "steps": results[0].steps,
        # What was derived from an interrupted run knows neither: both are 0.
        "steps a second": statistics.fmean(result.steps / (result.seconds or 1) for result in results),
        "memory MB": max(result.peak_memory for result in results) / 1e6,
        "published": published(group.config).get(_NAMES.get(group.config.model.mixer, "")),
    }


_NAMES = {
    "rtf": "RTF",
    "s4": "S4",
    "s4d": "S4D",
    "s5": "S5",
    "attention": "Transformer",
    "hyena": "Hyena",
    "hyena-rtf": "Hyena-RTF",
}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Write rows as a Markdown table.

    Args:
        rows: The groups.
    """
    head = "| task | model | parameters | test score, mean (lowest to highest, seeds) | published | steps | "
    lines = [head + "steps a second | memory MB |", "|---|---|---|---|---|---|---|---|"]
    for values in rows:
        metric = values["metric"]
        score = told(metric, values["mean"])
        if values["seeds"] > 1:
            score += f" ({told(metric, values['lowest'])} to {told(metric, values['highest'])}, {values['seeds']})"
        beside_it = "" if values["published"] is None else told(metric, values["published"])
        lines.append(
            f"| {values['task']} | {values['model']} | {values['parameters']:,} | {metric} {score} | {beside_it} | "
            f"{values['steps']:,} | {values['steps a second']:.1f} | {values['memory MB']:,.0f} |"
        )
    return "\n".join(lines) + "\n"


def beside(groups: Sequence[Group]) -> list[str]:
    """Say what was published on the experiments of these runs, one line each.

    Args:
        groups: The groups.
    """
    lines = []
    for group in groups:
        if found := published(group.config):
            metric = group.runs[0].result.metric
            order = f" at order {group.config.model.order}" if len(found) == 2 else ""
            figures = ", ".join(f"{name} {_figure(metric, value)}" for name, value in found.items())
            lines.append(f"Published for {kind_name(type(group.config.data))}{order} (not measured here): {figures}.")
    return list(dict.fromkeys(lines))


def _figure(metric: Metric, score: float) -> str:
    """A published score, and its perplexity if that is how it was published."""
    return told(metric, score) + (f" bits (perplexity {2**score:.1f})" if metric == "bits" else "")


def comma_separated(rows: Sequence[dict[str, Any]]) -> str:
    """Write rows as CSV.

    Args:
        rows: The groups.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def learning_figure(groups: Sequence[Group]) -> Figure | None:
    """Draw the score after each epoch, a line for the mean of each group, and the published ones as dotted lines.

    Args:
        groups: The groups; those with another metric than the first are left out.

    Returns:
        The figure, or None if there is nothing to draw.
    """
    metric = groups[0].runs[0].result.metric
    curves = {}
    for group in groups:
        if group.runs[0].result.metric == metric:
            column = f"val_{metric}" if group.runs[0].result.validation_score is not None else f"train_{metric}"
            curves[group.label] = [_column(run, column) for run in group.runs]
    curves = {label: found for label, found in curves.items() if all(len(values) > 1 for values in found)}
    if not curves:
        return None
    figure, ax = _axes()
    scale = 100 if metric == "accuracy" else 1
    for label, found in curves.items():
        length = min(len(values) for values in found)
        epochs = range(1, length + 1)
        mean = [scale * statistics.fmean(values[at] for values in found) for at in range(length)]
        style = "-" if len(ax.lines) < 10 else "--"  # there are ten colours
        (line,) = ax.plot(epochs, mean, marker="o", markersize=2.5, linewidth=1.3, linestyle=style, label=label)
        low, high = ([scale * end(values[at] for values in found) for at in range(length)] for end in (min, max))
        ax.fill_between(epochs, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    for name, value in published(groups[0].config).items():
        ax.axhline(scale * value, color="0.6", linewidth=0.8, linestyle=(0, (1, 2)))
        ax.annotate(f"{name}, published", (1, scale * value), fontsize="x-small", color="0.4", va="bottom")
    if metric == "rmse":
        ax.set_yscale("log")
    ax.set_xlabel("epoch")
    ax.set_ylabel(_AXES[metric])
    _finish(ax, len(curves))
    return figure


def radii_figure(groups: Sequence[Group]) -> Figure | None:
    """Draw the pole radii of the filters over training: the median, and from the lowest to the highest tenth.

    Args:
        groups: The groups; those without such filters are left out.

    Returns:
        The figure, or None if there are no filters.
    """
    found = [(group, {name: _column(group.runs[0], name) for name in QUANTILES}) for group in groups]
    found = [(group, columns) for group, columns in found if all(columns.values())]
    if not found:
        return None
    from matplotlib.figure import Figure

    across = min(4, len(found))
    down = -(-len(found) // across)
    figure = Figure(figsize=(2.3 * across + 0.6, 1.9 * down + 0.4), layout="constrained")
    axes = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flatten()
    for (group, columns), ax in zip(found, axes, strict=False):
        epochs = range(1, len(columns["radius_max"]) + 1)
        ax.axhline(1, color="0.3", linewidth=0.8)
        ax.fill_between(epochs, columns["radius_low"], columns["radius_high"], color="C0", alpha=0.25, linewidth=0)
        ax.plot(epochs, columns["radius_median"], color="C0", linewidth=1.3)
        ax.plot(epochs, columns["radius_max"], color="C1", linewidth=1.0, linestyle=(0, (4, 2)))
        ax.set_title(group.label.replace(", ", "\n", 1), fontsize="x-small", loc="left")
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[len(found) :]:
        ax.set_visible(False)
    figure.supxlabel("epoch", fontsize="small")
    figure.supylabel("largest pole radius of each filter:\nmedian, middle 80 %, largest (dashed)", fontsize="small")
    return figure


_AXES = {
    "accuracy": "validation accuracy (%)",
    "rmse": "validation root mean squared error",
    "bits": "validation bits a token",
}


def _axes() -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    return figure, figure.add_subplot()


def _finish(ax: Any, count: int) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 + count // 16)


def _column(run: Finished, name: str) -> list[float]:
    return [float(row[name]) for row in read_rows(run.folder.metrics) if row.get(name)]


def _flat(values: dict[str, Any], where: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{where}{name}.") if isinstance(value, dict) else {f"{where}{name}": value}
    return flat


def _seeded(run: Finished) -> bool:
    return hasattr(run.config.data, "seed")
