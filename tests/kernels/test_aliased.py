from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from transferfn.kernels.aliased import aliased_by_torch, aliased_response

ROUNDING = 64  # relative to the largest value, in units of eps; 19 was measured

SIZES = [
    # channels, denominators, order, period
    (1, 1, 1, 2),
    (3, 3, 2, 5),
    (8, 2, 3, 12),
    (9, 9, 4, 30),
    (16, 1, 5, 64),
    (2, 1, 3, 7),
    (9, 3, 5, 98),
    (16, 16, 5, 784),
    (3, 3, 8, 2401),
    (35, 5, 7, 1000),
    (3, 3, 64, 4096),
    (4, 2, 0, 8),
]


def example(channels: int, groups: int, order: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(channels)
    shapes = (channels, order), (groups, order), (channels,)
    b, a, h0 = (torch.rand(*shape, dtype=torch.float64, generator=generator) - 0.5 for shape in shapes)
    return [b.to(dtype), (a / max(order, 1)).to(dtype), h0.to(dtype)]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_values_and_gradients_are_those_of_torch(sizes, dtype) -> None:
    *shape, period = sizes
    found = []
    for run, kind in ((aliased_response, dtype), (aliased_by_torch, torch.float64)):
        leaves = [x.to(kind).requires_grad_() for x in example(*shape)]
        k = run(*leaves, period)
        weights = torch.sin(torch.arange(k.numel(), dtype=torch.float64)).view_as(k).to(kind)
        found.append((k, *torch.autograd.grad((k * weights).sum(), leaves)))
    for ours, plain in zip(*found, strict=True):
        assert ours.dtype == dtype
        if plain.numel():
            assert (ours - plain).abs().max() <= ROUNDING * torch.finfo(dtype).eps * plain.abs().max()


def test_a_channel_is_as_exact_beside_others_of_any_size(dtype) -> None:
    b, a, h0 = example(35, 5, 7, dtype)
    size = torch.tensor([1e-30, 1e15, 1.0, 0.0, 1e-6], dtype=dtype).repeat(7)[:, None]
    found = []
    for run, factor, kind in ((aliased_response, size, dtype), (aliased_by_torch, 1.0, torch.float64)):
        leaves = [(b * factor).to(kind).requires_grad_(), a.to(kind), 0 * h0.to(kind)]
        k = run(*leaves, 1000)
        weights = torch.sin(torch.arange(k.numel(), dtype=torch.float64)).view_as(k).to(kind)
        found.append((k, torch.autograd.grad((k * weights).sum(), leaves[0])[0]))
    (k, gb), (plain, plain_gb) = found
    allowed = ROUNDING * torch.finfo(dtype).eps
    assert ((k - plain * size).abs() <= allowed * size * plain.abs().amax(1, keepdim=True)).all()
    assert (gb - plain_gb).abs().max() <= allowed * plain_gb.abs().max()
    gradients = []
    for factor in (1.0, 1e15, 1e-15):
        leaf = a.clone().requires_grad_()
        (ga,) = torch.autograd.grad(aliased_response(b * factor, leaf, 0 * h0, 1000).square().mean().sqrt(), leaf)
        gradients.append(ga / factor)
    for scaled in gradients[1:]:
        assert (scaled - gradients[0]).abs().max() <= allowed * gradients[0].abs().max()


def test_first_and_second_derivatives_by_differences() -> None:
    inputs = [x.requires_grad_() for x in example(4, 2, 2)]
    assert gradcheck(lambda *c: aliased_response(*c, 6), inputs)
    assert gradgradcheck(lambda *c: aliased_response(*c, 6), inputs)


def test_a_pole_on_a_root_of_unity_is_held_at_rounding_error() -> None:
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in ([[1.0]], [[-1.0]], [0.0])]
    k, plain = (run(*leaves, 4) for run in (aliased_response, aliased_by_torch))
    assert torch.allclose(k, plain, rtol=1e-12)
    assert k.isfinite().all()
    assert all(x.isfinite().all() for x in torch.autograd.grad(k.sum(), leaves))


def test_vmap_gradients_of_each_and_forward_mode() -> None:
    b, a, h0 = example(4, 2, 3)
    many = torch.stack((b, 2 * b))

    def energy(b: Tensor) -> Tensor:
        return aliased_response(b, a, h0, 10).square().sum()

    each = torch.vmap(torch.func.grad(energy))(many)
    assert torch.allclose(each[1], torch.func.grad(energy)(2 * b), rtol=1e-12)
    with forward_ad.dual_level(), pytest.raises((RuntimeError, NotImplementedError), match=r"jvp|forward"):
        aliased_response(forward_ad.make_dual(b, b), a, h0, 10)


def test_operators_are_registered_correctly() -> None:
    b, a, h0 = example(4, 2, 3)
    torch.library.opcheck(torch.ops.transferfn.aliased.default, (b, a, h0, 10))
    torch.library.opcheck(torch.ops.transferfn.aliased_gradients.default, (torch.randn(4, 10).double(), b, a))
