from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from transferfn.files import write_json
from transferfn.training import ModelConfig, RunError, RunOptions, TrainConfig
from transferfn.training.run import Result, RunFolder, begin_run, open_run, resume_path
from transferfn.training.saved import read_checkpoint
from transferfn.training.serialize import to_dict

CONFIG = TrainConfig()


def start(folder: Path, *, config: TrainConfig = CONFIG, overwrite: bool = False) -> RunFolder:
    """Start a run and leave a checkpoint."""
    options = RunOptions(out=folder, overwrite=overwrite)
    opened = open_run(config, options)
    assert resume_path(opened, options) is None
    begin_run(opened, config)
    opened.last.write_text("a checkpoint")
    return opened


def test_a_new_folder_gets_its_configuration(tmp_path: Path) -> None:
    options = RunOptions(out=tmp_path / "deep" / "run")
    folder = open_run(CONFIG, options)
    assert not folder.path.parent.exists()  # looking writes nothing
    assert start(folder.path) == folder
    assert folder.read_config() == CONFIG
    assert folder.read_result() is None
    assert resume_path(open_run(CONFIG, options), options) == folder.last


def test_another_configuration_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    start(tmp_path)
    other = replace(CONFIG, epochs=7, model=ModelConfig(order=3))
    told = r"model.order 3 \(there 32\), epochs 7 \(there 20\).*--out.*--overwrite"
    with pytest.raises(RunError, match=told) as caught:
        open_run(other, RunOptions(out=tmp_path))
    assert "\n" not in str(caught.value)
    assert start(tmp_path, config=other, overwrite=True).read_config() == other


def test_a_run_that_never_reached_a_checkpoint_is_no_obstacle(tmp_path: Path) -> None:
    start(tmp_path).last.unlink()
    other = replace(CONFIG, epochs=7)
    assert start(tmp_path, config=other).read_config() == other


RESULT = Result(
    metric="accuracy",
    test_score=0.5,
    test_loss=1.0,
    test_samples=2,
    validation_score=None,
    peak_memory=1,
    best_epoch=1,
    steps=3,
    parameters=4,
    seconds=5.0,
)


def test_a_result_is_not_told_of_another_configuration(tmp_path: Path) -> None:
    folder = start(tmp_path)
    write_json(folder.result, to_dict(RESULT))
    folder.last.unlink()  # as the message about a broken checkpoint advises
    assert open_run(CONFIG, RunOptions(out=tmp_path)).read_result() == RESULT
    with pytest.raises(RunError, match=r"epochs 7 \(there 20\)"):
        open_run(replace(CONFIG, epochs=7), RunOptions(out=tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"test_score": 1}', '{"test_score": "high"}'])
def test_a_damaged_result_is_no_result(tmp_path: Path, text: str) -> None:
    folder = start(tmp_path)
    folder.result.write_text(text)
    assert folder.read_result() is None


def test_overwriting_deletes_what_runs_write_and_nothing_else(tmp_path: Path) -> None:
    folder = start(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    folder.metrics.write_text("old")
    folder.result.write_text("{}")
    options = RunOptions(out=tmp_path, overwrite=True)
    opened = open_run(CONFIG, options)
    assert resume_path(opened, options) is None
    begin_run(opened, CONFIG)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "config.json", "notes.txt"]
    assert not folder.last.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"config": {"epochs": 3}}', '{"other": 1}'])
def test_a_broken_configuration_is_named(tmp_path: Path, text: str) -> None:
    start(tmp_path).config.write_text(text)
    with pytest.raises(RunError, match=r"config.json cannot be read .*--overwrite"):
        open_run(CONFIG, RunOptions(out=tmp_path))


def test_checkpoints_without_a_configuration_are_not_trusted(tmp_path: Path) -> None:
    start(tmp_path).config.unlink()
    with pytest.raises(RunError, match=r"holds a run but no config\.json"):
        open_run(CONFIG, RunOptions(out=tmp_path))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        start(tmp_path / "file" / "run")


def test_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    options = RunOptions(out=tmp_path / "run", overwrite=True)
    begin_run(open_run(CONFIG, options), CONFIG)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        RunFolder(path=tmp_path).read_config()


@pytest.mark.parametrize("content", [b"", b"broken", b"PK\x03\x04 half a zip", b"nonsense" * 50])
def test_a_broken_checkpoint_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(content)
    with pytest.raises(RunError, match=rf"checkpoint {path} is broken \({len(content)} bytes") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)  # PyTorch's advice: to run whatever the file holds


def test_a_checkpoint_of_another_program(tmp_path: Path) -> None:
    import torch

    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
    with pytest.raises(RunError, match="not a checkpoint of transferfn"):
        read_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(RunError, match="is missing"):
        read_checkpoint(tmp_path / "none.ckpt")


def test_the_configuration_is_readable_json(tmp_path: Path) -> None:
    folder = start(tmp_path)
    assert json.loads(folder.config.read_text())["config"]["model"]["order"] == 32
