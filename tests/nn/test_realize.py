from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy import signal

from nn.layers import untyped
from transferfn.core import TransferFunction, UnstableFilterWarning, naive
from transferfn.nn import (
    RTF,
    LatticeRealization,
    Realization,
    SectionRealization,
    StateOverflowError,
    Stream,
    realize,
    realize_model,
)
from transferfn.nn.narrow_state import NarrowState
from transferfn.nn.realize import build, decode, error_of, true_output

F32, F64 = torch.float32, torch.float64
FORMS = ("direct", "sections", "modal", "lattice")


def low_pass(order: int, cutoff: float) -> TransferFunction:
    b, a = (torch.as_tensor(np.array(x)) for x in signal.butter(order, cutoff))
    return TransferFunction((b - b[0] * a)[None, 1:], a[None, 1:], b[:1])


@pytest.mark.parametrize("form", FORMS)
def test_each_form_decodes_the_definition(form) -> None:
    """Against the naive loop over the coefficients in float64."""
    h = low_pass(5, 0.2)
    u = torch.randn(1, 300, 1, dtype=F64, generator=torch.Generator().manual_seed(2))
    expected, _ = naive.filter_signal(u, h.b, h.a, h.h0)
    found = decode(build(form, h, F64), u[0])
    torch.testing.assert_close(found, expected[0], rtol=0, atol=1e-11)


def test_the_truth_is_the_definition() -> None:
    h = low_pass(4, 0.3)
    u = torch.randn(1, 100, 1, dtype=F64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(true_output(h, u[0]), naive.filter_signal(u, h.b, h.a, h.h0)[0][0], rtol=0, atol=1e-13)


@pytest.mark.filterwarnings("ignore::transferfn.UnstableFilterWarning")
def test_what_is_clustered_is_not_left_to_one_long_recurrence() -> None:
    h = low_pass(32, 0.4)
    found = realize(h, length=512)
    errors = {form: float(error.max()) for form, error in found.errors.items()}
    assert set(errors) | set(found.refused) == set(FORMS)
    assert errors[found.form] <= 2 * min(errors.values())
    assert errors[found.form] < 1e-5 < 1e-3 < errors["direct"]
    assert f"{found.form!r} of errors over 512 samples" in repr(found)


def test_narrow_states_cost_what_is_measured() -> None:
    h = low_pass(8, 0.2)
    wide, narrow = (realize(h, form="lattice", length=512, state_dtype=kind) for kind in (None, torch.bfloat16))
    assert float(wide.errors["lattice"]) < 1e-5
    assert 1e-4 < float(narrow.errors["lattice"]) < 0.1
    u = torch.randn(512, 1, generator=torch.Generator().manual_seed(0))
    decoder, state, ys = wide.decoder, wide.decoder.init_state(1), []
    for u_t in u[:, None]:
        y, state = decoder.step(u_t, state)
        state = state.to(torch.bfloat16)
        ys.append(y[0])
    assert torch.equal(error_of(torch.stack(ys), true_output(h, u)), narrow.errors["lattice"])
    stream = Stream(narrow.decoder, 1)
    assert torch.equal(torch.stack([stream(u_t)[0] for u_t in u[:, None]]), torch.stack(ys))
    assert stream.state.dtype == torch.bfloat16


def test_of_forms_that_lose_the_same_the_cheapest_is_taken() -> None:
    found = realize(low_pass(2, 0.4), length=512)
    assert found.form == "direct"
    assert float(found.errors["direct"].max()) < 1e-6


@pytest.mark.parametrize("form", FORMS)
def test_narrow_states_keep_the_contract(form) -> None:
    """Chunks, lengths and resets act on the state as rounded, which is what the wide mixer is given here."""
    h = low_pass(4, 0.3)
    wide = build(form, h, F32)
    narrow = NarrowState(wide, torch.bfloat16)
    u = torch.randn(3, 40, 1, generator=torch.Generator().manual_seed(6))
    assert torch.equal(narrow(u), wide(u))
    lengths, resets = torch.tensor([20, 7, 0]), torch.zeros(3, 20, dtype=torch.bool)
    resets[0, 5] = True
    y, state = narrow.extend(u[:, :20], lengths=lengths, resets=resets)
    expected, rounded = wide.extend(u[:, :20], lengths=lengths, resets=resets)
    assert torch.equal(y, expected)
    assert torch.equal(state, rounded.bfloat16())
    y, after = narrow.extend(u[:, 20:], state)
    expected, rounded = wide.extend(u[:, 20:], state.float())
    assert torch.equal(y, expected)
    assert torch.equal(after, rounded.bfloat16())
    assert narrow.init_state(2).dtype == torch.bfloat16


@untyped
def test_a_form_by_name_is_measured_alone_and_says_why_it_cannot_be() -> None:
    unstable = TransferFunction(*(torch.tensor(x, dtype=F64) for x in ([[1.0]], [[-1.01]], [1.0])))
    with pytest.raises(ArithmeticError, match="only stable ones have a lattice"):
        realize(unstable, form="lattice", length=32)
    found = realize(unstable, length=32)
    assert set(found.refused) == {"lattice"}
    assert set(realize(unstable, form="direct", length=32).errors) == {"direct"}
    with pytest.raises(ValueError, match=r"form is 'auto', 'direct'.*got 'cascade'"):
        realize(unstable, form="cascade")
    with pytest.raises(ValueError, match="length must be at least 1"):
        realize(unstable, length=0)
    with pytest.raises(ValueError, match="see state_dtype"):
        realize(unstable, dtype=torch.bfloat16)


@untyped  # the hook would be the first to complain
def test_states_of_the_lattice_convert() -> None:
    h = low_pass(4, 0.2)
    direct, lattice = Realization(h), LatticeRealization(h)
    u = torch.randn(2, 40, 1, dtype=F64, generator=torch.Generator().manual_seed(3))
    expected, mine = direct.extend(u)[1], lattice.extend(u)[1]
    torch.testing.assert_close(lattice.from_companion(expected), mine, rtol=0, atol=1e-10)
    torch.testing.assert_close(lattice.to_companion(mine), expected, rtol=1e-8, atol=1e-8)
    for convert in (lattice.from_companion, lattice.to_companion):
        for wrong in (mine[0], mine[..., :3]):
            with pytest.raises(ValueError, match="expected a state of shape"):
                convert(wrong)


def test_sections_come_from_a_design_that_no_polynomial_holds() -> None:
    """A band-pass of order 32 whose multiplied-out coefficients in float64 are of an unstable filter."""
    sos = signal.butter(16, [0.25, 0.35], "bandpass", output="sos")
    layer = SectionRealization(torch.as_tensor(sos)[None])
    u = torch.randn(1, 2000, 1, dtype=F64, generator=torch.Generator().manual_seed(4))
    expected = torch.as_tensor(signal.sosfilt(sos, u[0, :, 0].numpy()))
    torch.testing.assert_close(layer(u)[0, :, 0], expected, rtol=0, atol=1e-9)
    stream = Stream(layer, 1)
    found = torch.cat([stream(part) for part in u.split((700, 1, 1299), 1)], 1)
    torch.testing.assert_close(found[0, :, 0], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("form", ["sections", "lattice"])
def test_the_native_step_is_the_one_in_tensor_operations(form) -> None:
    h = low_pass(5, 0.2)
    layer = build(form, h, F64)
    u = torch.randn(3, 30, 1, dtype=F64, generator=torch.Generator().manual_seed(5))
    state = layer.extend(u)[1]
    y, after = layer.step(u[:, 0], state)
    y_plain, after_plain = layer.step(u[:, 0].clone().requires_grad_(), state)
    torch.testing.assert_close(y, y_plain.detach(), rtol=0, atol=1e-13)
    torch.testing.assert_close(after, after_plain.detach(), rtol=1e-13, atol=1e-13)


@untyped
@pytest.mark.parametrize("form", ["sections", "lattice"])
def test_wrong_states_and_overflows_are_told(form) -> None:
    layer = build(form, low_pass(4, 0.2), F32)
    with pytest.raises(ValueError, match=r"expected a state of shape .*init_state\(2\)"):
        layer.step(torch.ones(2, 1), torch.zeros(2, 1, 3))
    with pytest.raises(TypeError, match="floating-point state"):
        layer.step(torch.ones(2, 1), torch.zeros(layer.init_state(2).shape, dtype=torch.long))
    with pytest.raises(StateOverflowError, match="input holds values that are not finite"):
        layer.step(torch.full((1, 1), torch.nan), layer.init_state(1))


def test_unstable_sections_warn_before_they_run() -> None:
    layer = SectionRealization(torch.tensor([[[1.0, 0, 0, 1, -2.5, 1.5]]]))
    with pytest.warns(UnstableFilterWarning, match="1 of 1 denominators are unstable"):
        layer.init_state(1)


def test_sections_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(3, 6\)\. The sections of one filter need sos\[None\]"):
        SectionRealization(torch.ones(3, 6))
    with pytest.raises(ValueError, match="an a0 that is not zero"):
        SectionRealization(torch.zeros(1, 1, 6))


def test_sections_that_no_fraction_holds_are_not_multiplied_out() -> None:
    """The design of docs/deploy.md: as one fraction it is unstable, and was handed on as such."""
    sos = torch.from_numpy(signal.butter(16, [0.25, 0.35], "bandpass", output="sos"))[None]
    layer = SectionRealization(sos)
    with pytest.raises(ArithmeticError, match=r"order 32 do not hold the filters.*Keep the second-order sections"):
        layer.transfer_function()
    few = SectionRealization(sos[:, :3], dt=0.5)
    h = few.transfer_function()
    impulse = torch.eye(1, 300, dtype=F64)[..., None]
    torch.testing.assert_close(h.impulse_response(300), few(impulse)[0].mT, rtol=1e-9, atol=1e-12)
    assert (h.order, h.dt) == (6, 0.5)


@torch.no_grad()
def test_stable_filters_that_rounding_makes_unstable_are_told_so_and_decoded_by_another_form() -> None:
    """What reflection coefficients hold in float32 denominators do not: poles of radius 0.999 crowd at one angle."""
    poles = 0.999 * torch.exp(1j * torch.linspace(0.3, 0.4, 4, dtype=torch.float64))
    a = torch.from_numpy(np.poly(torch.cat((poles, poles.conj())).numpy()))[None, 1:]
    h = TransferFunction(1e-9 * torch.ones_like(a), a, torch.zeros(1, dtype=torch.float64))
    layer = RTF.from_transfer_function(
        h, horizon=64, numerator="exact", constraint="reflection", tolerance=float("inf"), length=64
    ).value
    assert layer.transfer_function().stability().verdict == "stable"
    of_rounding = pytest.warns(UnstableFilterWarning, match="because of rounding to float32: to stream, decode with")
    with of_rounding:
        layer.realize()
    with of_rounding:
        layer.init_state(1)
    u = torch.randn(1, 6000, 1)
    h = layer.transfer_function()
    truth, _ = naive.filter_signal(u.double(), h.b, h.a, h.h0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnstableFilterWarning)
        wide = layer.realize(torch.float64)
        for decoder, samples in (
            (wide, u.double()),
            (realize(layer.transfer_function()).decoder, u),
            (realize_model(layer).decoder, u),
        ):
            y = Stream(decoder, batch_size=1)(samples)
            assert float((y - truth).abs().max() / truth.abs().max()) < 1e-3
