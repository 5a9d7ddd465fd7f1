"""Excerpts: which package is a piece of Python's source from, or are two of one file? What Text and Retrieval are like.

The standard library is real text that every machine has: the small forms of the Long Range Arena's tasks run on it.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from transferfn.tasks import _texts
from transferfn.tasks._characters import BYTES, spell
from transferfn.tasks._texts import PARTS
from transferfn.tasks.dataset import DataError, Signature, Splits
from transferfn.tasks.philox import draws
from transferfn.tasks.sequences import PairSequences, TokenSequences
from transferfn.tasks.splits import check_seed

Question = Literal["package", "pair"]
"""Which package an excerpt is from, or whether two excerpts are from one file."""

_PACKAGES = 6
_FILES = {"train": 8, "validation": 1, "test": 1}  # tenths of the files


@dataclass(frozen=True, kw_only=True, slots=True)
class ExcerptsConfig:
    """Excerpts of Python's standard library as bytes; no file is in two of the splits.

    ``package``: one of the six packages with most source, each as often. ``pair``: two excerpts that do not overlap,
    half of the pairs from one file. The text, and with it the task, differs between versions of Python.

    Example:
        >>> config = ExcerptsConfig(question="pair", train=64, validation=16, test=16)
        >>> config.signature
        Signature(length=256, outputs=2, target='class-of-pair', channels=None, vocabulary=257)
        >>> config.load().train.gather([0, 1]).inputs.shape
        torch.Size([2, 2, 256])
    """

    question: Question = "package"
    """What is asked."""

    length: int = 256
    """Bytes of an excerpt."""

    train: int = 8000
    """Excerpts, or pairs, to learn from."""

    validation: int = 1000
    """To choose the best epoch by; 0 means none."""

    test: int = 1000
    """To test on."""

    seed: int = 0
    """Seed of the draws."""

    def __post_init__(self) -> None:
        if self.question not in get_args(Question):
            raise ValueError(f"data.question must be one of {', '.join(get_args(Question))}; got {self.question!r}")
        for name, least in (("length", 1), ("train", 1), ("validation", 0), ("test", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"data.{name} must be at least {least}, got {getattr(self, name)}")
        check_seed(self.seed)

    @property
    def signature(self) -> Signature:
        """Bytes, or pairs of them, and a class: the number of a package, or 1 for one file and 0 for two."""
        if self.question == "pair":
            return Signature(length=self.length, vocabulary=BYTES, outputs=2, target="class-of-pair")
        return Signature(length=self.length, vocabulary=BYTES, outputs=_PACKAGES)

    def load(self) -> Splits:
        """Read the source and draw the excerpts.

        Raises:
            DataError: if this installation of Python comes without its source, or with too little.
        """
        root = Path(sysconfig.get_paths()["stdlib"])
        files = {path.relative_to(root).as_posix(): path.read_bytes() for path in _texts.python_files()}
        files = {name: text for name, text in files.items() if len(text) > 2 * self.length}
        packages = largest_packages(files)
        parts: dict[str, list[str]] = {part: [] for part in PARTS}
        for name in files:
            parts[_part(name)].append(name)
        split = []
        for stream, part in enumerate(PARTS):
            count = getattr(self, part)
            if count == 0:
                split.append(None)
            elif self.question == "pair":
                split.append(self._pairs([files[name] for name in parts[part]], count, stream))
            else:
                of_package = [[files[name] for name in parts[part] if _package(name) == p] for p in packages]
                split.append(self._excerpts(of_package, count, stream))
        return Splits(*split)

    def spell(self, tokens: Sequence[int]) -> str:
        """Return the text of bytes.

        Args:
            tokens: Tokens of one sequence, without padding.
        """
        return spell(tokens, None)

    def _excerpts(self, of_package: list[list[bytes]], count: int, stream: int) -> TokenSequences:
        if len(of_package) < _PACKAGES or not all(of_package):
            raise DataError(
                f"{_PACKAGES} packages with several files longer than {2 * self.length} bytes are needed, and "
                "this installation of Python has fewer: lower data.length"
            )
        rows, labels = [], []
        for number in range(count):
            label = number % len(of_package)
            which, where = draws(self.seed, stream, number, 2).tolist()
            text = _drawn(of_package[label], which)
            rows.append(_at(text, where % (len(text) - self.length + 1), self.length))
            labels.append(label)
        return _sequences(rows, labels)

    def _pairs(self, texts: list[bytes], count: int, stream: int) -> PairSequences:
        if len(texts) < 2:
            raise DataError(
                f"pairs need several files longer than {2 * self.length} bytes in each split, and this installation of "
                "Python has fewer: lower data.length"
            )
        rows, labels = [], []
        for number in range(count):
            label = number % 2
            one, other, where, place, swapped = draws(self.seed, stream, number, 5).tolist()
            first = _drawn(texts, one)
            start = where % (len(first) - 2 * self.length + 1)
            if label:
                second, begin = first, start + self.length + place % (len(first) - 2 * self.length - start + 1)
            else:
                others = [text for text in texts if text is not first]
                second = _drawn(others, other)
                begin = place % (len(second) - self.length + 1)
            pair = [_at(first, start, self.length), _at(second, begin, self.length)]
            rows += pair[::-1] if swapped % 2 else pair
            labels.append(label)
        sequences = _sequences(rows, [0] * len(rows))
        return PairSequences(sequences, np.arange(2 * count).reshape(count, 2), np.array(labels, np.int64))


def largest_packages(files: dict[str, bytes]) -> list[str]:
    """Return the packages with most source among those with files in every split, the largest first.

    Args:
        files: Place and content of each file.
    """
    sizes: dict[str, int] = defaultdict(int)
    parts: dict[str, set[str]] = defaultdict(set)
    for name, text in files.items():
        sizes[_package(name)] += len(text)
        parts[_package(name)].add(_part(name))
    whole = [name for name in sizes if name and len(parts[name]) == len(PARTS)]
    return sorted(whole, key=lambda name: (-sizes[name], name))[:_PACKAGES]


def _package(name: str) -> str:
    """The package a file is in; nothing for one that is a module by itself."""
    return name.split("/")[0] if "/" in name else ""


def _part(name: str) -> str:
    """The split of a file, a function of its place alone."""
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % sum(_FILES.values())
    for part, tenths in _FILES.items():
        if share < tenths:
            return part
        share -= tenths
    raise AssertionError(name)


def _drawn(texts: Sequence[bytes], number: int) -> bytes:
    """One of some texts, each as likely as it is long."""
    ends = np.cumsum([len(text) for text in texts])
    return texts[int(np.searchsorted(ends, number % int(ends[-1]), side="right"))]


def _at(text: bytes, start: int, length: int) -> NDArray[np.uint16]:
    return np.frombuffer(text, np.uint8, length, start).astype(np.uint16) + np.uint16(1)


def _sequences(rows: list[NDArray[np.uint16]], labels: list[int]) -> TokenSequences:
    starts = np.cumsum([0, *map(len, rows)])
    return TokenSequences(np.concatenate(rows), starts.astype(np.int64), np.array(labels, np.int64))
