"""`transferfn train RECIPE`: its options, and what it prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from transferfn.cli.choices import of_recipes
from transferfn.models.language_config import LanguageMixer
from transferfn.tasks import TextCorpusConfig
from transferfn.training import Result, RunOptions, TrainConfig, fit
from transferfn.training.objective import format_score
from transferfn.training.recipes import Recipe, recipe_name
from transferfn.training.run import process_rank
from transferfn.training.variant import Variant

Size = Literal["full", "small"]
Source = Literal["code", "paper"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A recipe's values, and where and how to carry it out."""

    size: Size = "full"
    """The experiment as published, or a small one that a laptop finishes in minutes; sets other defaults."""

    source: Source = "code"
    """Whose values are the defaults where the paper and the official code differ."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    """What the run computes."""

    options: Annotated[RunOptions, tyro.conf.arg(name="")]
    """Where and how it is carried out."""


def runs(variant: Variant) -> Any:
    """Return the type of a run whose subcommands are the recipes, each with its own defaults.

    Args:
        variant: Which form of the recipes.
    """
    return of_recipes(
        Run,
        variant,
        lambda recipe: Run(
            size=variant.size,
            source=variant.source,
            config=recipe(variant),
            options=RunOptions(out=default_out(recipe, variant)),
        ),
    )


def default_out(recipe: Recipe, variant: Variant) -> Path:
    """Return the folder of a run that was not told where to go.

    Args:
        recipe: The recipe.
        variant: Which form of it.
    """
    parts = [recipe_name(recipe)]
    parts += [variant.size] if variant.size != "full" else []
    parts += [variant.mixer] if variant.mixer is not None else []
    parts += [variant.source] if variant.source != "code" else []
    return Path("runs") / "-".join(parts)


def variant_of(arguments: Sequence[str]) -> Variant:
    """Read from a command line which form of a recipe it asks for, since the other options' defaults depend on it.

    Of what is given twice the last holds, as for the parser, to which what is no valid choice is left.

    Args:
        arguments: The command line.
    """

    def chosen(names: Sequence[str], choices: Sequence[str], default: str | None) -> Any:
        found = default
        for place, argument in enumerate(arguments):
            name, _, value = argument.partition("=")
            value = value or next(iter(arguments[place + 1 :]), "")
            if name in names and value in choices:
                found = value
        return found

    return Variant(
        size=chosen(["--size"], get_args(Size), "full"),
        source=chosen(["--source"], get_args(Source), "code"),
        mixer=chosen(["--mixer", "--model.mixer"], get_args(LanguageMixer), None),
    )


def train(run: Run) -> None:
    """Train, draw and print what came out.

    Args:
        run: What and how.
    """
    from transferfn.cli.pictures import draw

    result = fit(run.config, run.options)
    if process_rank() != 0:
        return
    draw(run.options.out, result)
    print("\n".join(report(result, run.options.out)))
    if isinstance(run.config.data, TextCorpusConfig):
        from transferfn.cli.text_scores import yardsticks

        print("\n".join(yardsticks(run.config.data, result)))


def report(result: Result, out: Path) -> list[str]:
    """Describe a finished run.

    Args:
        result: What it came to.
        out: Its folder.
    """
    metric, validation = result.metric, result.validation_score
    chosen = "" if validation is None else f", validation {metric} {format_score(metric, validation)}"
    return [
        f"test {metric} {format_score(metric, result.test_score)} on {result.test_samples:,} samples "
        f"(weights of epoch {result.best_epoch}{chosen})",
        f"{result.parameters:,} parameters, {result.steps:,} steps, {result.seconds:.0f} s; everything is in {out}",
    ]
