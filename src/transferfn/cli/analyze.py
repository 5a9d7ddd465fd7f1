"""`transferfn analyze RUN`: the filters of a trained model on one page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import tyro

from transferfn.analysis.layers import LayerFilters, ModelFilters, model_filters, sampling_intervals
from transferfn.cli.page import Section, page, svg_of
from transferfn.cli.panels import CAPTIONS, OVERVIEWS, Shown, drawing, overview, panel, shown
from transferfn.files import replacing, write_text
from transferfn.training import RunError, load_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True, kw_only=True, slots=True)
class Analyze:
    """Draw the filters of a run's best model on one page: poles, responses, time constants, stability."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""

    rate: float | None = None
    """Samples a second: frequencies are then in Hz and times in seconds; None takes that of the layers, or means in
    samples where they have none."""

    png: bool = False
    """Whether pictures are also written as PNG, for slides; they are SVG in any case."""

    out: Path | None = None
    """Folder for the page and its pictures; None takes analysis in the run's folder."""


def analyze_run(command: Analyze) -> None:
    """Look at each layer, draw, write and print.

    Args:
        command: Which run, and how.

    Raises:
        RunError: if there is no run, the rate is none, layers have several, or the page's folder cannot be written.
    """
    if command.rate is not None and not 0 < command.rate < float("inf"):
        raise RunError(f"--rate is in samples a second, a positive number; got {command.rate:g}")
    model, _ = load_model(command.run)
    dt = _interval(command, model)
    found = model_filters(model, dt=dt)
    told = remarks(found)
    if not found.layers:
        print("\n".join([*told, f"nothing to draw: {command.run} has no layer that is a filter"]))
        return
    out = command.run / "analysis" if command.out is None else command.out
    try:
        out.mkdir(parents=True, exist_ok=True)
        _clear(out)
    except OSError as error:
        raise RunError(f"the page's folder cannot be written ({error}): choose another with --out") from None
    sections, rows = [], []
    with drawing():
        drawings = [
            (_write_picture(out / f"00-{name}", figure, png=command.png), OVERVIEWS[name])
            for name, figure in overview(found.layers, dt).items()
        ]
        sections.append(Section(title="All layers", lines=[], drawings=drawings))
        for number, layer in enumerate(found.layers, 1):
            these = shown(layer)
            rows.append(row_of(these, dt))
            drawings = []
            for name, caption in CAPTIONS.items():
                file = out / f"{number:02d}-{layer.name.replace(', ', '-').replace(' ', '-')}-{name}"
                drawings.append((_write_picture(file, panel(name, these), png=command.png), caption))
            sections.append(Section(title=layer.name, lines=[sentence(these)], drawings=drawings))
    header = header_of(dt)
    text = page(f"Filters of {command.run.resolve().name}", [*_about(found, dt), *told], header, rows, sections)
    write_text(out / "analysis.html", text)
    print("\n".join([*_columns([header, *rows]), *told, f"\nthe page: {out / 'analysis.html'}; its pictures: {out}"]))


def header_of(dt: float | None) -> list[str]:
    """Return the names of the columns.

    Args:
        dt: Sampling interval in seconds; None means per sample.
    """
    unit = "samples" if dt is None else "s"
    times = [f"τ {share:.0%} ({unit})" for share in QUANTILES]
    return [
        "layer",
        "kind",
        "channels",
        "order",
        "verdict",
        "least margin",
        *times,
        f"longest τ ({unit})",
        "states worth 1 %",
    ]


def row_of(these: Shown, dt: float | None) -> list[str]:
    """Return a layer's row of the table.

    Args:
        these: The layer, and the channels of it that are shown.
        dt: Sampling interval in seconds; None means per sample.
    """
    layer = these.layer
    times = layer.time_constants * (1.0 if dt is None else dt)
    quantiles = torch.quantile(
        times.nan_to_num(posinf=torch.finfo(times.dtype).max), times.new_tensor([*QUANTILES, 1.0])
    )
    numbers = [_number(float(value)) for value in quantiles] if len(times) else ["–"] * 4
    margin = _number(float(layer.margins.min()))
    return [
        layer.name,
        layer.kind,
        str(layer.channels),
        str(layer.order),
        _verdict(layer),
        margin,
        *numbers,
        ", ".join(these.counting),
    ]


def sentence(these: Shown) -> str:
    """Say which channels of a layer are shown, and out of how many.

    Args:
        these: The channels.
    """
    layer = these.layer
    memory = [f"{label} ({int(layer.memory[row]):,})" for label, row in zip(these.labels, layer.chosen(), strict=True)]
    seen = "" if len(layer.drawn) == layer.channels else f" of {len(layer.drawn)} that were looked at, evenly spaced,"
    return (
        f"{layer.kind}, {layer.channels} channels of order {layer.order}. Shown{seen} from the shortest memory to the "
        f"longest, in samples that hold 99 % of the energy after the first: {', '.join(memory)}."
    )


def remarks(found: ModelFilters) -> list[str]:
    """Say in a line each which layers cannot be shown and why, and what is doubtful about others.

    Args:
        found: What was found in the model.
    """
    lines = []
    for told, reasons in (("not shown", found.without), ("doubtful", found.doubts)):
        for why, group in groupby(sorted(reasons.items(), key=lambda item: item[1]), key=lambda item: item[1]):
            names = [name for name, _ in group]
            several = f"{names[0]} to {names[-1]} ({len(names)} of them)" if len(names) > 2 else " and ".join(names)
            lines.append(f"{several}: {told}, {why}.")
    return lines


def _interval(command: Analyze, model: torch.nn.Module) -> float | None:
    """One sampling interval for the whole page."""
    if command.rate is not None:
        return 1 / command.rate
    found = sorted(sampling_intervals(model))
    if len(found) > 1:
        rates = " and ".join(f"{1 / dt:g}" for dt in found)
        raise RunError(f"layers of {command.run} have {rates} samples a second: choose one for the page with --rate")
    return found[0] if found else None


def _verdict(layer: LayerFilters) -> str:
    if layer.unstable:
        return f"{layer.unstable} unstable"
    return f"{layer.undecided} undecided" if layer.undecided else "stable"


def _number(value: float) -> str:
    if value > 1e300:
        return "∞"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _about(found: ModelFilters, dt: float | None) -> list[str]:
    kinds = ", ".join(dict.fromkeys(layer.kind for layer in found.layers))
    count = len(found.layers)
    units = "Times are in samples, frequencies in rad/sample." if dt is None else f"{1 / dt:g} samples a second."
    return [
        f"{count} {'bank' if count == 1 else 'banks'} of filters ({kinds}). {units} τ is the time in which a mode "
        "falls by e; the margin is the distance of the outermost pole to the unit circle; states worth 1 % have a "
        "Hankel singular value of a hundredth of the first or more, in the channels that are shown."
    ]


def _columns(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _write_picture(file: Path, figure: Figure, *, png: bool) -> str:
    """Write a picture and return its SVG document."""
    text = svg_of(figure)
    write_text(file.with_name(f"{file.name}.svg"), text)
    if png:
        with replacing(file.with_name(f"{file.name}.png")) as part:
            figure.savefig(part, dpi=200, format="png")
    return text


def _clear(out: Path) -> None:
    """Remove the pictures of an earlier page, which may have had more layers; files of other names stay."""
    ours = re.compile(rf"\d{{2,}}-(.+-)?({'|'.join([*CAPTIONS, *OVERVIEWS])})\.(svg|png)")
    for file in out.iterdir():
        if ours.fullmatch(file.name):
            file.unlink()
