"""What docs/identify.md shows runs as it stands, one block after the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "identify.md"


@pytest.mark.compile  # without the type-checking hook, as a reader runs it
def test_every_block_of_the_page_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) == 8
    names: dict[str, object] = {}
    torch.manual_seed(0)
    for code in blocks:
        exec(code, names)


def test_what_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE.read_text()):
        assert (PAGE.parent / target).exists(), target
