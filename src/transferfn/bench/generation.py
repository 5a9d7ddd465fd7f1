"""Decoding of language models: ours beside transformers' Mamba and GPT-2 of equal size, over the context.

Run by ``transferfn bench generation``. Weights are random, which changes no time. All models are called through
transformers' interface, with its caches; ours also as a stream, without it. The floor is the time that our weight
matrices take by themselves, in float32.

What would take too long or too much memory by an estimate from what was measured before is not run, and the table says
so. Where that is the pass over the context only, decoding is still measured (:meth:`Side.pretend`). Figures are kept as
they come: the same command continues.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from transferfn.bench import pictures
from transferfn.bench.generation_sides import (
    FLOOR,
    INT8,
    OURS,
    SHORT,
    STREAM,
    Side,
    cache_bytes,
    check,
    floor,
    parameters,
    sides,
)
from transferfn.bench.layer import table
from transferfn.bench.machine import machine, machine_line
from transferfn.files import with_ending, write_json, write_text
from transferfn.models import LanguageModel, LanguageModelConfig
from transferfn.models.int8 import Int8Decoder
from transferfn.models.language_model import tiny
from transferfn.nn import Stream

CONTEXTS = (128, 512, 1024, 2048, 4096, 8192, 16384, 32768)
BATCHES = (1, 16)
STEPS = 20  # of decoding after each context, or as many as fit in `BUDGET`, but no fewer than `FEWEST`
FEWEST = 3
BUDGET = 4.0  # seconds
LONGEST = 60.0  # seconds that a pass over the context may take
MOST = 8 * 2**30  # bytes that a pass, or a cache, may take
SHARE = 0.8  # of free memory that either may take
FIRST = "time to first token, s"

Row = dict[str, Any]


def expected_seconds(rows: list[Row], name: str, batch: int, context: int) -> float:
    """Time that a pass over the context will take, judged by those that were measured; 0 if none was.

    Within a batch size times grow as between the last two contexts, by their power 1 to 2. Another batch size tells
    what as many tokens take.

    Args:
        rows: What was measured.
        name: Of which model.
        batch: Number of rows.
        context: Number of tokens.

    Example:
        >>> rows = [{"layer": "x", "B": 1, "context": c, FIRST: t} for c, t in ((10, 1.0), (20, 4.0))]
        >>> expected_seconds(rows, "x", 1, 40), expected_seconds(rows, "x", 2, 20)
        (16.0, 8.0)
    """
    mine = [row for row in rows if row["layer"] == name and isinstance(row[FIRST], float)]
    same = sorted((row["context"], row[FIRST]) for row in mine if row["B"] == batch)
    if same:
        length, seconds = same[-1]
        power = 1.0
        if len(same) > 1:
            power = math.log(seconds / same[-2][1]) / math.log(length / same[-2][0])
        return seconds * (context / length) ** min(max(power, 1.0), 2.0)
    tokens = batch * context
    near = min(mine, key=lambda row: abs(math.log(row["B"] * row["context"] / tokens)), default=None)
    return 0.0 if near is None else near[FIRST] * tokens / (near["B"] * near["context"])


def refusal(needed: float, seconds: float = 0.0) -> str | None:
    """Why something is not run, or None if it is.

    Args:
        needed: Bytes that it takes, about.
        seconds: How long it takes, about.
    """
    if needed > MOST:
        return f"over {MOST / 2**30:g} GiB (not run)"
    if needed > SHARE * _free():
        return "over what memory is free (not run)"
    return f"over {LONGEST:g} s (not run)" if seconds > LONGEST else None


@torch.no_grad()
def cell(models: list[Side], streams: dict[str, LanguageModel], rows: list[Row], context: int, batch: int) -> list[Row]:
    """Figures of all models at one context and batch size, a row each.

    Args:
        models: The models, ours first.
        streams: Ours for decoding without transformers, by name.
        rows: What was measured before, to tell how long this will take.
        context: Number of tokens before the ones that are decoded.
        batch: Number of rows.
    """
    ours = models[0].model
    tokens = torch.randint(ours.config.vocab_size, (batch, context))
    found: dict[str, Row] = {}
    steps: dict[str, Callable[[], object]] = {}
    state: Any = None
    for side in models:
        row = found[side.name] = {FIRST: None, "KiB a row": None}
        why = refusal(side.bytes_a_token * batch * context, expected_seconds(rows, side.name, batch, context))
        too_much = refusal(1.2 * side.kept_a_token * batch * context)  # each step copies the cache of a layer
        if too_much is not None:
            row[FIRST] = row["KiB a row"] = too_much
            continue
        start = time.perf_counter()
        cache = side.prefill(tokens) if why is None else side.pretend(tokens)
        row[FIRST] = time.perf_counter() - start if why is None else why
        row["KiB a row"] = cache_bytes(cache) / 1024 / batch
        steps[side.name] = lambda side=side, cache=cache: side.step(tokens[:, :1], cache)
        if side.model is ours:
            state = cache.state
    for name, decoder in streams.items():
        stream = Stream(decoder, batch)
        stream.state = state  # computed above by the same pass
        found[name] = {FIRST: None, "KiB a row": found[OURS]["KiB a row"]}
        steps[name] = lambda stream=stream: stream(tokens[:, 0])
    found[FLOOR], steps[FLOOR] = {FIRST: None, "KiB a row": None}, floor(ours.model, batch)
    medians = {name: statistics.median(values) for name, values in _times(steps).items()}
    return [
        {
            "B": batch,
            "context": context,
            "layer": name,
            "step, ms": 1e3 * medians[name] if name in medians else None,
            "tokens/s": batch / medians[name] if name in medians else None,
            "step / floor": medians[name] / medians[FLOOR] if name in medians else None,
            "step / Hyena-RTF": medians[name] / medians[OURS] if name in medians and OURS in medians else None,
            **row,
        }
        for name, row in found.items()
    ]


def _times(steps: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Seconds of steps that take turns, so that what else the machine does hits them alike."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()  # the first may compile
    for count in range(STEPS):
        for name, step in steps.items():
            if count < FEWEST or sum(times[name]) < BUDGET:
                start = time.perf_counter()
                step()
                times[name].append(time.perf_counter() - start)
    return times


def report(*, out: Path, quick: bool = False, overwrite: bool = False) -> None:
    """Measure, print Markdown, and write it with the figures and the picture.

    Args:
        out: Where, without ending.
        quick: Whether a model of a million parameters and contexts up to 512 are enough.
        overwrite: Whether what was measured before is measured anew.
    """
    config = tiny() if quick else LanguageModelConfig(dropout=0.0, init="comb", constraint="reflection")
    contexts = tuple(c for c in CONTEXTS if c <= 512) if quick else CONTEXTS
    command = "transferfn bench generation" + " --quick" * quick
    measure(config, contexts, out, command=command, overwrite=overwrite)


def measure(
    config: LanguageModelConfig, contexts: tuple[int, ...], out: Path, *, command: str, overwrite: bool = False
) -> None:
    """Do what :func:`report` does for any model and contexts.

    Args:
        config: Our model.
        contexts: Numbers of tokens before the ones that are decoded.
        out: Where, without ending.
        command: What to say that it was measured by.
        overwrite: Whether what was measured before is measured anew.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()  # Mamba says at each call that it would like a GPU
    out.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "command": command,
        "machine": machine("torch", "numba", "transformers"),
        "threads": torch.get_num_threads(),
    }
    found: Row = {**about, "parameters": {}, "rows": []}
    file = with_ending(out, ".json")
    if file.exists() and not overwrite:
        before = json.loads(file.read_text())
        if {key: before.get(key) for key in about} == about:  # else it is of another machine or of other versions
            found = before
    done = {(row["B"], row["context"]) for row in found["rows"]}
    cells = [(batch, context) for batch in BATCHES for context in contexts if (batch, context) not in done]
    if cells:
        models = sides(config, max(contexts) + STEPS + SHORT)
        found["parameters"] = {side.name: parameters(side.model) for side in models}
        for side in models:
            check(side, config.vocabulary)
        streams: dict[str, LanguageModel] = {
            STREAM: models[0].model.model.decoder(),
            INT8: Int8Decoder(models[0].model.model),
        }
        for batch, context in tqdm(cells, "cells", unit="cell"):
            found["rows"] += cell(models, streams, found["rows"], context, batch)
            write_json(file, found)
    lines = told(found)
    print("\n".join(lines))
    write_text(with_ending(out, ".md"), "\n".join(lines) + "\n")
    pictures.draw_generation(found, out)


def told(found: Row) -> list[str]:
    """What was measured, as Markdown.

    Args:
        found: What was measured.
    """
    of = machine_line(found["machine"])
    counts = ", ".join(f"{name} {size / 1e6:.1f}M" for name, size in found["parameters"].items())
    lines = [
        f"`{found['command']}` on {of}, {found['threads']} threads; float32, for int8 all but the linear maps, random "
        f"weights, medians of up to {STEPS} steps that take turns. Parameters: {counts} (learned positions left out). "
        f"The floor is the time of our weight matrices alone, in float32. What would take over {LONGEST:g} s or "
        f"{MOST / 2**30:g} GiB, by an estimate from what was measured before, is not run. Where that is the pass over "
        f"the context, steps are timed with a cache of the same size; a state of constant size is then that after "
        f"{SHORT} tokens. The stream begins with the state of the same pass as Hyena-RTF.",
    ]
    for batch in dict.fromkeys(row["B"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["B"] == batch]
        lines += ["", f"## {batch} row{'s' * (batch > 1)}", ""]
        lines += table([{key: "-" if x is None else x for key, x in row.items() if key != "B"} for row in rows])
    return lines


def _free() -> int:
    """Bytes of memory that are free, about."""
    info = Path("/proc/meminfo")
    if info.exists():
        return 1024 * int(
            next(row for row in info.read_text().splitlines() if row.startswith("MemAvailable")).split()[1]
        )
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
