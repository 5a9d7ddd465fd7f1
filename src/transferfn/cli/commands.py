"""What `transferfn` understands: list, train RECIPE, demo, bench. Errors are one line; heavy imports come late."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Union

import tyro

from transferfn.cli.reports import REPORTS, MissingPackageError, Report, bench
from transferfn.tasks import DataError
from transferfn.training import RECIPES, Result, RunError, RunOptions, TrainConfig, fit
from transferfn.training.objective import told
from transferfn.training.recipes import recipe_line, recipe_name

PROGRAM = "transferfn"
DESCRIPTION = "Sequence layers given by rational transfer functions: train them, stream them, look at them."


@dataclass(frozen=True, kw_only=True, slots=True)
class List:
    """Show the recipes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A recipe's values, and where and how to carry it out."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    """What the run computes."""

    options: Annotated[RunOptions, tyro.conf.arg(name="")]
    """Where and how it is carried out."""


def _recipes() -> Any:
    """Return the type of a run whose subcommands are the recipes, each with its own defaults."""
    return Union[  # noqa: UP007 (a union of a tuple's members)
        tuple(
            Annotated[
                Run,
                tyro.conf.subcommand(
                    recipe_name(recipe),
                    default=Run(config=recipe(), options=RunOptions(out=Path("runs") / recipe_name(recipe))),
                    description=recipe_line(recipe),
                ),
            ]
            for recipe in RECIPES
        )
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    """Train a recipe; the same command continues a run that was interrupted."""

    run: Annotated[_recipes(), tyro.conf.arg(name="")]  # pyright: ignore[reportInvalidTypeForm]
    """The recipe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demo:
    """Train a small model on sequential MNIST, stream it pixel by pixel and draw its filters, in five minutes."""

    out: Path = Path("runs") / "demo"
    """Folder of the run; the same command continues a run that was interrupted."""

    overwrite: bool = False
    """Whether a run that is there already is deleted and started anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """Measure on this machine: speed and memory of a layer, accuracy, constraints; calibrate the choice of paths."""

    report: Annotated[Report, tyro.conf.arg(name="")]
    """What to measure."""


Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Bench, tyro.conf.subcommand("bench")]
)


class UsageError(Exception):
    """Raised when the command line cannot be understood."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line.

    Args:
        arguments: What follows the program's name; None takes it from the process.

    Returns:
        Exit status: 0 if all went well, 2 if the user has to change something, 130 if the user interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        command = parse(arguments)
        if isinstance(command, (Train, Demo)):
            _require("lightning", "matplotlib")
        if isinstance(command, List):
            show_recipes()
        elif isinstance(command, Train):
            train(command.run)
        elif isinstance(command, Bench):
            bench(command.report)
        else:
            from transferfn.cli.demo import demo

            demo(command.out, overwrite=command.overwrite)
    except (UsageError, MissingPackageError, DataError, RunError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = [argument for argument in arguments if argument != "--overwrite"]
        print(f"\n{PROGRAM}: interrupted; to continue: {shlex.join([PROGRAM, *again])}", file=sys.stderr)
        return 130
    return 0


def _require(*packages: str) -> None:
    """Say now, rather than after hours of training, what is not installed."""
    for package in packages:
        if find_spec(package) is None:
            raise UsageError(f"this command needs the package {package}: pip install 'transferfn[train]'")


def parse(arguments: Sequence[str]) -> List | Train | Demo | Bench:
    """Understand a command line.

    Args:
        arguments: What follows the program's name.

    Raises:
        UsageError: in one line, if it cannot be understood.
        SystemExit: after showing help.
    """
    screen = io.StringIO()
    try:
        with contextlib.redirect_stderr(screen):
            return tyro.cli(
                Command,  # pyright: ignore[reportArgumentType]
                prog=PROGRAM,
                description=DESCRIPTION,
                args=list(arguments) or ["--help"],
                config=(tyro.conf.OmitSubcommandPrefixes,),
            )
    except SystemExit as exit_:
        if exit_.code in (0, None):
            raise
        raise UsageError(_one_line(screen.getvalue(), arguments)) from None
    except ValueError as error:
        raise UsageError(str(error)) from None


def _one_line(screen: str, arguments: Sequence[str]) -> str:
    """Make one line of tyro's box: what is wrong, what was perhaps meant, and where help is."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", screen)
    rows = [row.strip("│ ") for row in text.splitlines() if not row.startswith(("╭", "╰"))]
    parts = [part.strip() for part in re.split("[─-]{3,}", " ".join(row for row in rows if row))]
    if "╭" not in text:  # a terminal without such lines: the title of the box is a part of its own
        parts = parts[1:]
    message = re.sub(r"Error parsing __tyro\S*: ", "", parts[0]).rstrip(".")
    for part in parts[1:]:
        if part.startswith("Perhaps you meant"):
            meant = dict.fromkeys(re.findall(r" (--[\w.-]+) (?!--help)", part))
            message += f"; did you mean {' or '.join(name for name in meant if name != '--help')}?"
        elif part.startswith("Available"):
            message += f"; {part[0].lower()}{part[1:]}"
    names = {"list", "train", "demo", "bench", *REPORTS, *(recipe_name(recipe) for recipe in RECIPES)}
    command = [PROGRAM, *takewhile(lambda argument: argument in names, arguments), "--help"]
    return f"{message} (see {' '.join(command)})"


def show_recipes() -> None:
    """Print the recipes, one a line."""
    width = max(len(recipe_name(recipe)) for recipe in RECIPES)
    for recipe in RECIPES:
        print(f"{recipe_name(recipe):<{width}}  {recipe_line(recipe)}")
    print(f"\n{PROGRAM} train RECIPE --help shows every option and its default.")


def train(run: Run) -> None:
    """Train, draw and print what came out.

    Args:
        run: What and how.
    """
    from transferfn.cli.pictures import draw

    result = fit(run.config, run.options)
    draw(run.options.out, result)
    print("\n".join(report(result, run.options.out)))


def report(result: Result, out: Path) -> list[str]:
    """Describe a finished run.

    Args:
        result: What it came to.
        out: Its folder.
    """
    metric, validation = result.metric, result.validation_score
    chosen = "" if validation is None else f", validation {metric} {told(metric, validation)}"
    return [
        f"test {metric} {told(metric, result.test_score)} on {result.test_samples:,} samples "
        f"(weights of epoch {result.best_epoch}{chosen})",
        f"{result.parameters:,} parameters, {result.steps:,} steps, {result.seconds:.0f} s; everything is in {out}",
    ]
