"""What `transferfn analyze` draws: two pictures of a whole model and six of each layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transferfn.analysis import layer_plots, plots
from transferfn.analysis.banks import FilterBank, PolesOnce, channels_of, hankel_values
from transferfn.analysis.layers import LayerFilters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1a1a1a"
"""Colour of texts and frames, which the page finds again in a drawing."""

SHORTEST, LONGEST = 24, 2048  # samples of a response that is drawn

CAPTIONS = {
    "poles": "Poles (crosses) and zeros (circles) of three channels; dots are the poles of all channels.",
    "bode": "Frequency response: three channels, the median of all, and the band that holds the middle 80 % of them.",
    "delay": "Group delays of the three: how much later each frequency comes out; spikes are cut.",
    "impulse": "Impulse responses of the three, each over the time that it takes.",
    "step": "Step responses of the three; dotted, where they settle.",
    "hankel": "Hankel singular values: how much of a filter each state more is worth.",
}

OVERVIEWS = {
    "time-constants": "Times in which modes fall by e; a blue tick marks the median, an orange one the longest.",
    "margins": "Distance of each channel's outermost pole to the unit circle; an orange tick marks the least.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """The channels of a layer that stand for the others."""

    layer: LayerFilters
    """Where they are from."""

    bank: FilterBank
    """Their filters."""

    labels: list[str]
    """What they are called."""

    lengths: list[int]
    """Samples over which each is drawn."""

    log: bool
    """Whether frequencies are drawn on a logarithmic axis: where most poles lie at low ones."""

    hankel: np.ndarray
    """Their Hankel singular values, (channels, n)."""

    @property
    def counting(self) -> list[str]:
        """How many states of each are worth a hundredth of its first; why not, where there are no such values."""
        outside = (self.bank.poles().abs() >= 1).any(-1).tolist()
        counts = []
        for channel, row in enumerate(self.hankel):
            if np.isnan(row).any():
                # A pole that rounding may have put outside, of a layer that has none there for certain, proves nothing.
                unstable = self.layer.unstable and outside[channel * len(outside) // self.bank.channels]
                counts.append("unstable" if unstable else "not computed")
            else:
                counts.append(str(int(((row > 0) & (row >= 0.01 * row[:1])).sum())))
        return counts


@contextmanager
def drawing() -> Iterator[None]:
    """Set the type and the ink of everything that is drawn inside."""
    from matplotlib import rc_context

    ink = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    with rc_context({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "transferfn", **dict.fromkeys(ink, INK)}):
        yield


def shown(layer: LayerFilters) -> Shown:
    """Choose the channels of a layer to show, from the shortest memory to the longest.

    Args:
        layer: The layer.
    """
    rows = layer.chosen()
    memory = [int(layer.memory[row]) for row in rows]
    bank = PolesOnce(channels_of(layer.bank, rows))
    stable = (bank.poles().abs() < 1).all(-1).tolist()
    return Shown(
        layer=layer,
        bank=bank,
        labels=[f"channel {layer.drawn[row] + 1}" for row in rows],
        lengths=[
            min(max(SHORTEST, int(1.3 * m)), LONGEST) if good else 2 * SHORTEST
            for m, good in zip(memory, stable, strict=True)
        ],
        log=bool(layer.poles.angle().abs().median() < np.pi / 8) if layer.poles.numel() else True,
        hankel=hankel_values(bank).numpy(),
    )


def panel(name: str, these: Shown) -> Figure:
    """Draw one of the pictures of a layer.

    Args:
        name: Which, one of ``CAPTIONS``.
        these: The channels to show.
    """
    figure = blank(4.6, 3.6)
    bank, labels, log = these.bank, these.labels, these.log
    match name:
        case "poles":
            ax = figure.subplots()
            plots.pole_zero(bank, labels=labels, ax=ax)
            layer_plots.pole_cloud(these.layer.poles, ax=ax)
            figure.subplots_adjust(bottom=0.22)
            _legend(ax, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.17))
        case "bode":
            upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
            layer_plots.magnitude_band(these.layer.bank, log=log, ax=upper)
            plots.bode_magnitude(bank, labels=labels, log=log, ax=upper)
            plots.bode_phase(bank, labels=labels, log=log, ax=lower)
            upper.set_xlabel("")
            bottom, top = upper.get_ylim()
            upper.set_ylim(bottom, top + 0.3 * (top - bottom))  # room for the names
            _legend(upper, ncols=2, loc="upper center")
            lower.get_legend().remove() if lower.get_legend() else None
        case "delay":
            axes = figure.subplots(len(labels), 1, sharex=True, squeeze=False)[:, 0]
            for row, (ax, label) in enumerate(zip(axes, labels, strict=True)):
                plots.group_delay(bank, channels=[row], log=log, ax=ax)
                delay = ax.get_lines()[0].get_ydata()
                low, high = np.nanquantile(delay, [0.02, 0.98])  # zeros near the circle make spikes that hide the rest
                room = 0.1 * (high - low) + 0.5 * (1.0 if bank.dt is None else bank.dt)
                ax.set_ylim(low - room, high + room)
                _one_of_several(ax, label, row, len(axes))
            figure.subplots_adjust(left=0.2, hspace=0.45)
            figure.supylabel(
                "group delay (samples)" if bank.dt is None else "group delay (s)", fontsize="medium", x=0.01
            )
        case "impulse" | "step":
            draw = plots.impulse_response if name == "impulse" else plots.step_response
            axes = figure.subplots(len(these.lengths), 1, squeeze=False)[:, 0]
            for row, (ax, length, label) in enumerate(zip(axes, these.lengths, labels, strict=True)):
                draw(bank, length, channels=[row], ax=ax)
                _one_of_several(ax, label, row, len(axes))
            figure.subplots_adjust(hspace=0.62)
        case "hankel":
            ax = figure.subplots()
            layer_plots.hankel_decay(these.hankel, labels=labels, ax=ax)
            _legend(ax, ncols=1, loc="best")
    return figure


def overview(layers: list[LayerFilters], dt: float | None) -> dict[str, Figure]:
    """Draw how long each layer remembers and how far from unstable it is.

    Args:
        layers: The layers.
        dt: Sampling interval in seconds; None means per sample.

    Returns:
        Two figures by their names.
    """
    scale, unit = (1.0, "samples") if dt is None else (dt, "s")
    times = {layer.name: layer.time_constants * scale for layer in layers}
    margins = {layer.name: layer.margins for layer in layers}
    longest = max(len(layer.name) for layer in layers)
    height = 0.9 + 0.42 * len(layers)
    figures = {name: blank(4.6, height) for name in ("time-constants", "margins")}
    for figure in figures.values():
        figure.subplots_adjust(left=0.03 + 0.0155 * longest, bottom=0.5 / height, top=1 - 0.05 / height)
    layer_plots.distributions(
        times, xlabel=f"time constant of a mode ({unit})", ax=figures["time-constants"].subplots()
    )
    layer_plots.distributions(
        margins,
        xlabel="stability margin of a channel, 1 − |pole|",
        marked="smallest",
        ax=figures["margins"].subplots(),
    )
    return figures


def blank(width: float, height: float) -> Figure:
    """Make a figure.

    Args:
        width: Inches.
        height: Inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))  # margins by hand: an engine that finds them draws everything twice more
    figure.subplots_adjust(left=0.15, right=0.97, bottom=0.14, top=0.95)
    return figure


def _legend(ax: Any, *, ncols: int, loc: str, bbox_to_anchor: tuple[float, float] | None = None) -> None:
    ax.legend(frameon=False, fontsize="x-small", ncols=ncols, loc=loc, bbox_to_anchor=bbox_to_anchor)


def _one_of_several(ax: Any, label: str, row: int, rows: int) -> None:
    ax.set_ylabel("")
    ax.set_title(label, fontsize="small", loc="left", color=plots.COLOURS[row], pad=2)
    if ax.get_xscale() == "linear" and ax.get_xlim()[1] != np.pi:  # multiples of pi stay
        ax.locator_params(axis="x", nbins=6)
    if row + 1 < rows:
        ax.set_xlabel("")
