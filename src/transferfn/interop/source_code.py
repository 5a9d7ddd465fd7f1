"""The step of a filter bank as source text that depends on nothing: C99, and Python with NumPy.

Both are second-order sections in double precision, the form that is least sensitive where nobody can measure any more.
What they lose is measured before and stands in the text.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from transferfn.core.bank import check_one_bank
from transferfn.core.checks import refuse_foreign
from transferfn.core.forms import second_order_sections
from transferfn.core.system import TransferFunction
from transferfn.nn.realize import error_of, true_output

LARGEST_ERROR = 1e-6  # of the largest output, that is written down without a refusal
SAMPLES = 8192  # of noise, that the error is measured with


def filter_as_c(system: TransferFunction | ArrayLike, *, name: str = "filter") -> str:
    """Write filters as C99: a state, a function that clears it, and one that filters a sample of all channels.

    The text needs no header of its own but ``<string.h>``, allocates nothing, and has no global state: any number of
    streams run side by side, each with a ``<name>_state``.

    Args:
        system: True coefficients of D channels; or second-order sections as scipy has them, (S, 6) or (D, S, 6), for
            filters that coefficients of one polynomial do not hold.
        name: What the names in the program begin with: letters, digits and underscores.

    Returns:
        Source text of one file, with ``<name>_init(state)`` and ``<name>_step(state, input, output)``, where input and
        output are ``<name>_CHANNELS`` doubles; they may be the same.

    Raises:
        ArithmeticError: if poles or zeros cannot be paired, or the program would be another filter.
        ValueError: if the name is not one in C.

    Example:
        >>> decay = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0]))
        >>> print(filter_as_c(decay, name="decay").splitlines()[8])
        typedef struct { double w[DECAY_CHANNELS][DECAY_SECTIONS][2]; } decay_state;
    """
    coefficients, about = _measured(system, name)
    channels, sections, _ = coefficients.shape
    upper = name.upper()
    rows = ",\n".join(
        "    {" + ",\n     ".join("{" + ", ".join(_number(x) for x in section) + "}" for section in channel) + "}"
        for channel in coefficients.tolist()
    )
    return f"""/* {about}
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


def filter_as_numpy(system: TransferFunction | ArrayLike, *, name: str = "filter") -> str:
    """Write filters as Python with NumPy: a function that makes a state, and one that filters a sample.

    Args:
        system: True coefficients of D channels; or second-order sections as scipy has them, (S, 6) or (D, S, 6), for
            filters that coefficients of one polynomial do not hold.
        name: What the names in the program begin with.

    Returns:
        Source text of one file, with ``<name>_init(batch)`` and ``<name>_step(state, u) -> (y, state)`` for u of shape
        (batch, channels). States are returned, not changed.

    Raises:
        ArithmeticError: if poles or zeros cannot be paired, or the program would be another filter.
        ValueError: if the name is not one in C, which both forms of a filter share.

    Example:
        >>> decay = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0]))
        >>> program = {}
        >>> exec(filter_as_numpy(decay, name="decay"), program)
        >>> y, state = program["decay_step"](program["decay_init"](1), [[1.0]])
        >>> program["decay_step"](state, [[0.0]])[0].tolist()
        [[0.5]]
    """
    coefficients, about = _measured(system, name)
    upper = name.upper()
    rows = ",\n".join(
        "    [" + ",\n     ".join("[" + ", ".join(_number(x) for x in section) + "]" for section in channel) + "]"
        for channel in coefficients.tolist()
    )
    return f'''"""{about}"""

import numpy as np

# Channels, sections, (h0, b1, b2, a1, a2): H(z) = h0 + (b1/z + b2/z^2) / (1 + a1/z + a2/z^2)
{upper}_COEFFICIENTS = np.array([
{rows}
])


def {name}_init(batch):
    """The state of so many streams at rest: the last two samples of each section, newest first."""
    return np.zeros((batch, *{upper}_COEFFICIENTS.shape[:2], 2))


def {name}_step(state, u):
    """One sample of all channels, (batch, channels): its output, and the state after it."""
    y, newest = np.asarray(u, dtype=float), []
    for s in range({upper}_COEFFICIENTS.shape[1]):
        h0, b1, b2, a1, a2 = {upper}_COEFFICIENTS[:, s].T
        first, second = state[:, :, s, 0], state[:, :, s, 1]
        newest.append(y - (a1 * first + a2 * second))
        y = h0 * y + (b1 * first + b2 * second)
    return y, np.stack((np.stack(newest, 2), state[..., 0]), -1)
'''


def _measured(system: TransferFunction | ArrayLike, name: str) -> tuple[Tensor, str]:
    """h0, b1, b2, a1, a2 of each section, (D, S, 5), and what is to be said of them."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"a name is made of letters, digits and underscores and begins with no digit, got {name!r}")
    u = torch.randn(SAMPLES, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    if isinstance(system, TransferFunction):
        check_one_bank(system)
        sections, order, dt = second_order_sections(system), system.order, system.dt
        truth = true_output(system, u.expand(-1, system.channels))
    else:
        sections = _as_sections(system)
        order, dt, truth = 2 * sections.shape[1], None, _filtered(sections, u, np.longdouble)
    if not bool(sections.isfinite().all()):
        raise ArithmeticError("the sections of these filters are not finite: their coefficients say too little of them")
    error = float(error_of(_filtered(sections, u, np.float64), truth).max())
    if not error <= LARGEST_ERROR:
        raise ArithmeticError(
            f"the program would differ from these filters by {error:.1e} of the largest output over {SAMPLES:,} "
            f"samples: they are unstable, or their coefficients do not hold them in float64. Pass the second-order "
            f"sections that they were designed as, scipy's sos, or reduce the order."
        )
    rate = "" if dt is None else f", sampling interval {dt!r} s"
    about = (
        f"{len(sections)} filters of order {order} as second-order sections, made by transferfn{rate}. Error over "
        f"{SAMPLES:,} samples of noise: {error:.1e} of the largest output."
    )
    b, a = sections.split(3, -1)
    return torch.cat((b[..., :1], (b - b[..., :1] * a)[..., 1:], a[..., 1:]), -1), about


def _as_sections(sos: ArrayLike) -> Tensor:
    """Sections (D, S, 6) whose a0 is 1."""
    refuse_foreign("a TransferFunction or sections", sos)
    found = torch.as_tensor(np.asarray(sos, np.float64))
    found = found[None] if found.dim() == 2 else found
    if found.dim() != 3 or found.shape[-1] != 6 or 0 in found.shape:
        raise ValueError(f"expected a TransferFunction, or sections (S, 6) or (D, S, 6), got {tuple(found.shape)}")
    if bool((found[..., 3] == 0).any()):
        raise ValueError("a0 of a section must not be zero: the filter would not be causal")
    return found / found[..., 3:4]


def _filtered(sections: Tensor, u: Tensor, kind: Any) -> Tensor:
    """A signal (L, 1) filtered by each of D cascades (D, S, 6) in a NumPy type, (L, D)."""
    from scipy import signal

    x = u[:, 0].numpy().astype(kind)
    found = [signal.sosfilt(sos.numpy().astype(kind), x) for sos in sections]
    return torch.as_tensor(np.stack(found, 1).astype(np.float64))


def _number(x: float) -> str:
    """The shortest decimal that is read as exactly this number."""
    return repr(float(x))
