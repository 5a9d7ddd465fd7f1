from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from laws.tolerance import relative_error
from transferfn.bench import peers, sides
from transferfn.bench.layer import check_same


def test_s4d_is_its_recurrence() -> None:
    """x' = exp(dt A) x + (exp(dt A) - 1) / A u, y = 2 Re C x + D u, a sample at a time."""
    torch.manual_seed(0)
    layer = peers.S4D(3, 8).double()
    u = torch.randn(2, 3, 50, dtype=torch.float64)
    a = torch.complex(-layer.log_decay.exp(), layer.frequency.double())
    step = (a * layer.log_step.exp()[:, None]).exp()
    x, ys = torch.zeros(2, 3, 4, dtype=torch.complex128), []
    for u_t in u.unbind(-1):
        x = step * x + (step - 1) / a * u_t[..., None]
        ys.append(2 * (torch.view_as_complex(layer.readout) * x).sum(-1).real + layer.feedthrough * u_t)
    assert relative_error(layer(u), torch.stack(ys, -1)) < 1e-12


def test_s4d_is_left_out_where_its_matrix_would_not_fit() -> None:
    assert peers.s4d((4, 4096, 64), 1024) is None
    side = peers.s4d((2, 16, 4), 8)
    assert side is not None
    assert side.inference().shape == (2, 16, 4)


def test_attention_is_causal() -> None:
    side = peers.attention((1, 12, 4))
    before = side.inference()
    with torch.no_grad():
        side.leaves[0][:, 7:] += 1
    assert torch.allclose(side.inference()[:, :7], before[:, :7], atol=1e-6)
    assert len(side.training()) == 5


def test_scipy_holds_our_filters() -> None:
    mine, layer = sides.ours((2, 60, 3), 4, "exact")
    assert relative_error(peers.scipy_lfilter(mine, layer)(), mine.inference()) < 1e-5


def test_sides_that_differ_get_no_ratio() -> None:
    mine, _ = sides.ours((1, 32, 2), 4, "exact")
    other, _ = sides.ours((1, 32, 2), 8, "exact")
    with pytest.raises(ArithmeticError, match=r"other and ours differ by .*: no ratio of them means anything"):
        check_same(mine, other, "other")


def test_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(peers, "OVER_ORDER", (1, 64, 4))
    monkeypatch.setattr(peers, "ORDERS", (2, 4))
    monkeypatch.setattr(peers, "LENGTHS", (16, 32))
    monkeypatch.setattr(peers, "ORDERS_OVER_LENGTH", (2, 20))
    monkeypatch.setattr(peers.memory, "is_measurable", lambda: False)
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    peers.report(out=tmp_path / "peers", seconds=0.01)
    found = json.loads((tmp_path / "peers.json").read_text())
    layers = [row["layer"] for row in found["order"] if row["n"] == 2]
    assert layers == [
        "ours, exact",
        "ours, truncated",
        "RTF as published",
        "free kernel",
        "S4D (PyTorch)",
        "attention",
        "scipy lfilter",
    ]
    assert all(row["forward, ms"] > 0 for row in found["order"])
    assert [math.isnan(row["training, ms"]) for row in found["order"]] == [
        name == "scipy lfilter" for name in layers
    ] * 2
    assert [row["layer"] for row in found["length"] if row["L"] == 32] == [
        "ours, n = 2",
        "ours, n = 20",
        "RTF as published",
        "free kernel",
    ]
    text = (tmp_path / "peers.md").read_text()
    assert "pip install 'transferfn[peers]'" in text
    assert text.strip() == capsys.readouterr().out.strip()
    assert {path.name for path in tmp_path.glob("*.png")} == {"peers-order.png", "peers-length.png"}
