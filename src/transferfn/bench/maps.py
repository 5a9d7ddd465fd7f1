"""Ways to write a stable denominator by free parameters: the library's own and those they are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from transferfn.core import constrain
from transferfn.core.lattice import Rows, step_down, step_up
from transferfn.core.polynomial import roots

LARGEST_REFLECTION = 1 - 1e-15


@dataclass(frozen=True)
class Map:
    """One way to write a denominator: free parameters, all along the last axis, to coefficients and back.

    Attributes:
        name: What it is called in the report.
        denominator: From free parameters to a_1..a_n.
        parameters: From a_1..a_n to free parameters.
    """

    name: str
    denominator: Callable[[Tensor], Rows]
    parameters: Callable[[Rows], Tensor]


def l1(raw: Tensor) -> Rows:
    """The library's l1 constraint, its slack the last parameter.

    Args:
        raw: Free parameters, (*rows, n + 1).
    """
    return constrain.l1(raw[..., :-1], raw[..., -1])


def l1_parameters(a: Rows) -> Tensor:
    """Parameters of :func:`l1`.

    Args:
        a: Rows, (*rows, n).
    """
    raw, slack = constrain.l1_parameters(a)
    return torch.cat((raw, slack[..., None]), -1)


def plain_reflection(raw: Tensor) -> Rows:
    """Reflection coefficients k = tanh(raw), not scaled.

    Args:
        raw: Free parameters, (*rows, n).
    """
    return step_up(raw.tanh().clamp(-LARGEST_REFLECTION, LARGEST_REFLECTION))


def plain_reflection_parameters(a: Rows) -> Tensor:
    """Parameters of :func:`plain_reflection`.

    Args:
        a: Rows, (*rows, n).
    """
    return step_down(a).atanh()


def sections(raw: Tensor) -> Rows:
    """Product of n / 2 second-order sections, the two coefficients of each mapped onto the triangle of stability.

    A section is 1 + (1 + q) tanh(u) z^-1 + q z^-2 with q = tanh(v).

    Args:
        raw: All u, then all v, (*rows, n), n even.
    """
    u, v = raw.unflatten(-1, (2, -1)).unbind(-2)
    q = v.tanh().clamp(-LARGEST_REFLECTION, LARGEST_REFLECTION)
    p = (1 + q) * u.tanh().clamp(-LARGEST_REFLECTION, LARGEST_REFLECTION)
    whole = torch.ones_like(raw[..., :1])
    for p_i, q_i in zip(p.split(1, -1), q.split(1, -1), strict=True):
        whole = pad(whole, (0, 2)) + p_i * pad(whole, (1, 1)) + q_i * pad(whole, (2, 0))
    return whole[..., 1:]


def section_parameters(a: Rows) -> Tensor:
    """Parameters of :func:`sections`: conjugate poles are paired, and of real ones the largest with the smallest.

    Args:
        a: Rows, (*rows, n), n even.
    """
    rows = []
    for poles in roots(a.flatten(0, -2))[0]:
        pairs = [(-2 * float(z.real), float(z.abs()) ** 2) for z in poles if z.imag > 0]
        real = poles.real[poles.imag == 0].sort().values.tolist()
        pairs += [(-(low + high), low * high) for low, high in zip(real, reversed(real), strict=True)][: len(real) // 2]
        p, q = torch.tensor(pairs, dtype=torch.float64).unbind(-1)
        rows.append(torch.cat(((p / (1 + q)).atanh(), q.atanh())))
    return torch.stack(rows).reshape(a.shape)


MAPS = (
    Map("none", lambda raw: raw.clone(), lambda a: a),
    Map("l1", l1, l1_parameters),
    Map("reflection", constrain.reflection, constrain.reflection_parameters),
    Map("tanh reflection", plain_reflection, plain_reflection_parameters),
    Map("second-order sections", sections, section_parameters),
)
