"""Minimal realizations: poles that zeros cancel are taken out, as far as the response stays what it was."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from transferfn.core.algebra import numerator
from transferfn.core.bank import check_one_bank, select, stack
from transferfn.core.converted import Converted, samples_to_compare
from transferfn.core.from_poles import from_poles
from transferfn.core.kernel import impulse_response
from transferfn.core.polynomial import finite_roots, roots
from transferfn.core.system import TransferFunction

UNSEEN = 1e-8  # relative to the largest sample: a fifth of what rounding to float32 changes


@torch.no_grad()
def minimal(
    h: TransferFunction, *, length: int | None = None, tolerance: float = UNSEEN
) -> Converted[TransferFunction]:
    """Cancel poles and zeros: the lowest order whose response is off by no more than a tolerance.

    How close a pole and a zero must be is not decided beforehand: pairs are cancelled in the order of their distance,
    as many as the measured response allows, with a numerator fitted to it; where rounding has scattered multiple poles,
    those of the recurrence that predicts the response best take the place of the rest. A mode that grows and that
    nothing shows is cancelled, too; rounding starts it, so that the response is looked at only until the fastest mode
    has grown a thousandfold.

    Args:
        h: The filters, numerator (D, n).
        length: Number of samples over which the impulse responses are compared, more than n; None means until they
            have died out, or grown a thousandfold.
        tolerance: Largest error, relative to the largest sample of each channel.

    Returns:
        The filters, float64, one denominator a channel, of the largest order that any channel needs; and the error of
        each channel, (D). The length is the largest of all channels.

    Raises:
        ValueError: if h is more than one bank, or the response is too short, or so long that it overflows.

    Example:
        A filter in series with another and with its inverse:

        >>> h = TransferFunction(*torch.tensor([[[0.5]], [[-0.5]]], dtype=torch.float64), torch.ones(1).double())
        >>> g = TransferFunction(*torch.tensor([[[-0.5]], [[0.0]]], dtype=torch.float64), torch.ones(1).double())
        >>> (h * h * g).order, minimal(h * h * g).value.order
        (3, 1)

        A plant that grows, within the loop that holds it; the loop alone is left:

        >>> plant = TransferFunction(*torch.tensor([[[0.1]], [[-1.2]]], dtype=torch.float64), torch.zeros(1).double())
        >>> one = TransferFunction(*torch.zeros(2, 1, 0, dtype=torch.float64), torch.ones(1).double())
        >>> through = plant * one.feedback(5 * plant)
        >>> through.stability().verdict, minimal(through).value.poles()
        ('unstable', tensor([[0.7000+0.j]], dtype=torch.complex128))
    """
    check_one_bank(h)
    if length is not None and length <= h.order:
        raise ValueError(f"order {h.order} needs a response of at least {h.order + 1} samples, got {length}")
    done = [_channel(select(h.to(dtype=torch.float64), [d]), length, tolerance) for d in range(h.channels)]
    values, errors = zip(*done, strict=True)
    return Converted(stack(values), torch.cat(errors), max(one.length or 0 for one in done))


def _channel(h: TransferFunction, length: int | None, tolerance: float) -> Converted[TransferFunction]:
    length = samples_to_compare(*roots(h.a)) if length is None else length
    truth = impulse_response(h.b, h.a, h.h0, length=length)
    if not bool(truth.isfinite().all()):
        raise ValueError(f"the response grows beyond the largest number in {length} samples: pass a smaller length")
    poles, zeros = roots(h.a)[0][0], finite_roots(numerator(h.b, h.a, h.h0))[0][0]
    groups = _nearest_first(poles, zeros)
    kept = [torch.cat([poles[:0], *groups[cancelled:]]) for cancelled in range(1, len(groups) + 1)]
    by_order = {len(p): p for p in kept}
    for order in range(h.order):
        candidates = [by_order[order]] if order in by_order else []
        for candidate in (*candidates, _predicting(truth[0], order)):
            with contextlib.suppress(ArithmeticError):  # these poles are not enough
                return from_poles(candidate[None], truth, tolerance=tolerance, dt=h.dt)
    return Converted(h, truth.new_zeros(1), length)


def _predicting(response: Tensor, n: int) -> Tensor:
    """Poles of the recurrence of order n that predicts a response best (Prony): what a cluster of poles hides."""
    if n == 0:
        return response.new_zeros(0, dtype=torch.complex128)
    past = response[1:-1].unfold(0, n, 1).flip(-1)
    return roots(-torch.linalg.lstsq(past, response[n + 1 :, None], driver="gelsd").solution[:, 0])[0]


def _nearest_first(poles: Tensor, zeros: Tensor) -> list[Tensor]:
    """Real poles and conjugate pairs, those first that are closest to a zero; a zero cancels one pole."""
    upper = poles[poles.imag >= 0]
    distance = (upper[:, None] - zeros[None]).abs().nan_to_num(nan=torch.inf)
    assigned = torch.full(upper.shape, torch.inf, dtype=torch.float64)
    while distance.numel() and bool(distance.isfinite().any()):
        k, zero = divmod(int(distance.argmin()), len(zeros))
        assigned[k] = distance[k, zero]
        distance[k] = torch.inf
        distance[:, zero] = torch.inf
    pairs = [p[None] if bool(p.imag == 0) else torch.stack((p, p.conj())) for p in upper]
    return [pairs[k] for k in assigned.argsort().tolist()]
