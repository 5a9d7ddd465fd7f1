from __future__ import annotations

import json
import math

import pytest
import torch

from transferfn.bench import realizations
from transferfn.core import stability
from transferfn.nn.narrow_state import NarrowState
from transferfn.nn.realize import build, decode

FORMS = ("direct", "sections", "modal", "lattice")


@pytest.mark.parametrize("narrow", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("form", FORMS)
def test_loops_are_the_steps_of_the_modules(form, narrow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realizations, "ORDER", 3)
    h = realizations.low_pass(0.3)
    u = torch.randn(200, generator=torch.Generator().manual_seed(0))
    found = realizations.steps(form, h, u, narrow=narrow)
    module = build(form, h, torch.float32)
    exact = decode(module, u[:, None])[:, 0]
    expected = decode(NarrowState(module, torch.bfloat16), u[:, None])[:, 0] if narrow else exact
    # Sums in another order differ by some eps; where one is rounded to the other neighbour, by that of bfloat16.
    assert (found - expected).abs().max() <= (2**-7 if narrow else 1e-6) * expected.abs().max()
    assert ((found - exact).abs().max() > 1e-4 * exact.abs().max()) == narrow


def test_the_filters_are_what_they_are_called() -> None:
    for name, system in realizations.filters().items():
        assert system.order == 32, name
        assert stability(system.a).verdict != "unstable", name
        assert float(system.conditioning(realizations.CIRCLE).max()) > 1e6, name


def test_the_report(tmp_path, capsys) -> None:
    realizations.report(quick=True, out=tmp_path / "new" / "forms")
    found = json.loads((tmp_path / "new" / "forms.json").read_text())
    assert {path.suffix for path in (tmp_path / "new").iterdir()} == {".json", ".md", ".png"}
    assert (tmp_path / "new" / "forms.md").read_text() == capsys.readouterr().out
    worst = {(row["filter"], row["state"], row["form"]): row["10 000"] or math.inf for row in found["rows"]}
    for name in realizations.filters():
        assert worst[name, "float32", "lattice"] < 1e-5 < worst[name, "bfloat16", "lattice"] < 0.1
        assert worst[name, "float32", "direct"] > 100 * worst[name, "float32", "lattice"]
        for state in ("float32", "bfloat16"):
            for form in FORMS:
                curve = [math.inf if x is None else x for x in found["curves"][f"{name}, {state}, {form}"]]
                assert len(curve) == len(found["points"])
                assert curve == sorted(curve)
                assert curve[-1] == worst[name, state, form]
