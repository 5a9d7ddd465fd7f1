"""What docs/layers.md shows runs as it stands and prints what it says, and its figures are those that were measured."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from interop.test_official_layers import official_s4

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "layers.md").read_text()
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)
ERROR = re.compile(r"\d+e[-+]\d+")


@pytest.mark.compile  # without the type-checking hook, as a reader runs it
def test_every_block_prints_what_it_promises() -> None:
    """Errors, which are those of the machine, to three orders of magnitude."""
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) == 6
    names: dict[str, Any] = {"checkpoint": {f"layer.{name}": x for name, x in official_s4("legs_even").items()}}
    torch.manual_seed(0)
    for code, promised in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        assert ERROR.sub("", printed.getvalue()) == ERROR.sub("", promised)
        for found, told in zip(ERROR.findall(printed.getvalue()), ERROR.findall(promised), strict=True):
            assert 1e-3 < float(found) / float(told) < 1e3


def test_the_table_of_costs_is_that_of_the_results() -> None:
    """Its rows are those of one state size in results/mixers.json."""
    found = json.loads((ROOT / "results" / "mixers.json").read_text())["order"]
    begin = next(k for k, row in enumerate(found) if row["layer"] == "RTF" and row["n"] == 64)
    names = list(dict.fromkeys(row["layer"] for row in found))
    rows = found[begin : begin + len(names)]
    assert [row["layer"] for row in rows] == names
    lines = []
    for row in rows:
        costs = [row[name] for name in ("forward, ms", "training, ms", "training, MiB", "prefill, ms", "step, us")]
        cells = [row["layer"], f"{row['parameters']:,}", *(f"{x:.3g}" for x in costs), f"{row['state, KiB']:,.4g}"]
        lines.append(f"| {' | '.join(cells)} |")
    table = PAGE[PAGE.index("| layer | parameters | forward, ms |") :].split("\n\n")[0].splitlines()
    assert table[2:] == lines


def test_the_table_of_official_codes_is_that_of_the_results() -> None:
    lines = []
    for row in json.loads((ROOT / "results" / "mixers.json").read_text())["peers"]:
        told = {name: f"{x:.3g}" if isinstance(x, float) else str(x) for name, x in row.items()}
        factors = [told["forward, peer / ours"], told["training, peer / ours"]]
        memory = [f"{told[f'{what}, MiB, ours']}, {told[f'{what}, MiB, peer']}" for what in ("forward", "training")]
        lines.append(f"| {' | '.join([told['n'], told['layer'], *factors, *memory])} |")
    table = PAGE[PAGE.index("| n | layer | forward, theirs / ours |") :].split("\n\n")[0].splitlines()
    assert table[2:] == lines


def test_what_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)):
        assert (ROOT / "docs" / target).exists(), target
