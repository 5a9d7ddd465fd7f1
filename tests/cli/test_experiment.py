from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from processes import run_forked
from transferfn.cli import commands
from transferfn.cli import experiment as command
from transferfn.cli.experiment import Experimenting, experiment_name, run_experiment
from transferfn.tasks import SmnistConfig
from transferfn.training import RunError
from transferfn.training.config import ModelConfig, TrainConfig
from transferfn.training.experiments import EXPERIMENTS, MINUTES
from transferfn.training.fit import seeded_model
from transferfn.training.run import RunFolder


def two_runs() -> list[TrainConfig]:
    """Two short runs."""
    small = TrainConfig(
        data=SmnistConfig(side=7), model=ModelConfig(width=8, layers=1, order=4), epochs=2, batch_size=500
    )
    return [small, replace(small, model=replace(small.model, mixer="attention"))]


def asked(folder: Path, **options) -> Experimenting:
    return Experimenting(name="two-runs", runs=folder / "runs", out=folder / "results" / "two", **options)


def test_runs_of_equal_time_are_done_once_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "EXPERIMENTS", (two_runs,))
    monkeypatch.setattr(command.subprocess, "run", run_forked)  # an interpreter of its own: the run that fails
    # Steps of a model that is twice as fast; what they really take is not this test's matter.
    monkeypatch.setattr(command, "step_seconds", lambda kinds: [0.5, 1.0])
    run_experiment(asked(tmp_path, minutes=0.05))
    folders = sorted(path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    runs = [RunFolder(path=path).read_result() for path in folders]
    assert [run.steps for run in runs if run] == [6, 4]  # 3 s over 2 epochs: 3 steps of 0.5 s each, or 2 of 1 s
    assert len((tmp_path / "results" / "two.md").read_text().splitlines()) == 4
    told = json.loads((tmp_path / "results" / "two.json").read_text())
    assert [run["steps"] for group in told["groups"] for run in group["runs"]] == [6, 4]
    assert told["reported"]["command"].startswith("transferfn experiment two-runs --runs ")
    assert told["reported"]["command"].endswith(" --minutes 0.05 --jobs 2")

    monkeypatch.setattr(command, "step_seconds", None)  # what was measured is kept
    capsys.readouterr()
    run_experiment(asked(tmp_path, minutes=0.05))
    assert "1/" not in capsys.readouterr().out

    with pytest.raises(RunError, match=r"holds another run \(epoch_steps 30 \(there 3\)\)"):
        run_experiment(asked(tmp_path, minutes=0.5))


@pytest.mark.parametrize("name", ["mixers-smnist", "delay-orders"])  # which have a time, and none
@pytest.mark.parametrize("options", [[], ["--minutes", "None"], ["--minutes", "0.5", "--jobs", "3"]])
def test_the_command_of_a_comparison_asks_for_the_same(
    name: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(command, "_finished", lambda config, path: True)
    monkeypatch.setattr(command, "_of_equal_time", lambda configs, minutes, kept: configs)
    monkeypatch.setattr(command, "report_runs", lambda runs, asked: seen.append(asked))
    found = commands.parse(["experiment", name, "--out", str(tmp_path / "mixers"), *options]).experiment
    run_experiment(found)
    assert commands.parse(seen[0]).experiment == found


def test_a_run_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(two_runs()[1], model=replace(two_runs()[1].model, heads=3))
    monkeypatch.setattr(command, "EXPERIMENTS", (lambda: [wrong],))
    monkeypatch.setattr(command, "experiment_name", lambda experiment: "two-runs")
    with pytest.raises(RunError, match=r"1 of 1 runs failed, first: .*heads"):
        run_experiment(asked(tmp_path, jobs=1))
    assert json.loads(next((tmp_path / "runs").iterdir()).joinpath("asked.json").read_text())["model"]["heads"] == 3


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=experiment_name)
def test_each_experiment_can_be_built_and_has_several_seeds(experiment) -> None:
    configs = experiment()
    kinds = {repr(replace(config, seed=0)): config for config in configs}
    assert len(configs) in (2 * len(kinds), 3 * len(kinds))
    for config in kinds.values():
        if config.model.order <= 200:  # larger ones take long to draw
            seeded_model(config, config.data.signature)


def test_only_experiments_have_a_time() -> None:
    assert set(MINUTES) <= set(EXPERIMENTS)
