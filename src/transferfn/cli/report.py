"""`transferfn report RUNS...`: finished runs side by side, and beside what was published, as a table and pictures."""

from __future__ import annotations

import csv
import io
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import tyro

from transferfn.bench.machine import machine
from transferfn.cli.groups import Group, by_task, finished, grouped, unfinished
from transferfn.cli.radii import radii_figure
from transferfn.cli.report_pictures import learning_figure
from transferfn.files import replacing, with_ending, write_json, write_text
from transferfn.training import RunError
from transferfn.training.objective import Metric, format_score
from transferfn.training.published import experiment, published, published_order, unlike
from transferfn.training.run import read_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Compare runs with each other and with what was published: a table (Markdown, CSV, JSON) and pictures."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs, or folders that hold such folders. Runs that differ only in their seed are one row; those that
    were reduced or distilled are rows of their own."""

    out: Path = Path("runs") / "report"
    """Where it goes: with .md, .csv, .json and, of the pictures, -*.png at its end. The .json also has every run by
    itself, and when and on what the report was made."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("report takes folders of runs, or folders that hold such folders: none was named")


def report_runs(command: Report, *, asked: Sequence[str] | None = None) -> None:
    """Read, write the tables and pictures, and print the table.

    Args:
        command: Which runs.
        asked: The command line that asks for this, without the program's name; None means ``transferfn report``.

    Raises:
        RunError: if there is no finished run, or one is there twice.
    """
    groups = grouped(finished(*command.runs))
    left_out = ", ".join(str(path) for path in unfinished(*command.runs))
    if not groups:
        told_paths = ", ".join(str(path) for path in command.runs)
        advice = (
            f"not finished: {left_out}; the command that began a run goes on with it" if left_out else "train first"
        )
        raise RunError(f"no finished run in {told_paths}: a finished run has a result.json; {advice}")
    command.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [row(group) for group in groups]
    notes = [*beside(groups), *([f"Not finished, left out: {left_out}."] if left_out else [])]
    text = table(rows) + "".join(f"\n{line}\n" for line in notes)
    write_text(with_ending(command.out, ".md"), text)
    write_text(with_ending(command.out, ".csv"), comma_separated(rows))
    if asked is None:
        asked = ["report", *map(str, command.runs), "--out", str(command.out)]
    found = {
        "reported": {
            "command": shlex.join(["transferfn", *asked]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine("torch", "numba"),  # runs may have been carried out on another
        },
        "groups": [values | {"runs": each_run(group)} for values, group in zip(rows, groups, strict=True)],
    }
    write_json(with_ending(command.out, ".json"), found)
    several = len(by_task(groups)) > 1
    titles = [f"{group.task}, {group.label}" if several else group.label for group in groups]
    logs = [[read_rows(run.folder.metrics) for run in group.runs] for group in groups]
    pictures = {"learning": learning_figure(groups), "radii": radii_figure(list(zip(titles, logs, strict=True)))}
    for name, figure in pictures.items():
        if figure is not None:
            path = command.out.with_name(f"{command.out.name}-{name}.png")
            with replacing(path) as part:
                figure.savefig(part, dpi=150, format="png", bbox_inches="tight", pad_inches=0.06)
    print(text, end="")


def row(group: Group) -> dict[str, Any]:
    """Return what is known of a group, by the names of the table's columns.

    Args:
        group: The runs.
    """
    results = [run.result for run in group.runs]
    scores, metric = group.scores, results[0].metric
    figure = published(group.config).get(_NAMES.get(group.config.model.mixer, ""))
    return {
        "task": group.task,
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
        "memory MB": max(result.peak_memory for result in results) / 1e6 or None,  # 0 where it was not told
        "published": figure,
        "published with": None if figure is None else ", ".join(unlike(group.config)) or None,  # and the runs without
    }


def each_run(group: Group) -> list[dict[str, Any]]:
    """Return what each run of a group came to.

    Args:
        group: The runs.
    """
    return [
        {
            "seed": run.config.seed,
            "score": run.result.test_score,
            "steps": run.result.steps,
            "seconds": run.result.seconds,
        }
        for run in group.runs
    ]


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
        score = format_score(metric, values["mean"])
        if values["seeds"] > 1:
            lowest, highest = (format_score(metric, values[name]) for name in ("lowest", "highest"))
            score += f" ({lowest} to {highest}, {values['seeds']})"
        memory = "" if values["memory MB"] is None else f"{values['memory MB']:,.0f}"
        beside_it = "" if values["published"] is None else format_score(metric, values["published"])
        beside_it += "" if values["published with"] is None else f" ({values['published with']})"
        lines.append(
            f"| {values['task']} | {values['model']} | {values['parameters']:,} | {metric} {score} | {beside_it} | "
            f"{values['steps']:,} | {values['steps a second']:.1f} | {memory} |"
        )
    return "\n".join(lines) + "\n"


def beside(groups: Sequence[Group]) -> list[str]:
    """Say what was published on the experiments of these runs, one line each.

    Args:
        groups: The groups.
    """
    lines: dict[str, str] = {}
    marks: dict[str, dict[str, None]] = {}
    for group in groups:
        if found := published(group.config):
            metric = group.runs[0].result.metric
            order = published_order(group.config)
            at = "" if order is None else f" at order {order}"
            start = f"Published for {experiment(group.config)}{at}"
            lines[start] = ", ".join(f"{name} {_figure(metric, value)}" for name, value in found.items())
            marks.setdefault(start, {}).update(dict.fromkeys(unlike(group.config)))
    return [
        f"{start} (not measured here{''.join(f'; {mark}' for mark in marks[start])}): {figures}."
        for start, figures in lines.items()
    ]


def _figure(metric: Metric, score: float) -> str:
    """A published score, and its perplexity if that is how it was published."""
    return format_score(metric, score) + (f" bits (perplexity {2**score:.1f})" if metric == "bits" else "")


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
