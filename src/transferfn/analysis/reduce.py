"""Model reduction: filters of lower order, with the error that theory allows and the error that is measured."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from transferfn.analysis import balanced
from transferfn.analysis.balanced import StateSpace
from transferfn.analysis.hankel import truncate_response
from transferfn.analysis.stable_part import Parts, joined, stable_parts
from transferfn.core import TransferFunction, select, stack
from transferfn.core.bank import check_one_bank
from transferfn.core.checks import check_whole, what_instead
from transferfn.core.converted import samples_to_compare
from transferfn.core.doubt import IllConditionedWarning
from transferfn.core.from_poles import LARGEST_ERROR, from_poles
from transferfn.core.kernel import spread
from transferfn.core.polynomial import roots

Method = Literal["balanced", "hankel"]
GRID = 2048  # frequencies at which filters are compared, besides the angles of their poles
SHORTEST = 256  # samples over which impulse responses are compared
SHOWN = 5  # filters named in an error
MEMORIES = {"balanced": 6.0, "hankel": 36.0}  # how many times its memory the samples of a filter are looked at


@dataclass(frozen=True, eq=False)
class Reduction:
    """Reduced filters and what the reduction cost each of D channels.

    Attributes:
        system: The reduced bank, float64, on the CPU, one denominator a channel. Filters of lower order than the
            largest end in zeros.
        orders: Order of each filter, (D).
        hankel: Hankel singular values of the filters given, largest first, (D, n).
        bound: What the largest error of the frequency response cannot exceed but for rounding, relative to the largest
            value of the response, (D): twice the sum of the singular values left out, and for the Hankel method what
            its finite response leaves out, as extrapolated.
        peak_error: That error as measured on a grid of frequencies and at the angles of the poles, (D).
        error: Distance of the impulse responses relative to the norm of the one given, (D), over ``length`` samples.
        length: Number of samples over which impulse responses were compared; if filters grow, until the fastest has
            grown a thousandfold.
        unstable: Number of poles of each filter that are not certainly inside the unit circle, (D), and were kept. The
            bound and the measured error are then those of the stable part, relative to the largest value of its
            response; so are the singular values, which end in zeros.
    """

    system: TransferFunction
    orders: Tensor
    hankel: Tensor
    bound: Tensor
    peak_error: Tensor
    error: Tensor
    length: int
    unstable: Tensor

    def __repr__(self) -> str:
        return (
            f"Reduction(order {self.hankel.shape[-1]} to {int(self.orders.max())}, {len(self.orders)} filters; largest "
            f"error of a frequency response {float(self.peak_error.max()):.2g} (bound {float(self.bound.max()):.2g}), "
            f"of an impulse response {float(self.error.max()):.2g})"
        )


@torch.no_grad()
def reduce(
    system: TransferFunction,
    *,
    order: int | None = None,
    tolerance: float | None = None,
    method: Method = "balanced",
) -> Reduction:
    """Find filters of lower order whose frequency responses are near.

    ``"balanced"`` is balanced truncation by the square-root method, from a realization with orthonormal states, so that
    no Gramian is inverted. ``"hankel"`` is the same for the finite impulse response of as many samples as the filter
    remembers, at most 8,193: it needs no poles and suits filters whose coefficients no longer determine them.

    Where channels share denominators, each gets its own: what one denominator is worth differs between numerators.

    Of an unstable filter, or one with integrators, the stable part is reduced, and the rest is added back as it was.

    Args:
        system: The filters, one bank.
        order: Order of the reduced filters, more than the number of poles of each that are not inside the unit circle;
            what has fewer states to rounding keeps these.
        tolerance: Instead of the order, the largest error of the frequency response that is allowed, relative to its
            largest value; each filter gets the lowest order whose bound is within it.
        method: ``"balanced"`` or ``"hankel"``.

    Returns:
        The reduced filters and their errors.

    Raises:
        TypeError: if the order is no whole number.
        ValueError: if not exactly one of order and tolerance is given, they make no sense, there is more than one bank,
            or a filter has no stable part, or one that cannot be told from the rest.
        ArithmeticError: if coefficients do not hold a filter, be it the given or the reduced one.

    Source:
        Balanced truncation: Moore 1981; the bound in discrete time: Al-Saggaf and Franklin 1987.

    Example:
        >>> fast, slow = torch.tensor([0.5]), torch.tensor([0.9])
        >>> a = torch.stack((-(fast + slow), fast * slow), -1)  # two real poles, the first nearly cancelled by a zero
        >>> h = TransferFunction(torch.tensor([[1.0, -0.499]]), a, torch.zeros(1))
        >>> found = reduce(h, tolerance=0.01)
        >>> found.orders.tolist(), [round(p.real, 3) for p in found.system.poles()[0].tolist()]
        ([1], [0.9])
    """
    _check(system, order, tolerance, method)
    wide = system.to(device="cpu", dtype=torch.float64)
    with warnings.catch_warnings():  # poles that coefficients do not determine are seen in the response below
        warnings.simplefilter("ignore", IllConditionedWarning)
        poles = wide.poles()
    rests = _rests(wide, order)
    steady = wide
    if rests:
        steady = stack([rests[d][0] if d in rests else select(wide, [d]) for d in range(wide.channels)])
        every = spread(poles, wide.channels)
        own = [roots(steady.a[d, : rests[d][0].order])[0] if d in rests else every[d] for d in range(wide.channels)]
    else:
        own = list(spread(poles, wide.channels))
    length = max(SHORTEST, *(balanced.samples_to_read(group, memories=MEMORIES[method]) for group in own))
    responses = steady.impulse_response(length)
    omega = _frequencies(torch.cat(own))
    peaks = steady.frequency_response(omega).abs().amax(-1).clamp_min(torch.finfo(torch.float64).tiny)
    reducing = _by_states if method == "balanced" else _by_response
    rows = []
    for d, response in enumerate(responses):
        target = order if order is None or d not in rests else order - rests[d][1].order
        rows.append(reducing(own[d], response, float(peaks[d]), target, tolerance))
    small = _assemble([row.system for row in rows], system.dt)
    found = small
    if rests:
        whole = [joined(row.system, rests[d][1]) if d in rests else row.system for d, row in enumerate(rows)]
        found = _assemble(whole, system.dt)
        length = min(length, samples_to_compare(*roots(wide.a)))
        responses = wide.impulse_response(length)
    differences = steady.frequency_response(omega) - small.frequency_response(omega)
    norms = responses.norm(dim=-1).clamp_min(torch.finfo(torch.float64).tiny)
    kept = torch.tensor([rests[d][1].order if d in rests else 0 for d in range(wide.channels)])
    return Reduction(
        system=found,
        orders=torch.tensor([row.order for row in rows]) + kept,
        hankel=torch.stack([_padded(row.values, system.order) for row in rows]),
        bound=torch.tensor([row.bound for row in rows], dtype=torch.float64),
        peak_error=differences.abs().amax(-1) / peaks,
        error=(found.impulse_response(length) - responses).norm(dim=-1) / norms,
        length=length,
        unstable=kept,
    )


@dataclass(frozen=True)
class _Row:
    system: TransferFunction
    order: int
    values: Tensor
    bound: float


def _by_states(poles: Tensor, response: Tensor, peak: float, order: int | None, tolerance: float | None) -> _Row:
    whole = balanced.realize_orthonormal(poles, response)
    realized = balanced.response_of(whole, len(response))
    lost = float((realized - response).abs().max() / response.abs().max().clamp_min(torch.finfo(response.dtype).tiny))
    if not lost <= LARGEST_ERROR:
        raise ArithmeticError(
            f"the coefficients of some filter do not determine its {len(poles)} poles: the response they give is off "
            f"by {lost:.1g} of its largest sample. Reduce with method='hankel', which needs no poles."
        )
    factor = balanced.observability_factor(whole.a, whole.c)
    _, values, vectors = torch.linalg.svd(factor, full_matrices=False)
    chosen = _choose(values, 0.0, peak, order, tolerance)
    small = balanced.truncated(whole, vectors[:chosen].mT)
    return _Row(_as_coefficients(small, len(response)), chosen, values, 2 * float(values[chosen:].sum()) / peak)


def _by_response(poles: Tensor, response: Tensor, peak: float, order: int | None, tolerance: float | None) -> _Row:
    length = (len(response) + 1) // 2
    values, whole = truncate_response(response[:length], len(poles))
    kept, later = float(response[:length].abs().sum()), float(response[length:].abs().sum())
    cut = later / (1 - min(later / max(kept, later, torch.finfo(response.dtype).tiny), 0.999))  # as if it went on so
    chosen = min(_choose(values, cut, peak, order, tolerance), len(poles))
    small = StateSpace(whole.a[:chosen, :chosen], whole.b[:chosen], whole.c[:chosen], whole.d)
    bound = (2 * float(values[chosen:].sum()) + cut) / peak
    return _Row(_as_coefficients(small, len(response)), chosen, values[: len(poles)], bound)


def _choose(values: Tensor, cut: float, peak: float, order: int | None, tolerance: float | None) -> int:
    """The order: as asked, or the lowest whose bound is small enough; not more than there are states to rounding."""
    present = int((values > len(values) * torch.finfo(values.dtype).eps * values[0]).sum())
    if order is not None:
        return max(1, min(order, present))
    assert tolerance is not None
    rest = 2 * (values.sum() - values.cumsum(0)).clamp_min(0) + cut
    enough = (rest <= tolerance * peak).nonzero()
    return max(1, min(int(enough[0]) + 1 if len(enough) else len(values), present))


def _as_coefficients(small: StateSpace, length: int) -> TransferFunction:
    return from_poles(torch.linalg.eigvals(small.a)[None], balanced.response_of(small, length)[None])[0]


def _assemble(systems: list[TransferFunction], dt: float | None) -> TransferFunction:
    order = max(system.order for system in systems)
    b, a = (torch.cat([_padded(getattr(s, name), order) for s in systems]) for name in ("b", "a"))
    return TransferFunction(b, a, torch.cat([s.h0 for s in systems]), dt)


def _padded(x: Tensor, size: int) -> Tensor:
    return pad(x[..., :size], (0, max(size - x.shape[-1], 0)))


def _frequencies(poles: Tensor) -> Tensor:
    angles = poles.angle().abs().flatten()
    return torch.cat((torch.linspace(0, math.pi, GRID, dtype=torch.float64), angles)).unique()


def _check(system: object, order: int | None, tolerance: float | None, method: str) -> None:
    if not isinstance(system, TransferFunction):
        raise TypeError(f"expected a TransferFunction (a layer has transfer_function()), got {what_instead(system)}")
    check_one_bank(system)
    if system.order < 1:
        raise ValueError("filters of order 0 are gains, which cannot be reduced")
    if method not in get_args(Method):
        raise ValueError(f"method is 'balanced' or 'hankel', got {method!r}")
    check_target(order, tolerance)
    if order is not None and order > system.order:
        raise ValueError(f"the reduced order must be at most that of the filters, {system.order}, got order={order}")


def check_target(order: int | None, tolerance: float | None) -> None:
    """Raise unless exactly one of an order and a tolerance is given and makes sense.

    Args:
        order: Order wanted, or None.
        tolerance: Largest relative error allowed, or None.
    """
    if (order is None) == (tolerance is None):
        raise ValueError(
            f"give the order or the tolerance, one of them, e.g. tolerance=1e-3; got order={order}, "
            f"tolerance={tolerance}"
        )
    if order is not None:
        check_whole("order", order)
        if order < 1:
            raise ValueError(f"the order must be at least 1, got {order}")
    elif not (tolerance is not None and 0 < tolerance < math.inf):
        raise ValueError(f"the tolerance is a positive share of the largest response, got {tolerance}")


def _rests(system: TransferFunction, order: int | None) -> dict[int, Parts]:
    """Both parts of the filters that cannot be shown to be stable, by channel."""
    parts, why = stable_parts(system, order)
    if why:
        verdict = system.stability()
        radius = float(spread(verdict.radius, system.channels, axis=-1)[list(why)].max())
        named = ", ".join(map(str, list(why)[:SHOWN])) + (", ..." if len(why) > SHOWN else "")
        raise ValueError(
            f"only stable parts of filters have Gramians, but {len(why)} of {system.channels} channels have none that "
            f"can be reduced (number {named}; pole radius up to {radius:.6g}): {next(iter(why.values()))}. stabilize() "
            f"the filters first, or distill(h.impulse_response(horizon), order) to keep what they do up to a horizon."
        )
    return parts
