from __future__ import annotations

import pytest

from transferfn.bench import elsewhere


def a_cell(shape: str, n: int, numerator: str) -> dict:
    return {"B, L, D": shape, "n": n, "numerator": numerator, "forward, published / ours": 5.0} | {
        "training, published / ours": 8.0
    }


def test_ratios_to_the_published_form_are_chained() -> None:
    (row,) = elsewhere.beside([a_cell("4, 4096, 64", 64, "exact")])
    assert row["n"] == 64
    assert row["forward, S5 (JAX) / ours"] == pytest.approx(1.7 * 5)
    assert row["training, S4D (KeOps) / ours"] == pytest.approx(12 * 8)


def test_other_cells_are_left_out() -> None:
    others = [("4, 1024, 64", 64, "exact"), ("4, 4096, 64", 64, "truncated"), ("4, 4096, 64", 2048, "exact")]
    assert elsewhere.beside([a_cell(*other) for other in others]) == []
