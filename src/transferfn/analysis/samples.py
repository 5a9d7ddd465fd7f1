"""Pictures of a task's samples: images, strips of tokens, or lines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transferfn.analysis.plots import COLOURS
from transferfn.tasks import Batch, Signature, Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEAST_SIDE = 6  # a signal of fewer than 6 x 6 samples is not taken for an image
_COLUMNS = 4


def sample_figure(task: Task, split: Literal["train", "validation", "test"] = "train", count: int = 8) -> Figure:
    """Draw some samples of a task, spread evenly over a split.

    A signal of one channel whose length is a square, with one class, is drawn as an image; other signals as lines, one
    a channel, with the signal that is asked for dashed; tokens as a strip, one colour a token, from left to right and
    then downwards. Sequences of a pair are drawn one above the other.

    Args:
        task: The task; its data is made or read.
        split: Which part of it.
        count: How many samples; at most as many as there are.

    Raises:
        ValueError: if ``count`` is less than 1 or the task has no such split.
        DataError: if the data cannot be read.

    Example:
        >>> from transferfn.tasks import ListopsConfig
        >>> task = ListopsConfig(train=4, validation=0, test=1, min_length=20, max_length=60)
        >>> len(sample_figure(task, count=4).axes)
        4
    """
    from matplotlib.figure import Figure

    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    data = getattr(task.load(), split)
    if data is None:
        raise ValueError(f"this task holds nothing out for {split}: choose another split")
    signature = task.signature
    rows = np.unique(np.linspace(0, len(data) - 1, min(count, len(data))).round().astype(int)).tolist()
    batch = data.gather(rows)
    image = _is_image(signature)
    columns = min(len(rows), _COLUMNS if image else 1)
    lines = math.ceil(len(rows) / columns)
    size = (2.2 * columns, 2.4 * lines) if image else (8.0, 1.5 * lines)
    figure = Figure(figsize=size, layout="constrained")
    for place, row in enumerate(rows):
        ax = figure.add_subplot(lines, columns, place + 1)
        ax.set_title(_title(signature, batch, place, row), fontsize=8, loc="left")
        if image:
            side = math.isqrt(signature.length)
            ax.imshow(batch.inputs[place].reshape(side, side).numpy(), cmap="gray", interpolation="nearest")
            ax.set_axis_off()
        elif signature.vocabulary is not None:
            _strip(ax, signature, _sequences(signature, batch, place))
        else:
            _lines(ax, signature, batch, place)
    return figure


def _is_image(signature: Signature) -> bool:
    side = math.isqrt(signature.length)
    square = side**2 == signature.length and side >= _LEAST_SIDE
    return signature.channels == 1 and square and signature.target == "class"


def _title(signature: Signature, batch: Batch, place: int, row: int) -> str:
    if signature.target in ("class", "class-of-pair"):
        return f"{row}: class {int(batch.targets[place])}"
    return str(row)


def _sequences(signature: Signature, batch: Batch, place: int) -> list[Any]:
    """Return the sequence of a sample, or the two of a pair, without their padding."""
    both = [*batch.inputs[place]] if signature.target == "class-of-pair" else [batch.inputs[place]]
    if batch.lengths is None:
        return [each.numpy() for each in both]
    lengths = np.atleast_1d(batch.lengths[place].numpy())
    return [each[:length].numpy() for each, length in zip(both, lengths, strict=True)]


def _strip(ax: Axes, signature: Signature, sequences: list[Any]) -> None:
    """Draw tokens row by row; between two sequences a row is left out."""
    from matplotlib import colormaps

    longest = max(max(map(len, sequences)), 1)
    width = min(longest, max(64, math.ceil(math.sqrt(8 * longest))))
    rows = []
    for tokens in sequences:
        padded = np.full(-(-max(len(tokens), 1) // width) * width, np.nan)
        padded[: len(tokens)] = tokens
        rows += [padded.reshape(-1, width), np.full((1, width), np.nan)]
    colours = colormaps["nipy_spectral"].with_extremes(bad="white")
    table = np.ma.masked_invalid(np.concatenate(rows[:-1]))
    ax.imshow(table, cmap=colours, vmin=0, vmax=(signature.vocabulary or 1) - 1, aspect="auto", interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])


def _lines(ax: Axes, signature: Signature, batch: Batch, place: int) -> None:
    """Draw a signal, a line a channel, and the one asked for."""
    for sequence, style in zip(_sequences(signature, batch, place), ("-", ":"), strict=False):
        for channel, values in enumerate(sequence.T):
            ax.plot(values, style, color=COLOURS[channel % len(COLOURS)], linewidth=0.8)
    if signature.target == "signal":
        for channel, values in enumerate(batch.targets[place].numpy().T):
            ax.plot(values, "--", color=COLOURS[(channel + 1) % len(COLOURS)], linewidth=0.8)
    ax.tick_params(labelsize=7)
    ax.margins(x=0)
