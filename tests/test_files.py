"""What a user keeps is whole or absent, and nothing in the package writes it another way."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from transferfn.files import replacing, write_json, write_text

SOURCE = Path(__file__).parents[1] / "src" / "transferfn"


def test_what_is_whole_takes_the_place(tmp_path: Path) -> None:
    file = tmp_path / "kept.json"
    write_text(file, "the one before")
    write_json(file, {"µ": [1, 2.5]})
    assert file.read_text(encoding="utf-8") == '{\n  "\\u00b5": [\n    1,\n    2.5\n  ]\n}\n'
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("before", [None, "the one before"])
def test_after_an_error_all_is_as_it_was(tmp_path: Path, before: str | None) -> None:
    file = tmp_path / "kept"
    if before is not None:
        file.write_text(before)

    def half() -> None:
        with replacing(file) as part:
            part.write_text("half of")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    with pytest.raises(FileNotFoundError), replacing(file):
        pass  # nothing was written
    assert [path.read_text() for path in tmp_path.iterdir()] == ([] if before is None else [before])


@pytest.mark.parametrize("stopped", range(8))
def test_an_interrupted_archive_tells_of_the_interrupt(tmp_path: Path, stopped: int) -> None:
    class Interrupted(io.BytesIO):
        writes = 0

        def write(self, data: Any) -> int:
            self.writes += 1
            if self.writes == stopped + 1:
                raise KeyboardInterrupt
            return super().write(data)

    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "kept"):
        torch.save({"weights": torch.zeros(3)}, Interrupted())


def test_everything_is_written_this_way() -> None:
    """Caches, which are written in a folder that is renamed, are let be, as is what the system gives as files."""
    direct = re.compile(r"\.write_(text|bytes)\(|\.savefig\((?!part|drawn)")
    found = [
        f"{path.relative_to(SOURCE)}:{number}: {line.strip()}"
        for path in SOURCE.rglob("*.py")
        if path.name not in ("files.py", "cache.py", "memory.py", "measure.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if direct.search(line)
    ]
    assert found == []
