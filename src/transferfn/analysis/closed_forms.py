"""Where identification starts from: denominators in closed form, by least squares and from impulse responses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from transferfn.analysis import output_error
from transferfn.analysis.hankel import shift_poles
from transferfn.analysis.output_error import Form, Records, delays

Start = Literal["least squares", "instruments", "high order", "subspace", "rest"]
INSTRUMENT_ROUNDS = 3
RESPONSES = (48, 256)  # samples of the impulse responses that poles are read from, or 8 an order
HIGH = 4  # times the order of an ARX model whose response is reduced
HIGH_RESPONSE = 512  # samples of that response
MOST_ROWS = 20_000  # known samples that a closed form looks at


def closed_forms(records: Records, order: int, form: Form, shared: bool) -> Iterator[tuple[Start, Tensor]]:
    """Denominators (1 or m, n) to try, the last of them stable, each with the name of its form.

    Args:
        records: Data, inputs delayed.
        order: Order n.
        form: Which parameters there are.
        shared: Whether inputs share one denominator.
    """
    groups = 1 if shared else records.inputs
    centered = records
    if form.constant:
        mean = records.y[records.known].mean()
        centered = replace(records, y=torch.where(records.known, records.y - mean, 0.0))
    a = _by_lags(centered, order, form, None)
    if a is not None:
        yield "least squares", a.expand(groups, order).clone()
    for _ in range(INSTRUMENT_ROUNDS):
        a = None if a is None else output_error.mirrored(a[None], edge=output_error.edge(records))
        if a is None:
            break
        model = output_error.solve(records, a, form)
        instruments = output_error.predict(records, model, form) - model.constant
        a = _by_lags(centered, order, form, instruments)
        if a is not None:
            yield "instruments", a.expand(groups, order).clone()
    responses = [_response_of_high_order(centered, order, form)]
    responses += [_response(centered, order, max(length, 8 * order)) for length in RESPONSES]
    for which, response in enumerate(responses):
        if response is None:
            continue
        start: Start = "subspace" if which else "high order"
        if shared:
            yield start, output_error.denominators(shift_poles(response, order))[None]
        else:
            yield start, output_error.denominators(torch.stack([shift_poles(h[None], order) for h in response]))
    yield "rest", torch.zeros(groups, order, dtype=torch.float64)


def _by_lags(records: Records, order: int, form: Form, instruments: Tensor | None) -> Tensor | None:
    """Denominator of y_t = -sum_i a_i y_(t-i) + sum_ij b_ij u_(j,t-i) where these y are known; None if too rarely."""
    complete = delays(records.known.double(), order + 1).sum(-1) == order + 1
    rows = complete.nonzero()[:MOST_ROWS]
    width = order + records.inputs * (order + form.feedthrough)
    if len(rows) < 2 * width:
        return None
    r, t = rows.unbind(-1)
    inputs = torch.cat([_pick(u, r, t, 0 if form.feedthrough else 1, order) for u in records.u.unbind(-1)], -1)
    matrix = torch.cat((-_pick(records.y, r, t, 1, order), inputs), -1)
    right = records.y[r, t]
    if instruments is not None:
        turned = torch.cat((-_pick(instruments, r, t, 1, order), inputs), -1).mT
        matrix, right = turned @ matrix, turned @ right
    return torch.linalg.lstsq(matrix, right[:, None], driver="gelsd").solution[:order, 0]


def _pick(x: Tensor, r: Tensor, t: Tensor, first: int, last: int) -> Tensor:
    """x_(t-first), ..., x_(t-last) of records r, (rows, last - first + 1)."""
    return x[r[:, None], t[:, None] - torch.arange(first, last + 1)]


def _response_of_high_order(records: Records, order: int, form: Form) -> Tensor | None:
    """Impulse response to each input of an ARX model of high order, (m, M): noise is part of it, not of a low order."""
    a = _by_lags(records, HIGH * order, form, None)
    a = None if a is None else output_error.mirrored(a[None], edge=output_error.edge(records))
    if a is None:
        return None
    m = records.inputs
    model = output_error.solve(records, a, form)
    impulses = torch.zeros(m, HIGH_RESPONSE, m, dtype=torch.float64)
    impulses[range(m), 0, range(m)] = 1
    nothing = torch.zeros(m, HIGH_RESPONSE, dtype=torch.float64)
    apart = Records(impulses, nothing, nothing.bool(), torch.full((m,), HIGH_RESPONSE))
    return output_error.predict(apart, model, replace(form, initial=False)) - model.constant


def _response(records: Records, order: int, length: int) -> Tensor | None:
    """Impulse response to each input by least squares over its samples, (m, M); None if there are too few outputs."""
    m = records.inputs
    time = torch.arange(records.u.shape[1])
    length = min(length, int(records.known.sum()) // (4 * m), int(records.lengths.max()) // 2)
    if length // 2 <= order:
        return None
    rows = (records.known & (time >= length - 1)).nonzero()[:MOST_ROWS]
    if len(rows) < 2 * m * length:
        return None
    r, t = rows.unbind(-1)
    matrix = torch.cat([_pick(u, r, t, 0, length - 1) for u in records.u.unbind(-1)], -1)
    right = records.y[r, t]
    return torch.linalg.lstsq(matrix, right[:, None], driver="gelsd").solution[:, 0].view(m, length)
