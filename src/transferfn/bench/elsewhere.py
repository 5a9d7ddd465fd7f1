"""Ours beside layers that were measured elsewhere, by what both are to RTF as it was published."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]

SHAPE = "4, 4096, 64"
# Time of a forward pass and of a training step as multiples of official RTF, measured in one run on another machine of
# two cores (float32, freed memory retained). S4 and S4D with KeOps, S5 in JAX, jitted.
RATIOS: dict[int, dict[str, tuple[float, float]]] = {
    16: {"S5 (JAX)": (0.78, 0.43), "S4 (KeOps)": (3.8, 2.6), "S4D (KeOps)": (4.6, 3.8)},
    64: {"S5 (JAX)": (1.7, 1.75), "S4 (KeOps)": (8.7, 6.6), "S4D (KeOps)": (15.0, 12.0)},
    256: {"S5 (JAX)": (7.1, 7.1), "S4 (KeOps)": (26.0, 23.0), "S4D (KeOps)": (52.0, 47.0)},
    1024: {"S5 (JAX)": (37.0, 27.0), "S4 (KeOps)": (99.0, 83.0), "S4D (KeOps)": (207.0, 175.0)},
}


def beside(cells: list[Row], numerator: str = "exact") -> list[Row]:
    """How many times as long as ours other layers take: their ratio to the published form, times its ratio to ours.

    The two ratios come from two machines, so that the product is an estimate and no measurement.

    Args:
        cells: Times that :func:`transferfn.bench.layer.report` wrote.
        numerator: Which numerator ours learns.

    Returns:
        A row for each order that both have.
    """
    found = []
    for cell in cells:
        if (cell["B, L, D"], cell["numerator"]) != (SHAPE, numerator) or cell["n"] not in RATIOS:
            continue
        row: Row = {"n": cell["n"]}
        for what, at in (("forward", 0), ("training", 1)):
            for name, ratios in RATIOS[cell["n"]].items():
                row[f"{what}, {name} / ours"] = ratios[at] * cell[f"{what}, published / ours"]
        found.append(row)
    return found
