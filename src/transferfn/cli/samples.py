"""Samples of a stream as they come: lines of text, raw numbers or a sound file, checked one by one."""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transferfn.training import RunError

Kind = Literal["text", "float32", "int16"]
"""Lines of numbers; or raw numbers, little-endian, the channels of a sample after each other."""

Block = NDArray[np.float32] | NDArray[np.int64]
"""Samples, (L, channels), or tokens, (L)."""

_LARGEST = float(np.finfo(np.float32).max)
_SHARES = {"int16": 2.0**15, "int32": 2.0**31, "uint8": 2.0**7}


class Expected(NamedTuple):
    """What samples must be like."""

    channels: int | None
    """Numbers of a sample; None if samples are tokens, one whole number each."""

    vocabulary: int | None = None
    """Number of tokens; they are 0 to one less."""


def blocks_of(source: BufferedIOBase, kind: Kind, expected: Expected, size: int, *, skip: int = 0) -> Iterator[Block]:
    """Read samples and hand them out in blocks, the last of which may be shorter.

    What is in front of a sample that is wrong is handed out before the error.

    Args:
        source: Where they come from.
        kind: How they are written.
        expected: What they must be like.
        size: Samples of a block.
        skip: Samples at the beginning that are left out.

    Yields:
        Blocks as they are full.

    Raises:
        RunError: that names the line or the sample that is wrong.
    """
    samples = _lines(source, expected) if kind == "text" else _numbers(source, kind, expected)
    rows: list[list[float]] = []
    seen = 0
    try:
        for sample in samples:
            seen += 1
            if seen > skip:
                rows.append(sample)
            if len(rows) == size:
                full, rows = rows, []
                yield _block(full, expected)
    except RunError:
        if rows:
            yield _block(rows, expected)
        raise
    if rows:
        yield _block(rows, expected)
    if seen < skip:
        raise RunError(f"the state has seen {skip:,} samples, the input has {seen:,}: it is not the same input")


def read_sound(path: Path, expected: Expected) -> tuple[int, NDArray[np.float32]]:
    """Read a WAV file, whole numbers scaled to -1..1; of one that is cut, what is there, and say so on standard error.

    Args:
        path: The file.
        expected: What samples must be like.

    Returns:
        Samples a second, and the samples, (L, channels).

    Raises:
        RunError: if it is no such file, has other channels or no samples, or holds what is not finite.
    """
    from scipy.io import wavfile

    if expected.channels is None:
        raise RunError("this run takes tokens, not sound")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", wavfile.WavFileWarning)
            found: Any = wavfile.read(path)
        rate, values = found
    except Exception as error:  # noqa: BLE001 (reading a damaged header can raise anything)
        raise RunError(f"{path} cannot be read as a WAV file: {error}") from None
    if not len(values):
        raise RunError(f"{path} holds no samples")
    if any("prematurely" in str(one.message) for one in caught):  # chunks beside the samples are none of our business
        print(f"{path} is cut: its header tells more samples than the {len(values):,} that are there", file=sys.stderr)
    values = values[:, None] if values.ndim == 1 else values
    if values.shape[1] != expected.channels:
        raise RunError(
            f"{path} has {_channels(values.shape[1])}, this run takes {expected.channels}: mix or split them first"
        )
    if values.dtype.name == "uint8":
        scaled = (values.astype(np.float64) - 128) / _SHARES["uint8"]
    else:
        scaled = values / _SHARES.get(values.dtype.name, 1.0)
    wrong = np.argwhere(~(np.abs(scaled) <= _LARGEST))  # also what float32 cannot hold
    if len(wrong):
        row, column = wrong[0]
        _checked(float(scaled[row, column]), f"{scaled[row, column]:g}", f"{path}, sample {row + 1}", expected)
    return rate, scaled.astype(np.float32)


def _lines(source: BufferedIOBase, expected: Expected) -> Iterator[list[float]]:
    for number, line in enumerate(iter(source.readline, b""), 1):
        words = re.split(r"[,\s]+", line.decode("utf-8", "replace").strip(" \t\r\n,"))
        if words == [""]:
            continue
        where = f"line {number}"
        wanted = expected.channels or 1
        if len(words) != wanted:
            raise RunError(f"{where} has {_channels(len(words))}, this run takes {wanted}")
        yield [_number(word, where, expected) for word in words]


def _number(word: str, where: str, expected: Expected) -> float:
    try:
        value = float(word)
    except ValueError:
        raise RunError(f"{where}: {word!r} is not a number") from None
    return _checked(value, word, where, expected)


def _checked(value: float, word: str, where: str, expected: Expected) -> float:
    if not math.isfinite(value) or abs(value) > _LARGEST:
        raise RunError(f"{where}: {word} is not finite, and no filter forgets what is not")
    if expected.vocabulary is not None and not (value.is_integer() and 0 <= value < expected.vocabulary):
        raise RunError(f"{where}: {word} is no token, a whole number in 0..{expected.vocabulary - 1}")
    return value


def _numbers(source: BufferedIOBase, kind: Kind, expected: Expected) -> Iterator[list[float]]:
    """Raw numbers, sample by sample; `int16` is scaled to -1..1 unless it is tokens."""
    form = np.dtype("<f4" if kind == "float32" else "<i2")
    share = 1.0 if kind == "float32" or expected.channels is None else _SHARES["int16"]
    size = (expected.channels or 1) * form.itemsize
    number = 0
    while raw := source.read(size):
        number += 1
        while len(raw) < size and (more := source.read(size - len(raw))):  # a pipe gives what it has
            raw += more
        if len(raw) < size:
            raise RunError(f"the input ends in the middle of sample {number}: {len(raw)} of {size} bytes")
        values = np.frombuffer(raw, form) / share
        yield [_checked(float(value), f"{value:g}", f"sample {number}", expected) for value in values]


def _block(rows: list[list[float]], expected: Expected) -> Block:
    return np.asarray(rows, np.int64)[:, 0] if expected.channels is None else np.asarray(rows, np.float32)


def _channels(count: int) -> str:
    return f"{count} channel" + ("" if count == 1 else "s")
