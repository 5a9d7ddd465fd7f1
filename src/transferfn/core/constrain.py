r"""Stability by construction: maps from free parameters onto stable denominators, and back.

**Reflection coefficients** k_1..k_n, each between -1 and 1, stand for all stable denominators of order n and no other:
the step-up recursion A_m(z) = A_(m-1)(z) + k_m z^-m A_(m-1)(1/z) leads from A_0 = 1 to A_n. :func:`reflection` takes
them from free numbers as k_m = tanh(g_m raw_m), where g_m is the product of 1 - k_j^2 over all j > m.

Why g_m: in a filter 1/A_n a change of k_m makes the relative change z^-m A_(m-1)(1/z) / A_n, whose power on the unit
circle is the ratio of prediction-error energies of orders m - 1 and n, 1 / (g_m (1 - k_m^2)); each later stage adds to
it a mirror image of the same modulus, times k_j. The chain through tanh(raw_m) alone therefore leaves a relative change
of up to the product of sqrt((1 + |k_j|) / (1 - |k_j|)), which has no bound: one high coefficient near 1, that is to say
long memory, makes all lower ones stiff. With g_m each of these factors is (1 + |k_j|) sqrt(1 - k_j^2) <= 1.3.

Beside taps of the normalised lattice (:func:`transferfn.core.lattice.lattice_filter`) there is no scale, k_m =
tanh(raw_m). They keep the energy of a response wherever the poles go, and then tanh is the measure of its change: at
order one, responses of energy 1 with parameters x and y have the product 1 / cosh(x - y). With the scale, poles that
crowd near the circle have parameters of 1e6 and more, which no rate moves; without it they are below 20.

**The l1 constraint** scales a to a sum of |a_i| below 1, which is sufficient for stability and far from necessary: of
resonances and slow decays it leaves only those of combs, whose one coefficient is a_n.
"""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from transferfn.core.doubt import LARGEST_ERROR, IllConditionedWarning
from transferfn.core.kernel import conditioning
from transferfn.core.lattice import Rows, lattice_denominator
from transferfn.core.lattice import step_down as step_down
from transferfn.core.lattice import step_up as step_up
from transferfn.core.stability import stability
from transferfn.kernels.tracing import values_are_hidden

CIRCLE = 4096  # points of the unit circle at which the smallest |A| is looked for
SLACK = 1e-6  # the paper's
SHOWN = 5  # rows named in an error


def reflection(raw: Rows) -> Rows:
    """Map free parameters onto stable denominators: smooth, one to one, and every stable denominator is reached.

    k_m = tanh(g_m raw_m), with g_m the product of 1 - k_j^2 over j > m, then :func:`step_up`. The coefficients k are
    kept off +-1, which tanh rounds to beyond 19 in float64, 9 in float32; gradients vanish there. In exact arithmetic
    every result is stable; rounding a long denominator with clustered poles to float64, or any to float32, can undo
    that: :func:`transferfn.core.stability` judges the coefficients that are used.

    Args:
        raw: Free parameters, (*rows, n).

    Returns:
        Denominator a_1..a_n, (*rows, n).

    Source:
        Reflection coefficients as in :func:`step_up`; the scale g is derived at the top of this module.

    Example:
        >>> reflection(torch.tensor([[0.0, 0.0, 2.0]]))  # the last parameter alone makes a comb
        tensor([[0.0000, 0.0000, 0.9640]])
    """
    return lattice_denominator(raw)


def reflection_parameters(a: Rows, *, scaled: bool = True) -> Rows:
    """Find the free parameters of stable denominators, the inverse of :func:`reflection`.

    Computed in float64. Rounding of the coefficients is amplified by the product of 1 / (1 - k_j^2), and again by the
    conditioning kappa of the filter. So the result is checked: the responses of a and of what the parameters rebuild
    are within a thousandth of each other, for combs equal to rounding. Filters with clustered poles have very large
    parameters: 2e3 for a Butterworth low-pass of order 8 at 0.2 of the Nyquist frequency, 2e10 at 0.05; at 0.02 they
    are refused. Where float32 parameters are asked for and do not hold that thousandth, an
    :class:`~transferfn.IllConditionedWarning` says so. Inside function transforms nothing is looked at.

    Args:
        a: Denominator a_1..a_n, (*rows, n).
        scaled: False gives those beside taps of a lattice, which have no scale: artanh of the reflection coefficients.

    Returns:
        Free parameters, (*rows, n).

    Raises:
        ValueError: if a denominator is not stable, or if rounding hides which parameters it has.

    Example:
        >>> reflection_parameters(torch.tensor([[0.0, 0.0, 0.9640276]]))
        tensor([[0.0000, 0.0000, 2.0000]])
    """
    wide = a.to(torch.float64)
    k = step_down(wide)
    raw = k.atanh()
    if scaled:
        scale = (1 - k * k).flip(-1).cumprod(-1).flip(-1)
        raw = raw / torch.cat((scale[..., 1:], torch.ones_like(scale[..., :1])), -1)
    if not values_are_hidden():
        _check_rebuilt(raw, wide, a.dtype, scaled)
    return raw.to(a.dtype)


@torch.no_grad()
def _check_rebuilt(raw: Tensor, a: Tensor, dtype: torch.dtype, scaled: bool) -> None:
    """Raise unless the parameters stand for these denominators, and warn if they do not once they are rounded."""
    kappa = conditioning(a[..., None, :], period=max(CIRCLE, 2 * a.shape[-1]))[..., 0]

    def change_of_response(parameters: Tensor) -> Tensor:
        rebuilt = lattice_denominator(parameters, scaled=scaled)
        return kappa * (rebuilt - a).abs().sum(-1) / (1 + a.abs().sum(-1))

    wrong = ~(change_of_response(raw) <= LARGEST_ERROR)  # NaN where some |k| > 1
    if bool(wrong.any()):
        _refuse(a, wrong)
    worst = float(change_of_response(raw.to(dtype).to(raw.dtype)).amax()) if a.numel() else 0.0
    if worst > LARGEST_ERROR:
        warnings.warn(
            f"reflection parameters in {str(dtype).removeprefix('torch.')} change the response of some denominator by "
            f"up to {worst:.1g} of its largest value: its poles are clustered. Use float64, a lower order or "
            "constraint=None.",
            IllConditionedWarning,
            stacklevel=3,
        )


def l1(raw: Rows, slack: Float[Tensor, "*rows"]) -> Rows:
    """Scale free parameters to a sum of |a_i| below 1: raw / (sum |raw_i| + |slack| + 1e-6).

    The sum is taken larger by a few units of rounding, so that the constraint holds for the rounded coefficients of
    large parameters, too.

    Args:
        raw: Free parameters, (*rows, n).
        slack: One more parameter a denominator, (*rows).

    Returns:
        Denominator a_1..a_n, (*rows, n).

    Source:
        Parnichkun et al. 2024, arXiv:2405.06147, the constraint after Montel's bound on roots.

    Example:
        >>> l1(torch.tensor([[1.0, -2.0]]), torch.tensor([1.0]))
        tensor([[ 0.2500, -0.5000]])
    """
    return raw / (_bound(raw) + slack.abs() + SLACK)[..., None]


def l1_parameters(a: Rows) -> tuple[Rows, Float[Tensor, "*rows"]]:
    """Find parameters of denominators within the l1 constraint, an inverse of :func:`l1` to rounding.

    Coefficients outside the constraint are taken as free parameters with a slack of 1, as the paper takes its xavier
    initialisation: the denominator is then a / (sum |a_i| + 1), not a.

    Args:
        a: Denominator a_1..a_n, (*rows, n).

    Returns:
        Free parameters, (*rows, n), and slack, (*rows).

    Example:
        >>> l1_parameters(torch.tensor([[0.25, -0.5]]))
        (tensor([[ 0.2500, -0.5000]]), tensor([0.2500]))
    """
    room = 1 - _bound(a)
    inside = room > 0
    # Where there is less room than the constant 1e-6, larger parameters make up for it.
    factor = torch.where(inside, (2 * SLACK / room).clamp_min(1), 1)
    slack = torch.where(inside, factor * room - SLACK, 1)
    return a * factor[..., None], slack


def _bound(a: Tensor) -> Tensor:
    """Sum of |a_i|, raised by more than all rounding in l1."""
    return a.abs().sum(-1) * (1 + (a.shape[-1] + 4) * torch.finfo(a.dtype).eps)


def _refuse(a: Tensor, wrong: Tensor) -> None:
    verdict = stability(a)
    rows = [tuple(row) if len(row) > 1 else row[0] for row in wrong.nonzero().tolist()]
    which = "the denominator" if wrong.ndim == 0 else f"row {rows[0]}" if len(rows) == 1 else f"{len(rows)} rows"
    if len(rows) > 1:
        which += f" ({', '.join(map(str, rows[:SHOWN]))}{', ...' if len(rows) > SHOWN else ''})"
    radius = float(torch.where(wrong, verdict.radius, 0).max())
    if bool((wrong & ~verdict.stable).any()):
        raise ValueError(
            f"only stable denominators have reflection coefficients within +-1, but {which} of {wrong.numel()} "
            f"cannot be shown to be stable: pole radius up to {radius:.6g}. Choose a stable initialisation ("
            "'resonators', 'comb', 'bands', 'zeros' or 'montel') or constraint=None, or stabilize() the filter first."
        )
    raise ValueError(
        f"rounding in float64 hides the reflection coefficients of {which} of {wrong.numel()}, order {a.shape[-1]}: "
        f"the poles are clustered near the unit circle, radius up to {radius:.6g}. Choose a lower order or "
        "constraint=None."
    )
