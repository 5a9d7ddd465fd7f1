"""`lfilter`, `sosfilt` and `lfilter_zi` against scipy's, and their derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import transferfn
from laws.tolerance import relative_error
from ops.naive import error
from transferfn.ops import lfilter, lfilter_zi, sosfilt, sosfilt_zi


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def coefficients(nb: int, na: int, *batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A stable filter whose a[0] is anything but 1."""
    b, a = draw(*batch, nb, seed=seed), draw(*batch, na, seed=seed + 1)
    a = a / (1 + 2 * a.abs().sum(-1, keepdim=True))
    return b, torch.cat((torch.full_like(a[..., :1], -1.5), a[..., 1:]), -1)


@settings(max_examples=60)
@given(
    nb=st.integers(1, 6),
    na=st.integers(1, 6),
    shape=st.lists(st.integers(1, 3), max_size=2),
    length=st.integers(1, 12),
    place=st.integers(0, 2),
    start=st.booleans(),
    seed=st.integers(0, 99),
)
def test_lfilter_is_scipys(nb: int, na: int, shape: list[int], length: int, place: int, start: bool, seed: int) -> None:
    """Numerators longer and shorter than denominators, batches, any axis, with and without initial conditions."""
    b, a = coefficients(nb, na, seed=seed)
    axis = min(place, len(shape))
    x = draw(*shape[:axis], length, *shape[axis:], seed=seed + 2)
    order = max(na, nb) - 1
    zi = draw(*shape[:axis], order, *shape[axis:], seed=seed + 3) if start else None
    for one in (axis, axis - x.dim()):
        if zi is None:
            expected = scipy.signal.lfilter(b.numpy(), a.numpy(), x.numpy(), one)
            assert error(lfilter(b, a, x, one), torch.from_numpy(expected)) <= 1
        else:
            y, zf = lfilter(b, a, x, one, zi)
            expected, final = scipy.signal.lfilter(b.numpy(), a.numpy(), x.numpy(), one, zi.numpy())
            assert error(y, torch.from_numpy(expected)) <= 1
            assert error(zf, torch.from_numpy(final), float(y.abs().max())) <= 1


def test_coefficients_come_in_batches_and_broadcast() -> None:
    b, a = coefficients(3, 2, 4)
    x = draw(2, 4, 9)
    y = lfilter(b, a, x)
    shared = lfilter(b, a[0], x)
    for k in range(4):
        assert error(y[:, k], torch.from_numpy(scipy.signal.lfilter(b[k].numpy(), a[k].numpy(), x[:, k].numpy()))) <= 1
        assert error(shared[:, k], lfilter(b[k], a[0], x[:, k])) <= 1
    assert error(lfilter(b[:, None], a[:, None], draw(4, 3, 9))[1], lfilter(b[1], a[1], draw(4, 3, 9)[1])) <= 1


@pytest.mark.parametrize("split", [1, 4, 8])
def test_final_conditions_go_on_where_they_stopped(split: int) -> None:
    b, a = coefficients(5, 3)
    x = draw(2, 9)
    whole = lfilter(b, a, x, zi=torch.zeros(2, 4, dtype=torch.float64))
    y, zf = lfilter(b, a, x[:, :split], zi=torch.zeros(2, 4, dtype=torch.float64))
    rest, zf = lfilter(b, a, x[:, split:], zi=zf)
    assert error(torch.cat((y, rest), 1), whole[0]) <= 1
    assert error(zf, whole[1]) <= 1


@pytest.mark.parametrize("start", [False, True], ids=["rest", "zi"])
@pytest.mark.parametrize(("nb", "na"), [(3, 3), (4, 2), (1, 3)])
def test_derivatives_of_lfilter(nb: int, na: int, start: bool) -> None:
    b, a = coefficients(nb, na)
    inputs = [b, a, draw(2, 6), *([draw(2, max(nb, na) - 1, seed=1)] * start)]
    inputs = [x.requires_grad_() for x in inputs]

    def function(b: Tensor, a: Tensor, x: Tensor, zi: Tensor | None = None) -> Any:
        return lfilter(b, a, x) if zi is None else lfilter(b, a, x, -1, zi)

    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("name", ["butter", "cheby1", "ellip"])
@pytest.mark.parametrize("axis", [0, -1])
def test_sosfilt_is_scipys(name: str, axis: int) -> None:
    """Of designs whose poles crowd too much for one polynomial."""
    ripple = {"butter": (), "cheby1": (1,), "ellip": (1, 40)}[name]
    design = getattr(scipy.signal, name)(9, *ripple, 0.05, output="sos")
    sos = torch.from_numpy(design)
    x = draw(200, 3) if axis == 0 else draw(3, 200)
    scale = 20  # as in the laws; 6.5 was measured, in the last conditions of a Chebyshev filter
    assert error(sosfilt(sos, x, axis), torch.from_numpy(scipy.signal.sosfilt(design, x.numpy(), axis))) <= scale
    zi = draw(5, 2, 3) if axis == 0 else draw(5, 3, 2)
    y, zf = sosfilt(sos, x, axis, zi)
    expected, final = scipy.signal.sosfilt(design, x.numpy(), axis, zi.numpy())
    assert error(y, torch.from_numpy(expected)) <= scale
    assert error(zf, torch.from_numpy(final)) <= scale


def test_derivatives_of_sosfilt() -> None:
    sos = torch.from_numpy(scipy.signal.butter(3, 0.3, output="sos"))
    inputs = [x.requires_grad_() for x in (sos, draw(2, 6), draw(2, 2, 2))]
    assert gradcheck(lambda sos, x, zi: sosfilt(sos, x, -1, zi), inputs)
    assert gradgradcheck(lambda sos, x, zi: sosfilt(sos, x, -1, zi), inputs, fast_mode=True)


@pytest.mark.parametrize(("nb", "na"), [(1, 2), (3, 3), (5, 2), (2, 5), (1, 1)])
def test_lfilter_zi_is_scipys(nb: int, na: int) -> None:
    b, a = coefficients(nb, na)
    zi = lfilter_zi(b, a)
    if max(nb, na) > 1:  # scipy takes no constants
        assert error(zi, torch.from_numpy(scipy.signal.lfilter_zi(b.numpy(), a.numpy()))) <= 1
    ones = torch.ones(8, dtype=torch.float64)
    y, zf = lfilter(b, a, ones, zi=zi)
    assert error(y, ones * b.sum() / a.sum()) <= 1  # a step is steady from its first sample
    assert error(zf, zi) <= 1
    batch = [torch.stack((x, 2 * x)) for x in (b, a)]
    assert error(lfilter_zi(*batch)[1], zi) <= 1
    assert gradcheck(lfilter_zi, [x.requires_grad_() for x in (b, a)])


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("start", [None, "real", "complex"])
def test_complex_signals_are_filtered_as_scipy_filters_them(axis: int, start: str | None) -> None:
    b, a = coefficients(4, 3)
    x = torch.complex(draw(9, 8, 7), draw(9, 8, 7, seed=5))
    shape = [3 if k == axis % 3 else size for k, size in enumerate(x.shape)]
    if start is None:
        expected = scipy.signal.lfilter(b.numpy(), a.numpy(), x.numpy(), axis)
        assert error(lfilter(b, a, x, axis), torch.from_numpy(expected)) <= 1
        assert error(lfilter(b, a, x.conj(), axis), torch.from_numpy(expected.conj())) <= 1
        return
    zi = draw(*shape, seed=6)
    zi = zi if start == "real" else torch.complex(zi, draw(*shape, seed=7))
    y, zf = lfilter(b, a, x, axis, zi)
    expected, final = scipy.signal.lfilter(b.numpy(), a.numpy(), x.numpy(), axis, zi.numpy())
    assert error(y, torch.from_numpy(expected)) <= 1
    assert error(zf, torch.from_numpy(final)) <= 1


def test_complex_conditions_make_real_signals_complex_and_have_derivatives() -> None:
    b, a = coefficients(3, 3)
    x, zi = draw(2, 6), torch.complex(draw(2, 2), draw(2, 2, seed=1))
    y, _ = lfilter(b, a, x, -1, zi)
    expected, _ = scipy.signal.lfilter(b.numpy(), a.numpy(), x.numpy() + 0j, -1, zi.numpy())
    assert error(y, torch.from_numpy(expected)) <= 1
    inputs = [v.requires_grad_() for v in (b, a, torch.complex(x, draw(2, 6, seed=2)), zi)]
    assert gradcheck(lambda b, a, x, zi: lfilter(b, a, x, -1, zi), inputs)
    sos = torch.from_numpy(scipy.signal.butter(5, 0.3, output="sos"))
    signal = inputs[2].detach()
    assert error(sosfilt(sos, signal), torch.from_numpy(scipy.signal.sosfilt(sos.numpy(), signal.numpy()))) <= 1


def test_sections_come_in_batches() -> None:
    """A filter a channel, as the coefficients of lfilter do."""
    designs = [scipy.signal.butter(5, cut, output="sos") for cut in (0.1, 0.2, 0.4)]
    sos, x, zi = torch.from_numpy(np.stack(designs)), draw(2, 3, 50), draw(3, 2, 3, 2, seed=1)
    y, zf = sosfilt(sos, x, -1, zi)
    for k, design in enumerate(designs):
        expected, final = scipy.signal.sosfilt(design, x[:, k].numpy(), -1, zi[:, :, k].numpy())
        assert error(y[:, k], torch.from_numpy(expected)) <= 1
        assert error(zf[:, :, k], torch.from_numpy(final)) <= 1
        one = torch.from_numpy(scipy.signal.sosfilt_zi(design))
        assert error(sosfilt_zi(sos)[:, k], one) <= 1
        assert error(sosfilt_zi(sos[k]), one) <= 1
    assert gradcheck(sosfilt_zi, sos.requires_grad_())


def test_vmap_over_coefficients_and_signals() -> None:
    b, a = coefficients(3, 3, 5)
    x, zi = draw(5, 2, 20), draw(5, 2, 2, seed=1)
    sos = torch.stack((torch.cat((b, a), -1), torch.cat((b.flip(0), a), -1)), 1)  # (5, 2 sections, 6)
    for function, arguments in (
        (lfilter, (b, a, x)),
        (lambda b, a, x, zi: lfilter(b, a, x, -1, zi), (b, a, x, zi)),
        (lfilter_zi, (b, a)),
        (sosfilt, (sos, x)),
    ):
        found = torch.vmap(function)(*arguments)
        rows = [function(*row) for row in zip(*arguments, strict=True)]
        for part, expected in (
            zip(found, map(torch.stack, zip(*rows, strict=True)), strict=True)
            if isinstance(found, tuple)
            else [(found, torch.stack(rows))]
        ):
            assert error(part, expected) <= 1


@pytest.mark.compile
def test_lfilter_compiles_as_one_graph() -> None:
    b, a = coefficients(3, 3)
    x, zi = draw(2, 20), draw(2, 2, seed=1)
    compiled = torch.compile(lfilter, fullgraph=True)
    assert error(compiled(b, a, x), lfilter(b, a, x)) <= 1
    for found, expected in zip(compiled(b, a, x, -1, zi), lfilter(b, a, x, -1, zi), strict=True):
        assert error(found, expected) <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_types(dtype: torch.dtype) -> None:
    b, a = (x.to(dtype) for x in coefficients(3, 2))
    x = draw(9).to(dtype)
    y, zf = lfilter(b, a, x, zi=torch.zeros(2, dtype=dtype))
    assert {y.dtype, zf.dtype, lfilter(b, a, x).dtype, lfilter_zi(b, a).dtype} == {dtype}
    assert error(y, torch.from_numpy(scipy.signal.lfilter(b.double().numpy(), a.double().numpy(), x.double()))) <= 1
    for mixed in (lfilter(b.double(), a, x), lfilter(b, a.double(), x)):  # the signal's type, whatever theirs
        assert mixed.dtype == dtype
        assert error(mixed, y.double()) <= 1


@pytest.mark.parametrize(("na", "start"), [(3, False), (3, True), (1, False), (1, True)])
def test_no_samples(na: int, start: bool) -> None:
    b, a = coefficients(2, na)
    zi = draw(2, max(2, na) - 1) if start else None
    if zi is None:
        assert lfilter(b, a, draw(2, 0)).shape == (2, 0)
    else:
        y, zf = lfilter(b, a, draw(2, 0), -1, zi)
        assert y.shape == (2, 0)
        assert error(zf, zi) <= 1


def test_they_are_public() -> None:
    assert (transferfn.lfilter, transferfn.sosfilt, transferfn.lfilter_zi) == (lfilter, sosfilt, lfilter_zi)


@pytest.mark.parametrize("zi", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_native_loop_is_what_has_gradients(axis: int, zi: bool, dtype: torch.dtype) -> None:
    """Without gradients one loop does all sections; with them each is filtered by itself, by superposition."""
    sos = torch.from_numpy(scipy.signal.ellip(7, 1, 40, 0.3, output="sos"))
    x = torch.randn(40, 3, 41, generator=torch.Generator().manual_seed(0)).to(dtype)
    shape = list(x.shape)
    shape[axis] = 2
    start = draw(4, *shape).to(dtype) if zi else None
    found, expected = (
        [y] if isinstance(y, Tensor) else [*y]
        for y in (sosfilt(one, x, axis, start) for one in (sos, sos.clone().requires_grad_()))
    )
    for mine, other in zip(found, expected, strict=True):
        assert mine.dtype == other.dtype
        assert not mine.requires_grad
        assert other.requires_grad
        assert relative_error(mine, other) < 40 * torch.finfo(dtype).eps
    b, a = sos[0, :3], sos[0, 3:]
    if start is not None:
        for mine, other in zip(
            lfilter(b, a, x, axis, start[0]), lfilter(b, a.clone().requires_grad_(), x, axis, start[0]), strict=True
        ):
            assert relative_error(mine, other) < 40 * torch.finfo(dtype).eps


def test_conditions_of_one_row_serve_all() -> None:
    """As scipy has it, axes of length 1 stand for all."""
    b, a = (torch.from_numpy(c) for c in scipy.signal.butter(3, 0.2))
    x = draw(50, 4)
    zi = lfilter_zi(b, a)[:, None]
    y, zf = lfilter(b, a, x, 0, zi)
    expected, final = scipy.signal.lfilter(b.numpy(), a.numpy(), x.numpy(), 0, zi.expand(3, 4).numpy())
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(zf, final, rtol=0, atol=1e-12)


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="longdouble is no wider than float64 here")
def test_a_slow_filter_in_blocks(dtype: torch.dtype) -> None:
    """A low-pass whose poles crowd at z = 1, from block to block, is off by no more than scipy's is."""
    design = scipy.signal.butter(4, 0.01)
    b, a = (torch.from_numpy(c) for c in design)
    x = torch.randn(3, 4000, generator=torch.Generator().manual_seed(0)).to(dtype)
    truth = scipy.signal.lfilter(*(c.astype(np.longdouble) for c in design), x.numpy().astype(np.longdouble))
    of_scipy = abs(scipy.signal.lfilter(*design, x.double().numpy()) - truth).max()
    assert 0 < of_scipy < 1e-9
    zi, parts = torch.zeros(3, 4, dtype=torch.float64), []
    for block in x.double().split(777, 1):
        y, zi = lfilter(b, a, block, -1, zi)
        parts.append(y)
    assert abs(torch.cat(parts, 1).numpy() - truth).max() < 2 * of_scipy
    y, _ = lfilter(b, a, x, -1, torch.zeros(3, 4, dtype=dtype))  # in float64 within
    assert abs(y.numpy() - truth).max() < 2 * of_scipy + torch.finfo(dtype).eps * abs(truth).max()


@pytest.mark.compile  # without the type-checking hook, which would speak first
def test_what_does_not_fit_is_named() -> None:
    b, a, x = torch.ones(2), torch.tensor([1.0, -0.5]), torch.ones(2, 5)
    for arguments, raised, match in [
        ((b, a, x.long()), TypeError, r"x must be a floating-point tensor, real or complex, got torch\.int64"),
        ((b.to(torch.complex64), a, x), TypeError, r"b must be a real floating-point tensor, got torch\.complex64"),
        (([1.0, 2.0], a, x), TypeError, r"b must be a tensor, got list"),
        ((b, a[:0], x), ValueError, r"at least, got shapes \(2,\) and \(0,\)"),
        ((b, torch.tensor(1.0), x), ValueError, r"at least, got shapes \(2,\) and \(\)"),
        ((b, torch.tensor([0.0, 1.0]), x), ValueError, r"a\[0\] must not be zero"),
        ((torch.ones(3, 2), a, x), ValueError, r"must broadcast against \(2,\).*b \(3, 2\)"),
        ((b, a, x, -1, torch.ones(2, 2)), ValueError, r"with 1 entries \(the filter's order\).*got \(2, 2\)"),
        ((b, a, x, 2), IndexError, r"Dimension out of range"),
    ]:
        with pytest.raises(raised, match=match):
            lfilter(*arguments)
    with pytest.raises(TypeError, match=r"sos must be a real floating-point tensor, got torch\.int64"):
        sosfilt(torch.ones(2, 6, dtype=torch.long), x)
    with pytest.raises(TypeError, match="a must be a tensor, got list"):
        lfilter_zi(b, [1.0, -0.5])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"\(sections, 6\), leading axes aside, got \(6,\)"):
        sosfilt(torch.ones(6), x)
    with pytest.raises(ValueError, match=r"each of 2 sections, got shape \(1, 2, 2\)"):
        sosfilt(torch.ones(2, 6), x, -1, torch.ones(1, 2, 2))
    with pytest.raises(ValueError, match="pole at z = 1"):
        lfilter_zi(b, torch.tensor([1.0, -1.0]))


def test_a_large_order_is_filtered_as_exactly() -> None:
    """Beyond order 64 the FFT does it."""
    b, a = draw(80), torch.cat((torch.ones(1, dtype=torch.float64), 0.5 * draw(99, seed=1) / 99))
    x, zi = draw(2, 300, seed=2), draw(2, 99, seed=3)
    y, zf = lfilter(b, a, x, -1, zi)
    expected, final = scipy.signal.lfilter(b.numpy(), a.numpy(), x.numpy(), -1, zi.numpy())
    assert error(y, torch.from_numpy(expected)) <= 1
    assert error(zf, torch.from_numpy(final)) <= 1
    np.testing.assert_allclose(y.numpy(), expected, rtol=0, atol=1e-11)
