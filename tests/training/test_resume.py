"""A run that was stopped anywhere ends like one that was not: bit for bit."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils import _pytree

from processes import begin, ranks, status
from tasks.digit_files import write_idx
from training.killed import run
from training.stub import Stub, tiny
from transferfn.training import RunOptions, fit
from transferfn.training.run import read_rows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idx(tmp_path_factory.mktemp("digits"))


def assert_same_run(found: Path, wanted: Path) -> None:
    """Compare weights, optimiser, schedule, position in the data and in the loops, logs and result."""
    for name in ("last.ckpt", "best.ckpt"):
        mine, other = (torch.load(folder / "checkpoints" / name, weights_only=True) for folder in (found, wanted))
        for checkpoint in (mine, other):
            checkpoint["callbacks"]["Log"].pop("seconds")
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks", "transferfn", "DataModule"):
            assert_equal_bits(mine[part], other[part])
        assert (mine["epoch"], mine["global_step"]) == (other["epoch"], other["global_step"])
    assert read_rows(found / "metrics.csv") == read_rows(wanted / "metrics.csv")
    results = [json.loads((folder / "result.json").read_text()) for folder in (found, wanted)]
    for result in results:
        assert result.pop("seconds") > 0
        assert result.pop("peak_memory") > 0
    assert results[0] == results[1]


def assert_equal_bits(found: Any, wanted: Any) -> None:
    (leaves, spec), (others, other_spec) = _pytree.tree_flatten(found), _pytree.tree_flatten(wanted)
    assert spec == other_spec
    assert leaves
    for mine, other in zip(leaves, others, strict=True):
        same = torch.equal(mine, other) if isinstance(mine, torch.Tensor) else mine == other
        assert same, (mine, other)


def run_process(data: Path, out: Path, *, die_at: int, devices: int = 1) -> int:
    """How the first process ended."""
    told = Path(f"{out}.told")
    begun = [begin(run, data, out, die_at, devices, environment=rank, told=told) for rank in ranks(devices)]
    found, *others = [status(process) for process in begun]
    assert found in (0, -signal.SIGKILL), told.read_text()
    assert all((other == 0) == (found == 0) for other in others), told.read_text()
    return found


def batches(out: Path, rank: str = "") -> dict[int, dict[str, Any]]:
    """What each step was trained on; a step that was done again must have seen the same."""
    found: dict[int, dict[str, Any]] = {}
    for line in Path(f"{out}.batches{rank}").read_text().splitlines():
        row = json.loads(line)
        assert found.setdefault(row["step"], row) == row
    return found


def test_killed_in_the_second_epoch(data: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_process(data, whole, die_at=-1) == 0
    assert run_process(data, killed, die_at=14) == -signal.SIGKILL  # 9 steps an epoch
    assert not (killed / "result.json").exists()
    assert torch.load(killed / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 12
    assert run_process(data, killed, die_at=-1) == 0
    assert batches(killed) == batches(whole)
    assert len(batches(whole)) == 27
    assert len(Path(f"{killed}.batches").read_text().splitlines()) == 15 + (27 - 12)
    assert_same_run(killed, whole)


def test_two_processes_killed_and_continued(data: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_process(data, whole, die_at=-1, devices=2) == 0
    assert run_process(data, killed, die_at=14, devices=2) == -signal.SIGKILL
    assert run_process(data, killed, die_at=-1, devices=2) == 0
    for rank in ("", "1"):
        assert batches(killed, rank) == batches(whole, rank)
    shared = [set(batches(whole, "")[step]["index"]) & set(batches(whole, "1")[step]["index"]) for step in range(27)]
    assert not any(shared)
    assert_same_run(killed, whole)


class Stop(Exception):
    """The end of a run at a chosen point."""


class StopAt(Callback):
    """Raises in one of Lightning's hooks, the count-th time it is called."""

    def __init__(self, hook: str, count: int) -> None:
        self.left = count

        def stop(*args: Any) -> None:
            self.left -= 1
            if self.left == 0:
                raise Stop

        setattr(self, hook, stop)


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    fit(tiny(data), options(out), build=Stub)
    return out


def options(out: Path) -> RunOptions:
    return RunOptions(out=out, checkpoint_every=4, log_every=1, accelerator="cpu", progress=False)


@pytest.mark.parametrize(
    ("hook", "count"),
    [
        ("on_train_batch_start", 1),  # before any checkpoint
        ("on_train_batch_start", 5),  # right after a checkpoint
        ("on_train_batch_start", 12),
        ("on_train_batch_end", 9),  # last batch of an epoch
        ("on_train_batch_end", 18),
        ("on_validation_start", 1),
        ("on_validation_start", 2),
        ("on_validation_batch_end", 2),
        ("on_validation_end", 2),
        ("on_train_epoch_end", 1),
        ("on_train_epoch_end", 2),
        ("on_train_epoch_start", 2),  # right after the checkpoint of an epoch
        ("on_train_epoch_start", 3),
        ("on_train_epoch_end", 3),
        ("on_train_end", 1),  # everything done but the test
    ],
)
def test_stopped_anywhere(data: Path, uninterrupted: Path, tmp_path: Path, hook: str, count: int) -> None:
    out = tmp_path / "run"
    with pytest.raises(Stop):
        fit(tiny(data), options(out), build=Stub, callbacks=[StopAt(hook, count)])
    fit(tiny(data), options(out), build=Stub)
    assert_same_run(out, uninterrupted)


@pytest.mark.parametrize("change", [{"ema": 0.9}, {"accumulate": 2}], ids=["ema", "accumulate"])
def test_stopped_with_a_mean_of_weights_or_in_parts_of_a_batch(data: Path, tmp_path: Path, change: dict) -> None:
    config = tiny(data, **change)
    whole, out = tmp_path / "whole", tmp_path / "run"
    result = fit(config, options(whole), build=Stub)
    assert result.steps == 27
    for count in (10, 13):
        with pytest.raises(Stop):
            fit(config, options(out), build=Stub, callbacks=[StopAt("on_train_batch_end", count)])
    fit(config, options(out), build=Stub)
    assert_same_run(out, whole)


def test_stopped_again_and_again(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for _ in range(6):
        with pytest.raises(Stop):
            fit(tiny(data), options(out), build=Stub, callbacks=[StopAt("on_train_batch_end", 6)])
    fit(tiny(data), options(out), build=Stub)
    assert_same_run(out, uninterrupted)


def test_a_write_that_is_cut_short_leaves_the_checkpoint_before_it(
    data: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    save, calls = torch.save, []

    def cut(value: Any, file: Any) -> None:
        calls.append(1)
        if len(calls) == 5:
            file.write(b"half a checkpoint")
            raise Stop
        save(value, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", cut)
        with pytest.raises(Stop):
            fit(tiny(data), options(out), build=Stub)
    fit(tiny(data), options(out), build=Stub)
    assert_same_run(out, uninterrupted)


def test_two_runs_with_the_same_seed_are_equal_and_another_seed_differs(
    data: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    torch.manual_seed(123)  # the state of the global generator is no input
    fit(tiny(data), options(tmp_path / "again"), build=Stub)
    assert_same_run(tmp_path / "again", uninterrupted)
    fit(tiny(data, seed=1), options(tmp_path / "other"), build=Stub)
    losses = [read_rows(folder / "metrics.csv")[0]["loss"] for folder in (uninterrupted, tmp_path / "other")]
    assert losses[0] != losses[1]
