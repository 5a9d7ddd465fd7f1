"""Sections one after the other against scipy's, channel by channel and section by section."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor

from transferfn.kernels.cascade import cascade


def filters(sections: int, channels: int, order: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    b = torch.randn(sections, channels, order + 1, dtype=torch.float64, generator=generator)
    a = torch.randn(sections, channels, order, dtype=torch.float64, generator=generator) / (2 * order)
    zi = torch.randn(sections, channels, order, dtype=torch.float64, generator=generator)
    return b, a, zi


@pytest.mark.parametrize("layout", ["time last", "time first", "strided"])
@pytest.mark.parametrize(("channels", "length"), [(1, 1), (3, 127), (8, 128), (16, 129), (33, 300)])
@pytest.mark.parametrize(("sections", "order"), [(3, 2), (1, 2), (1, 1), (2, 5)])
def test_it_is_scipys(sections: int, order: int, channels: int, length: int, layout: str, dtype: torch.dtype) -> None:
    b, a, zi = filters(sections, channels, order)
    x = torch.randn(channels, length, generator=torch.Generator().manual_seed(1)).to(dtype)
    given = {
        "time last": x,
        "time first": x.T.contiguous().T,
        "strided": torch.stack((x, torch.full_like(x, torch.nan)), -1)[..., 0],
    }[layout]
    for start in (None, zi):
        y, zf = cascade(given, b, a, start)
        assert y.dtype == dtype
        for c in range(channels):
            expected = x[c].double().numpy()
            for k in range(sections):
                begin = np.zeros(order) if start is None else start[k, c].numpy()
                expected, final = scipy.signal.lfilter(b[k, c].numpy(), [1, *a[k, c].tolist()], expected, zi=begin)
                np.testing.assert_allclose(zf[k, c], final, rtol=0, atol=1e-12 * (1 + abs(final).max()))
            scale = max(abs(expected).max(), float(zi.abs().max()))
            np.testing.assert_allclose(y[c], expected, rtol=0, atol=8 * torch.finfo(dtype).eps * scale)


def test_threads_change_nothing() -> None:
    b, a, zi = filters(4, 70, 2)
    x = torch.randn(70, 3000, generator=torch.Generator().manual_seed(1))
    found = []
    before = torch.get_num_threads()
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        try:
            found.append(cascade(x, b, a, zi))
        finally:
            torch.set_num_threads(before)
    for y, zf in found[1:]:
        assert torch.equal(y, found[0][0])
        assert torch.equal(zf, found[0][1])


def test_no_channels() -> None:
    y, zf = cascade(torch.ones(0, 5), torch.ones(2, 0, 3), torch.ones(2, 0, 2), None)
    assert (y.shape, zf.shape) == ((0, 5), (2, 0, 2))
