"""Text: is a film review, read character by character, favourable? IMDB, as in the Long Range Arena."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from transferfn.tasks._characters import BYTES, Level, encoder, save_characters, saved_characters, spell
from transferfn.tasks._published import Source, find, find_parquet, parquet_rows, tar_files
from transferfn.tasks.cache import Prepared, fingerprint, prepare
from transferfn.tasks.dataset import Signature, Splits
from transferfn.tasks.sequences import TokenSequences, write_sequences
from transferfn.tasks.splits import check_seed, check_share, hold_out

_ARCHIVE = "aclImdb_v1.tar.gz"
_SPLITS = ("train", "test")
_CLASSES = ("neg", "pos")
_SOURCE = Source(
    task="IMDB",
    expected=(
        f"expected {_ARCHIVE} from https://ai.stanford.edu/~amaas/data/sentiment/{_ARCHIVE}, its folder aclImdb, or "
        "train-*.parquet and test-*.parquet from https://huggingface.co/datasets/stanfordnlp/imdb (plain_text)"
    ),
    sizes={"train": 25_000, "test": 25_000},
    digests={_ARCHIVE: "sha256:c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"},
)
# What the loader of S4 finds with these settings: characters that occur 15 times in the cut training texts.
_VOCABULARY, _LEAST = 135, 15

_Review = tuple[str, int, str, str]
"""Split, class, name and text; they are sorted, so that every form of the data gives the same order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextConfig:
    """IMDB: 25,000 film reviews to learn from and 25,000 to test on, favourable (1) or not (0).

    Characters are tokens of a vocabulary counted on the training texts: 0 is padding, 1 a character that occurs less
    than 15 times, 2 the end, which is appended; a text is cut to 4,095 characters. This is what the loaders of S4 and
    RTF do; the Long Range Arena itself reads bytes, which ``level="byte"`` does.

    Source:
        Maas et al. 2011 (the data); Tay et al. 2021, arXiv:2011.04006; state-spaces/s4, src/dataloaders/lra.py.

    Example:
        >>> config = TextConfig(path=Path("aclImdb_v1.tar.gz"))
        >>> config.signature
        Signature(length=4096, outputs=2, target='class', channels=None, vocabulary=135)
        >>> train, validation, test = config.load()  # doctest: +SKIP
        >>> len(train), validation, len(test)  # doctest: +SKIP
        (25000, None, 25000)
    """

    path: Path | None = None
    """The archive aclImdb_v1.tar.gz, its folder aclImdb, a folder with Parquet files, or a folder with one of them."""

    level: Level = "character"
    """What a token is."""

    length: int = 4096
    """Texts are cut to this many tokens."""

    validation: float = 0.0
    """Share of the training reviews, as many of each class, held out to choose the best epoch; as published none, and
    the last epoch counts."""

    seed: int = 0
    """Seed of the split."""

    published: bool = True
    """Insist on the published checksum and number of reviews; False takes what is there, such as a part of it."""

    def __post_init__(self) -> None:
        if self.level not in get_args(Level):
            raise ValueError(f"data.level must be one of {', '.join(get_args(Level))}; got {self.level!r}")
        if self.length < 2:
            raise ValueError(f"data.length must be at least 2, got {self.length}")
        check_share(self.validation, "training reviews")
        check_seed(self.seed)

    @property
    def signature(self) -> Signature:
        """Tokens, and one of two classes."""
        vocabulary = _VOCABULARY if self.level == "character" else BYTES
        return Signature(length=self.length, vocabulary=vocabulary, outputs=2)

    def load(self) -> Splits:
        """Read the reviews, the first time into the cache, and split them.

        Raises:
            DataError: if a file is missing, damaged or not what it should be, or a class has too few reviews.
        """
        prepared = self._prepared()

        def sequences(split: str, rows: NDArray[np.int64] | None = None) -> TokenSequences:
            return TokenSequences(*(prepared[f"{split}-{name}"] for name in ("tokens", "starts", "labels")), rows=rows)

        labels = np.asarray(prepared["train-labels"])
        kept, held = hold_out(labels, self.validation, classes=len(_CLASSES), seed=self.seed, of="training reviews")
        return Splits(sequences("train", kept), None if held is None else sequences("train", held), sequences("test"))

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
        return prepare("text", key, lambda folder: self._write(place, read, folder))

    def _write(self, place: Path, read: Callable[[Path], Iterator[_Review]], folder: Path) -> None:
        if self.published and place.is_file():
            _SOURCE.verify(place)
        with _SOURCE.reading(place):
            reviews = sorted(read(place))
        parts = {split: [(text, label) for own, label, _, text in reviews if own == split] for split in _SPLITS}
        if self.published:
            _SOURCE.check_sizes(place, {split: len(part) for split, part in parts.items()})
        for split, part in parts.items():
            if not part:
                raise _SOURCE.damaged(place, f"holds no {split} review")
        texts = ((text, 1) for text, _ in parts["train"])
        encode, characters = encoder(self.level, texts, size=_VOCABULARY, least=_LEAST, length=self.length)
        save_characters(folder, characters)
        for split, part in parts.items():
            write_sequences(folder, split, ((encode(text), label) for text, label in part), dtype=np.uint16)


def _find(path: Path | None) -> tuple[Path, list[Path], Callable[[Path], Iterator[_Review]]]:
    """Return where the reviews are, the files that tell whether they have changed, and what reads them."""
    if archive := find(path, (_ARCHIVE,)):
        return archive, [archive], _read_archive
    if path is not None and path.is_dir():
        for folder in (path, path / "aclImdb"):
            if all((folder / split / name).is_dir() for split in _SPLITS for name in _CLASSES):
                return folder, _folder_files(folder), _read_folder
        if parquet := find_parquet(path, _SOURCE):
            return path, [file for files in parquet.values() for file in files], _read_parquet
    raise _SOURCE.nothing_at(path)


def _is_review(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return len(parts) >= 3 and parts[-3] in _SPLITS and parts[-2] in _CLASSES and parts[-1].endswith(".txt")


def _review(name: str, content: bytes) -> _Review:
    split, kind, file = PurePosixPath(name).parts[-3:]
    try:
        return split, _CLASSES.index(kind), file, content.decode()
    except UnicodeDecodeError as error:
        raise _SOURCE.damaged(Path(name), f"is not UTF-8 (byte {error.start}), fetch it again") from None


def _read_archive(path: Path) -> Iterator[_Review]:
    return (_review(name, file.read()) for name, file in tar_files(path, _is_review))


def _read_folder(path: Path) -> Iterator[_Review]:
    files = tqdm(_folder_files(path), desc="reading IMDB", disable=None)
    return (_review(file.as_posix(), file.read_bytes()) for file in files)


def _folder_files(folder: Path) -> list[Path]:
    return [file for split in _SPLITS for kind in _CLASSES for file in (folder / split / kind).glob("*.txt")]


def _read_parquet(path: Path) -> Iterator[_Review]:
    for split, files in (find_parquet(path, _SOURCE) or {}).items():
        for file in files:
            for row, (text, label) in enumerate(parquet_rows(file, ["text", "label"], _SOURCE)):
                if not isinstance(text, str) or label not in (0, 1):
                    raise _SOURCE.damaged(file, f"row {row} holds {str(text)[:20]!r} and {label!r}, not text and class")
                yield split, label, f"{file.name}-{row:06}", text
