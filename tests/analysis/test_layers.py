"""Filters taken out of models, whatever their layers learn: held against what the layers themselves say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from transferfn.analysis import layer_plots
from transferfn.analysis.banks import ModalBank, hankel_values, modal_bank
from transferfn.analysis.layers import model_filters, time_constants
from transferfn.analysis.reduce import reduce
from transferfn.core import DenseSystem, TransferFunction
from transferfn.models import Backbone, Classifier
from transferfn.nn import LRU, RTF, S4, S4D, S5, Attention, Hyena, ImplicitFilter
from transferfn.nn.mixer import SequenceMixer

figure = pytest.importorskip("matplotlib.figure")

LAYERS = {
    "rtf": lambda: RTF(4, 6, horizon=64),
    "rtf-groups": lambda: RTF(4, 6, horizon=64, denominator_groups=2),
    "s4d": lambda: S4D(4, 6),
    "s4": lambda: S4(4, 6, horizon=64),
    "s5": lambda: S5(4, 6),
    "lru": lambda: LRU(4, 3),
    "hyena-rtf": lambda: Hyena(4, filter=lambda: RTF(4, 6, horizon=64)),
}


def model_of(mixer, layers: int = 2) -> Classifier:
    torch.manual_seed(0)
    return Classifier(Backbone(4, layers, mixer, inputs=1), 3).eval()


def paths(mixer: SequenceMixer, length: int) -> torch.Tensor:
    """Response of each channel to an impulse in that channel alone, (D, L): what any layer does, by its own verb."""
    u = torch.zeros(4, length, 4, dtype=torch.float64)
    u[range(4), 0, range(4)] = 1
    with torch.no_grad():
        y = mixer(u)
    return y[range(4), :, range(4)]


@pytest.mark.parametrize("name", LAYERS)
def test_the_filters_do_what_the_layer_does(name: str) -> None:
    model = model_of(LAYERS[name])
    found = model_filters(model)
    assert [layer.name for layer in found.layers] == ["layer 1", "layer 2"]
    assert not found.without
    blocks: Any = model.backbone.blocks
    for layer, block in zip(found.layers, blocks, strict=True):
        mixer = block.mixer.filters[0] if name.startswith("hyena") else block.mixer
        true = paths(mixer, 60)
        scale = true.abs().max()
        assert float((layer.bank.impulse_response(60) - true).abs().max()) < 1e-6 * scale
        assert layer.drawn == [0, 1, 2, 3]
        assert layer.order == 6
        assert layer.unstable == layer.undecided == 0
        assert float(layer.margins.min()) == pytest.approx(1 - float(layer.poles.abs().max()))


@pytest.mark.parametrize("name", ["rtf", "s4d", "s4", "s5"])
def test_responses_in_time_and_frequency_belong_together(name: str) -> None:
    bank = model_filters(model_of(LAYERS[name], 1)).layers[0].bank
    omega = torch.tensor([0.3, 1.0, 3.0], dtype=torch.float64)
    t = torch.arange(40_000, dtype=torch.float64)
    h = bank.impulse_response(len(t)).to(torch.complex128)
    torch.testing.assert_close(
        bank.frequency_response(omega), h @ torch.exp(-1j * t[:, None] * omega), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("name", ["s4d", "s4", "s5"])
def test_the_response_vanishes_at_the_zeros_of_modes(name: str) -> None:
    bank = model_filters(model_of(LAYERS[name], 1)).layers[0].bank
    assert isinstance(bank, ModalBank)
    for p, r, d, zeros in zip(bank.modes, bank.residues, bank.feedthrough, bank.zeros(), strict=True):
        z = zeros[torch.isfinite(zeros.abs())]
        z = z[(z[:, None] - p).abs().amin(-1) > 1e-6]  # a double pole of modes is cancelled by a zero
        assert len(z) >= 4
        terms = r[:, None] / (1 - p[:, None] / z)
        assert float(((terms.sum(0) + d).abs() / terms.abs().sum(0)).max()) < 1e-9


def test_a_delay_among_the_modes_has_a_pole_at_zero() -> None:
    bank = ModalBank(torch.zeros(1, 1, dtype=torch.complex128), torch.ones(1, 1, dtype=torch.complex128), torch.ones(1))
    assert bank.impulse_response(3).tolist() == [[2.0, 0.0, 0.0]]


def test_eigenvectors_that_do_not_hold_a_filter_are_refused() -> None:
    jordan = torch.tensor([[[0.9, 1.0], [0.0, 0.9]]], dtype=torch.float64)
    one = torch.ones(1, 2, dtype=torch.float64)
    with pytest.raises(ArithmeticError, match="eigenvectors of the state matrices do not hold"):
        modal_bank(DenseSystem(jordan, one, one, torch.zeros(1, dtype=torch.float64)))


def test_hankel_values_are_those_of_reduction_and_not_defined_for_the_unstable() -> None:
    torch.manual_seed(0)
    h = RTF(3, 5, horizon=50, constraint="reflection").transfer_function()
    h = TransferFunction(h.b.detach(), h.a.detach(), h.h0.detach())
    torch.testing.assert_close(hankel_values(h), reduce(h, order=2).hankel, rtol=1e-8, atol=1e-12)
    grown = TransferFunction(torch.ones(1, 1), torch.tensor([[-1.5]]), torch.zeros(1))
    assert hankel_values(grown).isnan().all()


def test_hankel_values_of_a_high_order_come_from_samples() -> None:
    a = torch.zeros(1, 200, dtype=torch.float64)
    a[0, 0] = -0.5
    b = torch.zeros(1, 200, dtype=torch.float64)
    b[0, 0] = 0.5
    values = hankel_values(TransferFunction(b, a, torch.zeros(1, dtype=torch.float64)))
    assert values.shape == (1, 200)
    np.testing.assert_allclose(values[0, :2], [0.5 / 0.75, 0], atol=1e-9)


@pytest.mark.parametrize(("margin", "computed"), [(1e-2, True), (1e-3, False), (1e-5, False)])
def test_hankel_values_of_a_high_order_are_not_told_where_samples_do_not_hold_them(
    margin: float, computed: bool
) -> None:
    modes = torch.full((1, 130), 0.1 + 0j, dtype=torch.complex128)
    modes[0, 0] = 1 - margin
    residues = torch.zeros_like(modes)
    residues[0, 0] = 1
    values = hankel_values(ModalBank(modes, residues, torch.zeros(1, dtype=torch.float64)))
    if computed:
        radius = 1 - margin
        assert float(values[0, 0]) == pytest.approx(radius / (1 - radius**2), rel=1e-6)
    else:
        assert values.isnan().all()


@pytest.mark.parametrize(("margin", "error"), [(1e-3, 1e-12), (1e-6, 1e-9)])
def test_hankel_values_of_slow_poles_are_those_of_the_gramians(margin: float, error: float) -> None:
    p = torch.polar(1 - margin * torch.tensor([1.0, 1.5]).double(), torch.tensor([1.0, 1.3]).double())
    r = torch.tensor([1.0 + 0.5j, -0.4 + 2.0j], dtype=torch.complex128)
    modes, residues = (torch.cat((x, x.conj())).resolve_conj() for x in (p, r))
    values = hankel_values(ModalBank(modes[None], residues[None], torch.zeros(1, dtype=torch.float64)))[0]
    c = residues * modes
    reached = 1 / (1 - modes[:, None] * modes.conj())
    seen = (c.conj()[:, None] * c) / (1 - modes.conj()[:, None] * modes)
    expected = torch.linalg.eigvals(reached @ seen).abs().sqrt().sort(descending=True).values
    torch.testing.assert_close(values, expected, rtol=0, atol=error * float(expected[0]))


def test_of_both_directions_there_are_two_banks() -> None:
    for mixer in (
        lambda: RTF(4, 6, horizon=64, bidirectional=True),
        lambda: S4D(4, 6, bidirectional=True),
        lambda: S5(4, 6, bidirectional=True),
    ):
        found = model_filters(model_of(mixer, 1))
        assert [layer.name for layer in found.layers] == ["layer 1, forwards", "layer 1, backwards"]
        assert not torch.equal(*(layer.bank.impulse_response(20) for layer in found.layers))


def test_layers_that_are_no_filters_say_why() -> None:
    found = model_filters(model_of(lambda: Attention(4, 2)))
    assert not found.layers
    assert set(found.without) == {"layer 1", "layer 2"}
    assert "no filter" in found.without["layer 1"]
    found = model_filters(model_of(lambda: Hyena(4, filter=lambda: ImplicitFilter(4, horizon=8, features=3, width=4))))
    assert "neither poles nor a state" in found.without["layer 2"]


def test_an_unstable_filter_is_counted_and_has_no_time_constant() -> None:
    model = model_of(lambda: RTF(4, 2, horizon=16, init="zeros", constraint=None), 1)
    blocks: Any = model.backbone.blocks
    with torch.no_grad():
        blocks[0].mixer.denominator[1, 0] = -1.2
    (layer,) = model_filters(model).layers
    assert layer.unstable == 1
    assert float(layer.margins.min()) == pytest.approx(-0.2)
    assert math.isinf(layer.time_constants.max())


def test_of_wide_layers_a_part_is_looked_at_and_it_is_spread() -> None:
    torch.manual_seed(0)
    model = Classifier(Backbone(200, 1, lambda: RTF(200, 2, horizon=16), inputs=1), 3)
    (layer,) = model_filters(model, dt=0.5).layers
    assert (layer.channels, len(layer.drawn), layer.bank.channels, layer.bank.dt) == (200, 64, 64, 0.5)
    assert (layer.drawn[0], layer.drawn[-1], len(layer.poles)) == (0, 199, 200)
    short, _, long = layer.memory[layer.chosen()].tolist()
    assert short < long


def test_time_constants() -> None:
    r = torch.tensor([0.0, 0.5, math.exp(-0.01), 1.0, 1.5], dtype=torch.float64)
    np.testing.assert_allclose(time_constants(r), [0, 1 / math.log(2), 100, math.inf, math.inf])


def test_distributions_count_what_has_no_place() -> None:
    ax = figure.Figure().subplots()
    layer_plots.distributions({"a": [1.0, 10.0, math.inf], "b": [2.0]}, xlabel="time", ax=ax)
    assert [text.get_text() for text in ax.texts] == ["1 not shown"]
    assert ax.get_xscale() == "log"
    assert ax.get_xlim()[0] < 1 < 10 < ax.get_xlim()[1]
    marks = [float(line.get_xdata()[0]) for line in ax.get_lines() if line.get_marker() == "|"]
    assert marks == [5.5, 10.0, 2.0, 2.0]
    layer_plots.distributions({"empty": []}, xlabel="time", ax=figure.Figure().subplots())


def test_the_band_holds_the_middle_of_the_channels() -> None:
    gains = torch.logspace(-1, 1, 11, dtype=torch.float64)
    h = TransferFunction(torch.zeros(11, 1).double(), torch.zeros(1, 1).double(), gains, dt=0.01)
    ax = figure.Figure().subplots()
    layer_plots.magnitude_band(h, points=8, log=False, ax=ax)
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), 0, atol=1e-9)
    assert ax.get_lines()[0].get_xdata()[-1] == pytest.approx(50)
    (band,) = ax.collections
    low, high = (f(band.get_paths()[0].vertices[:, 1]) for f in (min, max))
    assert (low, high) == pytest.approx((-16, 16), abs=1e-6)
