from __future__ import annotations

import json
import math

import pytest
import torch

from transferfn.bench import filters, numerics, shortcuts, truth
from transferfn.core import naive, stability
from transferfn.core.kernel import recursive_response

EASY = [filters.montel(4), filters.comb(8, 100.0), filters.reflections(5, 0.3)]


@pytest.mark.parametrize("system", EASY, ids=["montel", "comb", "reflections"])
def test_on_easy_filters_the_shortcuts_are_right(system) -> None:
    """What the report shows is rounding, not mistakes: errors of a few hundred operations at kappa below 1e3."""
    a = system.a
    g = recursive_response(a, 200)
    for found in (shortcuts.newton_inverse(a, 200), shortcuts.response_by_blocks(a, 200, block=32)):
        torch.testing.assert_close(found, g, rtol=0, atol=1e-12)
    for exponent in (0, 1, 5, 100):
        expected = truth.rounded(truth.power(truth.exact(a[0]), exponent))
        torch.testing.assert_close(shortcuts.power_by_squaring(a, exponent)[0], expected, rtol=0, atol=1e-12)


def test_the_truth_is_the_definition() -> None:
    system = filters.reflections(5, 0.3)
    b, a, h0 = truth.coefficients(system)
    h = truth.impulse_response(b, a, h0, 31)
    expected = naive.impulse_response(system.b, system.a, system.h0, 31)[0]
    assert truth.relative_error(expected, h) < 1e-14
    b_tilde, h0_tilde = truth.truncate(b, a, h, 30)
    expected_b, expected_h0 = naive.truncate(system.b, system.a, system.h0, 30)
    assert truth.relative_error(torch.cat((expected_b[0], expected_h0)), [*b_tilde, h0_tilde]) < 1e-14
    u = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected, _ = naive.filter_signal(u[None, :, None], system.b, system.a, system.h0)
    assert truth.relative_error(expected.flatten(), truth.filter_signal(truth.exact(u), b, a, h0)) < 1e-14
    assert truth.relative_error(expected.flatten() * 1.001, truth.filter_signal(truth.exact(u), b, a, h0)) > 1e-4


def test_the_grid_is_what_it_says() -> None:
    for name, build in filters.STABLE.items():
        assert stability(build().a).verdict == ("undecided" if name == "butterworth-n8-0.01" else "stable"), name
    for name, build in filters.UNSTABLE.items():
        assert stability(build().a).verdict == "unstable", name


def test_the_report_prints_and_writes_the_same(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(numerics, "HORIZONS", (60, 61, 64))
    monkeypatch.setattr(numerics, "CAUTIONS", ((4, 0.2),))
    stable = {"montel": filters.STABLE["montel-n4"], "low": filters.STABLE["butterworth-n8-0.01"]}
    monkeypatch.setattr(filters, "STABLE", stable)
    monkeypatch.setattr(filters, "UNSTABLE", {"xavier": filters.UNSTABLE["xavier-n8"]})
    out = tmp_path / "new" / "numerics.json"
    numerics.report(out=out)
    written, printed = json.loads(out.read_text()), capsys.readouterr().out
    assert len(written["conversions"]) == 9
    assert [row["filter"] for row in written["paths"]] == ["montel", "montel", "low", "low", "xavier", "xavier"]
    for row in written["conversions"]:
        assert all(math.isfinite(x) and x >= 0 for x in row.values() if not isinstance(x, str))
    lost = [row["type"] for row in written["paths"] if row["scan"] is None]
    assert lost == ["float32"], "only the low-pass in float32 is beyond its type"
    assert f"| butterworth-n4-0.2 | {written['cautions'][0]['recurrence']:.2g} |" in printed
    worst = max(row["aliased kernel"] for row in written["conversions"][:3])
    assert f"| {worst:.2g} |" in printed
