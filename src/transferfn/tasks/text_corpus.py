"""Text for language models: corpora split without leakage, tokenised once, packed in rows with resets between texts."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from transferfn.tasks import _texts
from transferfn.tasks._texts import PARTS, Parts
from transferfn.tasks.cache import Prepared, fingerprint, prepare
from transferfn.tasks.dataset import IGNORED, Batch, DataError, Signature, Splits
from transferfn.tasks.tokenizer import BpeTokenizer, ByteTokenizer, Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class TextCorpusConfig:
    """Which texts, how they are split and in what tokens they are written.

    Raises:
        ValueError: if a value makes no sense, or a file is needed that is not named.

    Example:
        >>> config = TextCorpusConfig(length=256)
        >>> config.signature
        Signature(length=256, outputs=257, target='next-token', channels=None, vocabulary=257)
        >>> config.load().train.gather([0, 1]).inputs.shape  # doctest: +SKIP
        torch.Size([2, 256])
        >>> config.spell([72, 105, 33, 256])
        'Hi!'
        >>> mine = TextCorpusConfig(source="files", path=Path("notes"), pattern="**/*.md", tokenizer="bpe")
    """

    source: Literal["python", "files", "wikitext-103", "enwik8"] = "python"
    """Python's own standard library, about 12 MB; a folder; or a published corpus in its published files."""

    path: Path | None = None
    """The folder, or the file of enwik8; None for Python's standard library."""

    pattern: str = "**/*.txt"
    """Which files of a folder hold texts; those ending in .parquet hold them in the column "text"."""

    tokenizer: Literal["bytes", "bpe"] = "bytes"
    """Bytes, or byte pair encoding learned from the training part."""

    vocabulary: int = 8192
    """Number of tokens that byte pair encoding learns."""

    tokenizer_file: Path | None = None
    """A file of the tokenizers library to take instead of learning one, say the tokenizer.json of GPT-2."""

    length: int = 512
    """Tokens of a row."""

    validation: float = 0.05
    """Share of files, or rows of Parquet, held out to choose a model; published corpora have their own split."""

    test: float = 0.05
    """Share held out to test it."""

    def __post_init__(self) -> None:
        if self.length < 2:
            raise ValueError(f"data.length must be at least 2, got {self.length}")
        if not (self.validation >= 0 and self.test > 0 and self.validation + self.test < 1):
            raise ValueError(
                f"data.validation and data.test are shares with a sum below 1, test not 0; got {self.validation} and "
                f"{self.test}"
            )
        if (self.path is None) != (self.source == "python"):
            what = "takes no data.path" if self.source == "python" else "needs data.path, where its files are"
            raise ValueError(f'data.source "{self.source}" {what}')
        if self.tokenizer == "bytes" and self.tokenizer_file is not None:
            raise ValueError('data.tokenizer_file goes with data.tokenizer "bpe", not "bytes"')

    @property
    def signature(self) -> Signature:
        """Tokens in, one of as many classes for each; where a file or a corpus decides how many, it is read."""
        return self.signature_in(ByteTokenizer() if self.tokenizer == "bytes" else self.read().tokenizer)

    def signature_in(self, tokenizer: Tokenizer) -> Signature:
        """Return the signature in tokens that are known already, those of a run say; nothing is read.

        Args:
            tokenizer: What the texts are written in.
        """
        size = tokenizer.vocabulary
        return Signature(length=self.length, vocabulary=size, outputs=size, target="next-token")

    def load(self) -> Splits:
        """Read the texts, or what was made of them before, and return rows of tokens.

        Raises:
            DataError: if a file is missing, damaged or not what it should be, or a part would be empty.
        """
        corpus = self.read()
        train, validation, test = (corpus.rows(name, self.length) for name in PARTS)
        return Splits(train, validation if len(validation) else None, test)

    def spell(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; that between texts is left out.

        Args:
            tokens: Tokens of one row, without padding.
        """
        tokenizer = self.read().tokenizer if self.tokenizer == "bpe" else ByteTokenizer()
        return tokenizer.decode(tokens).decode(errors="replace")

    def read(self) -> TextCorpus:
        """Read the texts, or what was made of them before.

        Raises:
            DataError: if a file is missing, damaged or not what it should be, or a part would be empty.
        """
        files, key = self._files()
        if self.tokenizer_file is not None:
            BpeTokenizer.read(self.tokenizer_file)  # complain before any work is done
            files = [*files, self.tokenizer_file]
        key |= {"source": self.source, "files": fingerprint(files), "tokenizer": self.tokenizer}
        if self.tokenizer == "bpe":
            key["vocabulary"] = self.vocabulary if self.tokenizer_file is None else str(self.tokenizer_file)
        return TextCorpus(prepare("text", key, self._prepare))

    def _files(self) -> tuple[list[Path], dict[str, Any]]:
        """The files that the texts are in, and what else the texts depend on."""
        shares = {"validation": self.validation, "test": self.test}
        if self.path is None:
            return _texts.python_files(), {**shares, "python": sys.version}
        path = {"path": str(self.path.resolve())}
        match self.source:
            case "wikitext-103":
                return _texts.wikitext(self.path)[0], path
            case "enwik8":
                return [_texts.enwik8_file(self.path)], path
            case _:
                return _texts.folder_files(self.path, self.pattern), {**shares, **path, "pattern": self.pattern}

    def _read_parts(self) -> Parts:
        shares = {"validation": self.validation, "test": self.test}
        if self.path is None:
            return _texts.split_files(_texts.python_files(), Path(sysconfig.get_paths()["stdlib"]), **shares)
        match self.source:
            case "wikitext-103":
                return _texts.wikitext_articles(_texts.wikitext(self.path)[1])
            case "enwik8":
                return _texts.enwik8(self.path)
            case _:
                files = _texts.folder_files(self.path, self.pattern)
                return _texts.named_parts(files) or _texts.split_files(files, self.path, **shares)

    def _prepare(self, folder: Path) -> None:
        parts = self._read_parts()
        for name in ("train", "test"):
            if not parts[name]:
                raise DataError(
                    f"the {name} part has no text: there are {sum(map(len, parts.values()))} different ones. Add "
                    "texts, or change the shares data.validation and data.test."
                )
        if self.tokenizer == "bytes":
            tokenizer = ByteTokenizer()
        elif self.tokenizer_file is not None:
            tokenizer = BpeTokenizer.read(self.tokenizer_file)
        else:
            tokenizer = BpeTokenizer.train(parts["train"], self.vocabulary)
        if isinstance(tokenizer, BpeTokenizer):
            np.save(folder / "tokenizer.npy", np.frombuffer(tokenizer.to_json().encode(), np.uint8))
        for name, texts in parts.items():
            tokens, begins = _pack(texts, tokenizer)
            np.save(folder / f"{name}.npy", tokens)
            np.save(folder / f"{name}-begins.npy", begins)
            np.save(folder / f"{name}-text.npy", np.frombuffer(b"\0".join(texts), np.uint8))
            np.save(folder / f"{name}-bytes.npy", np.array(sum(map(len, texts))))


class TextCorpus:
    """A corpus in tokens, kept on disk and mapped into memory.

    Args:
        prepared: Its arrays.
    """

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared

    @property
    def tokenizer(self) -> Tokenizer:
        """What its tokens mean."""
        if "tokenizer.npy" not in self._prepared.files:
            return ByteTokenizer()
        return BpeTokenizer.from_json(self._prepared["tokenizer"].tobytes().decode())

    def rows(self, part: str, length: int) -> TextRows:
        """Return a part as rows of tokens.

        Args:
            part: "train", "validation" or "test".
            length: Tokens of a row.
        """
        return TextRows(self._prepared[part], self._prepared[f"{part}-begins"], length)

    def text(self, part: str, limit: int | None = None) -> bytes:
        """Return the texts of a part, a zero byte between two.

        Args:
            part: "train", "validation" or "test".
            limit: How many bytes at most; None means all.
        """
        return self._prepared[f"{part}-text"][:limit].tobytes()

    def size(self, part: str) -> int:
        """Return the number of bytes of the texts of a part: what bits per byte are counted by.

        Args:
            part: "train", "validation" or "test".
        """
        return int(self._prepared[f"{part}-bytes"])


class TextRows:
    """Texts one after the other, each with the token between texts in front, cut into rows of the same length.

    Each token is a target once, the first one aside. A text that a row's edge cuts goes on in the next row.

    Args:
        tokens: All tokens, (N,).
        begins: Where texts begin, positions of the tokens in front of them, ascending.
        length: Tokens of a row, L.

    Example:
        >>> rows = TextRows(np.array([9, 1, 2, 9, 3, 4]), np.array([0, 3]), length=3)
        >>> batch = rows.gather([0, 1])
        >>> batch.inputs.tolist(), batch.targets.tolist()
        ([[9, 1, 2], [9, 3, 0]], [[1, 2, 9], [3, 4, -100]])
        >>> batch.resets.int().tolist(), batch.lengths.tolist()
        ([[1, 0, 0], [1, 0, 0]], [3, 2])
    """

    fresh = False

    def __init__(self, tokens: NDArray[np.integer], begins: NDArray[np.integer], length: int) -> None:
        self.tokens, self.begins, self.length = tokens, begins, length

    def __len__(self) -> int:
        return -(-max(len(self.tokens) - 1, 0) // self.length)

    def gather(self, indices: Sequence[int]) -> Batch:
        """Return rows.

        Args:
            indices: Which ones, 0..N-1.
        """
        rows = np.asarray(indices, np.int64)
        count, length = len(self.tokens) - 1, self.length
        inputs = np.zeros((len(rows), length), np.int64)
        targets = np.full((len(rows), length), IGNORED, np.int64)
        resets = np.zeros((len(rows), length), np.bool_)
        lengths = np.clip(count - rows * length, 0, length)
        for i, (row, size) in enumerate(zip(rows, lengths, strict=True)):
            begin, end = row * length, row * length + size
            inputs[i, :size] = self.tokens[begin:end]
            targets[i, :size] = self.tokens[begin + 1 : end + 1]
            first, last = np.searchsorted(self.begins, (begin, end))
            resets[i, self.begins[first:last] - begin] = True
        return Batch(
            inputs=torch.from_numpy(inputs),
            targets=torch.from_numpy(targets),
            index=torch.from_numpy(rows),
            lengths=None if bool((lengths == length).all()) else torch.from_numpy(lengths),
            resets=torch.from_numpy(resets),
        )


def _pack(texts: Iterable[bytes], tokenizer: Tokenizer) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """All texts in one row of tokens, the token between texts in front of each and at the end, and where they begin."""
    kind = np.uint16 if tokenizer.vocabulary <= 2**16 else np.uint32
    end = np.array([tokenizer.end], kind)
    pieces: list[NDArray[np.integer]] = []
    begins, place = [], 0
    for text in texts:
        tokens = tokenizer.encode(text).astype(kind)
        pieces += [end, tokens]
        begins.append(place)
        place += 1 + len(tokens)
    if pieces:
        pieces.append(end)
    return np.concatenate([np.empty(0, kind), *pieces]), np.array(begins, np.int64)
