"""Decoding of language models: ours beside transformers' Mamba and GPT-2 of equal size, over the context.

Run by ``transferfn bench generation``. Weights are random, which changes no time. All models are called through
transformers' interface, with its caches; ours also as a stream, without it. The floor is the time that our weight
matrices take by themselves.
"""

from __future__ import annotations

import copy
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils import _pytree as pytree
from tqdm import tqdm

from transferfn.bench import pictures
from transferfn.bench.layer import MIB, table
from transferfn.bench.machine import machine
from transferfn.models import LanguageModel, LanguageModelConfig
from transferfn.models.language_model import tiny
from transferfn.nn import Stream

CONTEXTS = (128, 512, 1024, 2048, 4096, 8192, 16384, 32768)
BATCHES = (1, 16)
STEPS = 32  # of decoding after each context
SHARE = 0.6  # of free memory that a pass may take by estimate
LONGEST = 300.0  # seconds that a pass over the context may take by estimate
SAME = 1e-3

OURS, NARROW, STREAM, MAMBA, GPT2, FLOOR = (
    "Hyena-RTF",
    "Hyena-RTF, bf16",
    "Hyena-RTF, stream",
    "Mamba",
    "GPT-2",
    "floor",
)

Row = dict[str, Any]


@dataclass
class Side:
    """A model of the comparison.

    Attributes:
        name: What it is called.
        model: The model, as transformers knows it.
        bytes_a_token: What a pass over the context takes of memory, about, for each token.
        pace: Seconds that the last pass took for each token; None before the first.
    """

    name: str
    model: Any
    bytes_a_token: float
    pace: float | None = None

    def prefill(self, tokens: Tensor) -> Any:
        """Take in the context and return the cache after it.

        Args:
            tokens: (B, L).
        """
        return self.model(tokens, use_cache=True, logits_to_keep=1).cache

    def step(self, token: Tensor, cache: Any) -> None:
        """Take in one token.

        Args:
            token: (B, 1).
            cache: What was kept of all before; changed.
        """
        self.model(token, use_cache=True, logits_to_keep=1, cache=cache)


def sides(config: LanguageModelConfig, longest: int) -> list[Side]:
    """Our model, once more with narrow weights, and the nearest in size of the others.

    Args:
        config: Our model.
        longest: Number of tokens of the longest text, which GPT-2 has positions for.
    """
    from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM

    from transferfn.interop.huggingface import TransferFnConfig, TransferFnForCausalLM

    torch.manual_seed(0)
    ours = TransferFnForCausalLM(TransferFnConfig.from_language_model(config)).eval()
    size, width = parameters(ours), config.width

    def mamba(layers: int) -> Any:
        return MambaForCausalLM(
            MambaConfig(vocab_size=config.vocabulary, hidden_size=width, num_hidden_layers=layers)
        ).eval()

    def gpt2(layers: int) -> Any:
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=config.vocabulary,
                n_embd=width,
                n_layer=layers,
                n_head=config.heads,
                n_positions=longest,
                bos_token_id=0,
                eos_token_id=0,
            )
        ).eval()

    def nearest(build: Callable[[int], Any]) -> Any:
        with torch.device("meta"):
            one, two = parameters(build(1)), parameters(build(2))
        return build(max(round((size - 2 * one + two) / (two - one)), 1))

    heavy = nearest(mamba)
    return [
        Side(OURS, ours, 4.0 * 40 * width),
        Side(NARROW, copy.deepcopy(ours).bfloat16(), 4.0 * 40 * width),
        Side(MAMBA, heavy, 4.0 * 6 * 2 * width * heavy.config.state_size),
        Side(GPT2, nearest(gpt2), 4.0 * width * (4 * config.layers + 40)),
    ]


def parameters(model: nn.Module) -> int:
    """Number of parameters, learned positions left out: how many there are is a matter of the longest text.

    Args:
        model: The model.
    """
    return sum(p.numel() for name, p in model.named_parameters() if not name.endswith("wpe.weight"))


def floor(model: LanguageModel, batch: int) -> Callable[[], object]:
    """The products with all weight matrices that a step of ours needs, and nothing else.

    Args:
        model: Our model.
        batch: Number of rows.
    """
    weights = [part.weight for part in model.modules() if isinstance(part, nn.Linear)] + [model.embedding.weight]
    inputs = {size: torch.randn(batch, size) for size in {weight.shape[1] for weight in weights}}
    return lambda: [linear(inputs[weight.shape[1]], weight) for weight in weights]


@torch.no_grad()
def check(side: Side, vocabulary: int) -> None:
    """Make sure that what is measured computes what it should: a cache and full recomputation give the same scores.

    Args:
        side: A model.
        vocabulary: Number of tokens.

    Raises:
        ArithmeticError: if they differ.
    """
    tokens = torch.randint(vocabulary, (2, 24))
    cache = side.prefill(tokens[:, :20])
    for t in range(20, 23):
        side.step(tokens[:, t : t + 1], cache)
    found = side.model(tokens[:, 23:], use_cache=True, cache=cache).logits[:, -1].float()
    expected = side.model(tokens, use_cache=False).logits[:, -1].float()
    error = float((found - expected).abs().max() / expected.abs().max())
    allowed = SAME if next(side.model.parameters()).dtype == torch.float32 else 0.1
    if not error <= allowed:
        raise ArithmeticError(f"with its cache {side.name} is off by {error:.1e}: its speed means nothing")


def cache_bytes(cache: Any) -> int:
    """Memory of all that a cache of transformers keeps.

    Args:
        cache: The cache.
    """
    kept = [
        (getattr(layer, "keys", None), getattr(layer, "values", None), dict(getattr(layer, "conv_states", {})),
         dict(getattr(layer, "recurrent_states", {})))
        for layer in cache.layers
    ]  # fmt: skip
    return sum(leaf.nbytes for leaf in pytree.tree_leaves(kept) if isinstance(leaf, Tensor))


@torch.no_grad()
def rows(models: list[Side], context: int, batch: int, vocabulary: int) -> Iterator[Row]:
    """Figures of all models at one context, a row each; what does not fit in memory or time is left out.

    Args:
        models: The models; how fast they were is kept, to tell how long the next context will take.
        context: Number of tokens before the ones that are decoded.
        batch: Number of rows.
        vocabulary: Number of tokens.
    """
    tokens = torch.randint(vocabulary, (batch, context))
    found: dict[str, Row] = {}
    steps: dict[str, Callable[[], object]] = {}
    for side in models:
        if side.bytes_a_token * batch * context > SHARE * _free() or (side.pace or 0.0) * batch * context > LONGEST:
            continue
        start = time.perf_counter()
        cache = side.prefill(tokens)
        first = time.perf_counter() - start
        side.pace = first / (batch * context)
        found[side.name] = {"time to first token, s": first, "KiB a row": cache_bytes(cache) / 1024 / batch}
        steps[side.name] = lambda side=side, cache=cache: side.step(tokens[:, :1], cache)
    ours = models[0].model
    if OURS in found:
        stream = Stream(ours.model.decoder(), batch)
        start = time.perf_counter()
        features, stream.state = stream.decoder.backbone.extend(tokens)
        stream.decoder.logits(features[:, -1])
        first = time.perf_counter() - start
        found[STREAM] = {"time to first token, s": first, "KiB a row": found[OURS]["KiB a row"]}
        steps[STREAM] = lambda: stream(tokens[:, 0])
        found[FLOOR], steps[FLOOR] = {}, floor(ours.model, batch)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(STEPS):
        for name, step in steps.items():  # in turns, so that what else the machine does hits them alike
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, row in found.items():
        yield {
            "B": batch,
            "context": context,
            "layer": name,
            "step, ms": 1e3 * medians[name],
            "tokens/s": batch / medians[name],
            "Hyena-RTF, times as fast": medians[name] / medians[OURS] if OURS in medians else None,
            **{key: row.get(key) for key in ("time to first token, s", "KiB a row")},
        }


def report(*, out: Path, quick: bool = False) -> None:
    """Measure, print Markdown, and write it with the figures and the picture.

    Args:
        out: Where, without ending.
        quick: Whether a model of a million parameters and contexts up to 512 are enough.
    """
    config = tiny() if quick else LanguageModelConfig(dropout=0.0, init="comb", constraint="reflection")
    contexts = tuple(c for c in CONTEXTS if c <= 512) if quick else CONTEXTS
    measure(config, contexts, out, command="transferfn bench generation" + " --quick" * quick)


def measure(config: LanguageModelConfig, contexts: tuple[int, ...], out: Path, *, command: str) -> None:
    """Do what :func:`report` does for any model and contexts.

    Args:
        config: Our model.
        contexts: Numbers of tokens before the ones that are decoded.
        out: Where, without ending.
        command: What to say that it was measured by.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()  # Mamba says at each call that it would like a GPU
    out.parent.mkdir(parents=True, exist_ok=True)
    models = sides(config, max(contexts) + STEPS + 2)
    sizes = {side.name: parameters(side.model) for side in models}
    for side in models:
        check(side, config.vocabulary)
    found: Row = {
        "command": command,
        "machine": machine("torch", "numba", "transformers"),
        "threads": torch.get_num_threads(),
        "parameters": sizes,
    }
    told = ", ".join(f"{key} {value}" if key != "processor" else value for key, value in found["machine"].items())
    counts = ", ".join(f"{name} {size / 1e6:.1f}M" for name, size in sizes.items())
    lines = [
        f"`{command}` on {told}, {found['threads']} threads; float32 unless told, random weights, medians of {STEPS} "
        f"steps that take turns. Parameters: {counts} (learned positions left out). The floor is the time of our "
        f"weight matrices alone. A row that is missing did not fit in memory, or its context would have taken over "
        f"{LONGEST:g} s."
    ]
    found["rows"] = []
    for batch in BATCHES:
        for side in models:
            side.pace = None
        progress = tqdm(contexts, f"{batch} row(s)", unit="context")
        cells = [row for context in progress for row in rows(models, context, batch, config.vocabulary)]
        found["rows"] += cells
        lines += [
            "",
            f"## {batch} row{'s' * (batch > 1)}",
            "",
            *table([{key: "-" if x is None else x for key, x in row.items()} for row in cells]),
        ]
    print("\n".join(lines))
    out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    pictures.draw_generation(found, out)


@torch.no_grad()
def benchmark(model: LanguageModel, contexts: tuple[int, ...], *, batch: int = 1, steps: int = STEPS) -> list[Row]:
    """Speed and memory of one model over the context: what ``transferfn generate --benchmark`` prints.

    Args:
        model: The model.
        contexts: Numbers of tokens before the ones that are decoded.
        batch: Number of rows.
        steps: Number of tokens to decode after each.

    Returns:
        A row for each context: tokens a second of the pass over the context and of decoding, and the memory of the
        state of one row; where the system tells, also the peak of the pass.
    """
    from transferfn.bench import memory

    decoder, found = model.decoder(), []
    for context in contexts:
        tokens = torch.randint(model.vocabulary, (batch, context))
        kept: list[Any] = []

        def prefill(tokens: Tensor = tokens, kept: list[Any] = kept) -> None:
            features, state = decoder.backbone.extend(tokens)
            decoder.logits(features[:, -1])
            kept.append(state)

        prefill()
        start = time.perf_counter()
        prefill()
        first = time.perf_counter() - start
        row: Row = {"context": context, "prefill, tokens/s": batch * context / first}
        if memory.is_measurable():
            row["prefill, peak MiB"] = memory.peak(prefill) / MIB
        stream, times = Stream(decoder, batch), []
        stream.state = kept[-1]
        for _ in range(steps):
            start = time.perf_counter()
            stream(tokens[:, 0])
            times.append(time.perf_counter() - start)
        leaves = [leaf for leaf in pytree.tree_leaves(kept[-1]) if isinstance(leaf, Tensor)]
        row["decoding, tokens/s"] = batch / statistics.median(times)
        row["state, KiB a row"] = sum(leaf.nbytes for leaf in leaves) / 1024 / batch
        found.append(row)
    return found


def _free() -> int:
    """Bytes of memory that are free, about."""
    info = Path("/proc/meminfo")
    if info.exists():
        return 1024 * int(
            next(row for row in info.read_text().splitlines() if row.startswith("MemAvailable")).split()[1]
        )
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
