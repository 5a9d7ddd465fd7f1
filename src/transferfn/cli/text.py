"""`transferfn generate RUN`, and how a language model is judged: bits a byte beside an n-gram model and compressors."""

from __future__ import annotations

import codecs
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from transferfn.cli.forms import in_form
from transferfn.models import LanguageModel
from transferfn.models.generate import check_numbers, generate
from transferfn.models.int8 import Int8Decoder
from transferfn.nn.long_conv import HorizonError
from transferfn.nn.realize import FormOption
from transferfn.tasks import TextCorpusConfig
from transferfn.tasks.text_corpus import TextCorpus
from transferfn.training import Result, RunError, load_model
from transferfn.training.run import RunFolder
from transferfn.training.tokens import read_tokens

Part = Literal["validation", "test"]

NGRAM_TEXT = 32_000_000
"""Bytes that the n-gram model learns from at most: its counts take 25 to 40 bytes of memory for each."""

CONTEXTS = (128, 512, 2048, 8192)
"""Tokens before those that are decoded, in the benchmark."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Generate:
    """Let the language model of a run continue a prompt, and print it as it comes."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""

    prompt: str = "def "
    """What to continue."""

    count: int = 500
    """Tokens to add."""

    temperature: float = 0.8
    """What logits are divided by; 0 takes the likeliest token each time."""

    top_k: int | None = None
    """How many of the likeliest tokens are drawn from; None means all."""

    seed: int = 0
    """Seed of the draws."""

    int8: bool = False
    """Whether linear maps have weights of one byte, which is faster where reading them takes the time."""

    form: FormOption | None = None
    """Form that filters decode in, see transferfn stream --help; what was measured is told on standard error."""

    benchmark: bool = False
    """Whether to measure speed and memory over the length of the context instead."""

    def __post_init__(self) -> None:
        check_numbers(self.count, self.temperature, self.top_k)  # before anything is loaded or printed


def generate_text(command: Generate) -> None:
    """Load, continue and print.

    Args:
        command: Which run, and how.

    Raises:
        RunError: if the run is no language model, or cannot go on as far as it is asked to.
    """
    model, config = load_model(command.run)
    if not isinstance(model, LanguageModel) or not isinstance(config.data, TextCorpusConfig):
        raise RunError(f"{command.run} is no language model: train one with transferfn train lm")
    if command.form is not None:
        model = in_form(model, command.form, command.run).decoder
    if command.benchmark:
        from transferfn.bench.generation_speed import benchmark

        for row in benchmark(Int8Decoder(model) if command.int8 else model.decoder(), model.vocabulary, CONTEXTS):
            print(", ".join(f"{name} {value:,.0f}" for name, value in row.items()), flush=True)
        return
    tokenizer = read_tokens(RunFolder(path=command.run), config.data)
    prompt = torch.tensor([tokenizer.end, *tokenizer.encode(command.prompt.encode()).tolist()])
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    sys.stdout.write(command.prompt)
    try:
        for token in generate(
            model,
            prompt,
            command.count,
            temperature=command.temperature,
            top_k=command.top_k,
            end=tokenizer.end,
            int8=command.int8,
            generator=torch.Generator().manual_seed(command.seed),
        ):
            sys.stdout.write(decoder.decode(tokenizer.decode([token])))
            sys.stdout.flush()
    except ValueError as error:
        print()
        advice = (
            f" Distilled filters go on: transferfn distill {command.run}" if isinstance(error, HorizonError) else ""
        )
        raise RunError(f"{error}{advice}") from error
    print(decoder.decode(b"", final=True))


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
