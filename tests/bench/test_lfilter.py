from __future__ import annotations

import json

import pytest
import torch

from transferfn.bench import lfilter


def test_the_report(tmp_path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lfilter, "SHAPES", ((3, 50),))
    lfilter.report(out=tmp_path / "new" / "lfilter", seconds=0.0)
    found = json.loads((tmp_path / "new" / "lfilter.json").read_text())
    assert found["command"] == "transferfn bench lfilter"
    assert [cell["filter"] for cell in found["cells"][:4]] == [
        "lfilter, order 2", "lfilter, order 6", "sosfilt, 2 sections", "sosfilt, 6 sections",
    ]  # fmt: skip
    assert all(cell["with zi, scipy / ours"] > 0 for cell in found["cells"])
    assert (tmp_path / "new" / "lfilter.md").read_text() in capsys.readouterr().out + "\n"


def test_sides_that_differ_have_no_ratio() -> None:
    x = torch.randn(2, 30, generator=torch.Generator().manual_seed(0))
    both = lfilter.sides(x, "sosfilt", 2, start=True)
    lfilter.agree(both, x.dtype)
    other = lfilter.sides(x, "sosfilt", 3, start=True)
    with pytest.raises(ArithmeticError, match="no ratio of them means anything"):
        lfilter.agree({"ours": lambda: both["ours"]()[0], "scipy": lambda: other["scipy"]()[0]}, x.dtype)
