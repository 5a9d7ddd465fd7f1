"""Text as tokens: characters with a vocabulary that is counted, or bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

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


def encoder(
    level: Level, texts: Iterable[tuple[str, int]], *, size: int, least: int, length: int
) -> Callable[[str], NDArray[np.uint16]]:
    """Return what makes tokens of a text.

    Args:
        level: What a token is.
        texts: Texts to count characters in, each with how often it counts.
        size: Number of tokens of characters.
        least: Characters that occur less often are unknown.
        length: Number of tokens of a text at most.
    """
    if level == "byte":
        return partial(encode_bytes, length=length)
    cut = ((text[: length - 1], times) for text, times in texts)
    return partial(Vocabulary(cut, size=size, least=least).encode, length=length)


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.dtype("<u4"))
