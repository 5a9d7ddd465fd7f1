"""Text as tokens: characters with a vocabulary that is counted, or bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from transferfn.tasks.cache import Prepared

Level = Literal["character", "byte"]
"""What a token is: a character of a counted vocabulary, or a byte."""

PAD, UNKNOWN, END = 0, 1, 2
SPECIALS = 3
BYTES = 257
"""Tokens of bytes: 0 is padding, then the byte plus one."""

_CODE_POINTS = 0x110000


class Vocabulary:
    """Characters with a token of their own: the most frequent ones, the most frequent first.

    Tokens are 0 for padding, 1 for unknown characters, 2 for the end, then the characters.

    Args:
        texts: Texts to count, cut as they will be when encoded, each with how often it counts.
        size: Number of tokens, the special ones included.
        least: Characters that occur less often are unknown.

    Source:
        The loaders of S4 (state-spaces/s4, src/dataloaders/lra.py), which count with torchtext; characters that are
        equally frequent come in their own order.

    Example:
        >>> vocabulary = Vocabulary([("banana", 1), ("b", 2)], size=5, least=1)
        >>> vocabulary.characters, vocabulary.encode("ban!", length=4).tolist()
        ('ab', [4, 3, 1, 2])
    """

    def __init__(self, texts: Iterable[tuple[str, int]], *, size: int, least: int) -> None:
        counts = np.zeros(_CODE_POINTS, np.int64)
        for text, times in texts:
            codes, found = np.unique(_codes(text), return_counts=True)
            counts[codes] += times * found
        codes = np.flatnonzero(counts >= least)
        codes = codes[np.argsort(-counts[codes], kind="stable")][: size - SPECIALS]
        self.characters = "".join(map(chr, codes))
        self._tokens = np.full(_CODE_POINTS, UNKNOWN, np.uint16)
        self._tokens[codes] = np.arange(SPECIALS, SPECIALS + len(codes))

    def encode(self, text: str, *, length: int) -> NDArray[np.uint16]:
        """Return a text as tokens, cut to ``length`` with the end.

        Args:
            text: The text.
            length: Number of tokens at most.
        """
        return np.append(self._tokens[_codes(text[: length - 1])], np.uint16(END))


def encode_bytes(text: str, *, length: int) -> NDArray[np.uint16]:
    """Return a text as its UTF-8 bytes plus one, cut to ``length``; no end is added.

    Args:
        text: The text.
        length: Number of tokens at most.

    Source:
        Tay et al. 2021, arXiv:2011.04006, official code (ByteTextEncoder).

    Example:
        >>> encode_bytes("añ", length=2).tolist()
        [98, 196]
    """
    return np.frombuffer(text.encode(errors="surrogatepass"), np.uint8)[:length].astype(np.uint16) + np.uint16(1)


def spell(tokens: Sequence[int], characters: str | None) -> str:
    """Return the text of tokens; padding and the end are left out, an unknown character is the replacement character.

    Args:
        tokens: The tokens.
        characters: Those of a vocabulary, in its order; None means that tokens are bytes.

    Example:
        >>> spell([4, 3, 2], "ab"), spell([98, 196, 178], None)
        ('ba', 'añ')
    """
    if characters is None:
        return bytes(token - 1 for token in tokens if token != PAD).decode(errors="replace")
    known = {PAD: "", UNKNOWN: "\N{REPLACEMENT CHARACTER}", END: ""}
    return "".join(known[token] if token in known else characters[token - SPECIALS] for token in tokens)


def encoder(
    level: Level, texts: Iterable[tuple[str, int]], *, size: int, least: int, length: int
) -> tuple[Callable[[str], NDArray[np.uint16]], str | None]:
    """Return what makes tokens of a text, and the characters of its vocabulary; None for bytes.

    Args:
        level: What a token is.
        texts: Texts to count characters in, each with how often it counts.
        size: Number of tokens of characters.
        least: Characters that occur less often are unknown.
        length: Number of tokens of a text at most.
    """
    if level == "byte":
        return partial(encode_bytes, length=length), None
    cut = ((text[: length - 1], times) for text, times in texts)
    vocabulary = Vocabulary(cut, size=size, least=least)
    return partial(vocabulary.encode, length=length), vocabulary.characters


def save_characters(folder: Path, characters: str | None) -> None:
    """Keep the characters of a vocabulary beside the tokens, if there is one.

    Args:
        folder: Where to.
        characters: The characters, or None.
    """
    if characters is not None:
        np.save(folder / "characters.npy", _codes(characters))


def saved_characters(prepared: Prepared) -> str | None:
    """Return what ``save_characters`` kept.

    Args:
        prepared: The arrays it is among.
    """
    if "characters.npy" not in prepared.files:
        return None
    return "".join(map(chr, prepared["characters"].tolist()))


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.dtype("<u4"))
