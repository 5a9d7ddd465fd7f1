from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from tasks.digit_files import write_idx
from transferfn.cli import main
from transferfn.cli import sweep as command
from transferfn.cli.sweep import read_range, summary, with_value
from transferfn.training import TrainConfig

pytest.importorskip("optuna")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idx(tmp_path_factory.mktemp("digits"))


def arguments(data: Path, out: Path, *more: str) -> list[str]:
    options = {"--data.path": data, "--data.side": 7, "--width": 4, "--layers": 1, "--epochs": 1, "--batch-size": 60}
    words = [str(part) for pair in options.items() for part in pair]
    search = ["--search", "optimizer.lr=1e-3..1e-1", "model.order=2,4"]
    return ["sweep", "smnist", "--out", str(out), *search, *words, "--data.no-published", *more]


def test_a_sweep_goes_on_where_it_was(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert "holds another sweep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.lr", "option=low..high"),
        ("optimizer.speed=1,2", "no option 'optimizer.speed'"),
        ("optimizer=1,2", "no option 'optimizer'"),
        ("optimizer.lr=0..1", "0 < low < high"),
        ("optimizer.lr=2..1", "0 < low < high"),
        ("optimizer.lr=a..b", "two numbers"),
        ("model.order=1.5..3", "two whole numbers"),
        ("model.init=comb,best", "init"),
        ("optimizer.warmup=0.1,2", "share of all steps"),
    ],
)
def test_what_cannot_be_searched_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_range(text, TrainConfig())


def test_a_value_goes_to_its_place() -> None:
    config = with_value(TrainConfig(), "data.side", 14)
    assert config.data.signature.length == 196
    assert read_range("--model.denominator-groups=1,4", TrainConfig()).choices == (1, 4)
    assert read_range("batch_size=10..100", TrainConfig()).high == 100


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
