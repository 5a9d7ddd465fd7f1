"""Filtering by FFT: any device, at a cost that does not depend on the order. CPUs have native loops for it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from transferfn.kernels.arrays import smooth_numbers
from transferfn.kernels.convolution import convolution
from transferfn.typing import Signal

FEWEST = 8  # signals side by side from which native loops, which transform 16 at a time, beat PyTorch's transforms

LongKernel = Float[Tensor, "D _"]  # at least as many samples as the signal


def fast_length(length: int) -> int:
    """The next number of the form 2^i 3^j 5^k, whose FFT is fast.

    Args:
        length: Least number of points, at least 1.

    Example:
        >>> fast_length(1567)
        1600
    """
    return smooth_numbers(length)[0]


def convolve(u: Signal, *kernels: LongKernel) -> tuple[Signal, ...]:
    """Causal convolution with one kernel a channel, the same input for each bank of kernels.

    Args:
        u: Input, (B, L, D).
        kernels: Impulse responses of at least L samples, (D, >= L) each; any floating type.

    Returns:
        One output (B, L, D) for each bank.
    """
    if has_native_loop(u):
        return tuple(convolution(u, k) for k in kernels)
    return convolve_by_torch(u, *kernels)


def has_native_loop(u: Signal) -> bool:
    """Whether native loops convolve a signal.

    Args:
        u: The signal, (B, L, D).
    """
    return u.device.type == "cpu" and u.shape[0] * u.shape[2] >= FEWEST


def convolve_by_torch(u: Signal, *kernels: LongKernel) -> tuple[Signal, ...]:
    """Do what :func:`convolve` does, with PyTorch's transforms.

    Args:
        u: Input, (B, L, D).
        kernels: Impulse responses of at least L samples, (D, >= L) each; any floating type.
    """
    length = u.shape[1]
    size = fast_length(2 * length - 1)
    spectrum = torch.fft.rfft(u.mT.contiguous(), size)
    return tuple(
        torch.fft.irfft(spectrum * torch.fft.rfft(k[..., :length].to(u.dtype), size), size)[
            ..., :length
        ].mT.contiguous()
        for k in kernels
    )


def convolve_both_ways(u: Signal, causal: LongKernel, anticausal: LongKernel) -> Signal:
    """y_t = sum_(s<=t) kc_(t-s) u_s + sum_(s>t) ka_(s-t-1) u_s, for any length, in one pass.

    Args:
        u: Input, (B, L, D).
        causal: Response kc to the present and the past, (D, >= L).
        anticausal: Response ka to the future, (D, >= L - 1).

    Returns:
        Output, (B, L, D).
    """
    if has_native_loop(u):
        return convolution(u, causal, anticausal)
    return convolve_both_ways_by_torch(u, causal, anticausal)


def convolve_both_ways_by_torch(u: Signal, causal: LongKernel, anticausal: LongKernel) -> Signal:
    """Do what :func:`convolve_both_ways` does, with PyTorch's transforms.

    Args:
        u: Input, (B, L, D).
        causal: Response kc to the present and the past, (D, >= L).
        anticausal: Response ka to the future, (D, >= L - 1).
    """
    length = u.shape[1]
    size = fast_length(2 * length - 1)
    gap = causal.new_zeros(causal.shape[0], size - (2 * length - 1))
    around = torch.cat((causal[:, :length], gap, anticausal[:, : length - 1].flip(-1)), -1).to(u.dtype)
    spectrum = torch.fft.rfft(u.mT.contiguous(), size) * torch.fft.rfft(around, size)
    return torch.fft.irfft(spectrum, size)[..., :length].mT.contiguous()


def forcing(c: Tensor, state: Tensor, length: int) -> Tensor:
    """What coefficients c_1..c_n take from the samples before a signal: f_t = sum_(i>t) c_i w_(t-i).

    Args:
        c: Coefficients, (D, n).
        state: w_(-1), ..., w_(-n), (B, D, n).
        length: Number of samples L.

    Returns:
        f_0..f_(L-1), zero from n on, (B, L, D).
    """
    n = c.shape[-1]
    rows = torch.nn.functional.pad(c, (0, n)).unfold(-1, n, 1)[:, : min(n, length)]  # row t holds c_(t+1), ..., c_n
    head = torch.einsum("dtn,bdn->btd", rows.to(state.dtype), state)
    return torch.nn.functional.pad(head, (0, 0, 0, length - head.shape[1]))
