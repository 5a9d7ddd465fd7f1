from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.digit_files import write_idx
from training.stub import Stub, tiny
from transferfn.training import RunError, RunOptions, fit
from transferfn.training.lock import alone_in

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no lock")

HOLD = """
import os, sys, time
from pathlib import Path
from transferfn.training.lock import alone_in
with alone_in(Path(sys.argv[1])):
    if os.fork() == 0:  # as a worker that gathers batches: it lives on when the run is killed
        print(os.getpid(), flush=True)
    time.sleep(300)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that trains in a folder, for all that others can tell."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        try:
            yield process
        finally:
            process.kill()
            os.kill(worker, 9)


def test_one_process_at_a_time_trains_in_a_folder(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    config = tiny(write_idx(tmp_path / "digits"), epochs=1)
    options = RunOptions(out=tmp_path / "run", accelerator="cpu", progress=False)
    with pytest.raises(RunError, match=rf"run is being trained in by process {holder.pid} of .*: wait for its end"):
        fit(config, options, build=Stub)
    assert [path.name for path in options.out.iterdir()] == ["lock"]
    holder.kill()
    holder.wait()
    fit(config, options, build=Stub)
    assert not (options.out / "lock").exists()


def test_a_folder_that_stays_empty_is_taken_away(tmp_path: Path) -> None:
    with alone_in(tmp_path / "runs" / "mine"):
        assert (tmp_path / "runs" / "mine" / "lock").exists()
    assert not list(tmp_path.iterdir())


def test_processes_that_know_nothing_of_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(RunError, match="torchrun started 4 processes, but --devices 2 and --nodes 1 ask for 2"):
        fit(tiny(tmp_path), RunOptions(out=tmp_path / "run", devices=2), build=Stub)
