"""Published archives: found, verified and read as a stream, with errors that say what to fetch."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from tqdm import tqdm

from transferfn.tasks.dataset import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a task's data comes from."""

    task: str
    """What the data is called."""

    expected: str
    """What may lie at ``--data.path``, and the addresses it is published at."""

    sizes: Mapping[str, int]
    """Published number of samples of each split."""

    digests: Mapping[str, str]
    """Published digest of each archive by its name, as ``algorithm:hexadecimal``."""

    def nothing_at(self, path: Path | None) -> DataError:
        """Return the error for data that is not where it was looked for.

        Args:
            path: Where that was; None if no place was named.
        """
        if path is None:
            return DataError(f"{self.task} comes with no package; name where it is with --data.path: {self.expected}")
        if not path.exists():
            return DataError(f"{path} is missing, it should hold {self.task}: {self.expected}")
        found = f"found {_names(path)}" if path.is_dir() else "it is one file of another name"
        return DataError(f"{path} holds no {self.task} ({found}): {self.expected}")

    def damaged(self, path: Path, reason: object) -> DataError:
        """Return the error for a file that is not what it should be.

        Args:
            path: The file.
            reason: What is wrong with it.
        """
        return DataError(f"{path}: {reason}; {self.expected}")

    @contextmanager
    def reading(self, path: Path) -> Iterator[None]:
        """Turn what reading a damaged file raises into a ``DataError``.

        Args:
            path: The file.
        """
        try:
            yield
        except (OSError, EOFError, zlib.error, tarfile.TarError, UnicodeDecodeError) as error:
            raise self.damaged(path, f"cannot be read ({str(error) or type(error).__name__}), fetch it again") from None

    def verify(self, path: Path) -> None:
        """Compare the digest of an archive with the published one; archives without a published one pass.

        Args:
            path: The archive.

        Raises:
            DataError: if it is another.
        """
        if path.name not in self.digests:
            return
        algorithm, _, published = self.digests[path.name].partition(":")
        found = hashlib.new(algorithm, usedforsecurity=False)
        with self.reading(path), path.open("rb") as raw, _progress(raw, path, "verifying") as file:
            while block := file.read(1 << 20):
                found.update(block)
        if found.hexdigest() != published:
            raise self.damaged(
                path,
                f"{algorithm.upper()} {found.hexdigest()}, the published archive has {published}: fetch it again, or "
                "use it as it is with --data.no-published",
            )

    def check_sizes(self, path: Path, found: Mapping[str, int]) -> None:
        """Compare the number of samples of each split with the published one.

        Args:
            path: Where they were read.
            found: How many there were.

        Raises:
            DataError: if they differ.
        """
        if dict(found) != dict(self.sizes):
            raise self.damaged(
                path,
                f"holds {_counts(found)}, published are {_counts(self.sizes)}: fetch it again, or use what is there "
                "with --data.no-published",
            )


def refuse_unused(config: Any, names: Sequence[str]) -> None:
    """Refuse numbers that say what is drawn where files are read instead.

    Args:
        config: A task's configuration that names files.
        names: Its fields that mean nothing then.

    Raises:
        DataError: if one of them is not at its default.
    """
    default = type(config)()
    given = {name: getattr(config, name) for name in names}
    if told := [f"data.{name}={value}" for name, value in given.items() if value != getattr(default, name)]:
        raise DataError(
            f"{config.path} is read as it is, so that {', '.join(told)} would do nothing: leave out either data.path "
            "or these, of which --size small sets some"
        )


def places(folder: Path) -> list[Path]:
    """Return a folder and the folders in it, where a data set may lie.

    Args:
        folder: The folder.
    """
    return [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]


def find(path: Path | None, names: tuple[str, ...]) -> Path | None:
    """Return the file or folder of one of these names: at a path, or in it when it is a folder.

    Args:
        path: Where to look.
        names: Names in order of preference; may hold ``/``.
    """
    if path is None:
        return None
    if path.is_file():
        return path if path.name in names else None
    if not path.is_dir():
        return None
    found = (path / name for name in names)
    return next((one for one in found if one.exists()), None)


def tar_files(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, BufferedReader]]:
    """Yield name and content of the files of an archive in its order, reading it once from start to end.

    The whole of a gzip archive is read, so that its own checksum is verified. To be used within ``Source.reading``.

    Args:
        path: A tar archive, plain or gzip.
        wanted: Tells by the name whether a file is wanted.
    """
    with path.open("rb") as raw, _progress(raw, path, "reading") as counted:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file: Any = gzip.GzipFile(fileobj=counted) if compressed else counted
        with tarfile.open(fileobj=file, mode="r|") as tar:
            for member in tar:
                if member.isreg() and wanted(member.name):
                    content = tar.extractfile(member)
                    assert isinstance(content, BufferedReader)  # a regular file has content
                    yield member.name.removeprefix("./"), content
        while file.read(1 << 20):
            pass


def find_parquet(
    path: Path, source: Source, *, splits: Sequence[str] = ("train", "test")
) -> dict[str, list[Path]] | None:
    """Return the Parquet files of all splits in a folder or one folder deeper; None if there are none.

    Args:
        path: The folder.
        source: What is looked for.
        splits: Their names, with which those of the files begin.

    Raises:
        DataError: if only some of the splits are there.
    """
    if not path.is_dir():
        return None
    for place in places(path):
        found = {split: sorted(place.glob(f"{split}-*.parquet")) for split in splits}
        present = [files[0].name for files in found.values() if files]
        missing = [f"{split}-*.parquet" for split, files in found.items() if not files]
        if present and missing:
            raise source.damaged(place, f"holds {present[0]} but no {missing[0]}")
        if present:
            return found
    return None


def parquet_rows(path: Path, columns: list[str], source: Source) -> Iterator[tuple[Any, ...]]:
    """Yield the values of some columns of a Parquet file, row by row.

    Args:
        path: The file.
        columns: Names of the columns.
        source: What the file holds.

    Raises:
        DataError: if the file is damaged or has other columns.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise DataError(f"reading {path} needs pyarrow: pip install 'transferfn[train]'") from None
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if missing := [name for name in columns if name not in names]:
                raise source.damaged(path, f"has the columns {', '.join(names)}, not {' and '.join(missing)}")
            with tqdm(total=file.metadata.num_rows, desc=f"reading {path.name}", disable=None) as bar:
                for batch in file.iter_batches(columns=columns, batch_size=1000):
                    yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
                    bar.update(len(batch))
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise source.damaged(path, f"cannot be read ({first_line}), fetch it again") from None


def _progress(raw: BufferedReader, path: Path, verb: str) -> Any:
    return tqdm.wrapattr(
        raw, "read", total=path.stat().st_size, desc=f"{verb} {path.name}", unit="B", unit_scale=True, disable=None
    )


def _names(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir())[:4]) or "nothing"


def _counts(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in sizes.items())
