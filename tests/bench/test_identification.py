from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.signal

from transferfn.bench import identification
from transferfn.bench.identification import Plan, arx, closed_form, ours, percent, record, sides, systems

PLAN = Plan(samples=400, seeds=(0,), noises=(0.1,), markov=60)


@pytest.mark.parametrize("side", [ours, closed_form, arx], ids=lambda side: side.__name__)
@pytest.mark.parametrize("name", ["Astrom, order 2", "Butterworth, order 4"])
def test_without_noise_every_side_finds_the_system(side, name: str) -> None:
    num, den = systems()[name]
    u, y = record((num, den), "white", 0.0, 400, 0)
    found = side(u, y, len(den) - 1)
    np.testing.assert_allclose(found[1], den, atol=1e-6)
    assert percent(found, u, np.asarray(scipy.signal.lfilter(num, den, u)), initial=False) > 99.999


@pytest.mark.filterwarnings("ignore")  # those of other packages
@pytest.mark.parametrize("name", ["control markov + era", "nfoursid (N4SID)", "sysidentpy (FROLS)"])
def test_the_other_packages_get_what_they_need(name: str) -> None:
    side = sides(PLAN).get(name)
    if side is None:
        pytest.skip("not installed")
    u, y = record(systems()["Astrom, order 2"], "white", 0.0, 400, 0)
    assert percent(side(u, y, 2), u, y, initial=True) > 95


def test_noise_is_as_asked() -> None:
    system = systems()["Astrom, order 2"]
    u, clean = record(system, "white", 0.0, 5000, 3)
    for kind, correlation in (("white", 0.0), ("coloured", 0.9)):
        again, y = record(system, kind, 0.3, 5000, 3)
        noise = y - clean
        np.testing.assert_array_equal(again, u)
        assert noise.std() == pytest.approx(0.3 * clean.std(), rel=1e-9)
        assert np.corrcoef(noise[1:], noise[:-1])[0, 1] == pytest.approx(correlation, abs=0.05)


def test_the_fit_is_that_of_the_definition_and_never_below_zero() -> None:
    system = (np.array([0.0, 1.0]), np.array([1.0, -0.5]))
    u = np.random.default_rng(0).standard_normal(100)
    wanted = np.asarray(scipy.signal.lfilter([0, 0.9], [1, -0.5], u))
    error = np.linalg.norm(wanted - scipy.signal.lfilter(*system, u)) / np.linalg.norm(wanted - wanted.mean())
    assert percent(system, u, wanted, initial=False) == pytest.approx(100 * (1 - error))
    assert percent((np.array([0.0, 1.0]), np.array([1.0, -2.0])), u, wanted, initial=False) == 0
    decaying = wanted + 5 * 0.5 ** np.arange(100)
    assert percent((np.array([0, 0.9]), system[1]), u, decaying, initial=True) == pytest.approx(100)


def test_the_report_is_written(tmp_path, capsys, monkeypatch) -> None:
    pytest.importorskip("matplotlib")
    two = {name: system for name, system in systems().items() if name.startswith("Astrom")}
    monkeypatch.setattr(identification, "systems", lambda: two)
    monkeypatch.setattr(identification, "QUICK", PLAN)
    monkeypatch.setattr(identification, "sides", lambda plan: {"transferfn.fit": ours, "scipy lstsq (ARX)": arx})
    identification.report(quick=True, out=tmp_path / "identification")
    found = json.loads((tmp_path / "identification.json").read_text())
    assert [row["noise"] for row in found["generated"]] == ["0.1 white", "0.1 coloured"]
    assert found["generated"][0]["transferfn.fit"] > 98
    text = (tmp_path / "identification.md").read_text()
    assert text == capsys.readouterr().out[:-1]
    assert f"{found['generated'][0]['transferfn.fit']:.2f}" in text
    assert (tmp_path / "identification.png").stat().st_size > 10_000
