from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import pytest
import torch

from transferfn.analysis.reduce_model import reduce_model, step_milliseconds
from transferfn.core.stability import spectral_radius
from transferfn.models import Backbone
from transferfn.nn import RTF, S4D, Hyena


def model(**options) -> Backbone:
    torch.manual_seed(0)
    options = {"init": "montel", "constraint": "reflection"} | options
    return Backbone(4, 2, lambda: RTF(4, 16, horizon=64, **options), inputs=1).eval()


@torch.no_grad()
@pytest.mark.parametrize(
    "options", [{}, {"numerator": "exact"}, {"denominator_groups": 2}, {"constraint": None}], ids=str
)
def test_every_layer_becomes_smaller_within_the_tolerance(options) -> None:
    whole = model(**options)
    u = torch.randn(2, 90, 1)
    before = whole(u)
    found = reduce_model(whole, tolerance=0.05)
    assert set(found.filters) == {"blocks.0.mixer", "blocks.1.mixer"}
    for i in range(2):
        layer = found.model.get_submodule(f"blocks.{i}.mixer")
        assert layer.order < 16
        assert layer.constraint == options.get("constraint", "reflection")
        system = found.filters[f"blocks.{i}.mixer"].system
        torch.testing.assert_close(
            layer.transfer_function().impulse_response(100), system.impulse_response(100), rtol=0, atol=1e-5
        )
    assert float((found.model(u) - before).norm() / before.norm()) < 0.05
    assert torch.equal(whole(u), before)
    assert whole.get_submodule("blocks.0.mixer").order == 16


def test_its_table_and_its_lines() -> None:
    found = reduce_model(
        model(), order=10, sample=torch.zeros(3, 1), metric=lambda m: float(m(torch.ones(1, 30, 1)).square().mean())
    )
    rows = found.table()
    assert len(rows) == 8
    assert {row["reduced to"] for row in rows} == {10}
    for row in rows:
        assert row["error of frequency response"] <= row["bound"] + 1e-9
    assert found.metric is not None
    assert found.metric[0] != found.metric[1]
    assert found.step_milliseconds is not None
    assert all(0 < value < 1000 for value in found.step_milliseconds)
    lines = found.lines()
    assert lines[0].startswith("blocks.0.mixer: order 16 to 10, in the mean 10.0; largest error")
    assert "times as fast" in lines[2]
    assert lines[3].startswith("metric: ")


@torch.no_grad()
def test_bidirectional_layers_are_reduced_in_both_directions() -> None:
    whole = model(bidirectional=True)
    found = reduce_model(whole, tolerance=0.1)
    assert set(found.filters) == {f"blocks.{i}.mixer[{j}]" for i in (0, 1) for j in (0, 1)}
    u = torch.randn(1, 50, 1)
    assert float((found.model(u) - whole(u)).norm() / whole(u).norm()) < 0.1


@torch.no_grad()
def with_unstable(channels: Mapping[str, Iterable[int]], radius: float = 1.4, **options) -> Backbone:
    """The model with the poles of some channels moved out, until the outermost has this radius.

    That of 1.4 has grown too much at the horizon of 64, that of 1.05 by 23.
    """
    whole = model(constraint=None, **options)
    for name, those in channels.items():
        a = whole.get_submodule(name).get_parameter("denominator")
        for channel in those:
            rows = a[..., channel, :]
            rows *= (radius / spectral_radius(rows[..., None, :]).float()) ** torch.arange(1, 17)
    return whole


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::transferfn.UnstableFilterWarning")
@pytest.mark.parametrize("options", [{}, {"numerator": "exact"}, {"bidirectional": True}], ids=str)
def test_unstable_channels_are_left_and_named_and_the_others_reduced(options) -> None:
    name = "blocks.1.mixer"
    whole = with_unstable({name: [2]}, **options)
    found = reduce_model(whole, tolerance=0.05)
    keys = [f"{name}[0]", f"{name}[1]"] if options.get("bidirectional") else [name]
    assert {key: list(channels) for key, channels in found.unstable.items()} == {key: [2] for key in keys}
    assert found.unstable[keys[0]][2] == pytest.approx(1.4, abs=1e-4)
    before, after = (one.get_submodule(name) for one in (whole, found.model))
    assert isinstance(before, RTF)
    assert isinstance(after, RTF)
    assert (after.order, after.numerator_kind) == (16, before.numerator_kind)
    numerator = "numerator" if after.numerator_kind == "exact" else "truncated_numerator"
    for parameter in ("denominator", numerator):
        old, new = before.get_parameter(parameter), after.get_parameter(parameter)
        assert torch.equal(old[..., 2, :], new[..., 2, :])
        others = [0, 1, 3]
        assert not new[..., others, found.filters[keys[0]].system.order :].any() or options.get("bidirectional")
    rows = [row for row in found.table() if row["layer"] == keys[0]]
    assert [(row["channel"], row["unstable"]) for row in rows] == [(0, False), (1, False), (2, True), (3, False)]
    assert rows[2]["reduced to"] == 16 > max(rows[i]["reduced to"] for i in (0, 1, 3))
    u = torch.randn(2, 64, 4)
    assert float((after(u) - before(u)).norm() / before(u).norm()) < 0.05
    assert torch.equal(after(u)[..., 2], before(u)[..., 2])
    line = next(line for line in found.lines() if line.startswith(keys[0] + ":"))
    assert "; of order 16 because of channel 2, left as unstable (pole radius up to 1.4" in line
    again = reduce_model(found.model, tolerance=0.05)
    assert again.unstable.keys() == found.unstable.keys() or name in again.kept


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::transferfn.UnstableFilterWarning")
def test_unstable_channels_of_a_realization_are_left_too() -> None:
    """Where no pole is inside the circle: without a horizon, growth alone is no reason."""
    layer = model(constraint=None, numerator="exact").get_submodule("blocks.0.mixer")
    assert isinstance(layer, RTF)
    a = layer.get_parameter("denominator")
    a[[0, 3]] = torch.tensor([0.0] * 15 + [-(1.05**16)])
    before = layer.realize()
    found = reduce_model(before, tolerance=0.05)
    assert list(found.unstable[""]) == [0, 3]
    assert torch.equal(found.model.get_buffer("a")[[0, 3]], before.a[[0, 3]])
    u = torch.randn(1, 20, 4)
    assert float((found.model(u) - before(u)).norm() / before(u).norm()) < 0.05
    assert "because of channels 0, 3, left as unstable" in found.lines()[0]


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::transferfn.UnstableFilterWarning")
@pytest.mark.parametrize("options", [{}, {"numerator": "exact"}, {"bidirectional": True}], ids=str)
def test_one_unstable_channel_does_not_hold_its_layer(options) -> None:
    """Its stable part is reduced, the rest stays as it was."""
    name = "blocks.1.mixer"
    whole = with_unstable({name: [2]}, radius=1.05, **options)
    found = reduce_model(whole, order=14)
    assert not found.unstable
    assert any("unstable: 1, their stable parts reduced" in line for line in found.lines())
    assert not found.kept
    key = f"{name}[0]" if options.get("bidirectional") else name
    assert found.filters[key].unstable.nonzero().tolist() == [[2]]
    before, after = (one.get_submodule(name) for one in (whole, found.model))
    assert after.order == 14
    u = torch.randn(2, 64, 4)
    assert float((after(u) - before(u))[..., 2].norm() / before(u)[..., 2].norm()) < 0.02
    rows = [row["unstable poles"] for row in found.table() if row["layer"] == key]
    assert rows == found.filters[key].unstable.tolist()


@torch.no_grad()
def test_decoders_and_filters_of_a_hyena() -> None:
    torch.manual_seed(0)
    layer = Hyena(4, filter=lambda: RTF(4, 16, horizon=64, init="montel")).eval()
    for one in (layer, layer.realize()):
        found = reduce_model(one, tolerance=0.05)
        u = torch.randn(1, 40, 4)
        assert float((found.model(u) - layer(u)).norm() / layer(u).norm()) < 0.05


def test_what_is_kept_is_said() -> None:
    found = reduce_model(model(), tolerance=1e-12)
    assert not found.filters
    assert re.fullmatch(
        r"\d of its 4 filters needs? the order of 16, in the mean \d+\.\d", found.kept["blocks.0.mixer"]
    )
    assert "blocks.0.mixer: kept, " in found.lines()[0]
    rows = [row for row in found.table() if row["layer"] == "blocks.0.mixer"]
    assert [row["channel"] for row in rows] == [0, 1, 2, 3]
    assert max(row["needed order"] for row in rows) == 16
    assert {row["reduced to"] for row in rows} == {16}
    exploding = {"blocks.0.mixer": range(4), "blocks.1.mixer": range(4)}
    unstable = reduce_model(with_unstable(exploding), tolerance=0.1)
    assert all("all its filters are unstable (pole radius up to 1.4" in why for why in unstable.kept.values())
    assert set(unstable.kept) == set(exploding)
    assert reduce_model(model(), order=16).kept["blocks.1.mixer"] == "of order 16 already"


def test_models_without_filters_are_refused() -> None:
    with pytest.raises(ValueError, match="S4D has no RTF layer"):
        reduce_model(S4D(2, 4), order=2)
    with pytest.raises(ValueError, match="one of them"):
        reduce_model(model())


def test_steps_of_both_are_timed() -> None:
    before, after = step_milliseconds(RTF(2, 4, horizon=8), RTF(2, 2, horizon=8), torch.zeros(1, 2))
    assert before > 0
    assert after > 0


@torch.no_grad()
@pytest.mark.parametrize("constraint", ["reflection", None])
def test_parameters_that_round_filters_are_those_that_do_it_least(constraint) -> None:
    """Of the 16 filters one is off by 0.04 from reflection coefficients, and unstable from denominators in float32."""
    torch.manual_seed(3)
    layer = RTF(16, 40, horizon=400, init="comb", constraint="reflection")
    for parameter in layer.parameters():
        parameter += 0.05 * torch.randn_like(parameter)
    given = layer.transfer_function().to(dtype=torch.float64)
    if constraint is None:
        layer = RTF.from_transfer_function(given, horizon=400, numerator="exact").value
    found = reduce_model(torch.nn.Sequential(layer), order=20)
    small, wanted = found.model.get_submodule("0"), found.filters["0"].system
    assert (small.order, small.constraint) == (20, "reflection")
    assert small.transfer_function().stability().verdict == "stable"
    response, exact = (h.to(dtype=torch.float64).impulse_response(2000) for h in (small.transfer_function(), wanted))
    rounding = ((response - exact).abs().amax(-1) / exact.abs().amax(-1)).max()
    assert 1e-2 < float(rounding) < 1e-1
    assert found.rounding == {"0": pytest.approx(float(rounding), rel=1e-3)}
    assert f"rounding to the layer's type adds up to {float(rounding):.1e} of a response" in found.lines()[0]
    assert {row["rounding of the layer"] for row in found.table()} == {found.rounding["0"]}


@torch.no_grad()
@pytest.mark.parametrize("numerator", ["exact", "truncated"])
def test_rounding_is_that_of_reduced_filters_alone(numerator) -> None:
    """A filter that is left as it is, unstable as it is, is not rounded, and hides nothing."""
    whole = with_unstable({"blocks.0.mixer": [1]}, numerator=numerator)
    found = reduce_model(whole, order=8)
    assert list(found.unstable) == ["blocks.0.mixer"]
    assert found.rounding == {}


@torch.no_grad()
def test_rounding_is_measured_of_recurrences_too() -> None:
    torch.manual_seed(3)
    layer = RTF(16, 40, horizon=400, init="comb", constraint="reflection")
    for parameter in layer.parameters():
        parameter += 0.05 * torch.randn_like(parameter)
    assert set(reduce_model(torch.nn.Sequential(layer.realize()), order=20).rounding) == {"0"}
