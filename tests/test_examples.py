from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
SMALLER = {  # what takes long and is shown as well with less
    "forecast": ("STEPS = 400 ", "STEPS = 20 "),
    "rollout": ("ROWS, STEPS = 64, 60", "ROWS, STEPS = 64, 20"),
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_reports_what_it_shows(path: Path, tmp_path: Path) -> None:
    if path.stem in SMALLER:
        text, path = path.read_text(), tmp_path / path.name
        assert text.count(SMALLER[path.stem][0]) == 1
        path.write_text(text.replace(*SMALLER[path.stem]))
    done = subprocess.run([sys.executable, "-W", "error", str(path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 4
