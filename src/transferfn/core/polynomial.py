"""Polynomials in batches: products, values on the unit circle, roots.

Coefficients run along the last axis. A denominator a_1..a_n stands for the monic A(z) = z^n + a_1 z^(n-1) + ... + a_n,
or in powers of z^-1 for 1 + a_1 z^-1 + ... + a_n z^-n.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from transferfn.kernels.arrays import smooth_numbers

LARGEST_DIRECT = 2**16  # multiply-adds of a product up to here need no FFT, and no large Toeplitz matrix


def monic(a: Tensor) -> Tensor:
    """Write out the leading 1 of a denominator.

    Args:
        a: Denominator a_1..a_n, (*bank, G, n).

    Returns:
        Coefficients 1, a_1, ..., a_n, (*bank, G, n + 1).
    """
    return pad(a, (1, 0), value=1.0)


def toeplitz(c: Tensor, rows: int, columns: int) -> Tensor:
    """Lower-triangular Toeplitz matrix of a polynomial: ``toeplitz(c, ...) @ x`` is the head of the product c * x.

    Args:
        c: Coefficients c_0..c_m, (*batch, m + 1).
        rows: Number of rows.
        columns: Number of columns.

    Returns:
        Matrix with entry (i, j) equal to c_(i-j), zero outside 0..m, (*batch, rows, columns).
    """
    c = c[..., :rows]
    padded = pad(c, (columns - 1, rows - c.shape[-1]))
    return padded.unfold(-1, columns, 1).flip(-1)


def multiply(p: Tensor, q: Tensor, *, keep: int | None = None) -> Tensor:
    """Multiply two polynomials: by the definition when they are short, by FFT when they are long.

    The definition is exact to rounding in each coefficient, the FFT to rounding of the largest one.

    Args:
        p: Coefficients, (*batch, m).
        q: Coefficients, (*batch, k), leading axes broadcast with those of p.
        keep: Number of coefficients of the product that are wanted; None means all.

    Returns:
        Coefficients of the product, (*batch, m + k - 1), or the first of them.

    Example:
        >>> multiply(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0, 1.0]))
        tensor([1., 5., 7., 2.])
    """
    if p.shape[-1] < q.shape[-1]:
        p, q = q, p
    size = p.shape[-1] + q.shape[-1] - 1
    rows = size if keep is None else min(keep, size)
    if p.shape[-1] * q.shape[-1] > LARGEST_DIRECT:
        points = smooth_numbers(size)[0]
        return torch.fft.irfft(torch.fft.rfft(p, points) * torch.fft.rfft(q, points), points)[..., :rows]
    return (toeplitz(p, rows, q.shape[-1]) @ q[..., None])[..., 0]


def companion(a: Tensor) -> Tensor:
    """Companion matrix with the coefficients in its first row.

    Args:
        a: Denominator, (*bank, n).

    Returns:
        Matrix A of x' = A x + e_1 u, (*bank, n, n).

    Example:
        >>> companion(torch.tensor([0.5, 0.25]))
        tensor([[-0.5000, -0.2500],
                [ 1.0000,  0.0000]])
    """
    n = a.shape[-1]
    shift = torch.eye(n, dtype=a.dtype, device=a.device)[:-1].expand(*a.shape[:-1], max(n - 1, 0), n)
    return torch.cat((-a[..., None, :], shift), -2)[..., :n, :]


def on_circle(c: Tensor, points: int) -> Tensor:
    """Values of c_0 + c_1 z^-1 + ... at the roots of unity z = exp(2 pi i m / points), m = 0..points // 2.

    Args:
        c: Coefficients c_0..c_m, (*batch, m + 1), at most ``points`` of them.
        points: Number of roots of unity around the circle.

    Returns:
        Complex values, (*batch, points // 2 + 1).
    """
    return torch.fft.rfft(c, points)


def roots(a: Tensor, *, rounding: float = 0.0) -> tuple[Tensor, Tensor]:
    """Roots of the monic A(z), and how far rounding of its coefficients can move each.

    Args:
        a: Denominator, (*bank, n), float64.
        rounding: Relative error the coefficients already have, beside that of finding the roots.

    Returns:
        Roots, complex, (*bank, n), differentiable where they are simple; and for each, real, (*bank, n), without
        derivatives, the radius r within which the true one is: |A| is at most what is left of it at the root found,
        with every coefficient off by 2 n eps of itself and by ``rounding``; and it is r for a simple root, r^k for a
        cluster of k, times the product of the distances to the others.

    Example:
        >>> z, radius = roots(torch.tensor([0.0, -0.25], dtype=torch.float64))
        >>> z.real.sort().values
        tensor([-0.5000,  0.5000], dtype=torch.float64)
        >>> bool(radius.max() < 1e-15)
        True
    """
    return _Roots.apply(monic(a), rounding, False)


def finite_roots(c: Tensor, *, rounding: float = 0.0) -> tuple[Tensor, Tensor]:
    """Roots of polynomials whose leading coefficients may be zero, if only to rounding.

    Args:
        c: Coefficients, highest power first, (*bank, n + 1), float64.
        rounding: As for :func:`roots`.

    Returns:
        As :func:`roots`: first the finite roots, then a complex infinity for each leading zero, with a radius of 0.

    Example:
        >>> finite_roots(torch.tensor([0.0, 2.0, 1.0], dtype=torch.float64))[0]
        tensor([-0.5000+0.j,     inf+0.j], dtype=torch.complex128)
    """
    return _Roots.apply(c, rounding, True)


class _Roots(torch.autograd.Function):
    """Roots of c_0 z^n + ... + c_n: dz / dc_i = -z^(n-i) / C'(z)."""

    @staticmethod
    def forward(c, rounding, deflates):
        if not deflates:
            return _roots_of_monic(c[..., 1:], rounding)
        n = c.shape[-1] - 1
        rows = [_deflated(row, rounding) for row in c.reshape(-1, n + 1)]
        z, radius = (torch.cat(parts).reshape(*c.shape[:-1], n) for parts in zip(*rows, strict=True))
        return z, radius

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], output[0])

    @staticmethod
    def vmap(info, in_dims, c, rounding, deflates):
        return _Roots.apply(c.movedim(in_dims[0], 0), rounding, deflates), (0, 0)

    @staticmethod
    def backward(ctx, gz, _):
        c, z = ctx.saved_tensors
        n = c.shape[-1] - 1
        is_finite = z.detach().isfinite()
        z = torch.where(is_finite, z, 0)
        k = torch.arange(n, -1, -1, device=c.device, dtype=c.dtype)
        # z^k over the n-th power of a large root, so that none overflows; it cancels.
        scale = z.detach().abs().clamp_min(1)[..., None]
        powers = _powers(z / scale[..., 0]) * scale ** (k - n)
        slope = (powers[..., 1:] * (k[:-1] * c[..., :-1])[..., None, :]).sum(-1)
        slope = torch.where(is_finite, slope, 1)
        towards = -powers / slope[..., None]
        gc = (towards.conj() * torch.where(is_finite, gz, 0)[..., None]).real.sum(-2)
        return gc, None, None


def _powers(z: Tensor) -> Tensor:
    """z^n, ..., z, 1 of n numbers, (*bank, n, n + 1)."""
    n = z.shape[-1]
    return pad(z[..., None].expand(*z.shape, n).cumprod(-1), (1, 0), value=1.0).flip(-1)


def _deflated(c: Tensor, rounding: float) -> tuple[Tensor, Tensor]:
    """Roots of one polynomial, (n + 1); infinities, in last place, for leading coefficients that are zero."""
    present = (c.abs() > torch.finfo(c.dtype).eps * c.abs().sum()).nonzero()[:, 0]
    first = int(present[0]) if len(present) else len(c) - 1
    z, radius = _roots_of_monic(c[first + 1 :] / c[first], rounding)
    return pad(z, (0, first), value=torch.inf), pad(radius, (0, first))


def _roots_of_monic(a: Tensor, rounding: float) -> tuple[Tensor, Tensor]:
    n = a.shape[-1]
    if n == 0:
        return a.to(torch.complex128), a.clone()
    sound = a.isfinite().all(-1, keepdim=True)  # of others LAPACK complains by itself, on the terminal
    z = torch.where(sound, torch.linalg.eigvals(companion(torch.where(sound, a, 0))), math.nan)
    scale = z.abs().clamp_min(1)  # relative to it, so that no power of a large root overflows
    terms = _powers(z / scale) * scale[..., None] ** -torch.arange(n + 1, device=a.device) * monic(a)[..., None, :]
    # What is left of A(z), for the eigenvalues of a sparse companion matrix are less exact than its coefficients, and
    # the rounding of evaluating it.
    residual = terms.sum(-1).abs() + (2 * n * torch.finfo(a.dtype).eps + rounding) * terms.abs().sum(-1)
    distances = (z[..., :, None] - z[..., None, :]).abs() / scale[..., None]
    nearest_first = distances.sort(-1).values  # entry 0 is the root itself
    far = nearest_first[..., 1:].log().flip(-1).cumsum(-1).flip(-1)  # log product of the distances beyond the k nearest
    cluster = torch.arange(1, n + 1, device=a.device)
    radius = ((residual.log()[..., None] - pad(far, (0, 1))) / cluster).exp().nan_to_num(nan=torch.inf)
    return z, scale * radius.amin(-1)
