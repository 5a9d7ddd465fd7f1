from __future__ import annotations

import pytest
import torch

from transferfn.ops.fourier import (
    convolve,
    convolve_both_ways,
    convolve_both_ways_by_torch,
    convolve_by_torch,
    fast_length,
)

LENGTHS = pytest.mark.parametrize("length", [1, 2, 9, 64, 257])


def assert_near(ours: torch.Tensor, plain: torch.Tensor) -> None:
    scale = plain.abs().max()
    assert (ours - plain).abs().max() <= 16 * torch.finfo(plain.dtype).eps * scale


@LENGTHS
def test_native_loops_and_torch_agree(length, device, dtype) -> None:
    u = torch.randn(2, length, 5, device=device, dtype=dtype)
    causal, ahead = torch.randn(2, 5, length + 3, device=device, dtype=dtype) / length**0.5
    for ours, plain in zip(convolve(u, causal, ahead), convolve_by_torch(u, causal, ahead), strict=True):
        assert_near(ours, plain)
    assert_near(convolve_both_ways(u, causal, ahead), convolve_both_ways_by_torch(u, causal, ahead))


def test_fast_lengths_are_the_next_ones() -> None:
    allowed = sorted(2**i * 3**j * 5**k for i in range(12) for j in range(8) for k in range(6))
    assert all(fast_length(n) == next(x for x in allowed if x >= n) for n in range(1, 2000))
