"""Retrieval: does one paper cite the other? Pairs of the ACL Anthology Network, as in the Long Range Arena."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import numpy as np
from tqdm import tqdm

from transferfn.tasks._characters import BYTES, Level, encoder, save_characters, saved_characters, spell
from transferfn.tasks._published import Source, find, find_parquet, parquet_rows, tar_files
from transferfn.tasks.cache import Prepared, fingerprint, prepare
from transferfn.tasks.dataset import DataError, Signature, Splits
from transferfn.tasks.sequences import PairSequences, TokenSequences, write_sequences

_ARCHIVE = "lra_release.gz"
# Published name of each split's file.
_FILES = {"train": "new_aan_pairs.train.tsv", "validation": "new_aan_pairs.eval.tsv", "test": "new_aan_pairs.test.tsv"}
_COLUMNS = ("label", "id1", "id2", "text1", "text2")
_SOURCE = Source(
    task="AAN",
    expected=(
        f"expected {', '.join(_FILES.values())}, from lra_release/lra_release/tsv_data in "
        f"https://storage.googleapis.com/long-range-arena/{_ARCHIVE}, or {_ARCHIVE} itself, or train-*.parquet, "
        "validation-*.parquet and test-*.parquet with the columns label, text1 and text2"
    ),
    sizes={"train": 147_086, "validation": 18_090, "test": 17_437},
    digests={},  # none is published
)
# What the loader of S4 finds with these settings.
_VOCABULARY, _LEAST = 98, 1

_Part = tuple[str, Path, Iterator[tuple[Any, ...]]]
"""Split, file, and class and two texts of each of its rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalConfig:
    """AAN: pairs of papers, one of which cites the other (1) or not (0).

    Characters are tokens of a vocabulary counted on the training texts: 0 is padding, 1 an unknown character, 2 the
    end, which is appended; a text is cut to 3,999 characters. This is what the loaders of S4 and RTF do; the Long
    Range Arena itself reads bytes, which ``level="byte"`` does. A paper that occurs in many pairs is kept once.

    Source:
        Radev et al. 2013 (the data); Tay et al. 2021, arXiv:2011.04006; state-spaces/s4, src/dataloaders/lra.py.

    Example:
        >>> config = RetrievalConfig(path=Path("lra_release/tsv_data"))
        >>> config.signature
        Signature(length=4000, outputs=2, target='class-of-pair', channels=None, vocabulary=98)
        >>> [len(part) for part in config.load()]  # doctest: +SKIP
        [147086, 18090, 17437]
    """

    path: Path | None = None
    """Folder with new_aan_pairs.train.tsv, .eval.tsv and .test.tsv or with Parquet files, or lra_release.gz."""

    level: Level = "character"
    """What a token is."""

    length: int = 4000
    """Texts are cut to this many tokens."""

    published: bool = True
    """Insist on the published number of pairs; False takes what is there, such as a part of it."""

    def __post_init__(self) -> None:
        if self.level not in get_args(Level):
            raise ValueError(f"data.level must be one of {', '.join(get_args(Level))}; got {self.level!r}")
        if self.length < 2:
            raise ValueError(f"data.length must be at least 2, got {self.length}")

    @property
    def signature(self) -> Signature:
        """Pairs of token sequences, and one of two classes."""
        vocabulary = _VOCABULARY if self.level == "character" else BYTES
        return Signature(length=self.length, vocabulary=vocabulary, outputs=2, target="class-of-pair")

    def load(self) -> Splits:
        """Read the pairs, the first time into the cache.

        Raises:
            DataError: if a file is missing, damaged or not what it should be.
        """
        prepared = self._prepared()
        papers = TokenSequences(*(prepared[f"papers-{name}"] for name in ("tokens", "starts", "labels")))
        return Splits(
            *(PairSequences(papers, prepared[f"{split}-pairs"], prepared[f"{split}-labels"]) for split in _FILES)
        )

    def spell(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; an unknown character is the replacement character.

        Args:
            tokens: Tokens of one sequence, without padding.
        """
        return spell(tokens, saved_characters(self._prepared()))

    def _prepared(self) -> Prepared:
        place, files, read = _find(self.path)
        key = {"level": self.level, "length": self.length, "published": self.published, "files": fingerprint(files)}
        key["with"] = "characters"  # which were not kept at first
        return prepare("retrieval", key, lambda folder: self._write(place, read, folder))

    def _write(self, place: Path, read: Callable[[Path], Iterator[_Part]], folder: Path) -> None:
        papers: dict[str, int] = {}  # each paper's text and its number
        pairs: dict[str, list[tuple[int, int]]] = {split: [] for split in _FILES}
        labels: dict[str, list[int]] = {split: [] for split in _FILES}
        # A character is at least a byte, so that what is cut here is enough for both levels.
        cut = self.length - (self.level == "character")
        with _SOURCE.reading(place):
            for split, path, rows in read(place):
                for number, (label, *texts) in enumerate(rows, 1):
                    if label not in (0, 1):
                        raise _SOURCE.damaged(path, f"pair {number} has the class {label}, expected 0 or 1")
                    if not all(isinstance(text, str) for text in texts):
                        raise _SOURCE.damaged(path, f"pair {number} lacks a text")
                    one, two = (papers.setdefault(text[:cut], len(papers)) for text in texts)
                    pairs[split].append((one, two))
                    labels[split].append(int(label))
        for split, name in _FILES.items():
            if not pairs[split]:
                raise _SOURCE.damaged(place, f"holds no pair of {name}")
        if self.published:
            _SOURCE.check_sizes(place, {split: len(pairs[split]) for split in _FILES})
        times = np.bincount(np.asarray(pairs["train"]).ravel(), minlength=len(papers))
        texts = zip(papers, times.tolist(), strict=True)
        encode, characters = encoder(self.level, texts, size=_VOCABULARY, least=_LEAST, length=self.length)
        save_characters(folder, characters)
        write_sequences(folder, "papers", ((encode(text), 0) for text in papers), dtype=np.uint16)
        for split in _FILES:
            np.save(folder / f"{split}-pairs.npy", np.asarray(pairs[split], np.int64))
            np.save(folder / f"{split}-labels.npy", np.asarray(labels[split], np.int64))


def _find(path: Path | None) -> tuple[Path, list[Path], Callable[[Path], Iterator[_Part]]]:
    """Return where the pairs are, the files that tell whether they have changed, and what reads them."""
    if path is not None and path.is_dir():
        for folder in (path, *(path / name for name in ("tsv_data", "lra_release/tsv_data"))):
            missing = [name for name in _FILES.values() if not (folder / name).is_file()]
            if not missing:
                return folder, [folder / name for name in _FILES.values()], _read_folder
            if len(missing) < len(_FILES):
                raise _SOURCE.damaged(folder, f"holds some files of AAN but not {' and '.join(missing)}")
    if archive := find(path, (_ARCHIVE,)):
        return archive, [archive], _read_archive
    if path is not None and (parquet := find_parquet(path, _SOURCE, splits=tuple(_FILES))):
        return path, [file for files in parquet.values() for file in files], _read_parquet
    raise _SOURCE.nothing_at(path)


def _read_folder(folder: Path) -> Iterator[_Part]:
    for split, name in _FILES.items():
        with (folder / name).open("rb") as file:
            yield split, folder / name, _table(folder / name, split, file)


def _read_archive(path: Path) -> Iterator[_Part]:
    splits = {name: split for split, name in _FILES.items()}
    for place, file in tar_files(path, lambda place: PurePosixPath(place).name in splits):
        split = splits[PurePosixPath(place).name]
        yield split, path, _table(path, split, file)


def _read_parquet(folder: Path) -> Iterator[_Part]:
    for split, files in (find_parquet(folder, _SOURCE, splits=tuple(_FILES)) or {}).items():
        for file in files:
            yield split, file, parquet_rows(file, ["label", "text1", "text2"], _SOURCE)


def _table(path: Path, split: str, file: BufferedReader) -> Iterator[tuple[Any, ...]]:
    """Yield class and texts of each row of a published table."""
    try:
        import pyarrow as pa
        import pyarrow.csv as csv
    except ModuleNotFoundError:
        raise DataError(f"reading {path} needs pyarrow: pip install 'transferfn[train]'") from None
    try:
        with tqdm(total=_SOURCE.sizes[split], desc=f"reading {split} pairs", disable=None) as bar:
            batches = csv.open_csv(
                file,
                read_options=csv.ReadOptions(column_names=_COLUMNS, block_size=16 << 20),  # a row fits in a block
                # Quoted fields as the published loaders read them.
                parse_options=csv.ParseOptions(delimiter="\t", newlines_in_values=True),
                convert_options=csv.ConvertOptions(
                    include_columns=["label", "text1", "text2"],
                    column_types={"label": pa.float64(), "text1": pa.string(), "text2": pa.string()},
                ),
            )
            for batch in batches:
                yield from zip(*(batch.column(name).to_pylist() for name in ("label", "text1", "text2")), strict=True)
                bar.update(len(batch))
    except pa.ArrowException as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise _SOURCE.damaged(
            path, f"{_FILES[split]} cannot be read ({first_line}); expected the columns {', '.join(_COLUMNS)}"
        ) from None
