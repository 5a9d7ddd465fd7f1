r"""Fitting transfer functions to records by their simulation error, y - yhat: Gauss-Newton steps that stay stable.

    yhat = sum_j B_j(z) / A_j(z) u_j + C_r(z) / A(z) + constant

For given denominators the numerators B, the constant and the free response C of each record r, which stands for its
unknown initial state, are a linear least-squares problem and solved as such. What is searched for are the denominators
alone. Their columns of the Jacobian are responses of the filters themselves, d yhat / d a_k = -z^-k yhat / A. A step is
damped until it lowers the error; poles outside the unit circle are first mirrored into it, and only what is certainly
stable in float64 is ever taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from transferfn.core.kernel import recursive_response, spread
from transferfn.core.polynomial import roots
from transferfn.core.stability import schur_cohn
from transferfn.kernels.recurrence import recurrence

LONGEST_MEMORY = 100  # times the longest record: of a slower pole it could tell nothing
RANK = 1e-12  # singular values below this share of the largest count as none


@dataclass(frozen=True)
class Records:
    """Input and output records of one system with one output, padded to one length."""

    u: Tensor
    """Inputs, zero past the end, (R, L, m), float64."""

    y: Tensor
    """Outputs, zero where unknown, (R, L), float64."""

    known: Tensor
    """Where the output is known, bool, (R, L)."""

    lengths: Tensor
    """Number of samples of each record, (R)."""

    @property
    def inputs(self) -> int:
        """Number of inputs m."""
        return self.u.shape[-1]


@dataclass(frozen=True)
class Form:
    """Which parameters a model has.

    Attributes:
        feedthrough: Whether numerators start at z^0 and not at z^-1.
        constant: Whether a constant is added to the output.
        initial: Whether records start from an unknown state and not from rest.
    """

    feedthrough: bool = True
    constant: bool = False
    initial: bool = True


@dataclass(frozen=True)
class Model:
    """Parameters of a model and what they come to."""

    numerators: Tensor
    """Coefficients of z^0..z^-n over the denominators, (m, n + 1)."""

    a: Tensor
    """Denominators, (G, n), G = 1 or m."""

    constant: Tensor
    """Added to the output, ()."""

    free: tuple[Tensor, ...]
    """Numerators of the free responses of each record, z^0..z^-(n-1), (G, n) each; empty if all start from rest."""

    cost: float
    """Sum of squared errors over the known samples, and what a prior adds."""

    steps: int = 0
    """Steps that were taken."""


class Prior(NamedTuple):
    """What is known of numerators, constant and denominators from earlier data: |R (x - center)|^2 adds to the cost."""

    factor: Tensor
    """R, (rows, parameters)."""

    center: Tensor
    """Parameters, (parameters)."""


class _Solved(NamedTuple):
    model: Model
    outputs: Tensor  # what the filters give, free responses included, by denominator, (R, G, L)


def solve(records: Records, a: Tensor, form: Form, prior: Prior | None = None) -> Model:
    """The best numerators, constant and initial states for given denominators.

    Args:
        records: Data.
        a: Denominators, (G, n).
        form: Which parameters there are.
        prior: What is known before; None means nothing.
    """
    return _solve(records, a, form, prior).model


def refine(
    records: Records, model: Model, form: Form, *, steps: int = 50, tolerance: float = 1e-10, prior: Prior | None = None
) -> Model:
    """Gauss-Newton steps from a stable model until they no longer help.

    Args:
        records: Data.
        model: Where to start.
        form: Which parameters there are.
        steps: Largest number of steps.
        tolerance: Relative decrease of the cost below which to stop.
        prior: What is known before; None means nothing.
    """
    damping = 1e-3
    found = _solve(records, model.a, form, prior)
    for taken in range(1, steps + 1):
        here = found.model
        block, right = _reduced_system(records, found, form, prior)
        scale = block.norm(dim=0).clamp_min(torch.finfo(block.dtype).tiny)
        while True:
            rows = torch.cat((block, damping**0.5 * torch.diag(scale)))
            step = torch.linalg.lstsq(rows, pad(right, (0, len(scale)))[:, None]).solution[:, 0]
            a = mirrored(here.a + step.view_as(here.a), edge=edge(records))
            if a is not None:
                tried = _solve(records, a, form, prior)
                if tried.model.cost < here.cost:
                    break
            damping *= 4
            if damping > 1e8:
                return here
        damping = max(damping / 8, 1e-12)
        found = _Solved(replace(tried.model, steps=taken), tried.outputs)
        if here.cost - tried.model.cost <= tolerance * here.cost:
            break
    return found.model


def information(records: Records, model: Model, form: Form, prior: Prior | None = None) -> Prior:
    """What records tell of the parameters near a model, as a prior for records to come.

    Args:
        records: Data.
        model: The model.
        form: Which parameters there are.
        prior: What was known before; None means nothing.
    """
    found = _solve(records, model.a, form, prior)
    center = torch.cat((_linear_parameters(found.model, form), found.model.a.flatten()))
    return Prior(_factor(records, found, form, prior)[:, : len(center)], center)


def edge(records: Records) -> float:
    """Largest radius of a pole that records can tell from the unit circle.

    Args:
        records: Data.
    """
    return 1 - 1 / (LONGEST_MEMORY * records.u.shape[1])


def mirrored(a: Tensor, *, edge: float) -> Tensor | None:
    """Denominators with the poles outside the unit circle mirrored into it; None if what is rounded is not stable.

    Args:
        a: Denominators, (G, n).
        edge: Radius that no pole is left beyond.
    """
    if not bool(a.isfinite().all()):
        return None
    poles, error = roots(a)
    size = poles.abs()
    if bool((size <= edge).all()) and _is_stable(a, poles, error):
        return a
    inside = torch.where(size > 1, 1 / size, size).clamp_max(edge)
    a = denominators(poles * inside / size.clamp_min(torch.finfo(size.dtype).tiny))
    return a if _is_stable(a, *roots(a)) else None


def denominators(poles: Tensor) -> Tensor:
    """Coefficients of the product of 1 - p z^-1.

    Args:
        poles: Poles with their conjugates, complex, (*bank, n).

    Returns:
        a_1..a_n, float64, (*bank, n).
    """
    smallest_first = torch.take_along_dim(poles, poles.abs().argsort(-1), -1)
    c = pad(torch.ones_like(poles[..., :1]), (0, poles.shape[-1]))
    for p in smallest_first.unbind(-1):
        c[..., 1:] -= p[..., None] * c[..., :-1].clone()
    return c.real[..., 1:].clone()


def _is_stable(a: Tensor, poles: Tensor, error: Tensor) -> bool:
    return bool((poles.abs() + error < 1).all()) or bool(schur_cohn(a)[0].all())


def predict(records: Records, model: Model, form: Form) -> Tensor:
    """Output of a model, each record from the initial state that suits its known outputs best.

    Args:
        records: Inputs, and outputs where they are known.
        model: The model.
        form: Which parameters there are; without ``initial`` every record starts from rest.

    Returns:
        yhat, (R, L).
    """
    n = model.a.shape[-1]
    over = _over(records.u, spread(model.a, records.inputs))
    y = sum((delays(over[..., j], n + 1) @ c for j, c in enumerate(model.numerators)), model.constant)
    assert isinstance(y, Tensor)
    if not form.initial:
        return y
    free = _free_columns(model.a, y.shape[1])
    for r, rows in enumerate(records.known):
        if bool(rows.any()):
            y[r] += free @ _least_squares(free[rows], (records.y - y)[r, rows])
    return y


def delays(x: Tensor, count: int, *, first: int = 0) -> Tensor:
    """Delayed copies side by side.

    Args:
        x: Signals, (*batch, L).
        count: How many copies.
        first: Delay of the first.

    Returns:
        Entry (t, i) is x_(t - first - i), (*batch, L, count).
    """
    length = x.shape[-1]
    padded = pad(x, (first + count - 1, 0))[..., : length + count - 1]
    return padded.unfold(-1, count, 1).flip(-1)


def _over(u: Tensor, a: Tensor) -> Tensor:
    """Signals (R, L, m) filtered by 1/A, (m, n)."""
    if not u.numel():
        return u
    return recurrence(u, -a, a, a.new_ones(len(a)))[0]  # 1/A is 1 - (A - 1)/A


def _linear_columns(records: Records, a: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    """The columns that numerators and constant multiply, (R, L, columns), and the inputs over A, (R, L, m)."""
    n = a.shape[-1]
    over = _over(records.u, spread(a, records.inputs))
    first = 0 if form.feedthrough else 1
    parts = [delays(over[..., j], n + 1 - first, first=first) for j in range(records.inputs)]
    if form.constant:
        parts.append(torch.ones_like(parts[0][..., :1]))
    return torch.cat(parts, -1), over


def _free_columns(a: Tensor, length: int) -> Tensor:
    """Free responses, (L, G n)."""
    g = recursive_response(a, length)
    return torch.cat(list(delays(g, a.shape[-1])), -1)


def _by_record(
    records: Records, columns: Tensor, free: Tensor | None
) -> Iterator[tuple[int, Tensor, Tensor, Tensor | None]]:
    """Known rows of each record: their number, columns, outputs and free responses."""
    for r in range(len(records.y)):
        rows = records.known[r].nonzero()[:, 0]
        yield r, columns[r, rows], records.y[r, rows], None if free is None else free[rows]


def _without_free(free: Tensor | None, x: Tensor) -> Tensor:
    """What of columns is not a free response."""
    if free is None:
        return x
    left, size, _ = torch.linalg.svd(free, full_matrices=False)
    left = left[:, size > RANK * size.amax().clamp_min(torch.finfo(size.dtype).tiny)] if len(size) else left
    return x - left @ (left.mT @ x)


def _least_squares(columns: Tensor, right: Tensor) -> Tensor:
    """The smallest solution; that of few rows is not determined."""
    return torch.linalg.lstsq(columns, right[:, None], rcond=RANK, driver="gelsd").solution[:, 0]


def _solve(records: Records, a: Tensor, form: Form, prior: Prior | None) -> _Solved:
    n, m, length = a.shape[-1], records.inputs, records.u.shape[1]
    columns, over = _linear_columns(records, a, form)
    free = _free_columns(a, length) if form.initial else None
    stacked = [
        _without_free(some_free, torch.cat((x, y[:, None]), -1))
        for _, x, y, some_free in _by_record(records, columns, free)
    ]
    count = columns.shape[-1]
    if prior is not None:
        left = prior.factor @ prior.center - prior.factor[:, count:] @ a.flatten()
        stacked.append(torch.cat((prior.factor[:, :count], left[:, None]), -1))
    both = torch.linalg.qr(torch.cat(stacked), mode="r").R
    linear = torch.linalg.lstsq(both[:, :count], both[:, count:], driver="gelsd").solution[:, 0]
    cost = float((both[:, count] - both[:, :count] @ linear).square().sum())
    first = 0 if form.feedthrough else 1
    numerators = pad(linear[: m * (n + 1 - first)].view(m, n + 1 - first), (first, 0))
    constant = linear[-1] if form.constant else linear.new_zeros(())
    outputs = torch.stack([delays(over[..., j], n + 1) @ numerators[j] for j in range(m)], 1)  # (R, m, L)
    outputs = outputs.unflatten(1, (len(a), -1)).sum(2)
    frees = []
    if free is not None:
        for r, x, y, some_free in _by_record(records, columns, free):
            assert some_free is not None
            frees.append(_least_squares(some_free, y - x @ linear).view(a.shape))
            parts = free.unflatten(-1, a.shape).movedim(1, 0)  # (G, L, n)
            outputs[r] += (parts @ frees[-1][..., None])[..., 0]
    return _Solved(Model(numerators, a, constant, tuple(frees), cost), outputs)


def _factor(records: Records, found: _Solved, form: Form, prior: Prior | None) -> Tensor:
    """Triangular factor of the whole Jacobian, numerators and constant first, with the errors as its last column."""
    a = found.model.a
    n, groups = a.shape[-1], len(a)
    columns, _ = _linear_columns(records, a, form)
    free = _free_columns(a, records.u.shape[1]) if form.initial else None
    again = _over(found.outputs.mT, a).mT  # (R, G, L)
    slopes = -torch.cat([delays(again[:, g], n, first=1) for g in range(groups)], -1)
    error = records.y - found.outputs.sum(1) - found.model.constant
    whole = torch.cat((columns, slopes, error[..., None]), -1)
    parts = [_without_free(some_free, x) for _, x, _, some_free in _by_record(records, whole, free)]
    if prior is not None:
        here = torch.cat((_linear_parameters(found.model, form), a.flatten()))
        parts.append(torch.cat((prior.factor, (prior.factor @ (prior.center - here))[:, None]), -1))
    return torch.linalg.qr(torch.cat(parts), mode="r").R


def _reduced_system(records: Records, found: _Solved, form: Form, prior: Prior | None) -> tuple[Tensor, Tensor]:
    """What is left for the denominators when all else follows them: J da = e."""
    factor = _factor(records, found, form, prior)
    first = factor.shape[-1] - 1 - found.model.a.numel()
    return factor[first:, first:-1], factor[first:, -1]


def _linear_parameters(model: Model, form: Form) -> Tensor:
    numerators = model.numerators if form.feedthrough else model.numerators[:, 1:]
    return torch.cat((numerators.flatten(), model.constant[None])) if form.constant else numerators.flatten()
