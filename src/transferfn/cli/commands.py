"""What `transferfn` understands. Errors are one line; heavy imports come late."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from transferfn.cli.analyze import Analyze, analyze_run
from transferfn.cli.bench import BENCHMARKS, bench
from transferfn.cli.choices import by_name
from transferfn.cli.data import Data, Pictured, choices, inspect_data, prepare_data, show_prepared
from transferfn.cli.distill import Distill, distill_run
from transferfn.cli.evaluate import Evaluate, evaluate_run
from transferfn.cli.experiment import Experimenting, experiment_name, experiments, run_experiment
from transferfn.cli.export import Export, export_run
from transferfn.cli.generate import Generate, generate_text
from transferfn.cli.reduce import Reduce, reduce_run
from transferfn.cli.report import Report, report_runs
from transferfn.cli.stream import Streaming, stream_run
from transferfn.cli.sweep import Sweep, sweep, sweeps
from transferfn.cli.train import Run, runs, train, variant_of
from transferfn.cli.usage import UsageError, require
from transferfn.tasks import DataError
from transferfn.training import RECIPES, RunError
from transferfn.training.experiments import EXPERIMENTS
from transferfn.training.idle import refuse_idle
from transferfn.training.recipes import recipe_line, recipe_name
from transferfn.training.run import Terminated, process_rank
from transferfn.training.variant import Variant

PROGRAM = "transferfn"
DESCRIPTION = "Sequence layers given by rational transfer functions: train them, stream them, look at them."

CONTINUED = frozenset({"train", "sweep", "experiment", "demo"})
"""Commands that go on from where they were interrupted; others begin anew."""

ChoiceT = TypeVar("ChoiceT")


@dataclass(frozen=True, kw_only=True, slots=True)
class List:
    """Show the recipes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Train(Generic[ChoiceT]):
    """Train a recipe; the same command continues a run that was interrupted."""

    run: Annotated[ChoiceT, tyro.conf.arg(name="")]
    """The recipe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Search(Generic[ChoiceT]):
    """Train a recipe with many values of its options and find the best; the same command continues it."""

    sweep: Annotated[ChoiceT, tyro.conf.arg(name="")]
    """The recipe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Carry(Generic[ChoiceT]):
    """Carry out all runs of an experiment, with several seeds, and compare them; the same command continues."""

    experiment: Annotated[ChoiceT, tyro.conf.arg(name="")]
    """The experiment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListData:
    """Show which data has been made ready, and where it is kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepare(Generic[ChoiceT]):
    """Read or make the data of a recipe and keep it, so that training starts at once."""

    chosen: Annotated[ChoiceT, tyro.conf.arg(name="")]
    """The recipe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspect(Generic[ChoiceT]):
    """Say what the samples of a recipe are like, and draw a few."""

    chosen: Annotated[ChoiceT, tyro.conf.arg(name="")]
    """The recipe."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataCommand(Generic[ChoiceT]):
    """See to the data of recipes: list, prepare, inspect."""

    command: Annotated[ChoiceT, tyro.conf.arg(name="")]
    """What to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demo:
    """Train a small model on sequential MNIST, stream it pixel by pixel and draw its filters, in five minutes."""

    out: Path = Path("runs") / "demo"
    """Folder of the run; the same command continues a run that was interrupted."""

    overwrite: bool = False
    """Whether a run that is there already is deleted and started anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench(Generic[ChoiceT]):
    """Measure on this machine: speed and memory of a layer, accuracy, constraints; calibrate the choice of paths."""

    measured: Annotated[ChoiceT, tyro.conf.arg(name="")]
    """What to measure."""


def _commands(variant: Variant) -> dict[str, Any]:
    """Return the commands by their names, with recipes that have the defaults of a variant."""
    return {
        "list": List,
        "train": Train[runs(variant)],
        "eval": Evaluate,
        "report": Report,
        "sweep": Search[sweeps(variant)],
        "experiment": Carry[experiments()],
        "data": DataCommand[by_name(_data_commands(variant))],
        "generate": Generate,
        "distill": Distill,
        "analyze": Analyze,
        "stream": Streaming,
        "reduce": Reduce,
        "export": Export,
        "demo": Demo,
        "bench": Bench[by_name(BENCHMARKS)],
    }


def _data_commands(variant: Variant) -> dict[str, Any]:
    return {
        "list": ListData,
        "prepare": Prepare[choices(Data, variant)],
        "inspect": Inspect[choices(Pictured, variant)],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line.

    Args:
        arguments: What follows the program's name; None takes it from the process.

    Returns:
        Exit status: 0 if all went well, 2 if the user has to change something, 130 if the user interrupted, 141 if
        whoever read what is printed has gone, 143 if a training was told to end (SIGTERM).
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        try:
            _carry_out(parse(arguments))
        finally:
            sys.stdout.flush()  # not at the end of the process, which would complain of a reader that has gone
    except (UsageError, DataError, RunError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Terminated) as stopped:
        how, status = ("terminated", 143) if isinstance(stopped, Terminated) else ("interrupted", 130)
        if status == 143 and process_rank() != 0:
            return status
        again = [argument for argument in arguments if argument != "--overwrite"]
        goes_on = bool({*arguments[:1]} & CONTINUED) or arguments[:2] == ["bench", "generation"]
        advice = f"; to continue: {shlex.join([PROGRAM, *again])}" if goes_on else ""
        print(f"\n{PROGRAM}: {how}{advice}", file=sys.stderr)
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
        return 141
    except OSError as error:
        if error.filename is None:
            raise
        name = str(error.filename).removesuffix(".part")  # files are written beside their names
        print(f"{PROGRAM}: {name} cannot be read or written ({error.strerror}): name another place", file=sys.stderr)
        return 2
    return 0


def _carry_out(command: Any) -> None:
    match command:
        case List():
            show_recipes()
        case Train(run=Run() as run):
            require("lightning", "matplotlib", extra="train")
            train(run)
        case Search(sweep=Sweep() as asked):
            require("lightning", "matplotlib", extra="train")
            sweep(asked)
        case Carry(experiment=Experimenting() as asked):
            require("lightning", "matplotlib", extra="train")
            run_experiment(asked)
        case Evaluate():
            evaluate_run(command)
        case Report():
            require("matplotlib", extra="plots")
            report_runs(command)
        case DataCommand(command=ListData()):
            show_prepared()
        case DataCommand(command=Prepare(chosen=Data() as chosen)):
            prepare_data(chosen)
        case DataCommand(command=Inspect(chosen=Pictured() as chosen)):
            require("matplotlib", extra="plots")
            inspect_data(chosen)
        case Generate():
            generate_text(command)
        case Distill():
            distill_run(command)
        case Analyze():
            require("matplotlib", extra="plots")
            analyze_run(command)
        case Streaming():
            stream_run(command)
        case Reduce():
            reduce_run(command)
        case Export():
            export_run(command)
        case Bench(measured=measured):
            bench(measured)
        case Demo(out=out, overwrite=overwrite):
            require("lightning", "matplotlib", extra="train")
            from transferfn.cli.demo import demo

            demo(out, overwrite=overwrite)


def parse(arguments: Sequence[str]) -> Any:
    """Understand a command line.

    Args:
        arguments: What follows the program's name.

    Returns:
        One of the commands.

    Raises:
        UsageError: in one line, if it cannot be understood.
        SystemExit: after showing help.
    """
    screen = io.StringIO()
    try:
        variant = variant_of(arguments)
        words = list(takewhile(lambda argument: not argument.startswith("-"), arguments))
        # Says so if a recipe does not come with the mixer that is asked for.
        recipes = [recipe(variant) for recipe in RECIPES if recipe_name(recipe) in words]
        with contextlib.redirect_stderr(screen):
            command = tyro.cli(
                by_name(_commands(variant)),
                prog=PROGRAM,
                description=DESCRIPTION,
                args=list(arguments) or ["--help"],
                config=(tyro.conf.AvoidSubcommands,),
            )
        match command:
            case Train(run=Run(config=config)) | Search(sweep=Sweep(config=config)):
                refuse_idle(config, recipes[0])
        return command
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
    message = re.sub(r"Error parsing (?!-)\S+: ", "", parts[0]).rstrip(".")  # a class or a field of ours, no option
    if misplaced := re.findall(r"(\S+) \(applied to [^)]*\)", message):
        message = f"Unrecognized options: {', '.join(misplaced)}"
    subcommands = any(part.startswith("Available") for part in parts)
    for part in parts[1:]:
        if part.startswith("Perhaps you meant") and not subcommands:
            meant = dict.fromkeys(re.findall(r" (--[\w.-]+) (?!--help)", part))
            message += f"; did you mean {' or '.join(name for name in meant if name != '--help')}?"
        elif part.startswith("Available"):
            message += f"; {part[0].lower()}{part[1:]}"
    commands = {*_commands(Variant()), *_data_commands(Variant())}
    names = commands | {*BENCHMARKS, *(recipe_name(recipe) for recipe in RECIPES), *map(experiment_name, EXPERIMENTS)}
    command = [PROGRAM, *takewhile(lambda argument: argument in names, arguments), "--help"]
    return f"{message} (see {' '.join(command)})"


def show_recipes() -> None:
    """Print the recipes, one a line."""
    width = max(len(recipe_name(recipe)) for recipe in RECIPES)
    for recipe in RECIPES:
        print(f"{recipe_name(recipe):<{width}}  {recipe_line(recipe)}")
    print(f"\n{PROGRAM} train RECIPE --help shows every option and its default; --size small is for a laptop.")
