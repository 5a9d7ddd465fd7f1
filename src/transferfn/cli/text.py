"""`transferfn generate RUN`, and how a language model is judged: bits a byte beside an n-gram model and compressors."""

from __future__ import annotations

import codecs
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from transferfn.cli.forms import FormOption, in_form
from transferfn.models import LanguageModel
from transferfn.models.int8 import Int8Decoder
from transferfn.nn.long_conv import HorizonError
from transferfn.tasks import IGNORED, TextCorpusConfig
from transferfn.training import Result, RunError, load_model

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


def generate_text(command: Generate) -> None:
    """Load, continue and print.

    Args:
        command: Which run, and how.

    Raises:
        RunError: if the run is no language model, or a number makes no sense.
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
    from transferfn.models.generate import generate

    tokenizer = config.data.read().tokenizer
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


def bits_a_byte(data: TextCorpusConfig, bits_a_token: float) -> float:
    """Return how many bits a byte of the test texts takes.

    Args:
        data: The texts.
        bits_a_token: How many a token of them takes in the mean.
    """
    return bits_a_token * _test_tokens(data) / data.read().size("test")


def yardsticks(data: TextCorpusConfig, result: Result) -> list[str]:
    """Say how many bits a byte of the test texts take, by the model and by honest others.

    Args:
        data: The texts.
        result: What the run came to.
    """
    from transferfn.tasks.yardsticks import compressed_bits, ngram_bits

    corpus = data.read()
    text, size = corpus.text("test"), corpus.size("test")
    bits = {"this model": result.test_score * _test_tokens(data)}
    bits["n-gram model of 5 bytes, trained on the same texts"] = ngram_bits(text, corpus.text("train"), order=4)
    bits |= compressed_bits(text)
    lines = [f"bits a byte on {size:,} held-out bytes:"]
    return lines + [f"  {value / size:.3f}  {name}" for name, value in sorted(bits.items(), key=lambda item: item[1])]


def _test_tokens(data: TextCorpusConfig) -> int:
    rows = data.load().test
    return sum(int((rows.gather([row]).targets != IGNORED).sum()) for row in range(len(rows)))
