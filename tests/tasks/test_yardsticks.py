from __future__ import annotations

import math

import numpy as np
import pytest

from transferfn.tasks.yardsticks import compressed_bits, ngram_bits

TRAIN = b"the cat sat on the mat. the dog ate the cat's hat. " * 3
TEXT = b"the dog sat on the hat. a bat ate zebras."


def probability(byte: int, context: bytes, train: bytes) -> float:
    """The definition, counted anew for each byte."""
    shorter = 1 / 256 if not context else probability(byte, context[1:], train)
    after = [train[i + len(context)] for i in range(len(train) - len(context)) if train[i:].startswith(context)]
    if not after:
        return shorter
    different = len(set(after))
    return (after.count(byte) + different * shorter) / (len(after) + different)


@pytest.mark.parametrize("order", range(6))
def test_ngram_is_its_definition(order: int) -> None:
    expected = 0.0
    for place, byte in enumerate(TEXT):
        expected -= math.log2(probability(byte, TEXT[max(place - order, 0) : place], TRAIN))
    assert ngram_bits(TEXT, TRAIN, order=order) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("context", [b"", b"t", b"the ", b"zzz"])
def test_probabilities_add_up_to_one(context: bytes) -> None:
    """Of the fast form: what each next byte adds to the bits of its context."""
    order = len(context)
    before = ngram_bits(context, TRAIN, order=order)
    total = sum(2 ** (before - ngram_bits(context + bytes([byte]), TRAIN, order=order)) for byte in range(256))
    assert total == pytest.approx(1, rel=1e-9)


def test_nothing_known_costs_eight_bits() -> None:
    assert ngram_bits(TEXT, b"", order=5) == pytest.approx(8 * len(TEXT))
    assert ngram_bits(b"", TRAIN) == 0
    with pytest.raises(ValueError, match=r"0\.\.6, got 7"):
        ngram_bits(TEXT, TRAIN, order=7)


def test_compressors() -> None:
    noise = np.random.default_rng(0).integers(0, 256, 4096, np.uint8).tobytes()
    bits = compressed_bits(noise, noise)
    assert bits["gzip"] >= 8 * 4096  # noise cannot be compressed,
    assert bits["xz"] >= 8 * 4096
    assert bits["xz after training text"] < 0.1 * 8 * 4096  # unless it is known
    assert set(compressed_bits(TRAIN)) == {"gzip", "xz"}
    assert compressed_bits(TRAIN * 20)["xz"] < len(TRAIN * 20)
