"""A sound file that is written as its samples come, takes its place when it is whole, and can be gone on with."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from transferfn.training import RunError

Numbers = Literal["float32", "int16"]
"""Raw numbers, little-endian; `int16` holds -1..1."""

Writer = Callable[[NDArray[np.float32]], None]
"""Takes the next samples, (L, channels)."""

_UNKNOWN = 2**32 - 1
"""Bytes of a sound that has not ended, by custom: those who read it take what is there."""

_ROOM = _UNKNOWN - 64
"""Bytes of samples, so that all of the file has a number of 32 bits."""


class Encoder:
    r"""Turns samples into raw numbers, and counts those that had no room.

    Args:
        kind: What they become.

    Example:
        >>> encoder = Encoder("int16")
        >>> encoder(np.array([[0.5], [-2.0]], np.float32)), encoder.clipped
        (b'\x00@\x00\x80', 1)
    """

    def __init__(self, kind: Numbers) -> None:
        self.kind: Numbers = kind
        self.clipped = 0

    def __call__(self, values: NDArray[np.float32]) -> bytes:
        """Turn the next samples into bytes.

        Args:
            values: Samples, (L, channels).
        """
        if self.kind == "float32":
            return values.astype("<f4").tobytes()
        whole = np.rint(values * np.float32(2**15))  # exact: a power of two
        held = np.clip(whole, -(2**15), 2**15 - 1)
        self.clipped += int(np.count_nonzero(held != whole))
        return held.astype("<i2").tobytes()

    def tell(self) -> None:
        """Say how much was clipped, if anything was."""
        if self.clipped:
            told = f"{self.clipped:,} numbers were beyond -1..1 and are clipped: --output-format float32 keeps them"
            print(told, file=sys.stderr)


@dataclass(kw_only=True, slots=True)
class Written:
    """What a sound holds so far: kept with a state, it tells where the sound goes on and whether a file is that sound.

    Attributes:
        size: Bytes of samples.
        checksum: Their CRC-32.
    """

    size: int = 0
    checksum: int = 0

    def add(self, raw: bytes) -> None:
        """Count further samples.

        Args:
            raw: Their bytes.
        """
        self.size += len(raw)
        self.checksum = zlib.crc32(raw, self.checksum)


@contextlib.contextmanager
def sound_file(
    path: Path, *, rate: int, channels: int, kind: Numbers, written: Written, durable: bool = False
) -> Iterator[Writer]:
    """Write a WAV file as samples come, or go on with one.

    It grows beside its place, with ``.part`` at its end, and takes the place when it is whole. After an error what has
    come so far stays there, a sound of its own.

    Args:
        path: The file, whose folder is there.
        rate: Samples a second.
        channels: Numbers of a sample.
        kind: How they are written.
        written: What of the sound is there already, see :func:`whole_so_far`, and counts what is added; a sound of no
            size is begun, in the place of whatever has these names.
        durable: Whether samples are on the disk when the writer returns, so that no state that is kept after them is
            ever ahead of them; else the system has them, which is much faster for short blocks.

    Yields:
        What takes the next samples.

    Raises:
        RunError: if it cannot be written, or there are more samples than a WAV file can hold.
    """
    encoder = Encoder(kind)
    part = part_of(path)
    with _as_run_error(path):
        if written.size and not part.exists():
            os.replace(path, part)
        file = part.open("rb+" if written.size else "wb")

    def write(values: NDArray[np.float32]) -> None:
        raw = encoder(values)
        if written.size + len(raw) > _ROOM:
            raise RunError(f"a WAV file holds {_ROOM:,} bytes and no more: write raw numbers to standard output")
        with _as_run_error(path):
            file.write(raw)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        written.add(raw)

    with file:
        try:
            with _as_run_error(path):
                header = _header(_UNKNOWN, rate, channels, kind)
                file.write(header)
                file.truncate(len(header) + written.size)  # samples of which no state was kept come again
                file.seek(0, os.SEEK_END)
            yield write
        except BaseException:
            print(f"what has come so far is in {part}", file=sys.stderr)
            raise
        finally:
            encoder.tell()
            with _as_run_error(path):
                file.seek(0)
                file.write(_header(written.size, rate, channels, kind))
                file.flush()
                os.fsync(file.fileno())
    with _as_run_error(path):
        os.replace(part, path)


def whole_so_far(path: Path, *, channels: int, kind: Numbers, written: Written | None) -> Written:
    """Find the sound that a stream which is continued has written, in its place or beside it, and check it.

    Args:
        path: The place of the sound.
        channels: Numbers of a sample.
        kind: How they are written.
        written: What the stream had written when its state was kept; None if it wrote no sound.

    Returns:
        What is there, to be gone on with; nothing, if there is no such file.

    Raises:
        RunError: if there is a file, which is another sound or lacks samples: it is left as it is.
    """
    part = part_of(path)
    found = part if part.exists() else path
    if not found.exists():
        return Written()
    begin = len(_header(0, 1, channels, kind))
    there = Written()
    with _as_run_error(path), found.open("rb") as file:
        file.seek(begin)
        while written is not None and there.size < written.size:
            if not (raw := file.read(min(2**20, written.size - there.size))):
                break
            there.add(raw)
        more = bool(file.read(1))
    # A sound in its place was finished together with its state; one beside it may be a block ahead of it.
    if there != written or (more and found == path):
        raise RunError(
            f"{found} is not what the stream of this --state wrote until then, and is left as it is: move it away, or "
            "choose another --output"
        )
    return there


def part_of(path: Path) -> Path:
    """Where a sound grows before it takes its place.

    Args:
        path: Its place.
    """
    return path.with_name(f"{path.name}.part")


@contextlib.contextmanager
def _as_run_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error}): choose another --output") from None


def _header(size: int, rate: int, channels: int, kind: Numbers) -> bytes:
    """What is in front of ``size`` bytes of samples, of the same length whatever the size is."""
    width = 4 if kind == "float32" else 2
    tag = 3 if kind == "float32" else 1
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * channels * width, channels * width, 8 * width)
    chunks = [(b"fmt ", form)]
    if kind == "float32":  # what is no whole number has a form of variable length, and tells its samples
        chunks = [(b"fmt ", form + struct.pack("<H", 0)), (b"fact", struct.pack("<I", size // (channels * width)))]
    between = b"".join(name + struct.pack("<I", len(chunk)) + chunk for name, chunk in chunks)
    whole = min(_UNKNOWN, size + 4 + len(between) + 8)
    return b"RIFF" + struct.pack("<I", whole) + b"WAVE" + between + b"data" + struct.pack("<I", size)
