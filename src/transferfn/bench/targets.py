"""What the layer is meant to reach, and whether it did: each target with the worst figure among its cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def verdicts(cells: list[Row], decoding: list[Row], memory: list[Row]) -> list[Row]:
    """Each target, how many cells reach it, and the worst of them.

    Args:
        cells: Times.
        decoding: Times of steps.
        memory: Peaks.
    """
    found = []
    orders: tuple[tuple[str, Callable[[int], bool]], ...] = (
        ("n <= 16", lambda n: n <= 16),
        ("n = 64", lambda n: n == 64),
        ("n >= 256", lambda n: n >= 256),
    )
    wanted = {
        "forward": {"n <= 16": (6.0, 3.0), "n = 64": (4.0, 1.6), "n >= 256": (2.5, 1.2)},
        "training": {"n <= 16": (6.0, 3.0), "n = 64": (4.0, 2.0), "n >= 256": (4.0, 2.0)},
    }
    for what, by_order in wanted.items():
        for name, holds in orders:
            for side, least in zip(("published", "floor"), by_order[name], strict=True):
                for kind in ("exact", "truncated"):
                    some = [cell for cell in cells if holds(cell["n"]) and cell["numerator"] == kind]
                    told, column = f"{what}, {name}, {kind}: {side} / ours", f"{what}, {side} / ours"
                    if (name, side, kind) == ("n <= 16", "floor", "truncated"):  # one row pays for a conversion alone
                        found += _at_least(f"{told}, one row", 2.0, [x for x in some if is_one_row(x)], column)
                        some = [x for x in some if not is_one_row(x)]
                    found += _at_least(told, least, some, column)
    found += _at_least("a step: PyTorch / ours, one row", 1.4, decoding[:1], "PyTorch / our step")
    found += _at_least("a step: PyTorch / ours, 16 rows", 2.0, decoding[1:], "PyTorch / our step")
    found += _at_least("a stream of blocks: PyTorch's steps / ours", 8.0, decoding, "PyTorch / stream")
    ours = [row for row in memory if row["side"] == "ours"]
    theirs = {row["B, L, D"]: row for row in memory if row["side"] == "published"}
    for what, most, share in (("forward", 2.5, 0.4), ("training", 6.0, 0.25)):
        found += _at_most(f"memory, {what}, in inputs", most, ours, lambda row, what=what: row[f"{what}, inputs"])

        def relative(row: Row, what: str = what) -> float:
            return row[f"{what}, MiB"] / theirs[row["B, L, D"]][f"{what}, MiB"]

        found += _at_most(f"memory, {what}: ours / published", share, ours, relative)
        small, large = ({(x["B, L, D"], x["numerator"]): x for x in ours if x["n"] == n} for n in (256, 2048))

        def growth(row: Row, what: str = what, small: dict[Any, Row] = small) -> float:
            return row[f"{what}, MiB"] / small[row["B, L, D"], row["numerator"]][f"{what}, MiB"] - 1

        found += _at_most(f"memory, {what}: growth from n = 256", 0.05, list(large.values()), growth)
    return found


def is_one_row(cell: Row) -> bool:
    """Whether the batch is one row.

    Args:
        cell: Times of one shape.
    """
    return cell["B, L, D"].startswith("1, ")


def _at_least(name: str, least: float, rows: list[Row], column: str) -> list[Row]:
    if not rows:
        return []
    worst = min(rows, key=lambda row: row[column])
    reached = sum(row[column] >= least for row in rows)
    return [_row(name, f">= {least:g}", reached, rows, worst, worst[column])]


def _at_most(name: str, most: float, rows: list[Row], value: Callable[[Row], float]) -> list[Row]:
    if not rows:
        return []
    worst = max(rows, key=value)
    return [_row(name, f"<= {most:g}", sum(value(row) <= most for row in rows), rows, worst, value(worst))]


def _row(name: str, target: str, reached: int, rows: list[Row], worst: Row, value: float) -> Row:
    where = ", ".join(f"{key} {worst[key]}" for key in ("B, L, D", "n", "B") if key in worst)
    return {"what": name, "target": target, "reached": f"{reached} of {len(rows)}", "worst": value, "where": where}
