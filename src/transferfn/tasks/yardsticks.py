"""What a language model has to beat: compressors and an n-gram model on the same held-out bytes."""

from __future__ import annotations

import gzip
import lzma

import numpy as np
from numpy.typing import NDArray

_RANGE = 256


def compressed_bits(text: bytes, before: bytes = b"") -> dict[str, float]:
    """Return how many bits general compressors need for a text.

    Args:
        text: The held-out text.
        before: What xz may learn from first: it then needs the difference between both together and this alone.

    Returns:
        Bits by "gzip" (level 9, the text alone), "xz" (preset 9 extreme, the text alone) and, if there is something
        before, "xz after training text".

    Example:
        >>> bits = compressed_bits(b"to be or not to be. " * 50)
        >>> 8 * 40 < bits["xz"] < 8 * 120
        True
    """
    bits = {"gzip": 8.0 * len(gzip.compress(text, 9)), "xz": 8.0 * _xz(text)}
    if before:
        bits["xz after training text"] = 8.0 * (_xz(before + text) - _xz(before))
    return bits


def ngram_bits(text: bytes, train: bytes, *, order: int = 4) -> float:
    r"""Return how many bits an n-gram model of bytes needs for a text, its counts those of the training text.

    The probability of a byte c after the context h of the last k bytes is interpolated with that after one byte less,

        p_k(c | h) = (N(h c) + T(h) p_(k-1)(c | h')) / (N(h) + T(h)),        p_(-1) = 1 / 256,

    where N counts occurrences and T different successors (Witten and Bell's estimate, the one behind PPM-C). Contexts
    that were never seen leave the shorter one's probability as it is. Counts do not change while the text is read.

    Args:
        text: The held-out text.
        train: The training text.
        order: Number of bytes of the longest context, 0 to 6.

    Raises:
        ValueError: if the order is out of range.

    Source:
        Witten and Bell 1991, IEEE Transactions on Information Theory 37(4).

    Example:
        >>> ngram_bits(b"abababab", b"ab" * 100, order=2) < 2
        True
    """
    if not 0 <= order <= 6:
        raise ValueError(f"order must lie in 0..6, got {order}")
    probability = np.full(len(text), 1 / _RANGE)
    for length in range(order + 1):
        seen, times = np.unique(_grams(train, length), return_counts=True)
        if not len(seen):
            break
        contexts, first = np.unique(seen >> np.uint64(8), return_index=True)
        total = np.add.reduceat(times, first)
        different = np.diff(np.append(first, len(seen)))
        grams = _grams(text, length)
        count = _look_up(seen, times, grams)
        context = grams >> np.uint64(8)
        total, different = _look_up(contexts, total, context), _look_up(contexts, different, context)
        known = total > 0
        shorter = probability[length:]  # the first bytes of the text have no such context
        with np.errstate(invalid="ignore", divide="ignore"):
            longer = (count + different * shorter) / (total + different)
        probability[length:] = np.where(known, longer, shorter)
    return float(-np.log2(probability).sum())


def _grams(text: bytes, length: int) -> NDArray[np.uint64]:
    """Each byte with the `length` bytes before it as one number, the byte last."""
    codes = np.frombuffer(text, np.uint8).astype(np.uint64)
    grams = np.zeros(max(len(codes) - length, 0), np.uint64)
    for shift in range(length + 1):
        grams = (grams << np.uint64(8)) | codes[shift : shift + len(grams)]
    return grams


def _look_up(keys: NDArray[np.uint64], values: NDArray[np.int64], wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)


def _xz(text: bytes) -> int:
    return len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
