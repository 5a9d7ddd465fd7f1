from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from transferfn.bench import calibrate
from transferfn.nn import RTF
from transferfn.ops import cost
from transferfn.ops.cost import (
    MEASURED,
    Costs,
    Job,
    block_cost,
    block_terms,
    current,
    fft_cost,
    fft_terms,
    scan_cost,
    scan_terms,
)

JOB = Job(4, 300, 6, 3, 5, 1, 300, True, False, 4, False, 2)


@pytest.fixture
def file(tmp_path, monkeypatch):
    place = tmp_path / "folder" / "costs.json"
    monkeypatch.setenv("TRANSFERFN_COSTS", str(place))
    forget()
    yield place
    forget()


def forget() -> None:
    current.cache_clear()
    cost.cheapest.cache_clear()


def test_a_fit_finds_the_costs_that_times_were_made_of() -> None:
    jobs = [job for job, _ in calibrate.cells(double=False)]
    for terms, way, constants in (
        (scan_terms, "scan", MEASURED.scan),
        (fft_terms, "fft", MEASURED.fft),
        (block_terms, "blocks", MEASURED.blocks),
    ):
        found = [(job, {way: sum(c * t for c, t in zip(constants, terms(job), strict=True))}) for job in jobs]
        assert calibrate.fitted(terms, way, found) == pytest.approx(constants, rel=1e-6, abs=1e-9)  # nanoseconds


def test_measured_costs_are_kept_and_decide(file) -> None:
    assert current() == MEASURED
    ones = Costs(*((1.0,) * len(x) for x in dataclasses.astuple(MEASURED)))
    cheap_scan = dataclasses.replace(ones, scan=(0.0,) * len(ones.scan))
    cheap_fft = dataclasses.replace(ones, fft=(0.0,) * len(ones.fft))
    for costs in (cheap_scan, cheap_fft):
        assert cost.save(costs) == file
        assert current() == costs
        assert json.loads(file.read_text())["scan"] == list(costs.scan)
        assert cost.cheapest(JOB, in_blocks=True) == ("scan" if costs is cheap_scan else "fft")
    assert [path.name for path in file.parent.iterdir()] == ["costs.json"]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"scan": [1]}', "null", '{"scan": "x"}'])
def test_a_file_of_something_else_is_named_and_left_alone(file, text) -> None:
    file.parent.mkdir()
    file.write_text(text)
    with pytest.warns(UserWarning, match="costs.json does not hold.*calibrate"):
        assert current() == MEASURED
    assert file.read_text() == text


def test_costs_grow_with_every_size() -> None:
    for name in ("batch", "length", "channels"):
        larger = JOB._replace(**{name: 20 * getattr(JOB, name)})
        assert scan_cost(larger) > scan_cost(JOB)
        assert fft_cost(larger) > fft_cost(JOB)
    assert scan_cost(JOB._replace(order=50)) > scan_cost(JOB)
    assert fft_cost(JOB._replace(order=50)) == fft_cost(JOB)


LONG = JOB._replace(length=2100, horizon=None, has_kernel=False)


@pytest.mark.parametrize(
    ("job", "numerator", "ways"),
    [(JOB, "truncated", {"scan", "fft"}), (LONG, "exact", {"scan", "fft", "blocks"})],
    ids=["one-block", "two-blocks"],
)
def test_all_ways_are_measured(job, numerator, ways) -> None:
    times = calibrate.measure(job, numerator, seconds=0.01)
    assert set(times) == ways
    assert all(x > 0 for x in times.values())
    assert next(calibrate.ratios(MEASURED, [(job, times)])) >= 1


def test_blocks_are_chosen_where_they_cost_least_and_there_are_several() -> None:
    free = dataclasses.replace(MEASURED, blocks=(0.0,) * len(MEASURED.blocks))
    assert block_cost(LONG, free) == 0 < block_cost(LONG)
    long = LONG._replace(length=65536, order=1024)
    assert cost.cheapest(long, in_blocks=True) == "blocks"
    assert cost.cheapest(long, in_blocks=False) == "fft"
    assert cost.cheapest(long._replace(length=2048), in_blocks=True) == "fft"


def test_auto_goes_by_the_costs(file, monkeypatch) -> None:
    layer = RTF(6, 5, horizon=300)
    seen = []
    monkeypatch.setattr("transferfn.ops.choice.cheapest", lambda job, in_blocks: seen.append(job) or "scan")
    with torch.no_grad():
        layer(torch.randn(4, 200, 6))
    layer(torch.randn(4, 200, 6))
    assert [(job.batch, job.length, job.channels, job.order, job.horizon, job.training) for job in seen] == [
        (4, 200, 6, 5, 300, False),
        (4, 200, 6, 5, 300, True),
    ]
