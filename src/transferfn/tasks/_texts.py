"""Where texts come from: folders, Parquet, published corpora, and what every Python installation has."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import sysconfig
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from transferfn.tasks._published import Source, parquet_rows
from transferfn.tasks.dataset import DataError

Parts = dict[str, list[bytes]]
"""Texts of the parts "train", "validation" and "test"."""

PARTS = ("train", "validation", "test")
_OFTEN_NAMED = {
    "train": "train",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}
_SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
_ENWIK8 = {"train": 90_000_000, "validation": 5_000_000, "test": 5_000_000}
_PARQUET = Source(
    task="texts", expected='expected a Parquet file with one text a row in the column "text"', sizes={}, digests={}
)
_WIKITEXT = Source(
    task="WikiText-103",
    expected=(
        "expected wiki.train.raw, wiki.valid.raw and wiki.test.raw, or Parquet files train-*.parquet, "
        "validation-*.parquet and test-*.parquet, as they are published at "
        "https://huggingface.co/datasets/Salesforce/wikitext (wikitext-103-raw-v1)"
    ),
    sizes={},
    digests={},
)
_ENWIK8_AT = "published at https://mattmahoney.net/dc/enwik8.zip"
_ARTICLE = re.compile(rb"(?m)^ = [^=\n]+ = ?$")


def python_files() -> list[Path]:
    """Return the source files of Python's standard library, tests left out, sorted."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        files += [Path(folder, name) for name in names if name.endswith(".py")]
    if not files:
        raise DataError(
            f"there is no Python source in {root}: this installation comes without it. Name a folder of texts with "
            "data.path instead."
        )
    return sorted(files)


def folder_files(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a folder that hold texts, sorted.

    Args:
        folder: The folder.
        pattern: Which files, a pattern of ``Path.glob``.

    Raises:
        DataError: if there are none.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: name one that holds texts with data.path")
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    if not files:
        endings = sorted({path.suffix or path.name for path in folder.rglob("*") if path.is_file()})
        held = f"files ending in {', '.join(endings[:8])}" if endings else "no file"
        raise DataError(f"no file of {folder} matches data.pattern {pattern!r}; it holds {held}")
    return files


def split_files(files: Iterable[Path], root: Path, *, validation: float, test: float) -> Parts:
    """Read files and split them by a hash of their place, so that a file is always in the same part.

    Files of the same content count once, so that nothing is both learned from and tested on.

    Args:
        files: The files, in a fixed order.
        root: The folder they are in.
        validation: Share of the files held out to choose a model.
        test: Share of the files held out to test it.

    Raises:
        DataError: if a Parquet file is damaged or has no texts.
    """
    parts: Parts = {name: [] for name in PARTS}
    seen: set[bytes] = set()
    for path in files:
        for number, text in enumerate(_texts(path)):
            digest = hashlib.sha256(text).digest()
            if not text or digest in seen:
                continue
            seen.add(digest)
            place = f"{path.relative_to(root).as_posix()}#{number}" if number else path.relative_to(root).as_posix()
            share = int.from_bytes(hashlib.sha256(place.encode()).digest()[:8], "big") / 2**64
            part = "test" if share < test else "validation" if share < test + validation else "train"
            parts[part].append(text)
    return parts


def named_parts(files: Iterable[Path]) -> Parts | None:
    """Read files that say in their names which part they are, as published corpora do; None unless all do.

    Args:
        files: The files, in a fixed order.

    Raises:
        DataError: if a Parquet file is damaged or has no texts.
    """
    parts: Parts = {name: [] for name in PARTS}
    for path in files:
        words = [_OFTEN_NAMED[word] for word in re.split(r"[._-]", path.name) if word in _OFTEN_NAMED]
        if len(words) != 1:
            return None
        parts[words[0]].extend(text for text in _texts(path) if text)
    return parts if all(parts.values()) else None


def wikitext(folder: Path) -> tuple[list[Path], list[list[Path]]]:
    """Return the files of WikiText-103 in a folder, all, and those of each part.

    Args:
        folder: The folder, with ``wiki.train.raw``, ``wiki.valid.raw`` and ``wiki.test.raw`` (or ``.tokens``), or with
            Parquet files whose names begin with the parts'.

    Raises:
        DataError: if a part is missing.
    """
    found = []
    for name in PARTS:
        short = "valid" if name == "validation" else name
        patterns = (f"wiki.{short}.raw", f"wiki.{short}.tokens", f"**/{name}-*.parquet")
        matches = (sorted(folder.glob(pattern)) for pattern in patterns)
        found.append(next((files for files in matches if files), []))
    for name, files in zip(PARTS, found, strict=True):
        if not files:
            what = f"has no {name} part of WikiText-103" if folder.is_dir() else "is no folder with WikiText-103"
            raise DataError(f"{folder} {what}: {_WIKITEXT.expected}")
    return [path for files in found for path in files], found


def wikitext_articles(files: list[list[Path]]) -> Parts:
    """Read WikiText-103, one text an article; an article begins with a line such as `` = Title = ``.

    Args:
        files: The files of each part.

    Raises:
        DataError: if a Parquet file is damaged or has no texts.
    """
    parts: Parts = {}
    for name, paths in zip(PARTS, files, strict=True):
        whole = b"".join(b"".join(_texts(path, _WIKITEXT)) for path in paths)
        begins = [match.start() for match in _ARTICLE.finditer(whole)]
        if begins and not whole[: begins[0]].strip():
            begins = begins[1:]  # blank lines before the first title belong to its article
        edges = [0, *begins, len(whole)]
        parts[name] = [text for a, b in itertools.pairwise(edges) if (text := whole[a:b]).strip()]
    return parts


def enwik8(path: Path) -> Parts:
    """Read the first 10^8 bytes of an English Wikipedia dump, split 90M / 5M / 5M as published results are.

    Args:
        path: The file ``enwik8``, ``enwik8.zip``, or the folder that holds one of them.

    Raises:
        DataError: if it is missing, damaged or of another size.
    """
    file = enwik8_file(path)
    if file.suffix == ".zip":
        try:
            with zipfile.ZipFile(file) as archive:
                whole = archive.read("enwik8")
        except Exception as error:  # noqa: BLE001 - a damaged archive raises nearly anything
            raise DataError(
                f"{file} is damaged or no archive of enwik8 ({str(error) or type(error).__name__}), fetch it again; it "
                f"is {_ENWIK8_AT}"
            ) from None
    else:
        whole = file.read_bytes()
    expected = sum(_ENWIK8.values())
    if len(whole) != expected:
        raise DataError(f"{file} holds {len(whole)} bytes, enwik8 has {expected}: it is damaged or another file")
    parts, begin = {}, 0
    for name, size in _ENWIK8.items():
        parts[name] = [whole[begin : begin + size]]
        begin += size
    return parts


def enwik8_file(path: Path) -> Path:
    """Return the file that holds enwik8.

    Args:
        path: The file or its folder.

    Raises:
        DataError: if there is none.
    """
    for candidate in (path, path / "enwik8", path / "enwik8.zip"):
        if candidate.is_file():
            return candidate
    raise DataError(f"{path} is neither enwik8 nor a folder with enwik8 or enwik8.zip, {_ENWIK8_AT}")


def _texts(path: Path, source: Source = _PARQUET) -> Iterator[bytes]:
    """The texts of a file: itself, or the rows of the column "text" of a Parquet file."""
    if path.suffix != ".parquet":
        yield path.read_bytes()
        return
    for row, (text,) in enumerate(parquet_rows(path, ["text"], source)):
        if not isinstance(text, str | None):
            raise source.damaged(path, f"row {row} holds {str(text)[:20]!r}, which is no text")
        yield (text or "").encode()
