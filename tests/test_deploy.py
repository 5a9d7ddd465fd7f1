"""What docs/deploy.md shows runs as it stands, one block after the other, and what it links to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[1] / "docs" / "deploy.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)


@pytest.mark.compile  # without the type-checking hook, as a reader runs it
@pytest.mark.filterwarnings("ignore::DeprecationWarning:onnxscript.*")
def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="the page shows ONNX files")
    pytest.importorskip("onnxscript", reason="the page shows ONNX files")
    assert len(BLOCKS) == 7
    names: dict[str, object] = {}
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    for code in BLOCKS:
        exec(code, names)


def test_what_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", re.sub(r"```.*?```", "", PAGE.read_text(), flags=re.S)):
        assert (PAGE.parent / target).exists(), target
