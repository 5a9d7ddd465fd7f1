"""Diagonal plus low rank systems: A = diag(Lambda) - P P^*, in conjugate pairs of modes, discretized bilinearly."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from transferfn.core.dense import DenseSystem


@dataclasses.dataclass(frozen=True, eq=False)
class DPLR:
    """D systems in continuous time, one of each pair of conjugate modes stored: dx/dt = A x + B u.

    With Lambda_f = [Lambda, conj(Lambda)] and so on, A = diag(Lambda_f) - sum_r P_rf P_rf^*, a real system of size N.

    Attributes:
        Lambda: Eigenvalues of the diagonal part, complex, (D, N/2).
        P: Low rank factors, complex, (D, R, N/2).
        B: Input vector, complex, (D, N/2).
        dt: Step sizes, (D).
    """

    Lambda: Tensor
    P: Tensor
    B: Tensor
    dt: Tensor

    def bilinear(self, C: Tensor, D: Tensor) -> DiscreteDPLR:
        """The system in discrete time, with an output y_t = 2 Re(C . x_t) + D u_t.

        A_bar = (I - dt A / 2)^-1 (I + dt A / 2) = 2 E - I and B_bar = dt E B, with E = (I - dt A / 2)^-1 from
        Woodbury's identity, so that A_bar is diagonal plus low rank, too.

        Args:
            C: Output vectors, complex, (*bank, D, N/2).
            D: Feedthrough, real, (*bank, D).
        """
        d = 1 - self.Lambda * (self.dt[:, None] / 2)
        Q = self.P / d[:, None]
        # In real numbers A is L - 2 p p^T, so that E is (L_d + dt p p^T)^-1 with p^T x = Re(P^* x).
        inner = (self.P.conj() @ Q.mT).real + torch.diag_embed((1 / self.dt)[:, None].expand(self.P.shape[:2]))
        h = torch.linalg.solve(inner.to(Q.dtype), self.P.conj() / d[:, None])
        B = self.B / d - (Q * (h * self.B[:, None]).sum(-1, keepdim=True).real).sum(1)
        return DiscreteDPLR(2 / d - 1, 2 * Q, h, self.dt[:, None] * B, C, D)


@dataclasses.dataclass(frozen=True, eq=False)
class DiscreteDPLR:
    """D systems in discrete time, one of each pair of conjugate modes stored.

    x_t = a x_(t-1) - sum_r g_r Re(h_r . x_(t-1)) + B u_t,   y_t = 2 Re(C . x_t) + D u_t

    Attributes:
        a: Diagonal part, complex, (D, N/2).
        g: Left low rank factors, complex, (D, R, N/2).
        h: Right low rank factors, complex, (D, R, N/2).
        B: Input vector, complex, (D, N/2).
        C: Output vectors, complex, (*bank, D, N/2).
        D: Feedthrough, real, (*bank, D).
    """

    a: Tensor
    g: Tensor
    h: Tensor
    B: Tensor
    C: Tensor
    D: Tensor

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the recurrence, at a cost of O(N).

        Args:
            u: Sample, (B, D).
            state: State before it, (B, D, N/2, 2).

        Returns:
            Output, (B, D), and the state after it.
        """
        kind = torch.promote_types(u.dtype, torch.complex64)
        a, g, h, B, C = (x.to(kind) for x in (self.a, self.g, self.h, self.B, self.C))
        x = torch.view_as_complex(state.contiguous())
        inner = (h * x[:, :, None]).sum(-1).real  # (B, D, R)
        x = a * x + B * u[..., None] - (inner[..., None] * g).sum(2)
        return 2 * (C * x).sum(-1).real + self.D.to(u.dtype) * u, torch.view_as_real(x)

    def matrix(self) -> Tensor:
        """A_bar as it acts on real and imaginary parts side by side, real, (D, N, N)."""
        a, b = self.a.real, self.a.imag
        blocks = torch.stack((torch.stack((a, -b), -1), torch.stack((b, a), -1)), -2)  # (D, N/2, 2, 2)
        diagonal = torch.diag_embed(blocks.movedim(1, -1)).permute(0, 3, 1, 4, 2)  # (D, N/2, 2, N/2, 2)
        low_rank = side_by_side(self.g).mT @ side_by_side(self.h.conj())
        return diagonal.flatten(3).flatten(1, 2) - low_rank

    def dense(self) -> DenseSystem:
        """The same systems in real numbers, with full state matrices."""
        return DenseSystem(self.matrix(), side_by_side(self.B), output_row(self.C), self.D)


def side_by_side(z: Tensor) -> Tensor:
    """Real and imaginary parts of modes as one real vector.

    Args:
        z: Modes, complex, (..., N/2).

    Returns:
        (..., N).

    Example:
        >>> side_by_side(torch.tensor([1 + 2j, 3 - 4j]))
        tensor([ 1.,  2.,  3., -4.])
    """
    return torch.view_as_real(z.resolve_conj()).flatten(-2)


def output_row(C: Tensor) -> Tensor:
    """The real row c such that c . side_by_side(x) is 2 Re(C . x).

    Args:
        C: Output vector, complex, (..., N/2).

    Returns:
        (..., N).

    Example:
        >>> output_row(torch.tensor([1 + 2j]))
        tensor([ 2., -4.])
    """
    return 2 * side_by_side(C.conj())


def output_modes(row: Tensor) -> Tensor:
    """Undo :func:`output_row`.

    Args:
        row: Real row, (..., N).

    Returns:
        C, complex, (..., N/2).

    Example:
        >>> output_modes(torch.tensor([2.0, -4.0]))
        tensor([1.+2.j])
    """
    return torch.view_as_complex(row.unflatten(-1, (-1, 2)) / 2).conj().resolve_conj()


def truncate(row: Tensor, A: Tensor, horizon: int) -> Tensor:
    """Output row of the truncated generating function: c~ = c (I - A^horizon).

    Args:
        row: True output row c, (*bank, D, N).
        A: State matrix, (D, N, N).
        horizon: Number of samples P.

    Returns:
        c~, (*bank, D, N).
    """
    return row - _times(row, torch.linalg.matrix_power(A, horizon))


def untruncate(row: Tensor, A: Tensor, horizon: int) -> Tensor:
    """Undo :func:`truncate`: c = c~ (I - A^horizon)^-1.

    Args:
        row: Truncated output row c~, (*bank, D, N).
        A: State matrix, (D, N, N).
        horizon: Number of samples P.

    Returns:
        c, (*bank, D, N).
    """
    rest = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device) - torch.linalg.matrix_power(A, horizon)
    rows = row if row.dim() == 3 else row[None]  # as several right-hand sides of one system
    solved = torch.linalg.solve(rest.mT, rows.permute(1, 2, 0)).permute(2, 0, 1)
    return solved if row.dim() == 3 else solved[0]


def _times(row: Tensor, matrix: Tensor) -> Tensor:
    return (row[..., None, :] @ matrix)[..., 0, :]
