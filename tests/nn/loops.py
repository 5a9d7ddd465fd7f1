"""Diagonal state-space layers as one loop over rows and time in complex128: what their parallel form is held to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from laws.runs import cotangent


def by_loop(
    u: Tensor,
    a: Tensor,
    v: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor | None = None,
    *,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Outputs, zero past lengths, and final states as pairs, of x_t = a_t x_(t-1) + v_t, y_t = Re(C x_t) + D u_t.

    With two C the second reads a state that comes from the end.
    """
    batch, length, _ = u.shape
    ys, finals = [], []
    for row in range(batch):
        end = length if lengths is None else int(lengths[row])
        starts = [t for t in range(end) if resets is not None and resets[row, t]]
        x = v.new_zeros(v.shape[-1]) if state is None else torch.view_as_complex(state[row].contiguous())
        y = [torch.zeros_like(u[row, 0]) for _ in range(length)]
        for t in range(end):
            x = v[row, t] + (0 if t in starts else a[row, t] * x)
            y[t] = ((C if C.dim() == 2 else C[0]) @ x).real + D * u[row, t]
        finals.append(torch.view_as_real(x))
        if C.dim() == 3:
            z = torch.zeros_like(x)
            for t in reversed(range(end)):
                z = v[row, t] + a[row, t] * z
                y[t] = y[t] + (C[1] @ z).real
                z = torch.zeros_like(z) if t in starts else z
        ys.append(torch.stack(y))
    return torch.stack(ys), None if C.dim() == 3 else torch.stack(finals)


def gradients(found: tuple[Tensor, Tensor | None], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Output, state and gradients of a random combination of both."""
    values = {k: x for k, x in zip(("output", "state"), found, strict=True) if x is not None}
    loss: Any = sum((x * cotangent(x)).sum() for x in values.values())
    of = torch.autograd.grad(loss, list(inputs.values()))
    return {k: x.detach() for k, x in values.items()} | {f"gradient of {k}": x for k, x in zip(inputs, of, strict=True)}
