"""`transferfn data`: what the recipes read, made ready and looked at before training."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transferfn.cli.choices import of_recipes
from transferfn.cli.train import Size
from transferfn.files import replacing
from transferfn.tasks import IGNORED, Dataset, Signature
from transferfn.tasks.cache import cache_folder, prepared_data, unfinished_data
from transferfn.training.config import TaskConfig
from transferfn.training.serialize import kind_name
from transferfn.training.variant import Variant

_LOOKED_AT = 2000
"""Samples that are counted, spread over all; a million would take minutes."""

_PICTURES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")
"""Endings of pictures that matplotlib writes everywhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """The data of a recipe."""

    size: Size = "full"
    """The experiment as published, or a small one; sets other defaults."""

    data: TaskConfig
    """Which data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictured(Data):
    """The data of a recipe, and where its picture goes."""

    out: Path = Path("samples.png")
    """File for the picture."""

    def __post_init__(self) -> None:
        if self.out.suffix.lower() not in ("", *_PICTURES):
            raise ValueError(f"--out takes a picture that ends in {', '.join(_PICTURES)}, got {self.out}")


def choices(kind: type[Data], variant: Variant) -> Any:
    """Return the type of a recipe's data, whose subcommands are the recipes.

    Args:
        kind: What is asked for besides the data.
        variant: Which form of the recipes.
    """
    return of_recipes(kind, variant, lambda recipe: kind(size=variant.size, data=recipe(variant).data))


def show_prepared() -> None:
    """Print which data has been made ready, and where, and what was left unfinished."""
    found = prepared_data()
    for prepared in found:
        values = ", ".join(f"{name} {value}" for name, value in prepared.key.items() if _short(value))
        print(f"{prepared.name:<16} {prepared.size / 1e6:9.1f} MB  {prepared.folder.name}  {values}")
    for folder, size, seconds in unfinished_data():
        print(
            f"unfinished       {size / 1e6:9.1f} MB  {folder.name}  last written {seconds / 60:,.0f} minutes ago; if "
            f"no process is making it, it was killed: delete {folder}"
        )
    total = sum(prepared.size for prepared in found)
    print(f"{len(found)} prepared, {total / 1e6:.1f} MB in {cache_folder()} (TRANSFERFN_CACHE names another folder)")


def prepare_data(chosen: Data) -> None:
    """Make the data of a recipe ready, so that training starts at once.

    Args:
        chosen: Which data.
    """
    start = time.perf_counter()
    splits = chosen.data.load()
    sizes = ", ".join(f"{len(part):,} for {name}" for name, part in splits._asdict().items() if part is not None)
    print(f"{kind_name(type(chosen.data))}: {sizes}, ready after {time.perf_counter() - start:.1f} s")


def inspect_data(chosen: Pictured) -> None:
    """Print what a recipe's samples are like, and draw a few.

    Args:
        chosen: Which data, and the file for the picture.
    """
    from transferfn.analysis.samples import sample_figure

    signature, splits = chosen.data.signature, chosen.data.load()
    print(_kind(signature))
    for name, part in splits._asdict().items():
        if part is not None:
            print(f"{name}: {len(part):,} samples{' an epoch, made on demand' if part.fresh else ''}")
            for line in _counts(part, signature):
                print(f"  {line}")
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(chosen.out) as part:
        kind = chosen.out.suffix.removeprefix(".").lower() or "png"
        sample_figure(chosen.data).savefig(part, dpi=150, format=kind, bbox_inches="tight")
    print(f"a few samples are drawn in {chosen.out}")


def _kind(signature: Signature) -> str:
    inputs = (
        f"{signature.channels} channel{'s' * (signature.channels != 1)}"
        if signature.vocabulary is None
        else f"tokens 0..{signature.vocabulary - 1}"
    )
    asked = {
        "class": f"one of {signature.outputs} classes",
        "class-of-pair": f"one of {signature.outputs} classes for each pair",
        "class-per-sample": f"one of {signature.outputs} classes at each sample",
        "next-token": "how likely each next token is",
        "signal": f"a signal of {signature.outputs} channel{'s' * (signature.outputs != 1)}",
    }[signature.target]
    return f"up to {signature.length:,} samples of {inputs}; asked for: {asked}"


def _counts(part: Dataset, signature: Signature) -> list[str]:
    """Say how long sequences are and how classes are shared out, of rows all over a split: some are sorted by class."""
    looked = min(len(part), _LOOKED_AT)
    rows = [place * len(part) // looked for place in range(looked)]
    lengths: list[int] = []
    classes: Counter[int] = Counter()
    for start in range(0, looked, 50):
        batch = part.gather(rows[start : start + 50])
        lengths += [signature.length] * len(batch.index) if batch.lengths is None else batch.lengths.flatten().tolist()
        if signature.target in ("class", "class-of-pair"):
            classes.update(batch.targets[batch.targets != IGNORED].flatten().tolist())
    of = "" if looked == len(part) else f" of {looked:,} spread evenly"
    ordered = sorted(lengths)
    lines = [f"lengths{of} {ordered[0]:,} to {ordered[-1]:,}, median {ordered[len(ordered) // 2]:,}"]
    if classes:
        shares = ", ".join(f"{name}: {count}" for name, count in sorted(classes.items())[:40])
        lines.append(f"classes{of} {shares}")
    return lines


def _short(value: Any) -> bool:
    return isinstance(value, (int, float, str)) and len(str(value)) < 20
