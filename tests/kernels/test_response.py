from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from transferfn.kernels.response import last_responses, untruncated, untruncated_by_torch


def plain_loop(a: Tensor, length: int, count: int) -> Tensor:
    g = [torch.zeros_like(a[:, 0])] * (count + a.shape[1])
    for t in range(length):
        g.append(float(t == 0) - sum((a[:, i] * g[-1 - i] for i in range(a.shape[1])), torch.zeros_like(a[:, 0])))
    return torch.stack(g[len(g) - count :], 1)


@pytest.mark.parametrize("groups", [1, 8, 19])
@pytest.mark.parametrize(
    ("order", "length", "count"), [(1, 1, 1), (2, 3, 7), (5, 128, 9), (7, 261, 13), (130, 300, 259)]
)
def test_values_and_gradients_are_those_of_the_loop(order, length, count, groups, generator) -> None:
    # The sum of |a_i| is below 1: nothing grows, so that errors are those of rounding numbers below 1.
    a = (torch.rand(groups, order, dtype=torch.float64, generator=generator) - 0.5) * (1.8 / order)
    ours, plain = a.clone().requires_grad_(), a.clone().requires_grad_()
    y, z = last_responses(ours, length, count), plain_loop(plain, length, count)
    assert torch.allclose(y, z, rtol=0, atol=1e-14)
    weights = torch.randn(z.shape, dtype=torch.float64, generator=generator)
    gradients = torch.autograd.grad(y, ours, weights)[0], torch.autograd.grad(z, plain, weights)[0]
    assert torch.allclose(*gradients, rtol=0, atol=1e-12)
    single = last_responses(a.float(), length, count)
    assert torch.allclose(single, z.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("order", "length", "count"), [(1, 4, 2), (3, 4, 5), (3, 9, 5)])
def test_derivatives_to_third_order(order, length, count, generator) -> None:
    function = functools.partial(last_responses, length=length, count=count)
    a = (torch.randn(2, order, dtype=torch.float64, generator=generator) * 0.4).requires_grad_()
    assert gradcheck(function, (a,))
    assert gradgradcheck(function, (a,))
    assert gradgradcheck(torch.func.grad(lambda x: function(x).pow(3).sum()), (a,))


def test_vmap_and_forward_mode(generator) -> None:
    a = torch.randn(3, 2, 4, dtype=torch.float64, generator=generator) * 0.2
    each = torch.vmap(lambda x: last_responses(x, 20, 6), 1)(a)
    assert torch.equal(each[1], last_responses(a[:, 1], 20, 6))
    with forward_ad.dual_level(), pytest.raises((RuntimeError, NotImplementedError), match=r"jvp|forward"):
        last_responses(forward_ad.make_dual(a[0], a[0]), 20, 6)


def test_the_operator_is_registered_correctly() -> None:
    torch.library.opcheck(torch.ops.transferfn.tail.default, (torch.randn(3, 2), 9, 4, 2))


def conversion(channels, groups, order, generator, dtype=torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    def uniform(*shape: int) -> Tensor:
        return (torch.rand(*shape, generator=generator, dtype=torch.float64) * 2 - 1).to(dtype)

    return uniform(channels, order), uniform(groups, order) * 1.5 / order, uniform(channels)


def by_torch(b_tilde: Tensor, a: Tensor, h0_tilde: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    recursions = last_responses(a, horizon, 2 * a.shape[1] - 1).flip(-1)
    return untruncated_by_torch(b_tilde, a, h0_tilde, recursions)


@pytest.mark.parametrize(
    ("channels", "groups", "order", "horizon"),
    [(1, 1, 1, 2), (6, 3, 3, 9), (34, 17, 8, 130), (8, 1, 5, 300), (9, 9, 70, 71)],
)
def test_conversions_and_their_gradients_are_those_of_torch(channels, groups, order, horizon, generator) -> None:
    given = conversion(channels, groups, order, generator)
    leaves = [x.clone().requires_grad_() for x in given]
    b, h0, growth = untruncated(*leaves, horizon)
    plain = [x.clone().requires_grad_() for x in given]
    expected = by_torch(*plain, horizon)
    weights = [torch.randn(x.shape, dtype=x.dtype, generator=generator) for x in expected]
    gradients = torch.autograd.grad((b, h0), leaves, weights)
    by_operations = torch.autograd.grad(expected, plain, weights)
    for ours, theirs in zip((b, h0, *gradients), (*expected, *by_operations), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)
    largest = last_responses(given[1], horizon, 2 * order - 1).abs().amax(-1)
    assert torch.allclose(growth, largest, rtol=1e-12, atol=0)
    for single, double in zip(untruncated(*(x.float() for x in given), horizon), (b, h0, growth), strict=True):
        assert single.dtype == torch.float64
        assert torch.allclose(single, double, rtol=0, atol=1e-5)


def test_growth_beyond_the_largest_number_is_infinite() -> None:
    ones = torch.ones(2, 1, dtype=torch.float64)
    *_, growth = untruncated(ones, torch.tensor([[-4.0], [-0.5]], dtype=torch.float64), ones[:, 0], 2000)
    assert growth[0] == torch.inf
    assert growth[1] < 1


def test_derivatives_of_conversions_to_second_order(generator) -> None:
    inputs = [x.requires_grad_() for x in conversion(4, 2, 3, generator)]

    def function(*inputs: Tensor) -> tuple[Tensor, ...]:
        return untruncated(*inputs, 7)[:2]

    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


def test_vmap_and_operators_of_conversions(generator) -> None:
    banks = [torch.stack([x, -x, 0.5 * x], 1) for x in conversion(4, 2, 3, generator)]
    each = torch.vmap(lambda *x: untruncated(*x, 9)[:2], 1)(*banks)
    for k in range(3):
        one = untruncated(*(x[:, k] for x in banks), 9)
        assert all(torch.equal(ours[k], alone) for ours, alone in zip(each, one, strict=False))
    b_tilde, a, h0_tilde = (x[:, 0] for x in banks)
    torch.library.opcheck(torch.ops.transferfn.untruncate.default, (b_tilde, a, h0_tilde, 9))
    torch.library.opcheck(torch.ops.transferfn.untruncate_gradients.default, (b_tilde, h0_tilde, b_tilde, a, 9))
    with forward_ad.dual_level(), pytest.raises((RuntimeError, NotImplementedError), match=r"jvp|forward"):
        untruncated(b_tilde, forward_ad.make_dual(a, a), h0_tilde, 9)
