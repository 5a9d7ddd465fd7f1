from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from transferfn.kernels.response import last_responses


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
