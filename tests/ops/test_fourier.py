"""Convolution by FFT, and what a state forces, against their sums."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from ops.naive import error
from transferfn.ops.fourier import (
    convolve,
    convolve_both_ways,
    convolve_both_ways_by_torch,
    convolve_by_torch,
    fast_length,
    forcing,
)

WAYS = ((convolve, convolve_both_ways), (convolve_by_torch, convolve_both_ways_by_torch))  # of the CPU, of any device


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_fast_lengths_are_the_next_of_their_form() -> None:
    smooth = sorted(2**i * 3**j * 5**k for i in range(12) for j in range(8) for k in range(6))
    for length in range(1, 2049):
        assert fast_length(length) == next(size for size in smooth if size >= length)


@settings(max_examples=40)
@given(length=st.integers(1, 40), channels=st.integers(1, 3), extra=st.integers(0, 5))
def test_convolutions_are_their_sums(length: int, channels: int, extra: int) -> None:
    u = draw(2, length, channels)
    past, future = draw(channels, length + extra, seed=1), draw(channels, length + extra, seed=2)
    causal, ahead = torch.zeros_like(u), torch.zeros_like(u)
    for t in range(length):
        for s in range(length):
            if s <= t:
                causal[:, t] += past[:, t - s] * u[:, s]
            else:
                ahead[:, t] += future[:, s - t - 1] * u[:, s]
    for one_way, both_ways in WAYS:
        found, other = one_way(u, past, future)
        assert error(found, causal) <= 1
        assert error(other, one_way(u, future)[0]) <= 1
        assert error(both_ways(u, past, future), causal + ahead) <= 1
        assert error(one_way(u.float(), past)[0], causal) <= 1


@settings(max_examples=40)
@given(length=st.integers(1, 12), order=st.integers(0, 8))
def test_forcing_is_its_sum(length: int, order: int) -> None:
    c, state = draw(3, order), draw(2, 3, order, seed=1)
    expected = torch.zeros(2, length, 3, dtype=torch.float64)
    for t in range(length):
        for i in range(t + 1, order + 1):
            expected[:, t] += c[:, i - 1] * state[..., i - t - 1]
    assert error(forcing(c, state, length), expected) <= 1


def test_derivatives() -> None:
    u, past, future = (x.requires_grad_() for x in (draw(2, 5, 2), draw(2, 5, seed=1), draw(2, 5, seed=2)))
    for one_way, both_ways in WAYS:
        assert gradcheck(one_way, (u, past, future))
        assert gradcheck(both_ways, (u, past, future))
    assert gradcheck(lambda c, state: forcing(c, state, 5), (past, draw(3, 2, 5).requires_grad_()))
