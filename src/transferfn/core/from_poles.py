"""From the poles and the response of a system to its transfer function: every finite linear system has one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from transferfn.core.converted import Converted, check_error, response_error, samples_to_compare
from transferfn.core.kernel import impulse_response, spread
from transferfn.core.polynomial import monic, multiply, roots
from transferfn.core.stability import schur_cohn
from transferfn.core.system import TransferFunction

LARGEST_ERROR = 1e-3  # beyond which coefficients do not hold a filter


def from_poles(
    poles: Tensor, response: Tensor, *, tolerance: float = LARGEST_ERROR, dt: float | None = None
) -> Converted[TransferFunction]:
    r"""Transfer functions with given poles and the beginning of given impulse responses, and their measured error.

    A is the product of 1 - p z^-1, and b_j = sum_i a_i h_(j-i). Coefficients hold few poles that are close to each
    other and to the unit circle: how well is seen in the response, which is compared as far as it is given and no
    farther, and in the stability of what is rounded.

    Args:
        poles: Poles of each channel, complex, (D, n), with the conjugate of every one that is not real.
        response: Impulse response, real, (D, L), L more than n; all of it is compared.
        tolerance: Largest error that is not refused, relative to the largest sample of each channel.
        dt: Sampling interval in seconds; None means per sample.

    Returns:
        The system, float64, and max_t |h_t - response_t| / max_t |response_t| of each channel, (D).

    Raises:
        ArithmeticError: if coefficients do not hold the filters, or those of stable filters are unstable.
        ValueError: if the response is not longer than the number of poles.

    Source:
        [derived] The recurrence h_j = -sum_i a_i h_(j-i) + b_j of the response, solved for b.

    Example:
        >>> from transferfn.core.from_poles import from_poles
        >>> system, error = from_poles(torch.tensor([[0.5 + 0j]]), torch.tensor([[1.0, 0.5, 0.25, 0.125]]))
        >>> system.b.item(), system.a.item(), system.h0.item(), error.item()
        (0.5, -0.5, 1.0, 0.0)
    """
    n, length = poles.shape[-1], response.shape[-1]
    if length <= n:
        raise ValueError(f"{n} poles need a response of at least {n + 1} samples, got {length}: ask for a longer one")
    response = response.to(torch.float64)
    a = polynomial(poles.to(torch.complex128))
    b = multiply(monic(a)[..., :n], response[..., 1 : n + 1], keep=n) if n else a
    system = TransferFunction(b, a, response[..., 0], dt)
    with torch.no_grad():
        found = impulse_response(system.b, system.a, system.h0, length=length)
        error = response_error(found, response)
        is_lost = has_left_the_circle(poles, a)
    worst = float(error.max()) if error.numel() else 0.0
    radius = float(poles.abs().max()) if poles.numel() else 0.0
    if worst <= tolerance and bool(is_lost.any()):
        raise ArithmeticError(
            f"coefficients do not hold {int(is_lost.sum())} of {len(error)} filters: rounded to float64 they are "
            f"unstable, though the largest of {n} poles has a magnitude of {radius:.6g}. Keep the "
            f"modal form (realize() decodes it) or second-order sections, reduce the order, or take larger steps."
        )
    if not worst <= tolerance:
        raise ArithmeticError(
            f"coefficients do not hold {int((error > tolerance).sum())} of {len(error)} filters: rounded to float64 "
            f"their responses are off by up to {worst:.1g} of the largest sample in {length} samples, where "
            f"{tolerance:.1g} was asked for. {_cause(poles, length)}"
        )
    return Converted(system, error, length)


def _cause(poles: Tensor, length: int) -> str:
    """Why coefficients do not hold filters, and what to do."""
    n, radius = poles.shape[-1], float(poles.abs().max()) if poles.numel() else 0.0
    if length > (enough := samples_to_compare(poles)) and radius > 1:
        return (
            f"A mode grows by {radius:.6g} a sample, and rounding with it, also where no input reaches the mode: "
            f"compare at most length={enough} samples, and take out with minimal(h) what nothing shows."
        )
    return (
        f"{n} poles, the largest of magnitude {radius:.6g}, are too close together: keep the modal form (realize() "
        f"decodes it) or second-order sections, reduce the order, or take larger steps."
    )


def has_left_the_circle(poles: Tensor, a: Tensor) -> Tensor:
    """Which filters were stable and are no longer, by the verdict or, where that is undecided, by their roots.

    Args:
        poles: Poles as they should be, complex, (D, n).
        a: Denominators as they are, (D, n), float64.

    Returns:
        Whether rounding moved a pole out, bool, (D).
    """
    if not a.numel():
        return torch.zeros(len(a), dtype=torch.bool, device=a.device)
    inside, outside = schur_cohn(a)
    radius = roots(a)[0].abs().amax(-1)
    return (poles.abs().amax(-1) < 1) & (outside | (~inside & (radius > 1)))


def check_holds_sections(h: TransferFunction, poles: Tensor, error: Tensor, tolerance: float) -> None:
    """Refuse coefficients that second-order sections were multiplied out to, if they do not hold the filters.

    Args:
        h: The filters, numerator (D, n), float64.
        poles: Poles of their sections, complex, (D, m).
        error: Measured error of their responses, (D).
        tolerance: Largest that is not refused.

    Raises:
        ArithmeticError: if an error is larger, or rounding made a stable filter unstable.
    """
    instead = "Keep the second-order sections (sosfilt filters with them) or the modal form, or reduce the order."
    check_error(
        error,
        tolerance,
        what=f"coefficients in float64 of order {h.order} do not hold the filters, whose poles are too close together",
        instead=instead,
    )
    lost = has_left_the_circle(poles, spread(h.a, h.channels))
    if bool(lost.any()):
        raise ArithmeticError(
            f"coefficients in float64 of order {h.order} do not hold {int(lost.sum())} of {len(lost)} filters: "
            f"rounded, they are unstable. {instead}"
        )


def polynomial(poles: Tensor) -> Tensor:
    """The product of 1 - p z^-1, factors of similar poles apart from each other.

    Args:
        poles: Poles, complex, (*D, n), with the conjugate of every one that is not real.

    Returns:
        a_1..a_n, real, (*D, n).

    Example:
        >>> polynomial(torch.tensor([0.5 + 0.5j, 0.5 - 0.5j]))
        tensor([-1.0000,  0.5000])
    """
    order = _spread_out(poles)
    poles = torch.take_along_dim(poles, order, -1)
    c = torch.ones_like(poles[..., :1])
    for p in poles.unbind(-1):
        c = pad(c, (0, 1)) - pad(p[..., None] * c, (1, 0))
    return c.real[..., 1:]


@torch.no_grad()
def _spread_out(poles: Tensor) -> Tensor:
    """Leja's order: each next pole is the one farthest from those before it, which keeps products small."""
    chosen = [poles.abs().argmax(-1, keepdim=True)] if poles.shape[-1] else []
    distance = torch.zeros(poles.shape, dtype=torch.float64, device=poles.device)
    for _ in range(poles.shape[-1] - 1):
        last = torch.take_along_dim(poles, chosen[-1], -1)
        distance += ((poles - last).abs() + torch.finfo(torch.float64).tiny).log()
        distance.scatter_(-1, chosen[-1], -torch.inf)
        chosen.append(distance.argmax(-1, keepdim=True))
    return torch.cat(chosen, -1) if chosen else torch.zeros(poles.shape, dtype=torch.long, device=poles.device)
