from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from processes import Forked, begin, status
from processes import command as foreground
from tasks.digit_files import write_idx
from transferfn.cli import commands, main
from transferfn.cli import sweep as command
from transferfn.cli.search_space import read_range
from transferfn.cli.sweep import summary
from transferfn.training import TrainConfig
from transferfn.training.serialize import to_dict

pytest.importorskip("optuna")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idx(tmp_path_factory.mktemp("digits"))


def arguments(data: Path, out: Path, *more: str) -> list[str]:
    options = {"--data.path": data, "--data.side": 7, "--width": 4, "--layers": 1, "--epochs": 1, "--batch-size": 60}
    words = [str(part) for pair in options.items() for part in pair]
    search = ["--search", "optimizer.lr=1e-3..1e-1", "model.order=2,4"]
    return ["sweep", "smnist", "--out", str(out), *search, *words, "--data.no-published", *more]


def test_a_sweep_goes_on_where_it_was(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command.subprocess, "Popen", Forked)  # interpreters of their own: when one is interrupted
    out = tmp_path / "sweep"
    assert main(arguments(data, out, "--trials", "2")) == 0
    assert len(list(out.glob("trial-*/result.json"))) == 2
    assert main(arguments(data, out, "--trials", "3", "--jobs", "2")) == 0
    assert 3 <= len(list(out.glob("trial-*/result.json"))) <= 4  # two jobs may end at once
    capsys.readouterr()
    assert main(arguments(data, out, "--trials", "3")) == 0  # there are that many
    lines = capsys.readouterr().out.splitlines()
    assert lines == summary(out)
    assert "the best by validation accuracy" in lines[0]
    folder = Path(lines[1].split()[-1])
    config = json.loads((folder / "config.json").read_text())["config"]
    assert f"model.order {config['model']['order']}" in lines[1]
    assert 1e-3 <= config["optimizer"]["lr"] <= 1e-1
    best = json.loads((folder / "result.json").read_text())["validation_score"]
    scores = [json.loads(path.read_text())["validation_score"] for path in out.glob("trial-*/result.json")]
    assert best == max(scores)


def test_another_sweep_in_the_same_folder_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    assert main(arguments(data, tmp_path)) == 2
    assert "sweep.json cannot be read ('config'): choose another folder" in capsys.readouterr().err
    asked = commands.parse(arguments(data, tmp_path)).sweep
    written = {"search": ["model.order=2,8", "model.width=2..4"], "config": to_dict(replace(asked.config, epochs=3))}
    (tmp_path / "sweep.json").write_text(json.dumps(written))
    assert main(arguments(data, tmp_path)) == 2
    told = capsys.readouterr().err
    assert "holds another sweep: model.order 2,4 (there 2,8), model.width not searched (there 2..4), " in told
    assert "optimizer.lr 0.001..0.1 (there not searched), epochs 1 (there 3). Choose another folder" in told


def test_an_option_is_the_same_however_it_is_written(data: Path, tmp_path: Path) -> None:
    config = TrainConfig()
    assert read_range("order=4,8", config) == read_range("--model.order=4,8", config)
    assert read_range("optimizer.filter-lr=1e-3..1e-2", config) == read_range("optimizer.filter_lr=0.001..0.01", config)
    for name in ("mixer", "width", "layers", "order"):  # as for train
        value = {"mixer": "s4d"}.get(name, "8")
        run = commands.parse(["train", "digits", f"--{name}", value]).run
        assert str(getattr(run.config.model, name)) == value
        assert read_range(f"{name}={value}", config).option == f"model.{name}"
    assert main(arguments(data, tmp_path, "--trials", "1")) == 0
    again = arguments(data, tmp_path, "--trials", "1")
    again[again.index("model.order=2,4")] = "order=2,4"
    assert main(again) == 0


def test_options_that_do_nothing_are_not_searched(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["sweep", "digits", "--out", str(tmp_path), "--search", "optimizer.filter_lr=1e-3..1e-2"]
    assert main([*words, "--mixer", "attention"]) == 2
    assert "optimizer.filter_lr does nothing with --mixer attention" in capsys.readouterr().err
    assert commands.parse([*words, "model.mixer=attention,s4d"])  # with one of them it does


def test_an_option_given_twice_is_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = arguments(data, tmp_path)
    words.insert(words.index("model.order=2,4"), "order=1..4")
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("transferfn: --search takes each option once, got model.order twice: ")


def test_trials_that_all_fail_are_an_error(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for word in arguments(data, tmp_path, "--trials", "2") if not word.startswith("model.order=")]
    words[words.index("optimizer.lr=1e-3..1e-1")] = "optimizer.lr=1e30,1e31"
    assert main([*words, "--optimizer.warmup", "0"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("transferfn: 2 of 2 trials failed: the loss is nan after")
    assert "lower optimizer.lr" in told


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT")
def test_interrupting_a_sweep_is_told_in_one_line(jobs: str, data: Path, tmp_path: Path) -> None:
    said = tmp_path / "said"
    running = begin(foreground, *arguments(data, tmp_path, "--trials", "1000", "--jobs", jobs), told=said)
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("trial-*/metrics.csv")) and time.monotonic() < deadline and running.is_alive():
        time.sleep(0.05)
    assert running.pid is not None
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    ended = status(running)
    told = said.read_text()
    assert ended == 130, told
    assert told.strip().count("\n") == 0, told
    assert "interrupted; to continue: transferfn sweep smnist" in told


class Started:
    """A job that ends at once, and what it was given."""

    threads: ClassVar[list[str]] = []
    returncode = 1

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self.threads.append(env["OMP_NUM_THREADS"])

    def wait(self) -> int:
        return self.returncode


@pytest.mark.parametrize(("said", "share"), [(None, "3"), ("2", "2")])
def test_jobs_share_the_threads(
    said: str | None, share: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(command.subprocess, "Popen", Started)
    monkeypatch.setattr(Started, "threads", [])
    assert main(arguments(data, tmp_path / "sweep", "--jobs", "2")) == 2  # they "failed"
    assert Started.threads == [share, share]


def test_a_job_that_has_not_noticed_is_interrupted_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is starting may not: else the sweep would wait until all trials are done."""
    sent = []

    class Deaf(Started):
        def wait(self, timeout: float | None = None) -> int:
            if timeout is None:
                raise KeyboardInterrupt
            if not sent:
                raise command.subprocess.TimeoutExpired("job", timeout)
            return 130

        def send_signal(self, number: int) -> None:
            sent.append(number)

    monkeypatch.setattr(command.subprocess, "Popen", Deaf)
    assert main(arguments(data, tmp_path / "sweep", "--jobs", "2")) == 130
    assert sent == [signal.SIGINT]
