"""The diagonal recurrence x_t = a x_(t-1) + v_t over complex states on CPU tensors, forward and backward.

No derivatives are registered here: :mod:`transferfn.ops.diagonal` has an autograd function around both.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Bool, Complex
from torch import Tensor

from transferfn.kernels import threads
from transferfn.kernels.arrays import in_memory


def scan(
    v: Complex[Tensor, "B L P"],
    a: Complex[Tensor, " P"],
    state: Complex[Tensor, "B P"] | None,
    cut: Bool[Tensor, "B L"] | None,
    reverse: bool,
) -> Complex[Tensor, "B L P"]:
    """All states of the recurrence, kept in complex128 on the way.

    Args:
        v: Inputs, complex64 or complex128.
        a: Multipliers.
        state: State before the first sample, in the order of the recurrence; None means rest.
        cut: Where a state does not continue the one before it, in the order of the recurrence; None means nowhere.
        reverse: Whether to run from the last sample to the first.

    Returns:
        States, in the type of ``v``.

    Example:
        >>> scan(torch.ones(1, 3, 1) + 0j, torch.tensor([0.5j]), None, None, False).flatten()
        tensor([1.0000+0.0000j, 1.0000+0.5000j, 0.7500+0.5000j])
    """
    from transferfn.kernels import _diagonal as loops

    x = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    arrays = (_pairs(v), _pairs(a.to(torch.complex128)), _state(state, v), _mask(cut), reverse, _pairs(x))
    _over_tiles(loops.scan, arrays, v, loops.TILE)
    return x


@torch.library.custom_op("transferfn::diagonal_scan", mutates_args=())
@no_type_check
def scan_operator(v: Tensor, a: Tensor, state: Tensor | None, cut: Tensor | None, reverse: bool) -> Tensor:
    """The same for compiled graphs.

    Args:
        v: As for :func:`scan`.
        a: As for :func:`scan`.
        state: As for :func:`scan`.
        cut: As for :func:`scan`.
        reverse: As for :func:`scan`.
    """
    return scan(v, a, state, cut, reverse)


@scan_operator.register_fake
def _(v, a, state, cut, reverse):
    return v.new_empty(v.shape)


def scan_adjoint(
    gx: Complex[Tensor, "B L P"],
    a: Complex[Tensor, " P"],
    x: Complex[Tensor, "B L P"],
    state: Complex[Tensor, "B P"] | None,
    cut: Bool[Tensor, "B L"] | None,
    reverse: bool,
) -> tuple[Complex[Tensor, "B L P"], Complex[Tensor, " P"], Complex[Tensor, "B P"] | None]:
    """Gradients of :func:`scan` at its inputs, multipliers and state.

    Args:
        gx: Gradient at the states.
        a: Multipliers.
        x: The states.
        state: State before the first sample; None means rest.
        cut: As for :func:`scan`.
        reverse: As for :func:`scan`.

    Returns:
        Gradient at v; at a, in complex128; and at the state, if there is one.
    """
    from transferfn.kernels import _diagonal as loops

    gv = torch.empty(gx.shape, dtype=gx.dtype, device=gx.device)
    ga = gx.new_zeros(gx.shape[0], gx.shape[2], dtype=torch.complex128)
    gstate = None if state is None else gx.new_zeros(state.shape)
    arrays = (
        _pairs(gx), _pairs(a.to(torch.complex128)), _pairs(x), _state(state, gx), _mask(cut), reverse,
        _pairs(gv), _pairs(ga), _state(gstate, gx),
    )  # fmt: skip
    _over_tiles(loops.adjoint, arrays, gx, loops.TILE)
    return gv, ga.sum(0), gstate


def _pairs(z: Tensor) -> Any:
    """Real and imaginary parts side by side along the last axis, as an array."""
    return torch.view_as_real(in_memory(z.detach().resolve_conj()).contiguous()).flatten(-2).numpy()


def _state(state: Tensor | None, v: Tensor) -> Any:
    return (
        np.empty((0, 0), np.float32 if v.dtype == torch.complex64 else np.float64) if state is None else _pairs(state)
    )


def _mask(cut: Tensor | None) -> Any:
    return np.empty((0, 0), np.bool_) if cut is None else cut.contiguous().numpy()


def _over_tiles(loop: Any, arrays: tuple[Any, ...], v: Tensor, tile: int) -> None:
    batch, _, states = v.shape
    if v.numel():
        threads.split(lambda i, j: loop(*arrays, i, j), batch * -(-states // tile), cost=8 * v.numel())
