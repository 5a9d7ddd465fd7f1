from __future__ import annotations

import pytest
import torch

from transferfn.bench import layer
from transferfn.nn import RTF


@pytest.mark.parametrize("numerator", ["truncated", "exact"])
def test_a_cell_holds_ratios_of_equal_outputs(numerator) -> None:
    row = layer.cell((2, 50, 3), 4, numerator, seconds=0.01)
    assert row is not None
    assert row["n"] == 4
    assert all(row[f"{what}, {side} / ours"] > 0 for what in ("forward", "training") for side in ("published", "floor"))


def test_an_order_beyond_the_length_has_no_cell() -> None:
    assert layer.cell((2, 50, 3), 50, "truncated") is None


def test_no_ratio_of_different_outputs(monkeypatch) -> None:
    monkeypatch.setattr(layer.PublishedRTF, "forward", lambda self, u: u)
    with pytest.raises(ArithmeticError, match="published and ours differ by"):
        layer.cell((2, 50, 3), 4, "truncated", seconds=0.01)


def test_the_published_form_is_the_layers() -> None:
    ours = RTF(3, 4, horizon=40)
    u = torch.randn(2, 30, 3)
    assert torch.allclose(layer.PublishedRTF(ours.system())(u), ours(u), atol=1e-5)
