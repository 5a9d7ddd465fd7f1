"""What the pictures of filters share: axes, colours, frequencies and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from transferfn.analysis.banks import FilterBank, ModalBank, PolesOnce
from transferfn.core.bank import check_one_bank

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette without its yellow, which is too light for lines."""

_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
GREY = "0.55"
MOST_NAMED = 8  # lines of a legend
LOWEST = 1e-5  # rad/sample: a logarithmic axis begins no lower


def frequencies_of(h: FilterBank, points: int, *, log: bool) -> np.ndarray:
    """A grid and, so that no resonance falls between its points, the angles of the poles.

    A logarithmic one has three decades, and more where a pole's corner is less than a decade above its beginning.
    """
    poles = as_array(h.poles()).ravel()
    if log:
        corners = np.abs(np.log(poles[poles != 0]))
        start = max(min(np.pi / 1000, corners.min(initial=np.inf) / 10), LOWEST)
        grid = np.geomspace(start, np.pi, points)
    else:
        grid = np.linspace(0, np.pi, points)
    angles = np.abs(np.angle(poles))
    return np.unique(np.concatenate([grid, angles[(angles >= grid[0]) & (angles <= np.pi)]]))


def in_unit(omega: np.ndarray, dt: float | None) -> np.ndarray:
    return omega if dt is None else omega / (2 * np.pi * dt)


def frequency_axis(ax: Axes, omega: np.ndarray, dt: float | None, *, log: bool) -> None:
    if log:
        ax.set_xscale("log")
        ax.grid(which="minor", axis="x", color="0.93", linewidth=0.5)
    elif dt is None and omega[-1] == np.pi:
        ax.set_xticks(np.linspace(0, np.pi, 5), ["0", "π/4", "π/2", "3π/4", "π"])
    ends = in_unit(omega, dt)
    ax.set_xlim(ends[0], ends[-1])
    ax.set_xlabel("frequency (rad/sample)" if dt is None else "frequency (Hz)")


def at_least(span: float, values: np.ndarray, ax: Axes) -> None:
    """Let the vertical axis hold a span around values that hardly differ, which would else be drawn as rounding."""
    good = values[np.isfinite(values)]
    if len(good) and np.ptp(good) < span:
        middle = (good.min() + good.max()) / 2
        ax.update_datalim([(0, middle - span / 2), (0, middle + span / 2)], updatex=False)
        ax.autoscale_view(scalex=False)


def angle_axis(ax: Axes) -> None:
    """Degrees at parts or multiples of a quarter of a turn."""
    from matplotlib.ticker import MultipleLocator

    low, high = ax.get_ylim()
    steps = (*(part * 10.0**power for power in (-2, -1, 0) for part in (1, 2, 5)), 15, 30, 45, 90, 180, 360)
    step = next((step for step in steps if high - low <= 6 * step), 360 * np.ceil((high - low) / 2160))
    ax.yaxis.set_major_locator(MultipleLocator(step))


def unwrapped(response: np.ndarray) -> np.ndarray:
    """Phase without jumps of a turn, which starts within half a turn of 0; none where the response is no number."""
    found = np.full(response.shape, np.nan)
    good = np.isfinite(response)
    found[good] = np.unwrap(np.angle(response[good]))
    return found


def mark_frequencies(dt: float | None, ax: Axes) -> None:
    """Write frequencies around the unit circle, as far from it whatever else the axes hold."""
    low, high = ax.get_ylim()
    size = (high - low) / 2.5
    for eighths, name in enumerate(("0", "π/4", "π/2", "3π/4", "π")):
        angle = eighths * np.pi / 4
        hertz = 0 if dt is None else eighths / 8 / dt
        text = name if dt is None else (f"{hertz:,.0f}" if hertz >= 100 else f"{hertz:.3g}") + " Hz" * (eighths == 4)
        for side in (1, -1) if 0 < eighths < 4 else (1,):
            out = np.array([np.cos(angle), side * np.sin(angle)])
            ax.plot(*np.outer(out, (1 - 0.03 * size, 1 + 0.03 * size)), color=GREY, linewidth=0.8, zorder=1)
            x, y = (1 + (0.13 if eighths == 2 else 0.08) * size) * out
            above = 0.06 * size if eighths in (0, 4) else 0.0  # clear of the axis
            # Each text begins at the circle, however long it is.
            beside = "center" if eighths == 2 else "left" if eighths < 2 else "right"
            ax.text(x, y + above, text, ha=beside, va="center", fontsize=7, color="0.35")


def axes_or_new(ax: Axes | None) -> Axes:
    return _pyplot().subplots(figsize=(5.0, 3.2), layout="constrained")[1] if ax is None else ax


def two_axes_or_new(axes: tuple[Axes, Axes] | None) -> tuple[Axes, Axes]:
    """One above the other."""
    if axes is None:
        upper, lower = _pyplot().subplots(2, figsize=(5.0, 4.8), layout="constrained")[1]
        return upper, lower
    return axes


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError:
        raise ModuleNotFoundError("drawing needs matplotlib: pip install 'transferfn[plots]'") from None
    return pyplot


def rows_of(h: FilterBank, channels: Sequence[int] | None) -> list[int]:
    if not isinstance(h, ModalBank | PolesOnce):
        check_one_bank(h)
    rows = list(range(h.channels)) if channels is None else [int(channel) for channel in channels]
    if wrong := [row for row in rows if not 0 <= row < h.channels]:
        raise ValueError(f"channels must lie in 0..{h.channels - 1}, got {wrong}")
    return rows


def looks_of(rows: Sequence[int], labels: Sequence[str] | None) -> list[dict[str, Any]]:
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


def as_array(values: torch.Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()


def finished(ax: Axes, lines: int, *, grid: bool = True) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    if grid:
        ax.grid(color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)
    if 1 < lines <= MOST_NAMED:
        ax.legend(frameon=False, fontsize="small")
    return ax
