"""What a process holds is its own, not that of the one which started it."""

from __future__ import annotations

import subprocess
import sys

CHILD = (
    "import torch; from transferfn.training.fit import _peak_memory; print(_peak_memory(torch.device('cpu')) // 10**6)"
)
PARENT = "import subprocess, sys; held = b'.' * 700_000_000; subprocess.run([sys.executable, '-c', sys.argv[1]])"


def test_the_peak_of_a_run_is_not_that_of_the_process_which_started_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PARENT, CHILD], capture_output=True, text=True, check=True, timeout=300
    )
    assert 50 < int(done.stdout) < 550, done.stderr
