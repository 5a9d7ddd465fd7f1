"""What the README shows runs as it stands, one block after the other, and prints what it says."""

from __future__ import annotations

import contextlib
import io
import re
import textwrap
from pathlib import Path

import pytest
import torch

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```(?:\n\n((?:    [^\n]*\n)+))?", README.read_text(), re.S)
ERROR = r"\d+e-\d+"  # whose digits are those of the machine


@pytest.mark.compile  # without the type-checking hook, as a reader runs it
def test_every_example_runs() -> None:
    assert len(BLOCKS) >= 4
    names: dict[str, object] = {}
    torch.manual_seed(0)
    for code, promised in BLOCKS:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        if promised:
            told, seen = textwrap.dedent(promised), printed.getvalue()
            for number in re.findall(ERROR, seen):
                assert float(number) < 2e-6
            assert re.sub(ERROR, "", seen) == re.sub(ERROR, "", told)


def test_what_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
        assert (README.parent / target).exists(), target
