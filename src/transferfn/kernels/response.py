"""The last samples of the impulse response of 1/A(z), of which nothing else is kept, as a differentiable operator.

The derivative of 1/A^p with respect to a_i is -p z^-i / A^(p+1): the same operator with another power.
"""

from __future__ import annotations

from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from transferfn.kernels import threads
from transferfn.kernels.arrays import lanes


def last_responses(a: Float[Tensor, "G n"], length: int, count: int) -> Float[Tensor, "G _"]:
    """Samples g_(length-count), ..., g_(length-1) of the impulse response g of 1/A(z), from its recurrence.

    Args:
        a: Denominators a_1..a_n, (G, n), float32 or float64, on the CPU.
        length: Number of samples of the response.
        count: How many of them, from the end; those before the first are zero.

    Returns:
        The samples, (G, count).

    Example:
        >>> last_responses(torch.tensor([[-0.5]]), 3, 4)
        tensor([[0.0000, 1.0000, 0.5000, 0.2500]])
    """
    return _Tail.apply(a, length, count, 1)


@torch.library.custom_op("transferfn::tail", mutates_args=())
@no_type_check
def _tail(a: Tensor, length: int, count: int, power: int) -> Tensor:
    from transferfn.kernels import _scan as loops

    groups, order = a.shape
    samples = a.new_zeros(groups, count)
    if groups:
        width = lanes(a)
        arrays = a.detach().mT.contiguous().numpy(), length, samples.numpy(), (power, groups, width)
        cost = groups * length * (order + 1) * power
        threads.split(lambda i, j: loops.tail(*arrays, i, j), -(-groups // width), cost=cost)
    return samples


@_tail.register_fake
def _(a, length, count, power):
    return a.new_empty(a.shape[0], count)


@_tail.register_vmap
def _(info, in_dims, a, length, count, power):
    a = a.movedim(in_dims[0], 0)
    return _tail(a.flatten(0, 1), length, count, power).unflatten(0, a.shape[:2]), 0


class _Tail(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(a, length, count, power):
        return _tail(a, length, count, power)

    @staticmethod
    def setup_context(ctx, inputs, output):
        a, *ctx.scalars = inputs
        ctx.save_for_backward(a)

    @staticmethod
    def backward(ctx, c):
        (a,), (length, count, power) = ctx.saved_tensors, ctx.scalars
        order = a.shape[1]
        delayed = _Tail.apply(
            a, length, count + order, power + 1
        )  # the sample i before that of c_j is at order + j - i
        each_delay = delayed[:, : count + order - 1].unfold(1, count, 1).flip(1)
        return -power * (each_delay @ c[..., None])[..., 0], None, None, None
