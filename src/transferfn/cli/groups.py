"""Finished runs, put together by what they were trained on and by what they computed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transferfn.training import Result, RunError, TrainConfig
from transferfn.training.idle import idle_options
from transferfn.training.run import RunFolder
from transferfn.training.serialize import kind_name, to_dict


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """A run that was read."""

    folder: RunFolder
    """Where it is."""

    config: TrainConfig
    """What it computed."""

    result: Result
    """What it came to."""

    derivation: str | None
    """How it was made from another run with the same configuration; None if it was trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Runs that differ only in their seed."""

    task: str
    """What they were trained on; with what sets that apart from other tasks of its kind."""

    label: str
    """What sets them apart from the other groups of their task."""

    runs: tuple[Finished, ...]
    """The runs."""

    @property
    def config(self) -> TrainConfig:
        """What they computed."""
        return self.runs[0].config

    @property
    def scores(self) -> list[float]:
        """Their test scores."""
        return [run.result.test_score for run in self.runs]


def finished(*paths: Path) -> list[Finished]:
    """Return the finished runs at paths, or one level below them; each once, however often it is named.

    Args:
        *paths: Folders.

    Raises:
        RunError: if one is no folder.
    """
    found = []
    for run in _run_folders(paths):
        if (result := run.read_result()) is not None:
            derivation = run.read_derivation()
            found.append(Finished(folder=run, config=run.read_config(), result=result, derivation=derivation))
    return found


def unfinished(*paths: Path) -> list[Path]:
    """Return the folders of runs at paths, or one level below them, that have begun and have no result.

    Args:
        *paths: Folders.

    Raises:
        RunError: if one is no folder.
    """
    return [run.path for run in _run_folders(paths) if run.read_result() is None]


def _run_folders(paths: Sequence[Path]) -> list[RunFolder]:
    found: dict[Path, RunFolder] = {}
    for path in paths:
        if not path.is_dir():
            raise RunError(f"{path} is no folder with runs")
        for folder in [path, *sorted(below for below in path.iterdir() if below.is_dir())]:
            run = RunFolder(path=folder)
            # Exported models have a config.json, too.
            if run.result.exists() or (run.config.exists() and run.checkpoints.is_dir()):
                found.setdefault(folder.resolve(), run)
    return list(found.values())


def grouped(runs: Sequence[Finished]) -> list[Group]:
    """Put runs together that differ only in their seeds, those of a task one after the other.

    Each is labelled by what sets it apart from others of its mixer on the same task.

    Args:
        runs: The runs.

    Raises:
        RunError: if two of them are the same run, which would count as two seeds.
    """
    _refuse_copies(runs)
    tasks: dict[str, list[Finished]] = {}
    for run in runs:
        tasks.setdefault(repr(_unseeded(run.config).data), []).append(run)
    names = _task_names([members[0].config for members in tasks.values()])
    return [
        group for name, members in zip(names, tasks.values(), strict=True) for group in _groups_of_task(name, members)
    ]


def _refuse_copies(runs: Sequence[Finished]) -> None:
    seen: dict[tuple[str, str | None], Path] = {}
    for run in runs:
        first = seen.setdefault((repr(run.config), run.derivation), run.folder.path)
        if first != run.folder.path:
            raise RunError(
                f"{first} and {run.folder.path} hold the same run, with equal options and seed, and would count as two "
                "seeds: leave one of them out"
            )


def by_task(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Return the groups of each task.

    Args:
        groups: The groups of all.
    """
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.task, []).append(group)
    return found


def _groups_of_task(task: str, runs: Sequence[Finished]) -> Iterator[Group]:
    groups: dict[tuple[str, str | None], list[Finished]] = {}
    for run in runs:
        groups.setdefault((repr(_unseeded(run.config)), run.derivation), []).append(run)
    flat = [_flat(to_dict(members[0].config)) for members in groups.values()]
    with_order = ["model.order" not in idle_options(members[0].config.model) for members in groups.values()]
    orders = {values["model.order"] for values, has_order in zip(flat, with_order, strict=True) if has_order}
    for values, has_order, members in zip(flat, with_order, groups.values(), strict=True):
        # Other mixers have other learning rates, and options that mean nothing to this one.
        mixer = values["model.mixer"]
        alike = [other for other in flat if other["model.mixer"] == mixer]
        names = [name for name in values if name not in _UNTOLD and len({repr(o.get(name)) for o in alike}) > 1]
        if names != ["epoch_steps"]:  # runs of equal time do as many steps as they can
            names = [name for name in names if name != "epoch_steps"]
        if len(orders) > 1 and has_order and "model.order" not in names:
            names.insert(0, "model.order")  # a lone one would pass for either
        parts = [f"{name.removeprefix('model.')} {values[name]}" for name in names]
        parts += [] if members[0].derivation is None else [members[0].derivation]
        yield Group(task=task, label=", ".join([mixer, *parts]), runs=tuple(members))


_UNTOLD = ("seed", "data.seed", "data.kind", "model.kind")


def _task_names(configs: Sequence[TrainConfig]) -> list[str]:
    """Name tasks by their kinds, and those of one kind by as few of their options as tell them apart."""
    kinds = [kind_name(type(config.data)) for config in configs]
    flat = [_flat(to_dict(config.data)) for config in configs]
    names = []
    for kind, values in zip(kinds, flat, strict=True):
        alike = [other for its, other in zip(kinds, flat, strict=True) if its == kind]
        parts = [f"{name} {values[name]}" for name in _telling_apart(alike)]
        names.append(", ".join([kind, *parts]))
    return names


def _telling_apart(values: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    names = [name for name in values[0] if name != "seed" and len({repr(one[name]) for one in values}) > 1]
    for count in range(len(names)):
        for chosen in itertools.combinations(names, count):
            if len({repr([one[name] for name in chosen]) for one in values}) == len(values):
                return chosen
    return tuple(names)


def _unseeded(config: TrainConfig) -> TrainConfig:
    data = replace(config.data, seed=0) if hasattr(config.data, "seed") else config.data
    return replace(config, seed=0, data=data)


def _flat(values: dict[str, Any], where: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{where}{name}.") if isinstance(value, dict) else {f"{where}{name}": value}
    return flat
