from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
import torch

from transferfn.bench import contenders, memory, mixers
from transferfn.bench.contenders import Contender, build, has_order


@pytest.mark.parametrize("name", get_args(Contender))
def test_contenders_are_causal_layers_of_the_width(name: Contender) -> None:
    torch.manual_seed(0)
    layer = build(name, 8, 4, 30)
    u = torch.randn(1, 30, 8)
    y, _ = layer.extend(u)
    assert y.shape == u.shape
    assert layer.is_causal


def test_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(mixers, "OVER_ORDER", (1, 64, 4))
    monkeypatch.setattr(mixers, "ORDERS", (2, 4))
    monkeypatch.setattr(mixers, "OVER_LENGTH", (16, 32))
    monkeypatch.setattr(mixers, "ORDER", 4)
    monkeypatch.setattr(mixers, "CHANNELS", 4)
    monkeypatch.setattr(mixers, "PEERS_ORDERS", (16,))
    monkeypatch.setattr(mixers, "STEPS", 3)
    monkeypatch.setattr(memory, "retain_freed_memory", lambda: None)  # would last for all tests to come
    monkeypatch.setattr(memory, "is_measurable", lambda: False)
    mixers.report(out=tmp_path / "mixers", seconds=0.01)
    found = json.loads((tmp_path / "mixers.json").read_text())
    names = list(get_args(Contender))
    assert [row["layer"] for row in found["order"]] == names * 2
    assert [row["layer"] for row in found["length"]] == names * 2
    for row in found["order"]:
        assert row["n"] == "-" or has_order(row["layer"])
        assert min(row["forward, ms"], row["training, ms"], row["prefill, ms"], row["step, us"]) > 0
    states = {row["layer"]: row["state, KiB"] for row in found["length"] if row["B, L, D"].startswith("1, 32")}
    half = {row["layer"]: row["state, KiB"] for row in found["length"] if row["B, L, D"].startswith("1, 16")}
    grows = {name for name in names if states[name] > half[name]}
    assert grows == {"Hyena", "attention"}
    assert [row["layer"] for row in found["peers"]] == ["S4", "S4D", "S5"]
    for row in found["peers"]:
        assert row["forward, peer / ours"] == pytest.approx(row["forward, peer"] / row["forward, ours"])
    assert found["peers"][2]["training, peer"] == 0.43
    assert (tmp_path / "mixers.md").read_text().strip() == capsys.readouterr().out.strip()
    assert {path.name for path in tmp_path.glob("*.png")} == {"mixers-order.png", "mixers-length.png"}


@pytest.mark.skipif(not memory.is_measurable(), reason="the system does not tell")
def test_memory_of_a_contender() -> None:
    shape = (2, 2048, 16)
    size = 4 * shape[0] * shape[1] * shape[2]
    found = memory.measure("S5", shape, 8, "truncated", training=True, retain=False)
    assert 2 * size < found < 40 * size


def test_layers_without_an_order() -> None:
    assert [name for name in get_args(contenders.Contender) if not has_order(name)] == ["Hyena", "attention"]
