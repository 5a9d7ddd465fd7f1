"""Sums over conjugate pairs of poles at points of the unit circle: the work in training S4.

CPUs have native loops for them and for their gradients.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from transferfn.kernels import cauchy as native
from transferfn.kernels.tracing import is_eager, values_are_hidden

ROOM = 2**19  # numbers of each temporary, whatever the numbers of points, modes and channels


def cauchy(
    v: Complex[Tensor, "D K N"], poles: Complex[Tensor, "D N"], angles: Float[Tensor, " F"]
) -> Complex[Tensor, "D K F"]:
    r"""S_k(phi) = sum_n [ v_kn / (i sin phi - p_n cos phi) + conj(v_kn) / (i sin phi - conj(p_n) cos phi) ].

    With s = i tan phi that is a Cauchy sum, sum_n v_kn / (s - p_n) over pairs of poles, divided by cos phi; written
    like this it is finite at phi = pi / 2, too. Memory is that of inputs and output and a fixed number of temporaries:
    points are taken in groups, and computed again for derivatives.

    Args:
        v: Numerators, (D, K, N).
        poles: One of each pair of conjugate poles, of negative real part, (D, N).
        angles: phi, real, (F), between -pi / 2 and pi / 2.

    Returns:
        (D, K, F), in the type of the arguments.

    Source:
        Gu et al. 2022, arXiv:2111.00396, Appendix C.3.

    Example:
        >>> cauchy(torch.ones(1, 1, 1) + 0j, torch.full((1, 1), -1.0) + 0j, torch.zeros(1))
        tensor([[[2.+0.j]]])
    """
    # Over the common denominator a pair is (b cos + i a sin) / (cos^2 |p|^2 - sin^2 - 2 i sin cos Re p).
    real = torch.cat((2 * v.real, -2 * (v * poles.conj()[:, None]).real), 1)
    size, decay = poles.abs(), poles.real
    if poles.device.type == "cpu" and is_eager(real, size, decay):
        return _Native.apply(real, size, decay, angles)
    return _by_groups(real, size, decay, angles)


class _Native(torch.autograd.Function):
    @staticmethod
    def forward(ctx, real, size, decay, angles):
        ctx.save_for_backward(real, size, decay, angles)
        return native.sums(real, size, decay, angles).to(real.dtype.to_complex())

    @staticmethod
    def backward(ctx, g):
        real, size, decay, angles = ctx.saved_tensors
        if torch.is_grad_enabled():  # higher derivatives are rare: PyTorch's operations do

            def plain(real, size, decay):
                return _by_groups(real, size, decay, angles)

            return *torch.func.vjp(plain, real, size, decay)[1](g), None
        if not is_eager(g):  # gradients may come in batches
            with torch.enable_grad():
                real, size, decay = (x.detach().requires_grad_() for x in (real, size, decay))
                again = _by_groups(real, size, decay, angles)
                return *torch.autograd.grad(again, (real, size, decay), g), None
        found = native.gradients(g, real, size, decay, angles)
        return *(x.to(real.dtype) for x in found), None


def _by_groups(real: Tensor, size: Tensor, decay: Tensor, angles: Tensor) -> Tensor:
    """The same in PyTorch's operations, some points at a time."""
    points = max(ROOM // max(size.numel(), 1), 1)
    groups = angles.split(points)
    again = len(groups) > 1 and torch.is_grad_enabled() and not values_are_hidden()
    sums = [
        checkpoint(_sums, real, size, decay, phi, use_reentrant=False, preserve_rng_state=False)
        if again
        else _sums(real, size, decay, phi)
        for phi in groups
    ]
    return torch.cat(sums, -1)


def _sums(real: Tensor, size: Tensor, decay: Tensor, phi: Tensor) -> Tensor:
    cos, sin = phi.cos(), phi.sin()
    along, tall = cos * size[..., None], (-2 * sin * cos) * decay[..., None]  # (D, N, F)
    wide = (along - sin) * (along + sin)
    scale = 1 / (wide * wide + tall * tall)
    a, b = (real @ (wide * scale)).chunk(2, 1)  # 1 / (wide + i tall) is (wide - i tall) scale
    a_imag, b_imag = (real @ (tall * scale)).neg().chunk(2, 1)
    return torch.complex(cos * b - sin * a_imag, cos * b_imag + sin * a)
