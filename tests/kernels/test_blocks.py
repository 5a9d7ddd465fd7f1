from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from transferfn.kernels.blocks import block_filter, block_filter_by_convolution

ROUNDING = 32  # relative to the largest value, in units of eps, as for single convolutions

SIZES = [
    # batch, length, channels, order, block: one block and several, the last one shorter than the state or of one sample
    (1, 1, 1, 1, 1),
    (1, 12, 2, 3, 12),
    (3, 37, 6, 20, 24),
    (2, 50, 3, 5, 12),
    (19, 25, 3, 8, 8),
    (5, 60, 16, 7, 15),
    (1, 100, 19, 16, 16),
    (2, 90, 33, 9, 35),
    (1, 1500, 17, 100, 512),
    (4, 900, 5, 384, 784),
]
IDS = ["B{}-L{}-D{}-n{}-N{}".format(*sizes) for sizes in SIZES]
NAMES = ("u", "h", "g", "b", "a", "state")


def example(batch: int, length: int, channels: int, order: int, block: int, dtype=torch.float64) -> list[Tensor]:
    """Coefficients and responses that have nothing to do with each other: the operator does not know that they have."""
    generator = torch.Generator().manual_seed(length + order)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator) / shape[-1] ** 0.5

    kernels = [draw(channels, size) for size in (block, block, order, order)]
    return [draw(batch, length, channels).to(dtype), *kernels, draw(batch, channels, order).to(dtype)]


def by_recurrence(u: Tensor, h: Tensor, g: Tensor, b: Tensor, a: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """What is said above the loops, sample by sample."""
    order, size = a.shape[1], h.shape[1]
    found, past = [], list(state.flip(2).unbind(2))  # w, oldest first
    for block in u.split(size, 1):
        driven = list(block.unbind(1))
        forced = [torch.zeros_like(driven[0])] * len(driven)
        for t in range(min(order, len(driven))):
            before = list(zip(range(t, order), reversed(past), strict=False))
            driven[t] = driven[t] - sum(a[:, i] * w for i, w in before)
            forced[t] = sum(b[:, i] * w for i, w in before)  # pyright: ignore[reportArgumentType]
        for t, d in enumerate(forced):
            found.append(d + sum(h[:, s] * driven[t - s] for s in range(t + 1)))
        w = [sum(g[:, s] * driven[t - s] for s in range(t + 1)) for t in range(len(driven))]
        past = [*past, *w][-order:]
    return torch.stack(found, 1), torch.stack(past[::-1], 2)


def with_gradients(run, arguments: list[Tensor]) -> dict[str, Tensor]:
    leaves = [x.detach().clone().requires_grad_() for x in arguments]
    y, after = run(*leaves)
    weights = [torch.sin(torch.arange(x.numel(), dtype=x.dtype)).view_as(x) for x in (y, after)]
    gradients = torch.autograd.grad((y * weights[0]).sum() + (after * weights[1]).sum(), leaves)
    return {"y": y.detach(), "after": after.detach(), **dict(zip(NAMES, gradients, strict=True))}


def assert_near(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> None:
    for name, expected in plain.items():
        assert ours[name].shape == expected.shape, name
        error = float((ours[name] - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
        assert error <= ROUNDING * torch.finfo(ours[name].dtype).eps, f"{name}: relative error {error:.2g}"


@pytest.mark.parametrize("sizes", SIZES, ids=IDS)
def test_values_and_gradients_are_those_of_convolutions(sizes, dtype) -> None:
    given = example(*sizes)
    narrow = [x.to(dtype) if name in ("u", "state") else x for name, x in zip(NAMES, given, strict=True)]
    expected = with_gradients(block_filter_by_convolution, given)
    found = with_gradients(block_filter, narrow)
    assert {name: x.dtype for name, x in found.items() if x.dtype != dtype} == (
        dict.fromkeys("hgba", torch.float64) if dtype == torch.float32 else {}
    )
    single = {name: x.to(dtype) for name, x in found.items()}
    assert_near(single, {name: x.to(dtype) for name, x in expected.items()})


@pytest.mark.parametrize("sizes", SIZES[:5], ids=IDS[:5])
def test_convolutions_do_what_a_recurrence_does(sizes) -> None:
    given = example(*sizes)
    assert_near(with_gradients(block_filter_by_convolution, given), with_gradients(by_recurrence, given))


@pytest.mark.parametrize("name", [*NAMES, "all"])
def test_first_and_second_derivatives_by_differences(name) -> None:
    given = example(2, 5, 3, 3, 4)
    inputs = [x.requires_grad_(name in (mine, "all")) for x, mine in zip(given, NAMES, strict=True)]
    assert gradcheck(block_filter, inputs)
    assert gradgradcheck(block_filter, inputs)


@pytest.mark.parametrize("channels", [3, 8, 17])
def test_every_layout_is_read_as_it_lies(channels) -> None:
    u, *others = example(3, 21, channels, 5, 8)
    expected = with_gradients(block_filter, [u, *others])
    with_gaps = torch.stack((u, torch.full_like(u, torch.nan)), -1).flatten(2)[..., ::2]
    for layout in (u.mT.contiguous().mT, with_gaps):
        assert not layout.is_contiguous()
        y, after = block_filter(layout, *others)
        assert_near({"y": y, "after": after}, {name: expected[name] for name in ("y", "after")})
    channels_last_of_state = others[-1].mT.contiguous().mT
    y, _ = block_filter(u, *others[:-1], channels_last_of_state)
    assert torch.equal(y, expected["y"])


@pytest.mark.parametrize("batched", [*NAMES, "all"])
def test_vmap_over_each_argument_and_its_gradients(batched) -> None:
    given = example(2, 7, 5, 3, 4)
    in_dims = tuple(1 if batched in (name, "all") else None for name in NAMES)
    stacked = [x if d is None else torch.stack((x, -0.5 * x), d) for x, d in zip(given, in_dims, strict=True)]

    def loss(run):
        return lambda *x: sum(part.square().sum() for part in run(*x))

    y, after = torch.vmap(block_filter, in_dims)(*stacked)
    each = torch.vmap(torch.func.grad(loss(block_filter), argnums=tuple(range(6))), in_dims)(*stacked)
    for i in range(2):
        one = [x if d is None else x.select(d, i) for x, d in zip(stacked, in_dims, strict=True)]
        expected = block_filter_by_convolution(*one)
        assert torch.allclose(y[i], expected[0], atol=1e-12)
        assert torch.allclose(after[i], expected[1], atol=1e-12)
        leaves = [x.clone().requires_grad_() for x in one]
        plain = torch.autograd.grad(loss(block_filter_by_convolution)(*leaves), leaves)
        for ours, theirs in zip(each, plain, strict=True):
            assert torch.allclose(ours[i], theirs, atol=1e-11)


@pytest.mark.parametrize("channels", [2, 5, 8, 17])  # of which three fit into the registers that others fill, too
def test_vmap_over_gradients_alone(channels) -> None:
    """Of one forward pass, as of a Jacobian by ``jacrev``: what it kept is of single channels."""
    given = example(2, 9, channels, 3, 4)
    outputs, pull = torch.func.vjp(block_filter, *given)
    many = [torch.randn(3, *x.shape, dtype=x.dtype) for x in outputs]
    found = torch.vmap(lambda *gradients: pull(gradients))(*many)
    for i in range(3):
        for ours, theirs in zip(found, pull(tuple(x[i] for x in many)), strict=True):
            assert torch.allclose(ours[i], theirs, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_forward_mode_raises_and_is_never_silently_zero(name) -> None:
    given = example(2, 6, 5, 3, 4)
    with forward_ad.dual_level():
        k = NAMES.index(name)
        given[k] = forward_ad.make_dual(given[k], torch.ones_like(given[k]))
        with pytest.raises((RuntimeError, NotImplementedError), match=r"jvp|forward"):
            block_filter(*given)


def test_operators_are_registered_correctly() -> None:
    given = example(2, 6, 5, 3, 4)
    torch.library.opcheck(torch.ops.transferfn.blocks.default, tuple(given))
    kept = torch.ops.transferfn.blocks(*given)[2]
    gradients = (given[0], given[-1], *given, kept)
    torch.library.opcheck(torch.ops.transferfn.blocks_backward.default, gradients)


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (2, 4, 0)], ids=["B0", "L0", "D0"])
def test_empty_signals_have_zero_gradients(shape) -> None:
    given = example(*shape, 2, 4)
    leaves = [x.requires_grad_() for x in given]
    y, after = block_filter(*leaves)
    assert y.shape == shape
    assert torch.equal(after, given[-1])
    gradients = torch.autograd.grad(y.sum() + after.sum(), leaves)
    assert all(not x.any() for x in gradients[1:5])
    assert torch.equal(gradients[5], torch.ones_like(given[-1]))


def test_neither_threads_nor_calls_change_a_bit() -> None:
    given = example(8, 1025, 20, 60, 256, torch.float32)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            found.append(with_gradients(block_filter, given))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0][name], other[name]) for other in found[1:] for name in found[0])
