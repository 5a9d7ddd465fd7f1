from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.nn.functional import pad

from transferfn.kernels.arrays import smooth_numbers
from transferfn.kernels.convolution import convolution, fast_points

ROUNDING = 32  # relative to the largest value, in units of eps; 11 was measured, on sums of 1300 terms

SIZES = [
    # batch, length, channels, taps, taps ahead: registers hold 4 to 16 channels, transforms 2, 3, 4 and 5 at a time
    (1, 1, 1, 1, 0),
    (3, 2, 6, 5, 1),
    (2, 5, 1, 5, 4),
    (19, 7, 3, 4, 9),
    (5, 9, 16, 9, 0),
    (1, 24, 19, 24, 23),
    (2, 35, 33, 0, 34),
    (2, 784, 5, 900, 0),
    (2, 1025, 3, 1025, 1024),
    (1, 1300, 2, 700, 600),
]
IDS = ["B{}-L{}-D{}-{}taps-{}ahead".format(*sizes) for sizes in SIZES]
NAMES = ("u", "k", "ahead")


def example(batch: int, length: int, channels: int, taps: int, ahead: int, dtype=torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(length + taps)
    shapes = (batch, length, channels), (channels, taps), (channels, ahead)
    return [torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype) for shape in shapes]


def plain_sum(u: Tensor, k: Tensor, ahead: Tensor) -> Tensor:
    """One Toeplitz matrix a channel: its entry in row t and column s is k_(t-s) or ahead_(s-t-1)."""
    length = u.shape[1]
    both = torch.cat((pad(ahead, (0, length))[:, : length - 1].flip(1), pad(k, (0, length))[:, :length]), 1)
    lag = torch.arange(length)[:, None] - torch.arange(length)
    return torch.einsum("dts,bsd->btd", both[:, lag + length - 1], u)


def with_gradients(run, arguments: list[Tensor]) -> dict[str, Tensor]:
    leaves = [x.detach().clone().requires_grad_() for x in arguments]
    y = run(*leaves)
    weights = torch.sin(torch.arange(y.numel(), dtype=y.dtype)).view_as(y)
    gradients = torch.autograd.grad((y * weights).sum() + 0 * sum(x.sum() for x in leaves), leaves)
    return {"y": y.detach(), **dict(zip(NAMES, gradients, strict=True))}


def assert_near(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> None:
    for name, expected in plain.items():
        assert ours[name].shape == expected.shape, name
        if expected.numel():
            error = float((ours[name] - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
            assert error <= ROUNDING * torch.finfo(ours[name].dtype).eps, f"{name}: relative error {error:.2g}"


@pytest.mark.parametrize("sizes", SIZES, ids=IDS)
def test_values_and_gradients_are_those_of_the_sum(sizes, dtype) -> None:
    arguments = example(*sizes)
    assert_near(
        with_gradients(convolution, [x.to(dtype) for x in arguments]),
        {name: x.to(dtype) for name, x in with_gradients(plain_sum, arguments).items()},
    )


def test_a_kernel_in_float64_serves_a_signal_in_float32() -> None:
    u, k, ahead = example(2, 9, 6, 9, 8)
    leaves = [x.requires_grad_() for x in (u.float(), k, ahead)]
    y = convolution(*leaves)
    assert y.dtype == torch.float32
    assert [x.dtype for x in torch.autograd.grad(y.sum(), leaves)] == [torch.float32, torch.float64, torch.float64]


@pytest.mark.parametrize("name", [*NAMES, "all"])
def test_first_and_second_derivatives_by_differences(name) -> None:
    inputs = [x.requires_grad_(name in (mine, "all")) for x, mine in zip(example(2, 5, 3, 4, 2), NAMES, strict=True)]
    assert gradcheck(convolution, inputs)
    assert gradgradcheck(convolution, inputs)


@pytest.mark.parametrize("channels", [3, 8, 17])
def test_every_layout_is_read_as_it_lies(channels) -> None:
    u, k, ahead = example(3, 21, channels, 21, 20)
    expected = convolution(u, k, ahead)
    channels_first = u.mT.contiguous().mT
    with_gaps = torch.stack((u, torch.full_like(u, torch.nan)), -1).flatten(2)[..., ::2]
    for layout in (channels_first, with_gaps):
        assert not layout.is_contiguous()
        assert_near({"y": convolution(layout, k, ahead)}, {"y": expected})
    assert convolution(channels_first, k, ahead).stride() == channels_first.stride()
    one_row = u[:1].expand(3, -1, -1)
    assert torch.equal(convolution(one_row, k, ahead), convolution(one_row.clone(), k, ahead))


@pytest.mark.parametrize("batched", [*NAMES, "all"])
def test_vmap_over_each_argument_and_its_gradients(batched) -> None:
    arguments = example(2, 6, 5, 6, 5)
    in_dims = tuple(1 if batched in (name, "all") else None for name in NAMES)
    stacked = [x if d is None else torch.stack((x, -0.5 * x), d) for x, d in zip(arguments, in_dims, strict=True)]
    y = torch.vmap(convolution, in_dims)(*stacked)
    each = torch.vmap(torch.func.grad(lambda *x: convolution(*x).square().sum(), argnums=(0, 1, 2)), in_dims)(*stacked)
    for i in range(2):
        one = [x if d is None else x.select(d, i) for x, d in zip(stacked, in_dims, strict=True)]
        assert torch.allclose(y[i], plain_sum(*one), atol=1e-12)
        leaves = [x.clone().requires_grad_() for x in one]
        for ours, plain in zip(each, torch.autograd.grad(plain_sum(*leaves).square().sum(), leaves), strict=True):
            assert torch.allclose(ours[i], plain, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_forward_mode_raises_and_is_never_silently_zero(name) -> None:
    arguments = example(2, 6, 5, 6, 5)
    with forward_ad.dual_level():
        k = NAMES.index(name)
        arguments[k] = forward_ad.make_dual(arguments[k], torch.ones_like(arguments[k]))
        with pytest.raises((RuntimeError, NotImplementedError), match=r"jvp|forward"):
            convolution(*arguments)


def test_operators_are_registered_correctly() -> None:
    u, k, ahead = example(2, 6, 5, 6, 5)
    torch.library.opcheck(torch.ops.transferfn.convolution.default, (u, k, ahead))
    torch.library.opcheck(torch.ops.transferfn.convolution_backward.default, (u, u, k, ahead))
    as_columns = k.T.contiguous().T, ahead.T.contiguous().T
    torch.library.opcheck(torch.ops.transferfn.convolution_backward.default, (u, u, *as_columns))


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (2, 4, 0)], ids=["B0", "L0", "D0"])
def test_empty_signals_have_zero_gradients(shape) -> None:
    gradients = with_gradients(convolution, example(*shape, 4, 3))
    assert gradients["y"].shape == gradients["u"].shape == shape
    assert not gradients["k"].any()
    assert not gradients["ahead"].any()


def test_neither_threads_nor_callers_at_once_change_a_bit() -> None:
    arguments = example(8, 1025, 20, 1025, 7, torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = with_gradients(convolution, arguments)

        def call(_: int) -> dict[str, Tensor]:
            torch.set_num_threads(2)  # the setting is the thread's own
            return with_gradients(convolution, arguments)

        with ThreadPoolExecutor(8) as callers:
            for found in callers.map(call, range(16), timeout=120):
                assert all(torch.equal(found[name], alone[name]) for name in alone)
    finally:
        torch.set_num_threads(before)


def test_fast_sizes_are_smooth_and_near() -> None:
    for length in range(1, 2000):
        points = fast_points(length)
        assert length <= points < 2 * length
        assert points in smooth_numbers(length)
