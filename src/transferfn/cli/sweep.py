"""`transferfn sweep RECIPE`: many runs with different values of some options, chosen by Optuna."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass, fields, is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

import torch
import tyro

from transferfn.cli.train import Size
from transferfn.files import write_json
from transferfn.training import RunError, RunOptions, TrainConfig, fit
from transferfn.training.config import from_dict, to_dict
from transferfn.training.objective import better, objective, told
from transferfn.training.recipes import recipe_line, recipe_name, recipes_in
from transferfn.training.variant import Variant

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """Which values to try, and how many."""

    search: tuple[str, ...]
    """What to vary: option=low..high (log scale; whole numbers or not, as the option is) or option=one,other,third."""

    trials: int = 20
    """How many runs in all."""

    jobs: int = 1
    """How many at a time on this machine, which share its threads. The same command on another machine with the same
    folder joins in."""

    out: Path
    """Folder of the sweep, with a run in a folder of its own for each trial."""

    size: Size = "full"
    """The experiment as published, or a small one; sets other defaults."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    """What the runs have in common."""

    def __post_init__(self) -> None:
        for name in ("trials", "jobs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for text in self.search:
            read_range(text, self.config)


def sweeps(variant: Variant) -> Any:
    """Return the type of a sweep whose subcommands are the recipes.

    Args:
        variant: Which form of the recipes.
    """
    return Union[  # noqa: UP007 (a union of a tuple's members)
        tuple(
            Annotated[
                Sweep,
                tyro.conf.subcommand(
                    recipe_name(recipe),
                    default=Sweep(
                        search=("optimizer.lr=1e-3..3e-2",),
                        out=Path("sweeps") / recipe_name(recipe),
                        size=variant.size,
                        config=recipe(variant),
                    ),
                    description=recipe_line(recipe),
                ),
            ]
            for recipe in recipes_in(variant)
        )
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """The values that an option may take: between two, or one of several."""

    option: str
    """Its place in the configuration, such as ``optimizer.lr``."""

    low: Any = None
    """The lowest value, or None if there are choices."""

    high: Any = None
    """The highest value."""

    choices: tuple[Any, ...] = ()
    """The values."""

    def suggest(self, trial: optuna.Trial) -> Any:
        """Let Optuna choose a value.

        Args:
            trial: The trial.
        """
        if self.choices:
            return trial.suggest_categorical(self.option, self.choices)
        if isinstance(self.low, int):
            return trial.suggest_int(self.option, self.low, self.high, log=True)
        return trial.suggest_float(self.option, self.low, self.high, log=True)


def read_range(text: str, config: TrainConfig) -> Range:
    """Read ``option=low..high`` or ``option=one,other``.

    Args:
        text: What was written.
        config: The configuration whose option it is.

    Raises:
        ValueError: if there is no such option, or the values are not of its type.

    Example:
        >>> found = read_range("optimizer.lr=1e-4..1e-2", TrainConfig())
        >>> found.option, found.low, found.high
        ('optimizer.lr', 0.0001, 0.01)
        >>> read_range("model.order=4,8", TrainConfig()).choices
        (4, 8)
    """
    option, equals, values = text.partition("=")
    option = option.strip().removeprefix("--").replace("-", "_")
    if not equals or not values:
        raise ValueError(f"--search takes option=low..high or option=one,other, got {text!r}")
    with_value(config, option, _value_of(config, option))  # there is such an option
    if ".." not in values:
        choices = tuple(_read(part) for part in values.split(","))
        for choice in choices:
            with_value(config, option, choice)
        return Range(option=option, choices=choices)
    low, _, high = values.partition("..")
    ends = _read(low), _read(high)
    whole = isinstance(_value_of(config, option), int)
    if not all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in ends) or (
        whole and not all(isinstance(end, int) for end in ends)
    ):
        raise ValueError(f"{option} needs two {'whole ' if whole else ''}numbers as low..high, got {values!r}")
    if not 0 < ends[0] < ends[1] or not math.isfinite(ends[1]):
        raise ValueError(f"{option} needs 0 < low < high, since values are spread on a log scale; got {values!r}")
    ends = ends if whole else (float(ends[0]), float(ends[1]))
    for end in ends:
        with_value(config, option, end)
    return Range(option=option, low=ends[0], high=ends[1])


def with_value(config: TrainConfig, option: str, value: Any) -> TrainConfig:
    """Return a configuration with another value of one option.

    Args:
        config: The configuration.
        option: The option's place, such as ``optimizer.lr``.
        value: Its value.

    Raises:
        ValueError: if there is no such option, or it cannot have that value.
    """
    values = to_dict(config)
    *path, last = option.split(".")
    inner = values
    for name in path:
        inner = inner.get(name) if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or last not in inner or isinstance(inner[last], dict):
        raise ValueError(f"there is no option {option!r} to search; options are written as for train, without --")
    inner[last] = value
    return from_dict(TrainConfig, values)


def _value_of(config: Any, option: str) -> Any:
    for name in option.split("."):
        if not is_dataclass(config) or name not in {item.name for item in fields(config)}:
            raise ValueError(f"there is no option {option!r} to search; options are written as for train, without --")
        config = getattr(config, name)
    return config


def _read(text: str) -> Any:
    """Read a value as JSON does, and what is no JSON as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def sweep(asked: Sweep) -> None:
    """Run trials until there are as many as asked for, and tell which was best.

    Trials are kept in a journal in the folder, which processes and machines share; for one that was interrupted
    another is run.

    Args:
        asked: What and how.

    Raises:
        RunError: if Optuna is not installed, or the folder holds another sweep.
    """
    if find_spec("optuna") is None:
        raise RunError("a sweep needs the package optuna: pip install 'transferfn[sweep]'")
    asked.out.mkdir(parents=True, exist_ok=True)
    about, wanted = asked.out / "sweep.json", {"search": sorted(asked.search), "config": to_dict(asked.config)}
    if about.exists():
        if json.loads(about.read_text()) != json.loads(json.dumps(wanted)):
            raise RunError(f"{asked.out} holds another sweep: choose another folder with --out")
    else:
        write_json(about, wanted)
    if asked.jobs > 1:
        command = [sys.executable, "-m", "transferfn.cli.sweep", str(asked.out), str(asked.trials)]
        # Each job would take all threads, and wait for the others.
        share = {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // asked.jobs))}
        environment = share | os.environ  # unless the user has said how many
        workers = [subprocess.Popen(command, env=environment) for _ in range(asked.jobs)]
        try:
            failed = [worker.returncode for worker in workers if worker.wait()]
        except KeyboardInterrupt:
            for worker in workers:
                worker.wait()  # the terminal has told them, too
            raise
        if failed:
            raise RunError(f"{len(failed)} of {asked.jobs} jobs failed: their messages are above")
    else:
        work(asked.out, asked.trials)
    print("\n".join(summary(asked.out)))


def work(out: Path, trials: int) -> None:
    """Carry out trials of a sweep until it has as many as asked for.

    Args:
        out: Folder of the sweep.
        trials: How many there shall be in all.
    """
    import optuna

    about = json.loads((out / "sweep.json").read_text())
    config = from_dict(TrainConfig, about["config"])
    ranges = [read_range(text, config) for text in about["search"]]
    goal = objective(config.data.signature.target)
    study = _study(out, config)

    def run(trial: optuna.Trial) -> float:
        chosen = config
        for item in ranges:
            chosen = with_value(chosen, item.option, item.suggest(trial))
        folder = out / f"trial-{trial.number:04d}"
        try:
            result = fit(chosen, RunOptions(out=folder, progress=False, checkpoint_every=10**9))
        except RunError as error:  # it diverged, or makes no model: a bad place to search, not the end of the sweep
            print(f"trial {trial.number}: {error}", flush=True)
            raise optuna.TrialPruned from None
        score = result.test_score if result.validation_score is None else result.validation_score
        values = ", ".join(f"{name} {_told(value)}" for name, value in trial.params.items())
        print(f"trial {trial.number}: {goal.metric} {told(goal.metric, score)} with {values}", flush=True)
        return score

    done = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    if len(study.get_trials(deepcopy=False, states=done)) >= trials:
        return
    study.optimize(run, callbacks=[optuna.study.MaxTrialsCallback(trials, states=done)])


def summary(out: Path) -> list[str]:
    """Tell the best trials of a sweep, one a line.

    Args:
        out: Its folder.
    """
    config = from_dict(TrainConfig, json.loads((out / "sweep.json").read_text())["config"])
    metric = objective(config.data.signature.target).metric
    scored = [(trial.value, trial.number, trial.params) for trial in _study(out, config).trials]
    found = [(value, number, params) for value, number, params in scored if value is not None]
    found.sort(key=lambda trial: trial[0], reverse=better(metric, 1.0, 0.0))
    lines = [f"{len(found)} trials; the best by validation {metric}:"]
    for value, number, params in found[:5]:
        values = ", ".join(f"{name} {_told(chosen)}" for name, chosen in params.items())
        lines.append(f"  {told(metric, value)}  {values}  {out / f'trial-{number:04d}'}")
    return lines


def _study(out: Path, config: TrainConfig) -> optuna.Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    metric = objective(config.data.signature.target).metric
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(out / "trials.log"))),
        study_name="sweep",
        direction="maximize" if better(metric, 1.0, 0.0) else "minimize",
        load_if_exists=True,
    )


def _told(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]))
