from __future__ import annotations

import math

import pytest
import torch

from nn.layers import untyped
from transferfn.core import forms, lattice
from transferfn.core.lattice import step_up
from transferfn.core.system import TransferFunction

ROUNDING = 8  # a rounding error of each stage is carried to the next, so times the order; 1.8 was measured


def arguments(rows: int, each: int, order: int, dtype, generator) -> list[torch.Tensor]:
    """Parameters, taps, and gradients at the denominators and numerators."""
    shapes = (rows, order), (rows, each, order), (rows, order), (rows, each, order)
    raw, *others = (torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype) for shape in shapes)
    return [0.3 * raw, *others]  # coefficients near 1 amplify rounding


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("rows", [1, 16, 37])
@pytest.mark.parametrize("each", [0, 1, 3])
@pytest.mark.parametrize("order", [1, 2, 3, 8, 33])
def test_native_loops_do_what_torch_does(order, each, rows, scaled, dtype, generator) -> None:
    given = arguments(rows, each, order, dtype, generator)
    x, t, gx, gt = (x.movedim(-1, 0).contiguous() for x in given)
    allowed = ROUNDING * order * torch.finfo(dtype).eps
    forward = zip(lattice._lattice(*given[:2], scaled), lattice._by_torch(x, t, scaled), strict=True)
    backward = zip(
        lattice._lattice_adjoint(*given, scaled), lattice._adjoint_by_torch(x, t, gx, gt, scaled), strict=True
    )
    for ours, plain in (*forward, *backward):
        plain = plain.movedim(0, -1)
        assert ours.shape == plain.shape
        if plain.numel():
            assert (ours - plain).abs().max() <= allowed * plain.abs().max()


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("each", [0, 1, 3])
@pytest.mark.parametrize("order", [1, 2, 7])
def test_the_adjoint_is_that_of_the_plain_recursion(order, each, scaled, generator) -> None:
    """In values, gradients and second derivatives."""
    raw, taps, ga, gb = arguments(2, each, order, torch.float64, generator)
    for ours, plain in zip(lattice._filter(raw, taps, scaled), lattice._plain(raw, taps, scaled=scaled), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-14)
    expected = lattice._plain_adjoint(raw, taps, ga, gb, scaled=scaled)
    for ours, plain in zip(lattice._run_back(raw, taps, ga, gb, scaled), expected, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-14)
    inputs = (raw.requires_grad_(), taps.requires_grad_())
    assert torch.autograd.gradcheck(lambda *x: lattice._filter(*x, scaled), inputs)
    assert torch.autograd.gradgradcheck(lambda *x: lattice._filter(*x, scaled), inputs)


def test_only_denominators_alone_are_scaled(generator) -> None:
    raw, taps, _, _ = arguments(3, 2, 5, torch.float64, generator)
    a, _ = lattice.lattice_filter(raw, taps)
    assert torch.equal(a, lattice.lattice_denominator(raw, scaled=False))
    torch.testing.assert_close(a, step_up(raw.tanh()), rtol=1e-13, atol=1e-14)
    assert torch.equal(lattice.lattice_denominator(raw), lattice.lattice_denominator(raw, scaled=True))
    assert (a - lattice.lattice_denominator(raw)).abs().max() > 0.01


@pytest.mark.parametrize("between", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("x", [-4.0, 0.0, 2.0])
def test_unscaled_parameters_measure_how_far_responses_of_order_one_are_apart(x: float, between: float) -> None:
    raw = torch.tensor([[x], [x + between]], dtype=torch.float64)
    a, b = lattice.lattice_filter(raw, torch.ones(2, 1, 1, dtype=torch.float64))
    h = TransferFunction(b[:, 0], a, torch.zeros(2, dtype=torch.float64)).impulse_response(100_000)
    assert h[0] @ h[1] == pytest.approx(1 / math.cosh(between), rel=1e-9)


@pytest.mark.parametrize("in_dims", [(0, 0), (None, 0), (0, None), (1, 2)])
def test_vmap_over_either(in_dims, generator) -> None:
    raw, taps, _, _ = arguments(3, 2, 4, torch.float64, generator)
    raws, many = torch.stack((raw, 2 * raw, -raw)), torch.stack((taps, -taps, 3 * taps))
    pairs = list(zip((raw, taps), (raws, many), in_dims, strict=True))
    given = [one if d is None else several.movedim(0, d) for one, several, d in pairs]
    expected = lattice.lattice_filter(*(one.expand_as(several) if d is None else several for one, several, d in pairs))
    for ours, plain in zip(torch.vmap(lattice.lattice_filter, in_dims)(*given), expected, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("order", [1, 2, 8, 33])
def test_responses_of_the_states_are_orthonormal(order, generator) -> None:
    raw = 0.3 / order**0.5 * torch.randn(2, order, dtype=torch.float64, generator=generator)
    taps = torch.eye(order, dtype=torch.float64).expand(2, order, order)
    a, b = lattice.lattice_filter(raw, taps)
    for denominator, numerators in zip(a, b, strict=True):
        bank = TransferFunction(numerators, denominator[None], torch.zeros(order, dtype=torch.float64))
        responses = bank.impulse_response(20_000)
        torch.testing.assert_close(responses @ responses.T, taps[0], rtol=0, atol=1e-10)


def test_the_filter_is_that_of_the_normalised_lattice(generator) -> None:
    """Taken apart again in extended precision, filters have the taps they were made of."""
    raw, taps, _, _ = arguments(3, 2, 8, torch.float64, generator)
    a, b = lattice.lattice_filter(raw, taps)
    k, _, found = forms.lattice(TransferFunction(b.flatten(0, 1), a, torch.zeros(6, dtype=torch.float64)))
    torch.testing.assert_close(found, taps.flatten(0, 1), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(k, raw.tanh(), rtol=1e-10, atol=1e-10)


def test_saturated_parameters_pass_no_gradient(dtype) -> None:
    raw = torch.tensor([[40.0, 0.5], [0.5, -40.0]], dtype=dtype)
    taps = torch.ones(2, 1, 2, dtype=dtype)
    given = raw, taps, torch.ones_like(raw), taps
    first = [x.movedim(-1, 0).contiguous() for x in given]
    for scaled in (False, True):
        for gradient in (lattice._lattice_adjoint(*given, scaled)[0], lattice._adjoint_by_torch(*first, scaled)[0].T):
            assert gradient.isfinite().all()
            assert gradient[0, 0] == gradient[1, 1] == 0


@untyped
def test_taps_of_another_shape_or_type_are_refused() -> None:
    raw, taps = torch.zeros(3, 5, dtype=torch.float64), torch.zeros(3, 2, 5, dtype=torch.float64)
    for wrong in (taps[..., :4], taps[:2], taps[0], taps.float()):
        with pytest.raises(ValueError, match=r"expected taps \(\*rows, each, n\) beside parameters"):
            lattice.lattice_filter(raw, wrong)


def test_nothing_of_nothing() -> None:
    for rows, each, order in ((0, 2, 3), (2, 0, 3), (2, 1, 0), (0, 0, 0)):
        raw = torch.randn(rows, order, dtype=torch.float64, requires_grad=True)
        taps = torch.randn(rows, each, order, dtype=torch.float64, requires_grad=True)
        a, b = lattice.lattice_filter(raw, taps)
        assert (a.shape, b.shape) == (raw.shape, taps.shape)
        gradients = torch.autograd.grad(a.sum() + b.sum(), (raw, taps))
        assert [x.shape for x in gradients] == [raw.shape, taps.shape]
        assert lattice.lattice_denominator(raw).shape == raw.shape
