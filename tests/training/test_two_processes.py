"""Two processes compute what one does, and either continues what the other began."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from processes import begin, ranks, status
from tasks.digit_files import write_idx
from training import shared
from transferfn.training.run import read_rows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idx(tmp_path_factory.mktemp("digits"))


def run(data: Path, out: Path, *, devices: int, until: int = 0) -> tuple[list[int], str]:
    """How each process ended, and what they said."""
    told = Path(f"{out}-{devices}.told")
    begun = [begin(shared.run, data, out, devices, until, environment=rank, told=told) for rank in ranks(devices)]
    return [status(process) for process in begun], told.read_text()


def assert_alike(mine: Path, other: Path) -> None:
    """Compare what was measured and the weights, up to the order of sums."""
    one, two = (read_rows(folder / "metrics.csv") for folder in (mine, other))
    for name, count in {"loss": 2, "train_loss": 3, "val_loss": 3, "val_accuracy": 3}.items():
        found, wanted = ([float(row[name]) for row in rows if row.get(name)] for rows in (two, one))
        assert len(wanted) == count
        assert found == pytest.approx(wanted, rel=1e-4)
    weights = [torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (mine, other)]
    for name, value in weights[0]["state_dict"].items():
        torch.testing.assert_close(weights[1]["state_dict"][name], value, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    out = tmp_path_factory.mktemp("runs") / "alone"
    ended, told = run(data, out, devices=1)
    assert ended == [0], told
    return out


def test_two_processes_train_like_one(data: Path, alone: Path, tmp_path: Path) -> None:
    """Here Lightning starts the second one, by the command line of the first."""
    arguments = [sys.executable, shared.__file__, str(data), str(tmp_path / "two"), "2", "0"]
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert_alike(alone, tmp_path / "two")


def test_a_run_goes_on_with_another_number_of_processes(data: Path, alone: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    for devices, until, saved in ((1, 24, 9), (2, 22, 18)):  # the second one counts from where it begins
        ended, told = run(data, changed, devices=devices, until=until)
        assert 0 not in ended, told
        assert not (changed / "result.json").exists()
        assert torch.load(changed / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == saved
    ended, told = run(data, changed, devices=1)
    assert ended == [0], told
    assert_alike(alone, changed)
