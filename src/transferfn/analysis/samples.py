"""Pictures of a task's samples: images, texts, or lines."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transferfn.analysis.plots import COLOURS
from transferfn.tasks import IGNORED, Batch, Signature, Spelled, Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEAST_SIDE = 6  # a signal of fewer than 6 x 6 samples is not taken for an image
_COLUMNS = 4
_LETTERS, _TEXT_LINES = 122, 4  # of a text, and of each sequence of a sample
_FONT = "DejaVu Sans Mono"  # comes with matplotlib
_WHOLE, _ZOOM = 400, 200  # samples: signals that are asked for and longer than the first are drawn in part


def sample_figure(task: Task, split: Literal["train", "validation", "test"] = "train", count: int = 8) -> Figure:
    """Draw some samples of a task, spread evenly over a split.

    A signal of one channel whose length is a square, with one class, is drawn as an image; other signals as lines, one
    a channel, with the signal that is asked for dashed; of long ones the start, and where what is asked for sets in.
    Tokens are written as the task spells them, or as numbers, the first lines of each sequence.

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
    texts = [_texts(task, signature, batch, place) for place in range(len(rows))] if signature.vocabulary else []
    if texts:
        figure = Figure(figsize=(8.0, sum(0.3 + 0.13 * len(lines) for lines in texts)), layout="constrained")
        axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=[2 + len(lines) for lines in texts])
    else:
        columns = min(len(rows), _COLUMNS) if image else 2 if _is_long(signature) else 1
        lines = len(rows) if not image else math.ceil(len(rows) / columns)
        size = (2.2 * columns, 2.4 * lines) if image else (8.0, 1.5 * lines)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False)
    for place, row in enumerate(rows):
        ax = axes.flat[place] if image else axes[place, 0]
        ax.set_title(_title(signature, batch, place, row), fontsize=8, loc="left")
        if image:
            side = math.isqrt(signature.length)
            ax.imshow(batch.inputs[place].reshape(side, side).numpy(), cmap="gray", interpolation="nearest")
            ax.set_axis_off()
        elif texts:
            _write(ax, texts[place])
        else:
            _lines(ax, signature, batch, place)
            if _is_long(signature):
                _lines(axes[place, 1], signature, batch, place)
                _zoom(axes[place, 0], axes[place, 1], batch.targets[place].numpy())
    if not image and not texts:
        figure.supxlabel("sample", fontsize=8)
        figure.supylabel("value", fontsize=8)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        if signature.target == "signal":
            figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False, fontsize=8)
    for ax in axes.flat[len(rows) :] if image else ():
        ax.remove()
    return figure


def _is_image(signature: Signature) -> bool:
    side = math.isqrt(signature.length)
    square = side**2 == signature.length and side >= _LEAST_SIDE
    return signature.channels == 1 and square and signature.target == "class"


def _title(signature: Signature, batch: Batch, place: int, row: int) -> str:
    title = f"{row}: class {int(batch.targets[place])}" if signature.target in ("class", "class-of-pair") else str(row)
    if signature.vocabulary is None:
        return title
    return f"{title}, {' and '.join(f'{len(tokens):,}' for tokens in _sequences(signature, batch, place))} tokens"


def _sequences(signature: Signature, batch: Batch, place: int) -> list[Any]:
    """Return the sequence of a sample, or the two of a pair, without their padding."""
    both = [*batch.inputs[place]] if signature.target == "class-of-pair" else [batch.inputs[place]]
    if batch.lengths is None:
        return [each.numpy() for each in both]
    lengths = np.atleast_1d(batch.lengths[place].numpy())
    return [each[:length].numpy() for each, length in zip(both, lengths, strict=True)]


def _texts(task: Task, signature: Signature, batch: Batch, place: int) -> list[str]:
    """Return the lines of a sample of tokens: its sequence, or both of a pair, and what is asked for at each token."""
    spell = task.spell if isinstance(task, Spelled) else lambda tokens: " ".join(map(str, tokens))
    parts = [
        ("    " if not number else "  & ", tokens) for number, tokens in enumerate(_sequences(signature, batch, place))
    ]
    if signature.target == "class-per-sample":
        wanted = batch.targets[place].numpy()
        onset = int(np.argmax(wanted != IGNORED))
        parts.append((f"  → from {onset:,} on: ", wanted[onset:]))
    lines = []
    for begin, tokens in parts:
        text = "".join(_shown(letter) for letter in spell(tokens.tolist()))
        lines += textwrap.wrap(
            text or "(empty)",
            _LETTERS,
            initial_indent=begin,
            subsequent_indent="    ",
            max_lines=_TEXT_LINES,
            placeholder=" …",
        )
    return lines


def _shown(letter: str) -> str:
    """A letter that the font can draw, on its line."""
    from matplotlib.font_manager import findfont, get_font

    if letter == "\n":
        return "↵"
    known = letter == " " or (letter.isprintable() and get_font(findfont(_FONT)).get_char_index(ord(letter)))
    return letter if known else "\N{REPLACEMENT CHARACTER}"


def _write(ax: Axes, lines: list[str]) -> None:
    ax.text(0, 1, "\n".join(lines), fontsize=7, family=_FONT, va="top", transform=ax.transAxes, parse_math=False)
    ax.set_axis_off()


def _is_long(signature: Signature) -> bool:
    return signature.target == "signal" and signature.length > _WHOLE


def _zoom(first: Axes, second: Axes, wanted: Any) -> None:
    """Show the start on the left, and on the right where what is asked for sets in, as much before it as there."""
    onset = int(np.flatnonzero(np.any(wanted != 0, axis=-1))[:1].sum())  # 0 if it is silent
    before = _ZOOM // 10
    first.set_xlim(-before, _ZOOM - before)
    second.set_xlim(onset - before, onset + _ZOOM - before)
    second.sharey(first)
    second.tick_params(labelleft=False)


def _lines(ax: Axes, signature: Signature, batch: Batch, place: int) -> None:
    """Draw a signal, a line a channel, and the one asked for."""
    for sequence, style in zip(_sequences(signature, batch, place), ("-", ":"), strict=False):
        for channel, values in enumerate(sequence.T):
            label = "input" if sequence.shape[1] == 1 else f"input {channel + 1}"
            ax.plot(values, style, color=COLOURS[channel % len(COLOURS)], linewidth=0.8, label=label)
    if signature.target == "signal":
        for channel, values in enumerate(batch.targets[place].numpy().T):
            label = "asked for" if signature.outputs == 1 else f"asked for {channel + 1}"
            ax.plot(values, "--", color=COLOURS[(channel + 1) % len(COLOURS)], linewidth=0.8, label=label)
    ax.tick_params(labelsize=7)
    ax.margins(x=0)
