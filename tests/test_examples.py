from __future__ import annotations

from pathlib import Path

import pytest

from processes import begin, run_script, status

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
    told, printed = tmp_path / "told", tmp_path / "printed"
    ended = status(begin(run_script, path, told=told, printed=printed))
    assert ended == 0, told.read_text()
    assert len(printed.read_text().splitlines()) >= 4
