"""`transferfn generate RUN`: what a language model makes of a prompt."""

from __future__ import annotations

import codecs
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from transferfn.cli.forms import in_form
from transferfn.models import LanguageModel
from transferfn.models.generate import check_numbers, generate
from transferfn.models.int8 import Int8Decoder
from transferfn.nn.long_conv import HorizonError
from transferfn.nn.realize import FormOption
from transferfn.tasks import TextCorpusConfig
from transferfn.training import RunError, load_model
from transferfn.training.run import RunFolder
from transferfn.training.tokens import read_tokens

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
