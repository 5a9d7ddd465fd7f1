"""The step of a filter bank as source text that depends on nothing: C99, and Python with NumPy.

Both are second-order sections in double precision, the form that is least sensitive where nobody can measure any more.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from transferfn.core.forms import second_order_sections
from transferfn.core.system import TransferFunction


def filter_as_c(system: TransferFunction, *, name: str = "filter") -> str:
    """Write filters as C99: a state, a function that clears it, and one that filters a sample of all channels.

    The text needs no header of its own but ``<string.h>``, allocates nothing, and has no global state: any number of
    streams run side by side, each with a ``<name>_state``.

    Args:
        system: True coefficients of D channels.
        name: What the names in the program begin with: letters, digits and underscores.

    Returns:
        Source text of one file, with ``<name>_init(state)`` and ``<name>_step(state, input, output)``, where input and
        output are ``<name>_CHANNELS`` doubles; they may be the same.

    Raises:
        ArithmeticError: if poles or zeros cannot be paired.
        ValueError: if the name is not one in C.

    Example:
        >>> decay = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0]))
        >>> print(filter_as_c(decay, name="decay").splitlines()[8])
        typedef struct { double w[DECAY_CHANNELS][DECAY_SECTIONS][2]; } decay_state;
    """
    coefficients = _coefficients(system, name)
    channels, sections, _ = coefficients.shape
    upper = name.upper()
    rows = ",\n".join(
        "    {" + ",\n     ".join("{" + ", ".join(_number(x) for x in section) + "}" for section in channel) + "}"
        for channel in coefficients.tolist()
    )
    return f"""/* {_about(system)}
   y = {name}_step(...) for one sample of each channel; a state belongs to one stream. */

#include <string.h>

#define {upper}_CHANNELS {channels}
#define {upper}_SECTIONS {sections}

typedef struct {{ double w[{upper}_CHANNELS][{upper}_SECTIONS][2]; }} {name}_state;

/* h0, b1, b2, a1, a2: H(z) = h0 + (b1/z + b2/z^2) / (1 + a1/z + a2/z^2) */
static const double {name}_coefficients[{upper}_CHANNELS][{upper}_SECTIONS][5] = {{
{rows}
}};

void {name}_init({name}_state *state) {{ memset(state, 0, sizeof *state); }}

void {name}_step({name}_state *state, const double *input, double *output) {{
    for (int d = 0; d < {upper}_CHANNELS; d++) {{
        double y = input[d];
        for (int s = 0; s < {upper}_SECTIONS; s++) {{
            const double *c = {name}_coefficients[d][s];
            double *w = state->w[d][s];
            const double newest = y - (c[3] * w[0] + c[4] * w[1]);
            y = c[0] * y + (c[1] * w[0] + c[2] * w[1]);
            w[1] = w[0];
            w[0] = newest;
        }}
        output[d] = y;
    }}
}}
"""


def filter_as_numpy(system: TransferFunction, *, name: str = "filter") -> str:
    """Write filters as Python with NumPy: a function that makes a state, and one that filters a sample.

    Args:
        system: True coefficients of D channels.
        name: What the names in the program begin with.

    Returns:
        Source text of one file, with ``<name>_init(batch)`` and ``<name>_step(state, u) -> (y, state)`` for u of shape
        (batch, channels). States are returned, not changed.

    Raises:
        ArithmeticError: if poles or zeros cannot be paired.
        ValueError: if the name is not one in C, which both forms of a filter share.

    Example:
        >>> decay = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0]))
        >>> program = {}
        >>> exec(filter_as_numpy(decay, name="decay"), program)
        >>> y, state = program["decay_step"](program["decay_init"](1), [[1.0]])
        >>> program["decay_step"](state, [[0.0]])[0].tolist()
        [[0.5]]
    """
    coefficients = _coefficients(system, name)
    rows = ",\n".join(
        "    [" + ",\n     ".join("[" + ", ".join(_number(x) for x in section) + "]" for section in channel) + "]"
        for channel in coefficients.tolist()
    )
    return f'''"""{_about(system)}"""

import numpy as np

# Channels, sections, (h0, b1, b2, a1, a2): H(z) = h0 + (b1/z + b2/z^2) / (1 + a1/z + a2/z^2)
COEFFICIENTS = np.array([
{rows}
])


def {name}_init(batch):
    """The state of so many streams at rest: the last two samples of each section, newest first."""
    return np.zeros((batch, *COEFFICIENTS.shape[:2], 2))


def {name}_step(state, u):
    """One sample of all channels, (batch, channels): its output, and the state after it."""
    y, newest = np.asarray(u, dtype=float), []
    for s in range(COEFFICIENTS.shape[1]):
        h0, b1, b2, a1, a2 = COEFFICIENTS[:, s].T
        first, second = state[:, :, s, 0], state[:, :, s, 1]
        newest.append(y - (a1 * first + a2 * second))
        y = h0 * y + (b1 * first + b2 * second)
    return y, np.stack((np.stack(newest, 2), state[..., 0]), -1)
'''


def _coefficients(system: TransferFunction, name: str) -> Tensor:
    """h0, b1, b2, a1, a2 of each section, (D, S, 5)."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"a name is made of letters, digits and underscores and begins with no digit, got {name!r}")
    if system.a.dim() != 2:
        raise ValueError(f"expected one bank, got coefficients with leading axes {tuple(system.a.shape[:-2])}")
    b, a = second_order_sections(system).split(3, -1)
    proper = b - b[..., :1] * a
    found = torch.cat((b[..., :1], proper[..., 1:], a[..., 1:]), -1)
    if not bool(found.isfinite().all()):
        raise ArithmeticError("the sections of these filters are not finite: their coefficients say too little of them")
    return found


def _number(x: float) -> str:
    """The shortest decimal that is read as exactly this number."""
    return repr(float(x))


def _about(system: TransferFunction) -> str:
    rate = "" if system.dt is None else f", sampling interval {system.dt!r} s"
    return f"{system.channels} filters of order {system.order} as second-order sections, made by transferfn{rate}."
