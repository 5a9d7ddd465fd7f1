"""Ours beside layers that were measured elsewhere, by what both are to RTF as it was published."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]

SHAPE = "4, 4096, 64"
# Time of a forward pass and of a training step as multiples of official RTF, measured in one run on another machine of
# two cores (float32, freed memory retained). S4 and S4D with KeOps and in PyTorch, S5 in JAX, jitted.
RATIOS: dict[int, dict[str, tuple[float, float]]] = {
    16: {
        "S5 (JAX)": (0.78, 0.43),
        "S4 (KeOps)": (3.8, 2.6),
        "S4 (PyTorch)": (2.6, 2.9),
        "S4D (KeOps)": (4.6, 3.8),
        "S4D (PyTorch)": (5.8, 2.3),
    },
    64: {
        "S5 (JAX)": (1.7, 1.75),
        "S4 (KeOps)": (8.7, 6.6),
        "S4 (PyTorch)": (20.0, 29.0),
        "S4D (KeOps)": (15.0, 12.0),
        "S4D (PyTorch)": (22.0, 7.1),
    },
    256: {
        "S5 (JAX)": (7.1, 7.1),
        "S4 (KeOps)": (26.0, 23.0),
        "S4 (PyTorch)": (70.0, 109.0),
        "S4D (KeOps)": (52.0, 47.0),
        "S4D (PyTorch)": (99.0, 43.0),
    },
    1024: {
        "S5 (JAX)": (37.0, 27.0),
        "S4 (KeOps)": (99.0, 83.0),
        "S4D (KeOps)": (207.0, 175.0),
        "S4D (PyTorch)": (406.0, 156.0),
    },
}
# Peak memory of the same calls beyond their input, MiB. Of S4 it was only told that it lies between 37 and 44, and
# between 91 and 122, at all orders: the lower ends stand here. Of S4D with KeOps, the leanest of its kind, one order
# was measured.
MEMORY: dict[int, dict[str, tuple[float, float]]] = {
    16: {"S5 (JAX)": (14.0, 46.0), "S4 (KeOps)": (37.0, 91.0)},
    64: {"S5 (JAX)": (16.0, 74.0), "S4 (KeOps)": (39.0, 91.0), "S4D (KeOps)": (37.0, 81.0)},
    256: {"S5 (JAX)": (51.0, 236.0), "S4 (KeOps)": (37.0, 91.0)},
    1024: {"S5 (JAX)": (194.0, 842.0), "S4 (KeOps)": (37.0, 91.0)},
}


def best(figures: dict[str, tuple[float, float]], layer: str) -> tuple[float, float] | None:
    """The least that any code for a layer takes, forward and in training; None if none was measured.

    Args:
        figures: Those of one order.
        layer: Name of the layer.

    Example:
        >>> best(RATIOS[16], "S4"), best(MEMORY[16], "S4D")
        ((2.6, 2.6), None)
    """
    found = [pair for name, pair in figures.items() if name.startswith(f"{layer} (")]
    return (min(pair[0] for pair in found), min(pair[1] for pair in found)) if found else None


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
