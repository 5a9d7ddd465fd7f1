"""The native diagonal scan against the one in PyTorch's operations, which serves other devices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from transferfn.kernels import diagonal as native
from transferfn.ops import diagonal

ROUNDING = 64  # rounding errors allowed


def draw(batch: int, length: int, states: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs, stable multipliers, a state and cuts."""
    torch.manual_seed(0)
    v, state = torch.randn(batch, length, states, dtype=dtype), torch.randn(batch, states, dtype=dtype)
    a = torch.polar(torch.rand(states, dtype=torch.float64), torch.randn(states, dtype=torch.float64))
    return v, a, state, torch.rand(batch, length) < 0.1


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


@pytest.mark.parametrize("dtype", [torch.complex128, torch.complex64], ids=["f64", "f32"])
@pytest.mark.parametrize(
    ("options", "reverse"),
    [("bare", False), ("state", False), ("cuts", False), ("both", False), ("bare", True), ("cuts", True)],
)
@pytest.mark.parametrize("shape", [(1, 2, 1), (3, 101, 5), (2, 50, 130)], ids=str)
def test_values_and_gradients(shape: tuple[int, int, int], options: str, reverse: bool, dtype: torch.dtype) -> None:
    v, a, state, cut = draw(*shape, dtype)
    given = (state if options in ("state", "both") else None, cut if options in ("cuts", "both") else None)
    leaves = [x.to(torch.complex128).requires_grad_() for x in (v, a, *([state] if given[0] is not None else []))]
    expected = diagonal._scan(leaves[0], leaves[1], leaves[2] if len(leaves) > 2 else None, given[1], reverse)
    gx = torch.randn_like(expected)
    gradients = torch.autograd.grad(expected, leaves, gx)
    x = native.scan(v, a, *given, reverse)
    assert x.dtype == dtype
    found = [x for x in native.scan_adjoint(gx.to(dtype), a, x, *given, reverse) if x is not None]
    allowed = ROUNDING * torch.finfo(dtype).eps
    assert error(x, expected.detach()) <= allowed
    for one, other in zip(found, gradients, strict=True):
        assert error(one, other) <= allowed


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    v, a, state, cut = draw(4, 300, 70, torch.complex64)
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            x = native.scan(v, a, state, cut, False)
            found.append((x, *native.scan_adjoint(v, a, x, state, cut, False)))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(x, y) for x, y in zip(found[0], other, strict=True) if x is not None and y is not None)


def test_a_long_memory_keeps_its_digits_in_float32() -> None:
    """Multipliers are not rounded to the type of the signal."""
    v, a = torch.ones(1, 20000, 1, dtype=torch.complex64), torch.tensor([0.99995 + 0j], dtype=torch.complex128)
    truth = native.scan(v.to(torch.complex128), a, None, None, False)
    assert error(native.scan(v, a, None, None, False), truth) < 1e-7


def test_operators_are_what_they_say() -> None:
    v, a, state, cut = draw(2, 9, 3, torch.complex128)
    torch.library.opcheck(native.scan_operator, (v, a, state, cut, True), test_utils=("test_schema", "test_faketensor"))
