from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("transformers")

from transferfn.bench import generation, generation_speed
from transferfn.bench.generation import FIRST, expected_seconds
from transferfn.bench.generation_sides import (
    FLOOR,
    GPT2,
    INT8,
    MAMBA,
    OURS,
    STREAM,
    Side,
    cache_bytes,
    check,
    floor,
    parameters,
    sides,
)
from transferfn.models import LanguageModel
from transferfn.models.int8 import Int8Decoder
from transferfn.models.language_model import LanguageModelConfig
from transferfn.nn import Hyena, ImplicitFilter

CONFIG = LanguageModelConfig(
    vocabulary=50, width=32, layers=2, mlp=64, order=8, horizon=64, init="comb", constraint="none", rank=None,
    heads=2, dropout=0.0,
)  # fmt: skip
NAMES = [OURS, MAMBA, GPT2, STREAM, INT8, FLOOR]


@pytest.fixture(scope="module")
def models() -> list[Side]:
    return sides(CONFIG, 200)


@pytest.fixture(scope="module")
def streams(models: list[Side]) -> dict[str, LanguageModel]:
    ours = models[0].model.model
    return {STREAM: ours.decoder(), INT8: Int8Decoder(ours)}


def test_sides_are_of_about_the_same_size(models: list[Side]) -> None:
    """As near as whole layers allow: within half a layer of the other."""
    sizes = {side.name: parameters(side.model) for side in models}
    assert list(sizes) == [OURS, MAMBA, GPT2]
    assert sizes[OURS] == sum(p.numel() for p in LanguageModel.from_config(CONFIG).parameters())
    layers = {MAMBA: models[1].model.backbone.layers, GPT2: models[2].model.transformer.h}
    for name, blocks in layers.items():
        one = sum(p.numel() for p in blocks[0].parameters())
        assert abs(sizes[name] - sizes[OURS]) <= one / 2 + 1


def test_what_is_measured_computes_what_it_should(models: list[Side], monkeypatch: Any) -> None:
    for side in models:
        check(side, CONFIG.vocabulary)
    ours = models[0]
    monkeypatch.setattr(ours, "step", lambda *_: None)
    with pytest.raises(ArithmeticError, match=r"with its cache Hyena-RTF is off by .*: its speed means nothing"):
        check(ours, CONFIG.vocabulary)


@torch.no_grad()
def test_a_pretended_cache_is_as_large_as_a_true_one(models: list[Side]) -> None:
    tokens = torch.randint(50, (2, 40))
    for side in models:
        true, pretended = side.prefill(tokens), side.pretend(tokens)
        assert cache_bytes(pretended) == cache_bytes(true)
        assert (side.name == GPT2) == (side.kept_a_token * 2 * 40 == cache_bytes(true))
        side.step(tokens[:, :1], pretended)
        side.step(tokens[:, :1], true)
        assert cache_bytes(pretended) == cache_bytes(true)


def test_the_floor_is_all_weight_matrices() -> None:
    model = LanguageModel.from_config(CONFIG)
    products = floor(model, 3)()
    assert isinstance(products, list)
    maps = [part for part in model.modules() if isinstance(part, nn.Linear)]
    assert sorted(y.shape[1] for y in products) == sorted([part.out_features for part in maps] + [50])
    assert all(len(y) == 3 for y in products)


def test_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(generation, "STEPS", 3)
    monkeypatch.setattr(generation, "BATCHES", (1, 2))
    generation.measure(CONFIG, (16, 32), tmp_path / "generation", command="a test")
    found = json.loads((tmp_path / "generation.json").read_text())
    assert [row["layer"] for row in found["rows"]] == NAMES * 4
    kept = {(row["B"], row["context"], row["layer"]): row["KiB a row"] for row in found["rows"]}
    for name in (OURS, MAMBA, STREAM):
        assert kept[1, 16, name] == kept[1, 32, name] == kept[2, 32, name]
    assert kept[1, 32, GPT2] == 2 * kept[1, 16, GPT2] > 0
    state = CONFIG.layers * (3 * CONFIG.width * 2 + CONFIG.width * CONFIG.order) * 4 / 1024
    assert kept[1, 16, OURS] == state
    for row in found["rows"]:
        assert row["tokens/s"] == pytest.approx(1e3 * row["B"] / row["step, ms"])
        assert (row[FIRST] is None) == (row["layer"] in (FLOOR, STREAM, INT8))
        assert row["step / Hyena-RTF"] == 1 or row["layer"] != OURS
        assert row["step / floor"] == 1 or row["layer"] != FLOOR
    assert (tmp_path / "generation.md").read_text().strip() == capsys.readouterr().out.strip()
    assert (tmp_path / "generation.png").stat().st_size > 10_000


def test_an_interrupted_measurement_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "BATCHES", (1,))
    monkeypatch.setattr(generation.pictures, "draw_generation", lambda *_: None)
    asked: list[int] = []

    def cell(models: Any, streams: Any, rows: list[Any], context: int, batch: int) -> list[Any]:
        if context == 64 and len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(context)
        return [{"B": batch, "context": context, "layer": OURS, FIRST: 0.5, "known": len(rows)}]

    monkeypatch.setattr(generation, "cell", cell)
    out = tmp_path / "generation"
    with pytest.raises(KeyboardInterrupt):
        generation.measure(CONFIG, (16, 32, 64), out, command="a test")
    asked.append(0)
    generation.measure(CONFIG, (16, 32, 64), out, command="a test")
    assert asked == [16, 32, 0, 64]
    assert [row["known"] for row in json.loads(out.with_suffix(".json").read_text())["rows"]] == [0, 1, 2]
    generation.measure(CONFIG, (16, 32, 64), out, command="a test")
    assert asked == [16, 32, 0, 64]
    generation.measure(CONFIG, (16,), out, command="another test")
    generation.measure(CONFIG, (16,), out, command="another test", overwrite=True)
    assert asked == [16, 32, 0, 64, 16, 16]


def test_what_takes_too_long_is_told_and_still_decoded(
    models: list[Side], streams: dict[str, LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "STEPS", 1)
    before = [{"layer": name, "B": 1, "context": 8, FIRST: seconds} for name, seconds in ((MAMBA, 20.0), (OURS, 1.0))]
    found = {row["layer"]: row for row in generation.cell(models, streams, before, 32, 1)}
    assert found[MAMBA][FIRST] == "over 60 s (not run)"
    assert found[MAMBA]["tokens/s"] > 0
    assert isinstance(found[OURS][FIRST], float)


def test_what_takes_too_much_memory_is_told(
    models: list[Side], streams: dict[str, LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "STEPS", 1)
    monkeypatch.setattr(generation, "MOST", 1.1 * models[2].kept_a_token * 32)
    found = {row["layer"]: row for row in generation.cell(models, streams, [], 32, 1)}
    assert found[GPT2][FIRST].endswith("GiB (not run)")
    assert found[GPT2]["tokens/s"] is None
    assert found[OURS][FIRST].endswith("GiB (not run)")
    assert found[STREAM]["tokens/s"] > 0
    monkeypatch.undo()
    monkeypatch.setattr(generation, "STEPS", 1)
    monkeypatch.setattr(generation, "_free", lambda: 0)
    found = {row["layer"]: row for row in generation.cell(models, streams, [], 32, 1)}
    assert found[MAMBA][FIRST] == "over what memory is free (not run)"
    text = generation.told({"rows": list(found.values()), "machine": {}, "threads": 1, "parameters": {}, "command": ""})
    assert "over what memory is free (not run)" in "\n".join(text)


def test_expectations() -> None:
    rows = [{"layer": MAMBA, "B": 1, "context": c, FIRST: t} for c, t in ((64, 1.0), (128, "over 60 s (not run)"))]
    assert expected_seconds(rows, MAMBA, 1, 256) == 4.0
    assert expected_seconds(rows, MAMBA, 4, 256) == 16.0
    assert expected_seconds(rows, GPT2, 1, 256) == 0.0
    rows = [{"layer": MAMBA, "B": 1, "context": c, FIRST: t} for c, t in ((64, 1.0), (128, 16.0))]
    assert expected_seconds(rows, MAMBA, 1, 256) == 64.0  # no more than the square


def test_one_model_over_the_context() -> None:
    decoder = LanguageModel.from_config(CONFIG).decoder()
    rows = list(generation_speed.benchmark(decoder, 50, (8, 40), batch=2, steps=3))
    assert [row["context"] for row in rows] == [8, 40]
    assert rows[0]["state, KiB a row"] == rows[1]["state, KiB a row"] > 0
    assert all(min(value for value in row.values() if not isinstance(value, int)) >= 0 for row in rows)
    assert all(row["prefill, tokens/s"] > 0 and row["decoding, tokens/s"] > 0 for row in rows)


def test_contexts_past_the_horizon_are_left_out() -> None:
    from transferfn.models import Backbone

    backbone = Backbone(4, 1, lambda: Hyena(4, filter=lambda: ImplicitFilter(4, horizon=64)), vocabulary=50)
    decoder = LanguageModel(backbone).decoder()
    rows = list(generation_speed.benchmark(decoder, 50, (8, 32, 62), steps=3))
    assert [row["context"] for row in rows] == [8, 32]
    assert rows[0]["state, KiB a row"] < rows[1]["state, KiB a row"]
