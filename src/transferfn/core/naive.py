"""The definitions, as readable loops: what every fast path is compared with."""

from __future__ import annotations

import torch
from torch import Tensor


def filter_signal(
    u: Tensor,
    b: Tensor,
    a: Tensor,
    h0: Tensor,
    state: Tensor | None = None,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """w_t = u_t - a . x_t, y_t = h0 u_t + b . x_t with x_t = (w_(t-1), ..., w_(t-n)), one sample after the other.

    Args:
        u: Input, (B, L, D).
        b: Numerator, (D, n).
        a: Denominator, (G, n).
        h0: Feedthrough, (D).
        state: x_0, (B, D, n); None means zero.
        lengths: Number of valid samples of each row, (B,).
        resets: True where the state is cleared before the sample, (B, L).

    Returns:
        y, (B, L, D), zero past the lengths, and x after each row's last valid sample, (B, D, n).
    """
    batch, length, channels = u.shape
    a = torch.stack([a[d * a.shape[0] // channels] for d in range(channels)])
    x = u.new_zeros(batch, channels, b.shape[-1]) if state is None else state
    outputs = []
    for t in range(length):
        x_t = x if resets is None else torch.where(resets[:, t, None, None], 0, x)
        w = u[:, t] - (a * x_t).sum(-1)
        y = h0 * u[:, t] + (b * x_t).sum(-1)
        after = torch.cat((w[..., None], x_t), -1)[..., : x.shape[-1]]
        if lengths is None:
            x = after
        else:
            valid = t < lengths
            x = torch.where(valid[:, None, None], after, x)
            y = torch.where(valid[:, None], y, 0)
        outputs.append(y)
    return torch.stack(outputs, 1) if outputs else u, x


def impulse_response(b: Tensor, a: Tensor, h0: Tensor, length: int) -> Tensor:
    """h_0 = h0 and h_t = b A^(t-1) e_1 with A the companion matrix.

    Args:
        b: Numerator, (D, n).
        a: Denominator, (G, n).
        h0: Feedthrough, (D).
        length: Number of samples.

    Returns:
        h_0..h_(length-1), (D, length).
    """
    channels, n = b.shape
    rows = []
    for d in range(channels):
        matrix = torch.diag(torch.ones(n - 1, dtype=a.dtype), -1)
        matrix[0] = -a[d * a.shape[0] // channels]
        samples, x = [h0[d]], torch.eye(n, dtype=a.dtype)[0]
        for _ in range(length - 1):
            samples.append(b[d] @ x)
            x = matrix @ x
        rows.append(torch.stack(samples))
    return torch.stack(rows)


def aliased_kernel(b: Tensor, a: Tensor, h0: Tensor, period: int) -> Tensor:
    """The inverse discrete Fourier transform of H(z) at the roots of unity, as a double sum.

    Args:
        b: Numerator, (D, n).
        a: Denominator, (G, n).
        h0: Feedthrough, (D).
        period: Number of samples P.

    Returns:
        Samples 0..P-1, (D, P).
    """
    channels, n = b.shape
    m = torch.arange(period, dtype=torch.float64)
    i = torch.arange(1, n + 1, dtype=torch.float64)
    inverse_z = torch.exp(-2j * torch.pi * m / period)  # w_m
    rows = []
    for d in range(channels):
        powers = inverse_z[:, None] ** i
        top = (b[d] * powers).sum(-1)
        bottom = 1 + (a[d * a.shape[0] // channels] * powers).sum(-1)
        response = top / bottom + h0[d]
        rows.append(torch.stack([(response * inverse_z**-t).sum().real / period for t in range(period)]))
    return torch.stack(rows)


def truncate(b: Tensor, a: Tensor, h0: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    """b~ = b (I - A^P) and h0~ = h0 - b A^(P-1) e_1 by dense matrix powers.

    Args:
        b: Numerator, (D, n).
        a: Denominator, (G, n).
        h0: Feedthrough, (D).
        horizon: Period P.

    Returns:
        Truncated numerator (D, n) and feedthrough (D).
    """
    channels, n = b.shape
    numerators, feedthroughs = [], []
    for d in range(channels):
        matrix = torch.diag(torch.ones(n - 1, dtype=a.dtype), -1)
        matrix[0] = -a[d * a.shape[0] // channels]
        before = torch.eye(n, dtype=a.dtype)
        for _ in range(horizon - 1):
            before = before @ matrix
        numerators.append(b[d] - b[d] @ before @ matrix)
        feedthroughs.append(h0[d] - (b[d] @ before)[0])
    return torch.stack(numerators), torch.stack(feedthroughs)
