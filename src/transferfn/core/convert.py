r"""Conversions between the true numerator and the one that is relative to a horizon P, and their measured error.

In companion coordinates, with b and b~ as rows, A the companion matrix and h_t = b A^(t-1) e_1 the true response:

    b~ = b (I - A^P),        h0~ = h0 - h_P

The power of A is read off the last samples of the recurrence, for with g the impulse response of 1/A(z)

    b A^P = -H U,    H_m = h_(P-m) = sum_i b_i g_(P-m-i),    U_(m,j) = a_(m+j) or 0      (m = 0..n-1; i, j = 1..n)

No power of A, or of z modulo A(z), is ever formed: squaring multiplies rounding errors at every doubling.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from transferfn.core.kernel import aliased_kernel, impulse_response, recursive_response, spread
from transferfn.core.polynomial import monic, multiply
from transferfn.kernels.response import last_responses, untruncated, untruncated_by_torch
from transferfn.typing import Denominator, Feedthrough, Numerator

LARGEST_SOLVE = 64  # orders up to here afford an n x n solve a denominator


def truncate(b: Numerator, a: Denominator, h0: Feedthrough, *, horizon: int) -> tuple[Numerator, Feedthrough]:
    """Express a true numerator and feedthrough relative to a horizon: b~ = b (I - A^P), h0~ = h0 - h_P.

    Args:
        b: True numerator b_1..b_n, (*bank, D, n).
        a: Denominator a_1..a_n, (*bank, G, n).
        h0: True feedthrough, (*bank, D).
        horizon: Period P in samples; must exceed n.

    Returns:
        Truncated numerator, (*bank, D, n), and truncated feedthrough, (*bank, D). Their aliased kernel of period P
        holds the true samples 0..P-1 of the impulse response.

    Raises:
        ValueError: if ``horizon`` does not exceed n.

    Source:
        The truncated numerator of Parnichkun et al. 2024, arXiv:2405.06147, in closed form.

    Example:
        >>> half = torch.tensor([[0.5]])
        >>> truncate(half, -half, torch.tensor([1.0]), horizon=4)
        (tensor([[0.4688]]), tensor([0.9375]))
    """
    _check_horizon(horizon, b.shape[-1])
    if b.shape[-1] == 0:
        return b, h0
    responses = _last_responses(b, last_recursions(a, horizon))
    return b + _continued(responses, a), h0 - responses[..., 0]


def untruncate(
    b_tilde: Numerator, a: Denominator, h0_tilde: Feedthrough, *, horizon: int
) -> tuple[Numerator, Feedthrough]:
    """Recover the true numerator and feedthrough: b (I - A^P) = b~, h0 = h0~ + h_P.

    Up to order 64 the n equations are solved; where the response has died out by P, b~ is b already and nothing is
    lost. Beyond, b_j = sum_i a_i k_(j-i) is read off the first n samples of the kernel k, the paper's Algorithm 1,
    whose cost does not grow with n but whose every sample carries the rounding of the largest.

    Args:
        b_tilde: Truncated numerator, (*bank, D, n).
        a: Denominator a_1..a_n, (*bank, G, n).
        h0_tilde: Truncated feedthrough, (*bank, D).
        horizon: Period P in samples; must exceed n.

    Returns:
        True numerator, (*bank, D, n), and true feedthrough, (*bank, D).

    Raises:
        ValueError: if ``horizon`` does not exceed n.

    Example:
        >>> half = torch.tensor([[0.5]])
        >>> untruncate(15 / 16 * half, -half, torch.tensor([15 / 16]), horizon=4)
        (tensor([[0.5000]]), tensor([1.]))
    """
    _check_horizon(horizon, b_tilde.shape[-1])
    if b_tilde.shape[-1] == 0:
        return b_tilde, h0_tilde
    if b_tilde.shape[-1] <= LARGEST_SOLVE:
        return untruncate_by_solving(b_tilde, a, h0_tilde, horizon=horizon)
    return untruncate_by_kernel(b_tilde, a, h0_tilde, horizon=horizon)


def untruncate_by_solving(
    b_tilde: Numerator, a: Denominator, h0_tilde: Feedthrough, *, horizon: int
) -> tuple[Numerator, Feedthrough]:
    """Solve b (I - A^P) = b~, n equations a denominator.

    Args:
        b_tilde: Truncated numerator, (*bank, D, n), n at least 1.
        a: Denominator, (*bank, G, n).
        h0_tilde: Truncated feedthrough, (*bank, D).
        horizon: Period P in samples; must exceed n.

    Returns:
        True numerator, (*bank, D, n), and true feedthrough, (*bank, D).
    """
    if a.device.type != "cpu":
        return untruncated_by_torch(b_tilde, a, h0_tilde, last_recursions(a, horizon))
    b, h0, _ = untruncated(b_tilde.flatten(0, -2), a.flatten(0, -2), h0_tilde.flatten(), horizon)
    return b.unflatten(0, b_tilde.shape[:-1]).to(b_tilde.dtype), h0.unflatten(0, h0_tilde.shape).to(h0_tilde.dtype)


def untruncate_by_kernel(
    b_tilde: Numerator, a: Denominator, h0_tilde: Feedthrough, *, horizon: int
) -> tuple[Numerator, Feedthrough]:
    """Read b_j = sum_i a_i k_(j-i), a_0 = 1, and h0 = k_0 off the aliased kernel k.

    Args:
        b_tilde: Truncated numerator, (*bank, D, n).
        a: Denominator, (*bank, G, n).
        h0_tilde: Truncated feedthrough, (*bank, D).
        horizon: Period P in samples; must exceed n.

    Returns:
        True numerator, (*bank, D, n), and true feedthrough, (*bank, D).
    """
    n = b_tilde.shape[-1]
    k = aliased_kernel(b_tilde, a, h0_tilde, period=horizon)[..., : n + 1]
    b = multiply(spread(monic(a), b_tilde.shape[-2])[..., :n], k[..., 1:], keep=n)
    return b, k[..., 0]


def truncation_error(
    b: Numerator, a: Denominator, h0: Feedthrough, b_tilde: Numerator, h0_tilde: Feedthrough, *, horizon: int
) -> Tensor:
    """Measure a conversion: how far the two forms' first P response samples are apart, relative to the largest.

    Args:
        b: True numerator, (*bank, D, n).
        a: Denominator, (*bank, G, n).
        h0: True feedthrough, (*bank, D).
        b_tilde: Truncated numerator, (*bank, D, n).
        h0_tilde: Truncated feedthrough, (*bank, D).
        horizon: Period P in samples.

    Returns:
        max_t |h_t - k_t| / max_t |h_t| of each channel, (*bank, D).

    Example:
        >>> b, a, h0 = torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0])
        >>> bool(truncation_error(b, a, h0, *truncate(b, a, h0, horizon=4), horizon=4) < 1e-6)
        True
    """
    recurrent = impulse_response(b, a, h0, length=horizon)
    folded = aliased_kernel(b_tilde, a, h0_tilde, period=horizon)
    largest = recurrent.abs().amax(-1).clamp_min(torch.finfo(b.dtype).tiny)
    return (recurrent - folded).abs().amax(-1) / largest


def last_recursions(a: Denominator, horizon: int) -> Tensor:
    """What A^P is made of: the last samples of the impulse response of 1/A(z), newest first.

    Args:
        a: Denominator a_1..a_n, (*bank, G, n), n at least 1.
        horizon: Period P in samples.

    Returns:
        g_(P-1), ..., g_(P-2n+1), zero before the start, (*bank, G, 2n - 1).
    """
    needed = 2 * a.shape[-1] - 1
    if a.device.type == "cpu":
        return last_responses(a.flatten(0, -2), horizon, needed).flip(-1).unflatten(0, a.shape[:-1])
    newest_first = recursive_response(a, horizon)[..., -needed:].flip(-1)
    return pad(newest_first, (0, needed - newest_first.shape[-1]))


def _last_responses(b: Tensor, recursions: Tensor) -> Tensor:
    """h_P, ..., h_(P-n+1), (*bank, D, n)."""
    n = b.shape[-1]
    return multiply(b.flip(-1), spread(recursions, b.shape[-2]), keep=2 * n - 1)[..., n - 1 :]


def _continued(responses: Tensor, a: Tensor) -> Tensor:
    """-b A^P from the last responses, (*bank, D, n)."""
    n = a.shape[-1]
    return multiply(spread(a, responses.shape[-2]).flip(-1), responses, keep=n).flip(-1)


def _check_horizon(horizon: int, order: int) -> None:
    if horizon <= order:
        raise ValueError(f"the horizon must exceed the order, got horizon={horizon} for order {order}")
