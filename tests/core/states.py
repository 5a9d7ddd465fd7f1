"""Small state-space systems, and what they mean: one readable loop over time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from transferfn.core.dense import DenseSystem
from transferfn.core.dplr import DPLR
from transferfn.core.modal import ModalSystem

D, N = 3, 4  # channels; stored modes
F64 = torch.float64

# Modes here have |A| of at most 0.95, so that what an input leaves adds up to at most 20 times itself. Sums of a few
# hundred products of numbers of order 1, relative to results of order 1: 1e4 eps are more than they lose.
ROUNDING = 1e4


def modal(*, is_real: bool = False, outputs: int = 0) -> ModalSystem:
    draw = _draw()
    radius, angle = 0.95 * torch.rand(D, N, generator=draw[0], dtype=F64), draw[1](D, N)
    bank = (outputs,) * bool(outputs)
    if is_real:
        return ModalSystem(radius, draw[1](D, N), draw[1](*bank, D, N), draw[1](*bank, D))
    modes = torch.view_as_complex(draw[1](2, D, N, 2))
    return ModalSystem(
        torch.polar(radius, 3 * angle), modes[0], torch.view_as_complex(draw[1](*bank, D, N, 2)), draw[1](*bank, D)
    )


def dplr(*, rank: int = 1, outputs: int = 0) -> tuple[DPLR, Tensor, Tensor]:
    """A stable continuous system, an output vector and a feedthrough."""
    draw = _draw()[1]
    Lambda = torch.complex(-0.2 - draw(D, N).abs(), 3 * draw(D, N))
    bank = (outputs,) * bool(outputs)
    P, B, C = (torch.view_as_complex(draw(*shape, N, 2)) for shape in ((D, rank), (D,), (*bank, D)))
    return DPLR(Lambda, P, B, torch.tensor([0.1, 0.4, 1.3], dtype=F64)), C, draw(*bank, D)


def dense(*, rank: int = 1, outputs: int = 0) -> DenseSystem:
    system, C, feedthrough = dplr(rank=rank, outputs=outputs)
    return system.bilinear(C, feedthrough).dense()


SYSTEMS: dict[str, Callable[..., ModalSystem | DenseSystem]] = {
    "complex": modal,
    "real": lambda **options: modal(is_real=True, **options),
    "dense": dense,
}


def tensors(system: Any) -> list[Tensor]:
    return [system.A, system.B, system.C, system.D]


def leaves(system: Any) -> Any:
    """The same system, its coefficients waiting for gradients."""
    return type(system)(*(x.detach().clone().requires_grad_() for x in tensors(system)))


def loop(
    system: Any, u: Tensor, state: Tensor | None = None, lengths: Tensor | None = None, resets: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Row by row and sample by sample: x = A x + B u, y = C x + D u."""
    is_dense = isinstance(system, DenseSystem)
    ys, states = [], []
    for row in range(len(u)):
        x = u.new_zeros(system.state_shape) if state is None else state[row]
        x = x.flatten(1) if is_dense else torch.view_as_complex(x.contiguous()) if system.A.is_complex() else x
        end = u.shape[1] if lengths is None else int(lengths[row])
        y = []
        for t in range(u.shape[1]):
            if t >= end:
                y.append(torch.zeros_like(u[row, t]))
                continue
            if resets is not None and resets[row, t]:
                x = torch.zeros_like(x)
            moved = (system.A @ x[..., None])[..., 0] if is_dense else system.A * x
            x = moved + system.B * u[row, t][:, None]
            out = (system.C * x).sum(-1)
            y.append((2 * out.real if out.is_complex() else out) + system.D * u[row, t])
        ys.append(torch.stack(y))
        states.append(x.unflatten(1, (-1, 2)) if is_dense else torch.view_as_real(x) if x.is_complex() else x)
    return torch.stack(ys), torch.stack(states)


def a_signal(batch: int, length: int, *, seed: int = 1) -> Tensor:
    return torch.randn(batch, length, D, generator=torch.Generator().manual_seed(seed), dtype=F64)


def a_state(system: Any, batch: int) -> Tensor:
    return torch.randn(batch, *system.state_shape, generator=torch.Generator().manual_seed(2), dtype=F64)


def _draw() -> tuple[torch.Generator, Callable[..., Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return generator, lambda *shape: torch.randn(*shape, generator=generator, dtype=F64)
