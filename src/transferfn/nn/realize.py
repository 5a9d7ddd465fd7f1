"""Which form of a filter decodes best in a narrow type: measured, not guessed."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from transferfn.core.bank import check_one_bank
from transferfn.core.forms import modes, second_order_sections
from transferfn.core.kernel import spread
from transferfn.core.polynomial import monic
from transferfn.core.stability import UnstableFilterWarning
from transferfn.core.system import TransferFunction
from transferfn.nn.guard import StateOverflowError
from transferfn.nn.lattice_realization import LatticeRealization
from transferfn.nn.mixer import SequenceMixer
from transferfn.nn.narrow_state import NarrowState
from transferfn.nn.options import check_dtype
from transferfn.nn.realization import Realization
from transferfn.nn.section_realization import SectionRealization
from transferfn.nn.state_space_realization import ModalRealization

Form = Literal["direct", "sections", "modal", "lattice"]
"""The cheapest step first."""

FormOption = Literal["auto", Form]
"""A form, or whichever loses least."""

LENGTH = 4096  # samples over which forms are compared unless told otherwise
COMPARABLE = 2.0  # errors that differ by no more than this factor are taken for the same


@dataclass(frozen=True, eq=False)
class Choice:
    """A form of a filter that decodes, and what was measured of it and of the others.

    Attributes:
        decoder: The filter in that form: a mixer without parameters. It keeps its state in the type that was asked for.
        form: Which form it is.
        errors: For each form that was measured, the error of each channel, (D): the largest difference of its output,
            decoded sample by sample, from the truth, relative to the largest output; infinite where a state overflowed.
        refused: For each form that does not hold the filters, why.
        length: Number of samples that were compared.
    """

    decoder: SequenceMixer
    form: Form
    errors: dict[Form, Tensor]
    refused: dict[Form, str]
    length: int

    def line(self) -> str:
        """What was chosen and measured, for people."""
        measured = ", ".join(f"{form} {float(error.max()):.2g}" for form, error in self.errors.items())
        refused = "".join(f"; {form} refused: {cause}" for form, cause in self.refused.items())
        return f"{self.form!r} of errors over {self.length} samples: {measured}{refused}"

    def __repr__(self) -> str:
        return f"Choice({self.line()})"


def realize(
    system: TransferFunction,
    *,
    dtype: torch.dtype = torch.float32,
    state_dtype: torch.dtype | None = None,
    form: FormOption = "auto",
    length: int = LENGTH,
) -> Choice:
    """Realise filters for decoding in the form whose measured error is least.

    Of forms whose errors are within a factor of 2, which another noise could turn round, it is the one that costs
    least. Each form decodes the same white noise sample by sample in the working type; the truth is the recurrence of
    the given coefficients in NumPy's ``longdouble``, wider than float64 where the machine has it.

    Args:
        system: True coefficients of D channels, one bank. They should be in float64: what was rounded before is not
            seen here.
        dtype: Type of the coefficients and signals, float32 or float64.
        state_dtype: Type that the decoder keeps its state in between samples, e.g. ``torch.bfloat16`` to store many of
            them; it computes in ``dtype``. None means ``dtype``.
        form: ``"auto"`` compares all forms: the companion recurrence (``"direct"``), second-order sections, modes, and
            the normalised lattice. A form by name is measured alone, and an error that it raises is passed on.
        length: Number of samples to compare, at least 1. Filters that remember longer need more.

    Returns:
        The decoder, its form, and the errors of all forms that were measured.

    Raises:
        ArithmeticError: if a form that was asked for does not hold the filters.
        ValueError: if an argument makes no sense.

    Example:
        >>> from scipy import signal
        >>> b, a = (torch.tensor(x) for x in signal.butter(8, 0.05))
        >>> low_pass = TransferFunction((b - b[0] * a)[None, 1:], a[None, 1:], b[:1])
        >>> found = realize(low_pass)
        >>> found.form != "direct", bool(found.errors["direct"] > 1e-2), bool(found.errors[found.form] < 1e-4)
        (True, True, True)
    """
    if form != "auto" and form not in get_args(Form):
        raise ValueError(f"form is 'auto', {', '.join(map(repr, get_args(Form)))}, got {form!r}")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"filters decode in torch.float32 or torch.float64, got dtype={dtype}; see state_dtype")
    if state_dtype is not None:
        check_dtype(state_dtype)
    check_one_bank(system)
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    candidates: list[Form] = [one for one in get_args(Form) if form in ("auto", one)]
    u = torch.randn(length, system.channels, generator=torch.Generator().manual_seed(0), dtype=dtype)
    truth = true_output(system, u)
    decoders: dict[Form, SequenceMixer] = {}
    errors: dict[Form, Tensor] = {}
    refused: dict[Form, str] = {}
    for one in candidates:
        try:
            decoder = build(one, system, dtype)
        except ArithmeticError as error:
            if form != "auto":
                raise
            refused[one] = str(error)
            continue
        decoders[one] = decoder if state_dtype is None else NarrowState(decoder, state_dtype)
        errors[one] = error_of(decode(decoders[one], u), truth)
    least = min(float(error.max()) for error in errors.values())
    best: Form = next(one for one, error in errors.items() if float(error.max()) <= COMPARABLE * least)
    return Choice(decoders[best], best, errors, refused, length)


def build(form: Form, system: TransferFunction, dtype: torch.dtype) -> SequenceMixer:
    """Realise filters in a given form.

    Args:
        form: Which.
        system: True coefficients of D channels.
        dtype: Type the coefficients are rounded to.

    Raises:
        ArithmeticError: if the form does not hold the filters.
    """
    match form:
        case "direct":
            return Realization(system.to(dtype=dtype))
        case "sections":
            return SectionRealization(second_order_sections(system), dtype=dtype, dt=system.dt)
        case "modal":
            return ModalRealization(modes(system), dtype=dtype)
        case "lattice":
            return LatticeRealization(system, dtype=dtype)


@torch.no_grad()
def decode(decoder: SequenceMixer, u: Tensor) -> Tensor:
    """Run a decoder sample by sample.

    Args:
        decoder: What decodes.
        u: Signal of one row, (L, D).

    Returns:
        Output, (L, D); from where a state is no longer finite on, infinite.
    """
    y = torch.full_like(u, torch.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableFilterWarning)  # that is what is to be seen
        state = decoder.init_state(1, dtype=u.dtype)
    for t, u_t in enumerate(u.unsqueeze(1)):
        try:
            y_t, state = decoder.step(u_t, state)
        except StateOverflowError:
            break
        y[t] = y_t[0]
    return y


def error_of(y: Tensor, truth: Tensor) -> Tensor:
    """The largest difference of each channel, relative to the largest true value.

    Args:
        y: Output, (L, D).
        truth: What it should be, (L, D).
    """
    difference = (y.to(torch.float64) - truth).abs().amax(0)
    largest = truth.abs().amax(0).clamp_min(torch.finfo(torch.float64).tiny)
    return (difference / largest).nan_to_num(nan=torch.inf, posinf=torch.inf)


def true_output(system: TransferFunction, u: Tensor) -> Tensor:
    """Filter a signal by the recurrence of the given coefficients in NumPy's ``longdouble``.

    Args:
        system: True coefficients of D channels.
        u: Signal, (L, D).

    Returns:
        Output, float64, (L, D).
    """
    import numpy as np
    from scipy import signal

    a = monic(spread(system.a, system.channels)).detach().cpu().double().numpy().astype(np.longdouble)
    b, h0 = (x.detach().cpu().double().numpy().astype(np.longdouble) for x in (system.b, system.h0))
    signals = u.detach().cpu().double().numpy().astype(np.longdouble)
    rows = []
    for d in range(system.channels):
        numerator = h0[d] * a[d]
        numerator[1:] += b[d]
        with np.errstate(over="ignore"):  # of a filter that is unstable, all numbers
            rows.append(np.asarray(signal.lfilter(numerator, a[d], signals[:, d]), np.float64))
    return torch.as_tensor(np.stack(rows, 1))
