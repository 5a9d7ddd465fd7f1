"""Small archives in the formats of the published ones."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import wave
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from transferfn.tasks._published import Source


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for folder in sorted({str(Path(name).parent) for name in files}):
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            tar.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_parquet(path: Path, columns: Mapping[str, list]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path)
    return path


def as_published(source: Source, archive: Path, **sizes: int) -> Source:
    """The source as if ``archive`` were the published one."""
    digest = f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    return replace(source, digests={archive.name: digest}, sizes=sizes)


def damage(path: Path, how: str) -> None:
    """Cut a gzip file in the middle, change bytes in it, or replace it."""
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        {
            "cut": whole[:middle],
            "changed": whole[:middle] + bytes(30) + whole[middle + 30 :],
            "other": b"<html>404 Not Found</html>" * 100,
            "empty": b"",
        }[how]
    )


DAMAGES = ["cut", "changed", "other", "empty"]


def wav(samples: NDArray[np.int16], *, rate: int = 16_000, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setframerate(rate)
        sound.setsampwidth(2)
        sound.setnchannels(channels)
        sound.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def python2_pickle(data: NDArray[np.uint8], labels: list[int]) -> bytes:
    """A batch of CIFAR-10 as Python 2 and numpy 1.6 wrote it: protocol 2, byte strings."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    rows, columns = data.shape
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        + number(0)
        + b"\x85"
        + text(b"b")
        + b"\x87R"
        + b"("
        + number(1)
        + number(rows)
        + number(columns)
        + b"\x86"
        + b"cnumpy\ndtype\n"
        + text(b"u1")
        + number(0)
        + number(1)
        + b"\x87R("
        + number(3)
        + text(b"|")
        + b"NNN"
        + number(-1)
        + number(-1)
        + number(0)
        + b"tb"
        + b"\x89T"
        + struct.pack("<i", data.size)
        + data.tobytes()
        + b"tb"
    )
    numbers = b"](" + b"".join(number(label) for label in labels) + b"e"
    entries = (text(b"batch_label") + text(b"one"), text(b"data") + array, text(b"labels") + numbers)
    return b"\x80\x02}(" + b"".join(entries) + b"u."


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TRANSFERFN_CACHE", str(folder))
    return folder
