from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from scipy import signal

from nn.layers import untyped
from transferfn.core import TransferFunction, UnstableFilterWarning, stack
from transferfn.interop.export import StepProgram
from transferfn.models import Backbone, Classifier, LanguageModel
from transferfn.models.generate import generate
from transferfn.models.int8 import Int8Decoder
from transferfn.models.language_model import tiny
from transferfn.nn import RTF, S4D, Hyena, LatticeRealization, NotCausalError, Realization, Stream, realize_model
from transferfn.nn.options import Constraint, Init

FORMS = ("auto", "direct", "sections", "modal", "lattice")
ATOL = 2e-5


def low_pass(cutoff: float) -> TransferFunction:
    b, a = (torch.tensor(x) for x in signal.butter(8, cutoff))
    return TransferFunction((b - b[0] * a)[None, 1:], a[None, 1:], b[:1])


def crowded() -> Classifier:
    """A model whose second layer has poles that crowd together at z = 1; its reflections hold them in float32."""
    torch.manual_seed(0)
    bank = stack([low_pass(0.05), low_pass(0.055)])
    second, _ = RTF.from_transfer_function(bank, horizon=256, constraint="reflection", method="fft", tolerance=1.0)
    layers = iter([RTF(2, 4, horizon=256), second])
    return Classifier(Backbone(2, 2, lambda: next(layers), inputs=1), 3, head="per_step").eval()


def ordinary(init: Init = "montel", constraint: Constraint | None = "reflection") -> Classifier:
    torch.manual_seed(0)
    backbone = Backbone(4, 2, lambda: RTF(4, 6, horizon=64, init=init, constraint=constraint), inputs=1)
    return Classifier(backbone, 3).eval()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::transferfn.UnstableFilterWarning")
def test_a_layer_that_the_direct_form_does_not_hold_is_decoded_in_another() -> None:
    model, u = crowded(), noise(2, 400, 1)
    truth = deepcopy(model).double()(u.double())
    found = realize_model(model, length=512)
    choice = found.filters["backbone.blocks.1.mixer"]
    assert choice.form != "direct"
    assert found.filters["backbone.blocks.0.mixer"].form == "direct"

    def worst(decoder: Classifier) -> float:
        stream = Stream(decoder, 2)
        y = torch.stack([stream(u_t) for u_t in u.unbind(1)], 1)
        return float((y - truth).abs().max() / truth.abs().max())

    assert worst(model.decoder()) > 1
    assert worst(found.decoder) < 1e-5
    lines = found.lines()
    assert lines[1].startswith(f"backbone.blocks.1.mixer: {choice.form!r} of errors over 512 samples: direct ")


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_model_keeps_its_contract(form: str) -> None:
    model, u = ordinary(), noise(3, 60, 1)
    found = realize_model(model, form=form, length=64)
    decoder = found.decoder
    assert isinstance(decoder, Classifier)
    if form != "auto":
        assert {choice.form for choice in found.filters.values()} == {form}
        assert all(set(choice.errors) == {form} for choice in found.filters.values())
    lengths, resets = torch.tensor([60, 41, 0]), torch.zeros(3, 60, dtype=torch.bool)
    resets[0, 13] = resets[1, 0] = True
    expected = model(u, lengths=lengths, resets=resets)
    torch.testing.assert_close(decoder(u, lengths=lengths, resets=resets), expected, rtol=0, atol=ATOL)
    torch.testing.assert_close(decoder.extend(u, lengths=lengths, resets=resets)[0], expected, rtol=0, atol=ATOL)
    stream = Stream(decoder, 3)
    stream(u[:, :20])
    stream.reset(torch.tensor([True, False, False]))
    for u_t in u[:, 20:30].unbind(1):
        stream(u_t)
    y = stream(u[:, 30:])
    torch.testing.assert_close(y[0], model(u[:1, 20:])[0], rtol=0, atol=ATOL)
    torch.testing.assert_close(y[1:], model(u)[1:], rtol=0, atol=ATOL)
    assert not any(p.requires_grad for p in decoder.parameters())
    assert not decoder.training


@torch.no_grad()
def test_states_in_bfloat16_but_not_the_mean_of_a_classifier() -> None:
    model, u = ordinary(), noise(2, 200, 1)
    found = realize_model(model, state_dtype=torch.bfloat16, length=256)
    stream = Stream(found.decoder, 2)
    for u_t in u.unbind(1):
        y = stream(u_t)
    filters, pooled = stream.state
    assert {x.dtype for x in filters} == {torch.bfloat16}
    assert all(x.dtype != torch.bfloat16 for x in pooled)
    error = float((y - model(u)).abs().max() / model(u).abs().max())
    assert 1e-7 < error < 0.05


@torch.no_grad()
@pytest.mark.parametrize("form", ["auto", "sections"])
def test_language_models_generate_and_export_in_a_form(form: str) -> None:
    torch.manual_seed(0)
    model = LanguageModel.from_config(tiny(mixer="hyena-rtf")).eval()
    found = realize_model(model, form=form, length=64)
    assert list(found.filters) == [f"backbone.blocks.{i}.mixer.filters.0" for i in range(len(model.backbone.blocks))]
    tokens = torch.randint(256, (2, 20), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(found.decoder(tokens), model(tokens), rtol=0, atol=ATOL)
    texts = [list(generate(one, tokens[0], 8, temperature=0.0)) for one in (model, found.decoder)]
    assert texts[0] == texts[1]
    narrow = Int8Decoder(found.decoder)
    kinds = [type(narrow.get_submodule(name)) for name in found.filters]
    assert kinds == [type(choice.decoder) for choice in found.filters.values()]
    program = StepProgram(found.decoder)
    y, *_ = program(tokens[:, 0], *program.init_state(2))
    torch.testing.assert_close(y, model(tokens)[:, 0], rtol=0, atol=ATOL)


@torch.no_grad()
def test_single_layers_realizations_and_plain_containers() -> None:
    torch.manual_seed(0)
    layer = RTF(3, 4, horizon=32, init="montel", constraint="reflection").eval()
    u = noise(2, 40, 3)
    found = realize_model(layer, form="lattice", length=32)
    assert isinstance(found.decoder, LatticeRealization)
    assert found.lines()[0].startswith("LatticeRealization: 'lattice' of errors")
    torch.testing.assert_close(found.decoder(u), layer(u), rtol=0, atol=ATOL)
    again = realize_model(layer.realize(), form="sections", length=32)
    torch.testing.assert_close(again.decoder(u), layer(u), rtol=0, atol=ATOL)
    inside = realize_model(torch.nn.Sequential(layer), form="direct", length=32).decoder
    assert isinstance(inside[0], Realization)
    torch.testing.assert_close(inside(u), layer(u), rtol=0, atol=ATOL)
    wide = realize_model(deepcopy(layer).double(), length=32)
    assert wide.decoder.init_state(1).dtype == torch.float64


@pytest.mark.filterwarnings("ignore::transferfn.UnstableFilterWarning")
def test_unstable_filters_are_compared_within_their_horizon() -> None:
    unstable = ordinary(init="xavier", constraint=None)
    found = realize_model(unstable)
    assert {choice.length for choice in found.filters.values()} == {64}
    with pytest.raises(ArithmeticError, match=r"backbone\.blocks\.0\.mixer: .*only stable ones have a lattice"):
        realize_model(unstable, form="lattice")
    with pytest.warns(UnstableFilterWarning):
        found.decoder.init_state(1)


@untyped
def test_what_has_no_form_to_choose_is_refused() -> None:
    with pytest.raises(ValueError, match="this S4D has no filters given by transfer functions"):
        realize_model(S4D(2, 4))
    with pytest.raises(ValueError, match="form is 'auto'"):
        realize_model(ordinary(), form="cascade")
    with pytest.raises(NotCausalError):
        realize_model(torch.nn.Sequential(RTF(2, 2, horizon=8, bidirectional=True)))
    with pytest.raises(NotCausalError):
        realize_model(Hyena(2, filter=lambda: RTF(2, 2, horizon=8, bidirectional=True)))
