"""The guides that say so run as they stand, one block after the other, and print what they promise."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)


@pytest.mark.compile  # without the type-checking hook, as a reader runs it
@pytest.mark.parametrize("name", ["constraints", "filters", "language"])
def test_every_block_prints_what_it_promises(name: str) -> None:
    blocks = BLOCK.findall((DOCS / f"{name}.md").read_text())
    assert blocks
    names: dict[str, object] = {}
    torch.manual_seed(0)
    for code, promised in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        assert printed.getvalue() == promised
