"""`transferfn sweep RECIPE`: many runs with different values of some options, chosen by Optuna."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import tyro

from transferfn.cli.choices import of_recipes
from transferfn.cli.search_space import format_range, format_value, read_ranges, with_value
from transferfn.cli.train import Size
from transferfn.cli.usage import require
from transferfn.files import write_json
from transferfn.tasks import DataError
from transferfn.training import RunError, RunOptions, TrainConfig, fit
from transferfn.training.idle import refuse_idle_search
from transferfn.training.objective import better, format_score, objective
from transferfn.training.recipes import recipe_name
from transferfn.training.serialize import differences, from_dict, to_dict
from transferfn.training.variant import Variant

if TYPE_CHECKING:
    import optuna

PATIENCE = 10.0  # seconds in which an interrupted job has ended, unless it has not noticed


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
        found = read_ranges(self.search, self.config)
        refuse_idle_search({option: item.choices for option, item in found.items()}, self.config)


def sweeps(variant: Variant) -> Any:
    """Return the type of a sweep whose subcommands are the recipes.

    Args:
        variant: Which form of the recipes.
    """
    return of_recipes(
        Sweep,
        variant,
        lambda recipe: Sweep(
            search=("optimizer.lr=1e-3..3e-2",),
            out=Path("sweeps") / recipe_name(recipe),
            size=variant.size,
            config=recipe(variant),
        ),
    )


def sweep(asked: Sweep) -> None:
    """Run trials until there are as many as asked for, and tell which was best.

    Trials are kept in a journal in the folder, which processes and machines share; for one that was interrupted
    another is run.

    Args:
        asked: What and how.

    Raises:
        UsageError: if Optuna is not installed.
        RunError: if the folder holds another sweep, or all trials failed.
    """
    require("optuna", extra="sweep")
    asked.out.mkdir(parents=True, exist_ok=True)
    about = asked.out / "sweep.json"
    if about.exists():
        _refuse_another(about, asked)
    else:
        write_json(about, {"search": sorted(asked.search), "config": to_dict(asked.config)})
    if asked.jobs > 1:
        code = f"from {__name__} import job; raise SystemExit(job())"
        command = [sys.executable, "-c", code, str(asked.out), str(asked.trials)]
        # Each job would take all threads, and wait for the others.
        share = {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // asked.jobs))}
        environment = share | os.environ  # unless the user has said how many
        workers = [subprocess.Popen(command, env=environment) for _ in range(asked.jobs)]
        try:
            failed = [worker.returncode for worker in workers if worker.wait()]
        except KeyboardInterrupt:
            for worker in workers:
                _end(worker)
            raise
        if failed:
            raise RunError(f"{len(failed)} of {asked.jobs} jobs failed: their messages are above")
    else:
        work(asked.out, asked.trials)
    print("\n".join(summary(asked.out)))


def _end(worker: subprocess.Popen) -> None:
    """Wait for a job that the terminal has interrupted, too; one that was just starting may have lost it."""
    while True:
        try:
            worker.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            worker.send_signal(signal.CTRL_C_EVENT if sys.platform == "win32" else signal.SIGINT)
        else:
            return


def _refuse_another(about: Path, asked: Sweep) -> None:
    """Raise a RunError that says what differs, if a folder holds another sweep than the one that is asked for."""
    try:
        kept = json.loads(about.read_text())
        config = from_dict(TrainConfig, kept["config"])
        there = read_ranges(kept["search"], config)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{about} cannot be read ({str(error) or type(error).__name__}): choose another folder with --out"
        ) from None
    mine = read_ranges(asked.search, asked.config)
    found = [
        f"{option} {format_range(mine.get(option))} (there {format_range(there.get(option))})"
        for option in sorted({*mine, *there})
        if mine.get(option) != there.get(option)
    ]
    if found := found + differences(asked.config, config):
        raise RunError(f"{about.parent} holds another sweep: {', '.join(found)}. Choose another folder with --out")


def work(out: Path, trials: int) -> None:
    """Carry out trials of a sweep until it has as many as asked for.

    Args:
        out: Folder of the sweep.
        trials: How many there shall be in all.
    """
    import optuna

    about = json.loads((out / "sweep.json").read_text())
    config = from_dict(TrainConfig, about["config"])
    ranges = read_ranges(about["search"], config).values()
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
            trial.set_user_attr("failure", str(error))
            raise optuna.TrialPruned from None
        score = result.test_score if result.validation_score is None else result.validation_score
        values = ", ".join(f"{name} {format_value(value)}" for name, value in trial.params.items())
        print(f"trial {trial.number}: {goal.metric} {format_score(goal.metric, score)} with {values}", flush=True)
        return score

    done = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    if len(study.get_trials(deepcopy=False, states=done)) >= trials:
        return
    study.optimize(run, callbacks=[optuna.study.MaxTrialsCallback(trials, states=done)])


def summary(out: Path) -> list[str]:
    """Tell the best trials of a sweep, one a line.

    Args:
        out: Its folder.

    Raises:
        RunError: if all failed.
    """
    import optuna

    config = from_dict(TrainConfig, json.loads((out / "sweep.json").read_text())["config"])
    metric = objective(config.data.signature.target).metric
    trials = _study(out, config).trials
    found = [(trial.value, trial.number, trial.params) for trial in trials if trial.value is not None]
    # Those of earlier versions do not tell why.
    reasons = [
        trial.user_attrs.get("failure", "it diverged, or makes no model")
        for trial in trials
        if trial.state == optuna.trial.TrialState.PRUNED
    ]
    failed = f"{len(reasons)} of {len(found) + len(reasons)} trials failed: {reasons[0]}" if reasons else ""
    if failed and not found:
        raise RunError(failed)
    found.sort(key=lambda trial: trial[0], reverse=better(metric, 1.0, 0.0))
    lines = [f"{len(found)} trials; the best by validation {metric}:"]
    for value, number, params in found[:5]:
        values = ", ".join(f"{name} {format_value(chosen)}" for name, chosen in params.items())
        lines.append(f"  {format_score(metric, value)}  {values}  {out / f'trial-{number:04d}'}")
    return lines + ([failed] if failed else [])


def _study(out: Path, config: TrainConfig) -> optuna.Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # warnings are tracebacks of what stops a trial, such as Ctrl-C
    metric = objective(config.data.signature.target).metric
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(out / "trials.log"))),
        study_name="sweep",
        direction="maximize" if better(metric, 1.0, 0.0) else "minimize",
        load_if_exists=True,
    )


def job() -> int:
    """Work as one of several processes, whose command line is the folder and the number of trials.

    Returns:
        Exit status; the process that started it tells the user how to go on.
    """
    try:
        work(Path(sys.argv[1]), int(sys.argv[2]))
    except (RunError, DataError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
