from __future__ import annotations

import pytest
import torch

from transferfn.core import lattice

ROUNDING = 32  # a rounding error of each stage is carried to the next, so times the order; 4 times it was measured


@pytest.mark.parametrize("rows", [1, 16, 37])
@pytest.mark.parametrize("order", [1, 2, 3, 8, 33])
def test_native_loops_do_what_torch_does(order, rows, dtype) -> None:
    raw, ga = torch.randn(2, rows, order, dtype=dtype)
    raw[0, 0] = 40  # saturated
    allowed = ROUNDING * order * torch.finfo(dtype).eps
    for ours, plain in (
        (lattice._lattice(raw), lattice._lattice_by_torch(raw)),
        (lattice._lattice_adjoint(raw, ga), lattice._lattice_adjoint_by_torch(raw, ga)),
    ):
        assert ours.isfinite().all()
        assert (ours - plain).abs().max() <= allowed * plain.abs().max()


def test_nothing_of_nothing() -> None:
    for shape in ((0, 3), (2, 0), (0, 0)):
        raw = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        a = lattice.lattice_denominator(raw)
        assert a.shape == shape
        assert torch.autograd.grad(a.sum(), raw)[0].shape == shape
