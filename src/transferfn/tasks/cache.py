"""Prepared data: arrays made once, kept in the user's cache folder and mapped into memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transferfn.files import write_json
from transferfn.tasks.dataset import DataError

_ABOUT = "about.json"
_FORMAT = 1
"""Part of every key: raised when what is written for the same key changes."""
_MANY = 5000
_LARGE = 1 << 30
"""Arrays of more bytes are checked by their size alone: to read them would take longer than a few seconds."""
_TICK = 10**9
"""Nanoseconds after which another change of a file surely has another time."""
_checked: set[Path] = set()
"""Folders whose arrays this process has compared with what was written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A folder of arrays that is whole."""

    folder: Path
    """Where it is."""

    name: str
    """What it is called."""

    key: dict[str, Any]
    """All that its content depends on."""

    files: dict[str, int]
    """Size of each array's file in bytes."""

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return an array, mapped into memory and read-only.

        Args:
            name: The array's name, without ``.npy``.
        """
        return _map(self.folder / f"{name}.npy")

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return sum(self.files.values())


class _Mapped(np.memmap):
    """The array of a file; a process that it is sent to maps the file as well, instead of receiving a copy."""

    path: Path | None = None  # parts of it and what is computed from it have none

    def __reduce__(self) -> Any:
        return super().__reduce__() if self.path is None else (_map, (self.path,))


def _map(path: Path) -> NDArray[Any]:
    found = np.load(path, mmap_mode="r", allow_pickle=False).view(_Mapped)
    found.path = path
    return found


def cache_folder() -> Path:
    """Return the folder for things that can be made again: ``TRANSFERFN_CACHE`` or the platform's usual place."""
    if chosen := os.environ.get("TRANSFERFN_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "transferfn"


def prepare(name: str, key: Mapping[str, Any], make: Callable[[Path], None]) -> Prepared:
    """Return the arrays of ``key``, made now if they are not there or not as they were written.

    They are made in a folder beside their place, which is renamed when it is complete: whoever reads sees all or
    nothing, also if the process is killed. Of several processes that make the same, the first to end is kept.

    Args:
        name: What to call it, a word that file names may hold.
        key: All that the content depends on, plain values that JSON holds; files by their ``fingerprint``.
        make: Writes ``NAME.npy`` files into the folder it is given.

    Raises:
        DataError: if the cache folder cannot be written.

    Example:
        >>> prepared = prepare("squares", {"count": 4}, lambda to: np.save(to / "squares.npy", np.arange(4) ** 2))
        >>> prepared["squares"].tolist()
        [0, 1, 4, 9]
    """
    key = json.loads(json.dumps({**key, "format": _FORMAT}))
    digest = hashlib.sha256(json.dumps([name, key], sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder() / f"{name}-{digest}"
    if (found := _read(folder)) is not None and _as_written(folder):
        return found
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent))
    except OSError as error:
        raise DataError(
            f"prepared data cannot be kept in {folder.parent} ({error}): set TRANSFERFN_CACHE to a folder that can be "
            "written"
        ) from None
    try:
        make(part)
        files = {path.name: path.stat().st_size for path in sorted(part.glob("*.npy"))}
        digests = {file: _digest(part / file) for file, size in files.items() if size <= _LARGE}
        about = {"name": name, "key": key, "files": files, "digests": digests}
        (part / _ABOUT).write_text(json.dumps(about, indent=2) + "\n")
        if _read(folder) is None or not _as_written(folder):  # not there, or damaged
            shutil.rmtree(folder, ignore_errors=True)
        try:
            part.rename(folder)
        except OSError:  # another process was first
            if _read(folder) is None:
                raise
    except OSError as error:
        raise DataError(
            f"prepared data cannot be kept in {folder.parent} ({error}): free some space, or set TRANSFERFN_CACHE to "
            "another folder"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    found = _read(folder)
    if found is None:
        raise DataError(f"{folder} was changed while it was written: start again")
    return found


def prepared_data() -> list[Prepared]:
    """Return what is in the cache folder, sorted by name; what is not whole is left out."""
    if not cache_folder().is_dir():
        return []
    found = (_read(path) for path in sorted(cache_folder().iterdir()) if path.suffix != ".part")
    return [prepared for prepared in found if prepared is not None]


def unfinished_data() -> list[tuple[Path, int, float]]:
    """Return what is being made in the cache folder, or was left by processes that were killed.

    Returns:
        Folder, bytes, and seconds since something was last written, of each, sorted by name.
    """
    found = []
    for folder in sorted(cache_folder().glob("*.part")) if cache_folder().is_dir() else ():
        stats = []
        for path in (folder, *folder.glob("*")):
            with contextlib.suppress(FileNotFoundError):  # it has just become whole
                stats.append(path.stat())
        if stats:
            size = sum(stat.st_size for stat in stats if not S_ISDIR(stat.st_mode))
            found.append((folder, size, time.time() - max(stat.st_mtime for stat in stats)))
    return found


def fingerprint(paths: Iterable[Path]) -> list[list[Any]]:
    """Return what tells whether files have changed: name and a hash of the contents of each.

    Hashes are kept in the cache folder, and a file is read again only if its size, its place on the disk or the time of
    a change is another one; the time of the last change of any kind, which no program can set back, is one of them.

    Folders tell only which files they hold, not whether one was edited: name the files. Very many are not read: a hash
    of their names, sizes and times stands for them.

    Args:
        paths: The files.
    """
    marks = [(path, _mark(path)) for path in sorted(paths)]
    if len(marks) > _MANY:
        told = json.dumps([[path.name, *mark] for path, mark in marks])
        return [[f"{len(marks)} files", hashlib.sha256(told.encode()).hexdigest()]]
    kept = cache_folder() / "contents.json"
    try:
        known = dict(json.loads(kept.read_text()))
    except (OSError, ValueError, TypeError):
        known = {}
    names = {path: str(path.resolve()) for path, _ in marks}
    new = {names[path]: [mark, _digest(path)] for path, mark in marks if known.get(names[path], [None])[0] != mark}
    if lasting := {name: found for name, found in new.items() if time.time_ns() - found[0][2] > _TICK}:
        with contextlib.suppress(OSError):  # they are read again the next time
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, known | lasting)
    known |= new
    return [[path.name, known[names[path]][1]] for path, _ in marks]


def _mark(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _as_written(folder: Path) -> bool:
    """Say whether arrays that are there hold what was written; each process looks once, and not at large ones."""
    if folder in _checked:
        return True
    try:
        digests = json.loads((folder / _ABOUT).read_text()).get("digests", {})  # there were none at first
        same = all(_digest(folder / name) == digest for name, digest in digests.items())
    except (OSError, ValueError):  # another process makes it anew
        return False
    if same:
        _checked.add(folder)
    return same


def _read(folder: Path) -> Prepared | None:
    try:
        about = json.loads((folder / _ABOUT).read_text())
        found = Prepared(folder=folder, name=about["name"], key=about["key"], files=about["files"])
        whole = all((folder / name).stat().st_size == size for name, size in found.files.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if whole else None
