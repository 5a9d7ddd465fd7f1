from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.nn.functional import pad

from transferfn.core import naive
from transferfn.core.kernel import damped_response, impulse_response
from transferfn.kernels.aliased import aliased_by_torch
from transferfn.kernels.convolution import convolution
from transferfn.kernels.rational import damped_convolution, rational_convolution

ROUNDING = 64  # relative to the largest value, in units of eps; 43 was measured, at order 300

SIZES = [
    # batch, length, channels, denominators, order, period: registers hold 4 to 16 channels, transforms 2 to 5 at a time
    (1, 1, 1, 1, 0, 1),
    (2, 64, 16, 16, 4, 64),
    (1, 5, 1, 1, 1, 5),
    (3, 37, 3, 3, 2, 40),
    (2, 30, 20, 5, 7, 32),
    (5, 97, 7, 7, 0, 100),
    (4, 784, 35, 5, 64, 784),
    (4, 700, 35, 5, 64, 800),
    (1, 1000, 33, 11, 300, 1200),
    (2, 1201, 16, 1, 16, 1250),
    (2, 600, 24, 24, 5, 4096),
    (19, 13, 3, 1, 3, 13),
    (2, 101, 5, 5, 4, 101),
]
IDS = ["B{}-L{}-D{}-G{}-n{}-P{}".format(*sizes) for sizes in SIZES]
NAMES = ("u", "b", "a", "h0")


def example(
    batch: int, length: int, channels: int, groups: int, order: int, *bank: int, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(length + order)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, dtype=torch.float64, generator=generator) - 0.5

    u, b, a = draw(batch, length, channels), draw(*bank, channels, order), draw(*bank, groups, order) / max(order, 1)
    return [u.to(dtype), b, a, draw(*bank, channels)]


def plain(u: Tensor, b: Tensor, a: Tensor, h0: Tensor, period: int) -> Tensor:
    """The definition: kernels by PyTorch's transforms, and one Toeplitz matrix a channel."""
    length = u.shape[1]
    k, ahead = (*aliased_by_torch(b, a, h0, period).reshape(-1, b.shape[-2], period), torch.zeros(()))[:2]
    ahead = ahead.expand(len(k), period)
    both = torch.cat((ahead[:, : length - 1].flip(1), k[:, :length]), 1)
    lag = torch.arange(length)[:, None] - torch.arange(length)
    return torch.einsum("dts,bsd->btd", both[:, lag + length - 1], u)


def with_gradients(run, arguments: list[Tensor], period: int) -> dict[str, Tensor]:
    leaves = [x.detach().clone().requires_grad_() for x in arguments]
    y = run(*leaves, period=period)
    weights = torch.rand(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5
    gradients = torch.autograd.grad((y * weights.to(y.dtype)).sum() + 0 * sum(x.sum() for x in leaves), leaves)
    return {"y": y.detach(), **dict(zip(NAMES, gradients, strict=True))}


def assert_near(ours: dict[str, Tensor], plain: dict[str, Tensor], dtype: torch.dtype) -> None:
    for name, expected in plain.items():
        assert ours[name].shape == expected.shape, name
        if expected.numel():
            error = float((ours[name] - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
            assert error <= ROUNDING * torch.finfo(dtype).eps, f"{name}: relative error {error:.2g}"


@pytest.mark.parametrize("bank", [(), (1,), (2,)], ids=["one", "one-bank", "two-banks"])
@pytest.mark.parametrize("sizes", SIZES, ids=IDS)
def test_values_and_gradients_are_those_of_the_definition(sizes, bank, dtype) -> None:
    *shape, period = sizes
    ours = with_gradients(rational_convolution, example(*shape, *bank, dtype=dtype), period)
    assert ours["y"].dtype == ours["u"].dtype == dtype
    assert all(ours[name].dtype == torch.float64 for name in NAMES[1:])
    assert_near(ours, with_gradients(plain, example(*shape, *bank), period), dtype)


def test_the_kernel_is_that_of_the_paper() -> None:
    _, b, a, h0 = example(1, 12, 4, 2, 3)
    impulse = pad(torch.ones(1, 1, 4, dtype=torch.float64), (0, 0, 0, 11))
    assert torch.allclose(rational_convolution(impulse, b, a, h0, 12)[0].T, naive.aliased_kernel(b, a, h0, 12))


@pytest.mark.parametrize("bank", [(), (2,)], ids=["one", "two-banks"])
@pytest.mark.parametrize("period", [6, 7])
def test_first_and_second_derivatives_by_differences(bank, period) -> None:
    inputs = [x.requires_grad_() for x in example(2, 5, 4, 2, 2, *bank)]
    assert gradcheck(lambda *x: rational_convolution(*x, period=period), inputs)
    assert gradgradcheck(lambda *x: rational_convolution(*x, period=period), inputs)


def test_a_channel_is_as_exact_beside_others_of_any_size(dtype) -> None:
    u, b, a, h0 = example(2, 900, 35, 5, 7, dtype=dtype)
    size = torch.tensor([1e-12, 1e15, 1.0, 0.0, 1e-6], dtype=torch.float64).repeat(7)
    found = []
    for run, factor, kind in ((rational_convolution, size, dtype), (plain, torch.ones(35), torch.float64)):
        scaled = (u.double() * factor).to(kind), b * factor[:, None], a.repeat_interleave(7, 0), h0 * 0
        leaves = [x.requires_grad_() for x in scaled]
        y = run(*leaves, period=1000)
        weights = torch.sin(torch.arange(y.numel(), dtype=torch.float64)).view_as(y).to(kind)
        gradients = torch.autograd.grad((y * weights).sum(), leaves)
        found.append((y.flatten(0, 1).T, gradients[1], gradients[2]))
    for ours, expected, power in zip(*found, (2, 1, 2), strict=True):
        scale = size[:, None] ** power
        allowed = ROUNDING * torch.finfo(dtype).eps * scale * expected.abs().amax(1, keepdim=True)
        assert ((ours - expected * scale).abs() <= allowed).all()


@pytest.mark.parametrize("channels", [3, 8, 17])
def test_every_layout_is_read_as_it_lies(channels) -> None:
    u, *coefficients = example(3, 21, channels, 1, 4)
    expected = rational_convolution(u, *coefficients, period=24)
    channels_first = u.mT.contiguous().mT
    with_gaps = torch.stack((u, torch.full_like(u, torch.nan)), -1).flatten(2)[..., ::2]
    for layout in (channels_first, with_gaps):
        assert not layout.is_contiguous()
        assert_near({"y": rational_convolution(layout, *coefficients, period=24)}, {"y": expected}, u.dtype)
    assert rational_convolution(channels_first, *coefficients, period=24).stride() == channels_first.stride()


@pytest.mark.parametrize("batched", [*NAMES, "all"])
def test_vmap_over_each_argument_and_its_gradients(batched) -> None:
    arguments = example(2, 6, 6, 3, 2, 2)
    in_dims = tuple(k % 2 if batched in (name, "all") else None for k, name in enumerate(NAMES))
    stacked = [x if d is None else torch.stack((x, -0.5 * x), d) for x, d in zip(arguments, in_dims, strict=True)]

    def run(*x: Tensor) -> Tensor:
        return rational_convolution(*x, period=8)

    y = torch.vmap(run, in_dims)(*stacked)
    each = torch.vmap(torch.func.grad(lambda *x: run(*x).square().sum(), argnums=(0, 1, 2, 3)), in_dims)(*stacked)
    for i in range(2):
        one = [x if d is None else x.select(d, i) for x, d in zip(stacked, in_dims, strict=True)]
        assert torch.allclose(y[i], plain(*one, period=8), atol=1e-12)
        leaves = [x.clone().requires_grad_() for x in one]
        for ours, expected in zip(
            each, torch.autograd.grad(plain(*leaves, period=8).square().sum(), leaves), strict=True
        ):
            assert torch.allclose(ours[i], expected, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_forward_mode_raises_and_is_never_silently_zero(name) -> None:
    arguments = example(2, 6, 4, 2, 2)
    with forward_ad.dual_level():
        k = NAMES.index(name)
        arguments[k] = forward_ad.make_dual(arguments[k], torch.ones_like(arguments[k]))
        with pytest.raises((RuntimeError, NotImplementedError), match=r"jvp|forward"):
            rational_convolution(*arguments, period=8)


def test_operators_are_registered_correctly() -> None:
    u, b, a, h0 = example(2, 6, 4, 2, 2, 2)
    torch.library.opcheck(torch.ops.transferfn.rational.default, (u, b, a, h0, 8, 0.0))
    torch.library.opcheck(torch.ops.transferfn.rational_backward.default, (u, u, b, a, h0, 8, 0.0))


@pytest.mark.parametrize("shape", [(0, 4, 4), (2, 0, 4), (2, 4, 0)], ids=["B0", "L0", "D0"])
def test_empty_signals_have_zero_gradients(shape) -> None:
    gradients = with_gradients(rational_convolution, example(*shape, max(shape[2] // 2, 1) if shape[2] else 0, 2), 8)
    assert gradients["y"].shape == gradients["u"].shape == shape
    assert not any(gradients[name].any() for name in NAMES)


@pytest.mark.parametrize(("length", "order"), [(9, 3), (3, 8)])
def test_a_period_shorter_than_the_signal_or_the_polynomials_is_refused(length, order) -> None:
    with pytest.raises(ValueError, match="expected a period"):
        rational_convolution(*example(1, length, 2, 1, order), period=8)


def test_neither_threads_nor_callers_at_once_change_a_bit() -> None:
    arguments = example(8, 1025, 20, 5, 7, dtype=torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = with_gradients(rational_convolution, arguments, 1080)

        def call(_: int) -> dict[str, Tensor]:
            torch.set_num_threads(2)  # the setting is the thread's own
            return with_gradients(rational_convolution, arguments, 1080)

        with ThreadPoolExecutor(8) as callers:
            for found in callers.map(call, range(16), timeout=120):
                assert all(torch.equal(found[name], alone[name]) for name in alone)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("banks", [1, 2])
@pytest.mark.parametrize(
    ("shape", "groups", "order"), [((1, 40, 70), 70, 3), ((3, 33, 6), 3, 2), ((2, 2, 5), 1, 1), ((2, 130, 20), 20, 70)]
)
def test_true_responses_by_damping_are_those_of_the_recurrence(banks, shape, groups, order, generator) -> None:
    _, length, channels = shape
    u = torch.randn(shape, dtype=torch.float64, generator=generator)
    b = torch.randn(banks, channels, order, dtype=torch.float64, generator=generator)
    a = (torch.rand(banks, groups, order, dtype=torch.float64, generator=generator) - 0.5) * 1.8 / order
    h0 = torch.randn(banks, channels, dtype=torch.float64, generator=generator)
    weights = torch.randn(shape, dtype=torch.float64, generator=generator)
    results = []
    for damped in (True, False):
        leaves = [x.clone().requires_grad_() for x in (u, b, a, h0)]
        if damped:
            y, growth = damped_convolution(*leaves)
            expected = damped_response(b, a, h0, length=length)[1]
            assert torch.allclose(growth[0], expected[0], rtol=1e-3, atol=1e-6)  # those ahead leave a sample out
        else:
            kernels = impulse_response(*leaves[1:], length=length)
            y = convolution(leaves[0], *kernels)
        results.append((y, *torch.autograd.grad(y, leaves, weights)))
    for ours, theirs in zip(*results, strict=True):
        difference = (ours - theirs).detach().abs().max()
        assert float(difference) <= 1e-7 * max(float(theirs.detach().abs().max()), 1.0)  # some of a do not matter yet


def test_damping_knows_unstable_filters(generator) -> None:
    u = torch.randn(1, 500, 16, dtype=torch.float64, generator=generator)
    a = torch.linspace(-0.9, -1.05, 16, dtype=torch.float64)[:, None]
    _, growth = damped_convolution(u, torch.ones_like(a), a, torch.zeros(16, dtype=torch.float64))
    assert torch.equal(growth > 3, a[:, 0].abs() ** 250 > 3)


def test_second_derivatives_of_damped_responses(generator) -> None:
    u = torch.randn(1, 4, 2, dtype=torch.float64, generator=generator)
    b, a = (torch.rand(2, 2, dtype=torch.float64, generator=generator) / 3 for _ in range(2))
    h0 = torch.randn(2, dtype=torch.float64, generator=generator)
    inputs = [x.requires_grad_() for x in (u, b, a, h0)]
    assert gradgradcheck(lambda *x: damped_convolution(*x)[0], inputs, atol=1e-4)
