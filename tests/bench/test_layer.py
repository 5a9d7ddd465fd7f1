from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from transferfn.bench import layer, memory, sides, targets
from transferfn.nn import RTF


@pytest.mark.parametrize("numerator", ["truncated", "exact"])
def test_a_cell_holds_ratios_of_equal_outputs(numerator) -> None:
    row = layer.cell((2, 50, 3), 4, numerator, seconds=0.01)
    assert row["n"] == 4
    assert all(row[f"{what}, {side} / ours"] > 0 for what in ("forward", "training") for side in ("published", "floor"))


def test_no_ratio_of_different_outputs(monkeypatch) -> None:
    monkeypatch.setattr(sides.PublishedRTF, "forward", lambda self, u: u)
    with pytest.raises(ArithmeticError, match="published and ours differ by"):
        layer.cell((2, 50, 3), 4, "truncated", seconds=0.01)


def test_what_is_compared_is_the_function_and_not_its_rounding() -> None:
    shape = (2, 50, 3)
    mine, layer_of_mine = sides.ours(shape, 4, "exact")
    published = sides.published(shape, layer_of_mine)
    rounded = replace(published, forward=lambda: 1.001 * published.forward())
    layer.check_same(mine, rounded, "published")
    with pytest.raises(ArithmeticError, match="published and ours differ by"):
        layer.check_same(mine, replace(rounded, wide=None), "published")


def test_the_published_form_is_the_layers() -> None:
    ours = RTF(3, 4, horizon=40)
    u = torch.randn(2, 30, 3)
    assert torch.allclose(sides.PublishedRTF(ours.system())(u), ours(u), atol=1e-5)


def test_the_peak_of_a_call_is_what_it_holds_at_most() -> None:
    if not memory.is_measurable():
        pytest.skip("this system does not tell")
    size = 2**26

    def call() -> bytes:
        first = bytearray(b"x") * size
        second = bytes(first)
        del first
        return second

    assert 1.95 * size < memory.peak(call) < 2.2 * size


def test_memory_in_a_process_of_its_own() -> None:
    if not memory.is_measurable():
        pytest.skip("this system does not tell")
    shape = 2, 65536, 16
    size = 4 * 2 * 65536 * 16
    peak = memory.measure("floor", shape, 4, "truncated", training=False, retain=False)
    assert peak > 4 * size  # two spectra of twice the length, at the least


def test_targets_name_the_worst_cell() -> None:
    cells = [
        {"B, L, D": "1, 2, 3", "n": n, "numerator": "exact"}
        | {f"{what}, {side} / ours": float(n) for what in ("forward", "training") for side in ("published", "floor")}
        for n in (4, 16)
    ]
    found = {row["what"]: row for row in targets.verdicts(cells, [], [])}
    row = found["forward, n <= 16, exact: published / ours"]
    assert (row["reached"], row["worst"], row["where"]) == ("1 of 2", 4.0, "B, L, D 1, 2, 3, n 4")
    assert not any("truncated" in name for name in found)


def test_one_row_with_a_truncated_numerator_has_an_aim_of_its_own() -> None:
    cells = [
        {"B, L, D": shape, "n": 4, "numerator": "truncated"}
        | {f"{what}, {side} / ours": 2.5 for what in ("forward", "training") for side in ("published", "floor")}
        for shape in ("1, 9, 3", "16, 9, 3")
    ]
    found = {row["what"]: row for row in targets.verdicts(cells, [], [])}
    names = [f"forward, n <= 16, truncated: floor / ours{end}" for end in ("", ", one row")]
    assert [(found[name]["target"], found[name]["reached"]) for name in names] == [
        (">= 3", "0 of 1"),
        (">= 2", "1 of 1"),
    ]


def test_memory_may_hardly_grow_with_the_order() -> None:
    def row(side: str, n: int, peak: float) -> dict[str, Any]:
        sizes = {f"{what}, {unit}": peak for what in ("forward", "training") for unit in ("MiB", "inputs")}
        return {"B, L, D": "1, 9, 3", "side": side, "n": n, "numerator": "exact"} | sizes

    rows = [row("published", 4, 9.0), *(row("ours", n, peak) for n, peak in ((4, 1.0), (256, 2.0), (2048, 2.2)))]
    found = {x["what"]: x for x in targets.verdicts([], [], rows)}["memory, training: growth from n = 256"]
    assert (found["reached"], round(found["worst"], 3)) == ("0 of 1", 0.1)


def test_a_report_is_one_set_of_figures_in_three_forms(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(layer, "SHAPES", ((2, 64, 3),))
    monkeypatch.setattr(layer, "ORDERS", (2, 4))
    monkeypatch.setattr(layer.memory, "is_measurable", lambda: False)
    layer.report(out=tmp_path / "deep" / "layer", seconds=0.01)
    written = (tmp_path / "deep" / "layer.md").read_text()
    assert capsys.readouterr().out == written
    found = json.loads((tmp_path / "deep" / "layer.json").read_text())
    assert [(cell["n"], cell["numerator"]) for cell in found["cells"]] == [
        (n, kind) for n in (2, 4) for kind in ("truncated", "exact")
    ]
    assert all(f"| {cell['forward, ms']:.3g} |" in written for cell in found["cells"])
    assert sorted(file.name for file in (tmp_path / "deep").iterdir()) == [
        "layer-forward.png", "layer-training.png", "layer.json", "layer.md",
    ]  # fmt: skip
