from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

pytest.importorskip("transformers")

from transferfn.bench import generation
from transferfn.models import LanguageModel
from transferfn.models.language_model import LanguageModelConfig

CONFIG = LanguageModelConfig(
    vocabulary=50, width=32, layers=2, mlp=64, order=8, horizon=64, init="comb", constraint="none", rank=None,
    heads=2, dropout=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def models() -> list[generation.Side]:
    return generation.sides(CONFIG, 200)


def test_sides_are_of_about_the_same_size(models: list[generation.Side]) -> None:
    """As near as whole layers allow: within half a layer of the other."""
    sizes = {side.name: generation.parameters(side.model) for side in models}
    assert list(sizes) == [generation.OURS, generation.NARROW, generation.MAMBA, generation.GPT2]
    assert sizes[generation.OURS] == sum(p.numel() for p in LanguageModel.from_config(CONFIG).parameters())
    layers = {generation.MAMBA: models[2].model.backbone.layers, generation.GPT2: models[3].model.transformer.h}
    for name, blocks in layers.items():
        one = sum(p.numel() for p in blocks[0].parameters())
        assert abs(sizes[name] - sizes[generation.OURS]) <= one / 2 + 1


def test_what_is_measured_computes_what_it_should(models: list[generation.Side], monkeypatch: Any) -> None:
    for side in models:
        generation.check(side, CONFIG.vocabulary)
    ours = models[0]
    monkeypatch.setattr(ours, "step", lambda *_: None)
    with pytest.raises(ArithmeticError, match=r"with its cache Hyena-RTF is off by .*: its speed means nothing"):
        generation.check(ours, CONFIG.vocabulary)


def test_the_floor_is_all_weight_matrices() -> None:
    model = LanguageModel.from_config(CONFIG)
    products = generation.floor(model, 3)()
    assert isinstance(products, list)
    maps = [part for part in model.modules() if isinstance(part, nn.Linear)]
    assert sorted(y.shape[1] for y in products) == sorted([part.out_features for part in maps] + [50])
    assert all(len(y) == 3 for y in products)


def test_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(generation, "STEPS", 3)
    monkeypatch.setattr(generation, "BATCHES", (1, 2))
    generation.measure(CONFIG, (16, 32), tmp_path / "generation", command="a test")
    found = json.loads((tmp_path / "generation.json").read_text())
    names = [generation.OURS, generation.NARROW, generation.MAMBA, generation.GPT2, generation.STREAM, generation.FLOOR]
    assert [row["layer"] for row in found["rows"]] == names * 4
    kept = {(row["B"], row["context"], row["layer"]): row["KiB a row"] for row in found["rows"]}
    for name in (generation.OURS, generation.MAMBA):
        assert kept[1, 16, name] == kept[1, 32, name] == kept[2, 32, name]
    assert kept[1, 32, generation.GPT2] == 2 * kept[1, 16, generation.GPT2] > 0
    state = CONFIG.layers * (3 * CONFIG.width * 2 + CONFIG.width * CONFIG.order) * 4 / 1024
    assert kept[1, 16, generation.OURS] == state
    for row in found["rows"]:
        assert row["tokens/s"] > 0
        assert (row["time to first token, s"] is None) == (row["layer"] == generation.FLOOR)
        assert row["Hyena-RTF, times as fast"] == 1 or row["layer"] != generation.OURS
    assert (tmp_path / "generation.md").read_text().strip() == capsys.readouterr().out.strip()
    assert (tmp_path / "generation.png").stat().st_size > 10_000


def test_what_does_not_fit_is_left_out(models: list[generation.Side], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "STEPS", 1)
    monkeypatch.setattr(generation, "_free", lambda: 2 * models[0].bytes_a_token * 8)
    names = [row["layer"] for row in generation.rows(models, 8, 1, 50)]
    assert generation.OURS in names
    assert generation.MAMBA not in names
    monkeypatch.undo()
    monkeypatch.setattr(generation, "STEPS", 1)
    monkeypatch.setattr(models[3], "pace", 1e3)
    names = [row["layer"] for row in generation.rows(models, 8, 1, 50)]
    assert generation.GPT2 not in names
    assert generation.MAMBA in names


def test_one_model_over_the_context() -> None:
    model = LanguageModel.from_config(CONFIG)
    rows = generation.benchmark(model, (8, 40), batch=2, steps=3)
    assert [row["context"] for row in rows] == [8, 40]
    assert rows[0]["state, KiB a row"] == rows[1]["state, KiB a row"] > 0
    assert all(min(value for value in row.values() if not isinstance(value, int)) >= 0 for row in rows)
    assert all(row["prefill, tokens/s"] > 0 and row["decoding, tokens/s"] > 0 for row in rows)
