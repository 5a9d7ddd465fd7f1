"""`transferfn experiment NAME`: all runs of an experiment, several at a time, and their comparison."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from transferfn.cli.choices import any_of
from transferfn.cli.report import Report, report_runs
from transferfn.files import write_json
from transferfn.training import RunError, RunOptions, TrainConfig, fit
from transferfn.training.experiments import EXPERIMENTS, MINUTES, Experiment
from transferfn.training.objective import format_score
from transferfn.training.pace import of_equal_time, step_seconds
from transferfn.training.run import RunFolder
from transferfn.training.serialize import differences, from_dict, kind_name, to_dict


@dataclass(frozen=True, kw_only=True, slots=True)
class Experimenting:
    """Which experiment, where it goes and how many runs at a time."""

    name: Annotated[str, tyro.conf.Suppress]
    """The experiment."""

    runs: Path
    """Folder of its runs; those that are there are not done again."""

    out: Path
    """Where the comparison goes: with .md, .csv, .json and, of the pictures, -*.png at its end."""

    minutes: float | None = None
    """How long each run trains, by the time its steps take before the first run; None takes epochs as they are."""

    jobs: int = 2
    """How many runs at a time, each on one thread."""

    def __post_init__(self) -> None:
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ValueError(f"minutes must be more than 0 and finite, got {self.minutes}")
        if self.jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {self.jobs}")


def experiments() -> Any:
    """Return the type of an experiment whose subcommands are their names."""
    return any_of(
        Annotated[
            Experimenting,
            tyro.conf.subcommand(
                experiment_name(experiment),
                default=Experimenting(
                    name=experiment_name(experiment),
                    runs=Path("runs") / experiment_name(experiment),
                    out=Path("results") / experiment_name(experiment),
                    minutes=MINUTES.get(experiment),
                ),
                description=(experiment.__doc__ or "").strip(),
            ),
        ]
        for experiment in EXPERIMENTS
    )


def experiment_name(experiment: Experiment) -> str:
    """Return the name by which the command line knows an experiment.

    Args:
        experiment: One of ``EXPERIMENTS``.
    """
    return experiment.__name__.replace("_", "-")


def run_experiment(asked: Experimenting) -> None:
    """Carry out the runs that are not there yet, and compare all.

    Args:
        asked: Which experiment, and how.

    Raises:
        RunError: if a run fails; those that are finished are kept.
    """
    (experiment,) = (item for item in EXPERIMENTS if experiment_name(item) == asked.name)
    configs = experiment()
    if asked.minutes is not None:
        configs = _of_equal_time(configs, asked.minutes, asked.runs / "steps.json")
    folders = [asked.runs / f"{number:03d}-{label(config)}" for number, config in enumerate(configs)]
    waiting = [(config, path) for config, path in zip(configs, folders, strict=True) if not _finished(config, path)]
    start, failures = time.monotonic(), []
    for data in {config.data for config, _ in waiting}:
        data.load()  # once, not in each job
    with ThreadPoolExecutor(asked.jobs) as pool:
        jobs = {pool.submit(_run, config, path): path for config, path in waiting}
        for count, job in enumerate(as_completed(jobs), 1):
            error = job.result()
            result = RunFolder(path=jobs[job]).read_result()
            if error or result is None:
                failures.append(error)
                score = error
            else:
                score = f"{result.metric} {format_score(result.metric, result.test_score)}"
            minutes = (time.monotonic() - start) / 60
            print(f"{count}/{len(waiting)}  {minutes:5.1f} min  {jobs[job].name}  {score}", flush=True)
    if failures:
        raise RunError(f"{len(failures)} of {len(configs)} runs failed, first: {failures[0]}; the same command goes on")
    report_runs(Report(runs=tuple(folders), out=asked.out), asked=_words(asked))


def _words(asked: Experimenting) -> list[str]:
    """Return the command line that asks for an experiment."""
    words = ["experiment", asked.name, "--runs", str(asked.runs), "--out", str(asked.out)]
    timed = asked.name in map(experiment_name, MINUTES)  # else no time is what is meant if none is named
    words += ["--minutes", str(asked.minutes)] if timed or asked.minutes is not None else []
    return [*words, "--jobs", str(asked.jobs)]


def _of_equal_time(configs: list[TrainConfig], minutes: float, kept: Path) -> list[TrainConfig]:
    """Give all runs as many steps as they do in a time; what steps take is measured once and kept."""
    kinds = list(dict.fromkeys(replace(config, seed=0) for config in configs))
    named = {repr(kind): kind for kind in kinds}
    seconds: dict[str, float] = json.loads(kept.read_text()) if kept.is_file() else {}
    if seconds.keys() != named.keys():
        print(f"timing the steps of {len(kinds)} models ...", flush=True)
        seconds = dict(zip(named, step_seconds(kinds), strict=True))
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, seconds)
    return [of_equal_time(config, step=seconds[repr(replace(config, seed=0))], minutes=minutes) for config in configs]


def label(config: TrainConfig) -> str:
    """Return a short name of a run for its folder.

    Args:
        config: What it computes.
    """
    return f"{kind_name(type(config.data))}-{config.model.mixer}-{config.model.order}-{config.seed}"


def _finished(config: TrainConfig, path: Path) -> bool:
    folder = RunFolder(path=path)
    if folder.read_result() is None:
        return False
    if differing := differences(config, folder.read_config()):
        raise RunError(f"{path} holds another run ({', '.join(differing)}): choose another folder with --runs")
    return True


def _run(config: TrainConfig, path: Path) -> str:
    """Carry out a run in a process of its own; return what went wrong, or nothing."""
    path.mkdir(parents=True, exist_ok=True)
    write_json(path / "asked.json", to_dict(config))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", __name__, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return (done.stderr.strip().splitlines() or ["it was stopped"])[-1] if done.returncode else ""


def _main(path: Path) -> None:
    config = from_dict(TrainConfig, json.loads((path / "asked.json").read_text()))
    fit(config, RunOptions(out=path, accelerator="cpu", progress=False, checkpoint_every=500))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
