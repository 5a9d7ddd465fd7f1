"""How a language model is judged: perplexity, and bits a byte beside an n-gram model and compressors."""

from __future__ import annotations

from typing import Literal

from transferfn.tasks import TextCorpusConfig
from transferfn.tasks.text_corpus import TextCorpus
from transferfn.training import Result

Part = Literal["validation", "test"]

NGRAM_TEXT = 32_000_000
"""Bytes that the n-gram model learns from at most: its counts take 25 to 40 bytes of memory for each."""


def scores(data: TextCorpusConfig, bits: float, part: Part = "test") -> dict[str, float]:
    """Return the score of a language model in all that it is usually told in.

    Args:
        data: The texts.
        bits: How many bits a token takes in the mean.
        part: Which texts.
    """
    corpus = data.read()
    total = bits * _targets(corpus, part)
    return {"bits a token": bits, "perplexity": 2**bits, "bits a byte": total / corpus.size(part)}


def score_line(data: TextCorpusConfig, bits: float, part: Part = "test") -> str:
    """Say the score of a language model in all that it is usually told in.

    Args:
        data: The texts.
        bits: How many bits a token takes in the mean.
        part: Which texts.
    """
    found = scores(data, bits, part)
    return f"perplexity {found['perplexity']:.4g} a token; {found['bits a byte']:.3f} bits a byte"


def yardsticks(data: TextCorpusConfig, result: Result) -> list[str]:
    """Say how many bits a byte of the test texts take, by the model and by honest others.

    Args:
        data: The texts.
        result: What the run came to.
    """
    from transferfn.tasks.yardsticks import compressed_bits, ngram_bits

    corpus = data.read()
    text, size = corpus.text("test"), corpus.size("test")
    train = corpus.text("train", NGRAM_TEXT)
    learned = "the same texts" if len(train) < NGRAM_TEXT else f"the first {NGRAM_TEXT:,} bytes of the same texts"
    bits = {"this model": result.test_score * _targets(corpus, "test")}
    bits[f"n-gram model of 5 bytes, trained on {learned}"] = ngram_bits(text, train, order=4)
    bits |= compressed_bits(text)
    lines = [score_line(data, result.test_score), f"bits a byte on {size:,} held-out bytes:"]
    return lines + [f"  {value / size:.3f}  {name}" for name, value in sorted(bits.items(), key=lambda item: item[1])]


def _targets(corpus: TextCorpus, part: Part) -> int:
    """How many tokens are predicted: each once, the first one aside."""
    return max(len(corpus.rows(part, 1).tokens) - 1, 0)
