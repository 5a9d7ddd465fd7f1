"""ListOps: the value of a long expression of nested operations on digits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transferfn.tasks._parallel import for_blocks
from transferfn.tasks._published import Source, places, refuse_unused
from transferfn.tasks.cache import Prepared, fingerprint, prepare
from transferfn.tasks.dataset import LATER, DataError, Signature, Splits
from transferfn.tasks.sequences import TokenSequences, write_sequences
from transferfn.tasks.splits import check_seed

TOKENS = ("<pad>", *"0123456789", "[MIN", "[MAX", "[MED", "[SM", "]")
"""What each token stands for; parentheses, which add nothing to the brackets, are no tokens."""

_PUBLISHED_LENGTH = 2048
_FILES = {"train": "basic_train.tsv", "validation": "basic_val.tsv", "test": "basic_test.tsv"}
_PUBLISHED_AT = (
    "the published files are in lra_release.gz, folder listops-1000, at https://github.com/google-research/"
    "long-range-arena"
)
_WHERE = f"{_PUBLISHED_AT[0].upper()}{_PUBLISHED_AT[1:]}."
_SOURCE = Source(
    task="ListOps", expected=_PUBLISHED_AT, sizes={"train": 96_000, "validation": 2_000, "test": 2_000}, digests={}
)
_MADE = ("train", "validation", "test", "depth", "arguments", "min_length", "max_length", "seed")
_TRIALS = 1_000_000  # by default one expression in 12 has the right length (measured)
_DRAWS = 100

Expression = tuple[NDArray[np.uint8], int]
"""Tokens and value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListopsConfig:
    r"""ListOps: find the value, 0..9, of an expression such as ``[MAX 2 9 [MIN 4 7 ] 0 ]``.

    Nodes are drawn as in the Long Range Arena's script: a digit with probability 3/4, otherwise an operation
    (minimum, maximum, median rounded down, sum modulo 10) on 2 to ``arguments`` nodes, and only digits at ``depth``.
    Expressions that are too short or too long are drawn again. The length is that of what a model reads, one token a
    digit, operator (with its opening bracket) and closing bracket. No expression occurs twice.

    Raises:
        ValueError: if a number is out of range, or no expression can be that long.

    Source:
        Tay et al. 2021, Long Range Arena, ICLR, arXiv:2011.04006; Nangia and Bowman 2018, ListOps, arXiv:1804.06028.

    Example:
        The expression above, in tokens, has the value 9:

        >>> " ".join(TOKENS[token] for token in tokenize("[MAX 2 9 [MIN 4 7 ] 0 ]"))
        '[MAX 2 9 [MIN 4 7 ] 0 ]'
        >>> value(tokenize("[MAX 2 9 [MIN 4 7 ] 0 ]"))
        9
        >>> value(tokenize("( ( ( ( [SM 8 ) 7 ) ( ( ( ( [MED 1 ) 4 ) 6 ) ] ) ) ] )"))  # as published; (8 + 7 + 4) % 10
        9
        >>> ListopsConfig(train=2000, min_length=50, max_length=200).signature.length
        199
    """

    path: Path | None = None
    """Folder with the published files, or the one above it; None makes expressions, of which the numbers below tell how
    many and which."""

    train: int = 96_000
    """Expressions to learn from."""

    validation: int = 2_000
    """Expressions that choose the best epoch; 0 for none."""

    test: int = 2_000
    """Expressions of the final figure."""

    depth: int = 10
    """Deepest level of nodes; the outermost operation is level 1."""

    arguments: int = 10
    """Most arguments of an operation; the fewest are 2."""

    min_length: int = 500
    """Expressions have more tokens than this."""

    max_length: int = 2000
    """Expressions have fewer tokens than this."""

    seed: int = 0
    """Seed of the expressions."""

    published: bool = field(default=True, metadata=LATER)
    """Insist on the published number of expressions in files; False takes what is there, such as a part of them."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.train < 1 or self.test < 1 or self.validation < 0:
            raise ValueError(
                f"data.train and data.test must be at least 1 and data.validation at least 0, got train={self.train}, "
                f"validation={self.validation}, test={self.test}"
            )
        if self.depth < 1 or self.arguments < 2:
            raise ValueError(
                f"data.depth must be at least 1 and data.arguments at least 2, got depth={self.depth}, "
                f"arguments={self.arguments}"
            )
        if self.min_length < 0 or self.max_length < self.min_length + 2:
            raise ValueError(
                "lengths lie between data.min_length and data.max_length, both left out: expected 0 <= min_length <= "
                f"max_length - 2, got min_length={self.min_length}, max_length={self.max_length}"
            )
        longest = 1
        for _ in range(self.depth - 1):
            longest = 2 + self.arguments * longest
            if longest > self.min_length:
                break
        if longest <= self.min_length:
            raise ValueError(
                f"no expression of depth {self.depth} with at most {self.arguments} arguments has more than {longest} "
                f"tokens, but data.min_length is {self.min_length}: raise data.depth or data.arguments, or lower it"
            )

    @property
    def signature(self) -> Signature:
        """Sixteen tokens (0 is padding), and a class of ten."""
        length = self.max_length - 1 if self.path is None else _PUBLISHED_LENGTH
        return Signature(length=length, vocabulary=len(TOKENS), outputs=10)

    def load(self) -> Splits:
        """Make or read the expressions; they are kept in the cache folder.

        Raises:
            DataError: if a file is missing or damaged, numbers of what is made are given beside files, or hardly any
                expression is as long as wanted.
        """
        if self.path is not None:
            refuse_unused(self, _MADE)
        prepared = _made(self) if self.path is None else _read(self.path, published=self.published)
        train, validation, test = (_part(prepared, name, self.signature.length) for name in _FILES)
        return Splits(train, validation if len(validation) else None, test)

    def spell(self, tokens: Sequence[int]) -> str:
        """Return the expression as it is written, without its parentheses.

        Args:
            tokens: Tokens of one sequence, without padding.
        """
        return " ".join(TOKENS[token] for token in tokens)


def _part(prepared: Prepared, name: str, limit: int) -> TokenSequences:
    tokens, starts, labels = (prepared[f"{name}-{kind}"] for kind in ("tokens", "starts", "labels"))
    return TokenSequences(tokens, starts, labels, limit=limit)


def tokenize(source: str) -> NDArray[np.uint8]:
    """Return the tokens of a written expression, (L,), without its parentheses.

    Args:
        source: The expression, words with blanks between them.

    Raises:
        ValueError: if a word is no token.
    """
    words = source.replace("(", " ").replace(")", " ").split()
    try:
        return np.fromiter((_NUMBERS[word] for word in words), np.uint8, len(words))
    except KeyError as error:
        raise ValueError(f"{error.args[0]!r} is no token of ListOps, expected one of {' '.join(TOKENS[1:])}") from None


_NUMBERS = {word: number for number, word in enumerate(TOKENS) if number}


def value(tokens: NDArray[np.uint8]) -> int:
    """Return the value of an expression.

    Args:
        tokens: Its tokens, (L,).

    Raises:
        ValueError: if it is not one whole expression.
    """
    from transferfn.tasks._listops import evaluate

    found = int(evaluate(np.asarray(tokens, np.uint8))) if len(tokens) else -1
    if found < 0:
        raise ValueError(f"these {len(tokens)} tokens are not one whole expression")
    return found


# ---------------------------------------------------------------------------------------------------- made


def _made(config: ListopsConfig) -> Prepared:
    key = {name: number for name, number in asdict(config).items() if name not in ("path", "published")}

    def make(folder: Path) -> None:
        seen: set[bytes] = set()
        for split, name in enumerate(_FILES):
            write_sequences(folder, name, _distinct(config, split, name, seen), dtype=np.uint8)

    return prepare("listops", key, make)


def _distinct(config: ListopsConfig, split: int, name: str, seen: set[bytes]) -> Iterator[Expression]:
    """Make the expressions of a split; one that is in ``seen`` is drawn anew."""
    count = (config.train, config.validation, config.test)[split]
    made: list[Expression | None] = [None] * count

    def work(begin: int, end: int) -> None:
        made[begin:end] = _draw(config, split, np.arange(begin, end, dtype=np.uint64), 0)

    for_blocks(count, work, title=f"listops {name}")
    for index, expression in enumerate(made):
        draw = 0
        while expression is None or (digest := hashlib.blake2b(expression[0].data, digest_size=16).digest()) in seen:
            draw += 1
            if draw > _DRAWS:
                raise DataError(
                    f"ListOps with more than {config.min_length} and fewer than {config.max_length} tokens has too few "
                    f"different expressions (found {len(seen)} of {config.train + config.validation + config.test}): "
                    "ask for fewer, or widen the range of lengths"
                )
            (expression,) = _draw(config, split, np.array([index], np.uint64), draw)
        seen.add(digest)
        yield expression


def _draw(config: ListopsConfig, split: int, indices: NDArray[np.uint64], draw: int) -> list[Expression]:
    """Make expressions, each a pure function of seed, split, index and draw."""
    from transferfn.tasks import _listops

    tokens = np.empty((len(indices), config.max_length), np.uint8)
    lengths, labels = np.empty(len(indices), np.int64), np.empty(len(indices), np.int64)
    _listops.make(
        np.uint64(config.seed),
        np.uint64(split),
        indices,
        np.uint64(draw),
        config.depth,
        config.arguments,
        config.min_length,
        config.max_length,
        _TRIALS,
        tokens,
        lengths,
        labels,
    )
    if not lengths.all():
        raise DataError(
            f"none of {_TRIALS} expressions of depth {config.depth} with at most {config.arguments} arguments has more "
            f"than {config.min_length} and fewer than {config.max_length} tokens: widen the range of lengths"
        )
    return [(row[:length].copy(), int(label)) for row, length, label in zip(tokens, lengths, labels, strict=True)]


# ---------------------------------------------------------------------------------------------------- read


def _read(folder: Path, *, published: bool) -> Prepared:
    if folder.is_file():
        raise DataError(f"{folder} is a file, expected a folder: unpack the archive and name it. {_WHERE}")
    if folder.is_dir():
        folder = next((place for place in places(folder) if (place / _FILES["train"]).is_file()), folder)
    paths = {name: folder / file for name, file in _FILES.items()}
    for path in paths.values():
        if not path.is_file():
            raise DataError(f"{path} is missing: all of {', '.join(_FILES.values())} are needed. {_WHERE}")

    def make(to: Path) -> None:
        for name, path in paths.items():
            write_sequences(to, name, _lines(path), dtype=np.uint8)
        if published:
            _SOURCE.check_sizes(folder, {name: len(np.load(to / f"{name}-labels.npy")) for name in paths})

    return prepare("listops-files", {"files": fingerprint(paths.values()), "published": published}, make)


def _lines(path: Path) -> Iterator[Expression]:
    from tqdm import tqdm

    read = partial(tqdm, desc=path.name, unit="line", leave=False, disable=None)
    number = 0
    try:
        with path.open(encoding="ascii") as file:
            for number, line in enumerate(read(file), 1):
                if number > 1:
                    yield _line(line)
                elif line.split() != ["Source", "Target"]:
                    raise ValueError(f"expected the columns Source and Target, found {line.strip()[:40]!r}")
    except (ValueError, OSError) as error:
        raise DataError(f"{path}, line {max(number, 1)}: {error}. Fetch it again. {_WHERE}") from None
    if number < 2:
        raise DataError(f"{path} holds no expression: fetch it again. {_WHERE}")


def _line(line: str) -> Expression:
    columns = line.rstrip("\r\n").split("\t")
    if len(columns) != 2:
        raise ValueError(f"expected 2 columns, Source and Target, with a tab between them, found {len(columns)}")
    tokens = tokenize(columns[0])
    if (found := value(tokens)) != int(columns[1]):
        raise ValueError(f"Target is {columns[1]}, but the expression has the value {found}")
    return tokens, found
