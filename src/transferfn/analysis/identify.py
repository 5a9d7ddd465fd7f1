"""Identification: the transfer function behind records of inputs and outputs."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from transferfn.analysis import output_error
from transferfn.analysis.closed_forms import Start, closed_forms
from transferfn.analysis.output_error import Form, Model, Records
from transferfn.analysis.records import Data, as_records, columns, split
from transferfn.core import TransferFunction
from transferfn.core.checks import check_whole

LAGS = 20  # of residuals, at which their correlations are reported
OFFSET = 3.0  # spreads from 0 at which the mean of an output may be what a model without a constant fails at
ROUNDING = 1e-9  # share of the output below which residuals are not looked at


@dataclass(frozen=True, eq=False)
class Residuals:
    """What a model leaves unexplained.

    Attributes:
        std: Standard deviation, in the unit of the output.
        autocorrelation: Correlation of the residuals with themselves at lags 1..20.
        cross_correlation: Correlation with each input 0..19 samples before, (m, 20).
        bound: What a correlation of white residuals exceeds in 1 of 100 cases, 2.58 / sqrt(N).
    """

    std: float
    autocorrelation: Tensor
    cross_correlation: Tensor
    bound: float

    @property
    def unexplained(self) -> bool:
        """Whether inputs tell something of the residuals: a correlation that chance makes in less than 1 of 100."""
        single = torch.special.ndtri(torch.tensor(1 - 0.005 / self.cross_correlation.numel(), dtype=torch.float64))
        return float(self.cross_correlation.abs().max()) > self.bound / 2.58 * float(single)


@dataclass(frozen=True, eq=False)
class Identification:
    """A model of input-output records, and how well it simulates them.

    Attributes:
        system: One filter an input, float64, certainly stable; the output is their sum and the intercept. Inputs share
            one denominator, or have their own.
        intercept: Constant added to the output, 0 if there is none.
        fit_percent: 100 (1 - |y - yhat| / |y - mean y|) over all known samples of the records, yhat simulated from the
            inputs alone.
        residuals: Statistics of y - yhat.
        start: Closed form that the search started from.
        start_fit_percent: What that form achieves by itself.
        steps: Gauss-Newton steps after it.
        model: The parameters as they were searched for.
        form: Which parameters there are.
        delay: Samples by which the inputs act late.
    """

    system: TransferFunction
    intercept: float
    fit_percent: float
    residuals: Residuals
    start: Start
    start_fit_percent: float
    steps: int
    model: Model
    form: Form
    delay: int

    def simulate(self, u: Data, y: Data | None = None) -> Tensor | list[Tensor]:
        """Output for given inputs.

        Args:
            u: Inputs, (L) or (L, m), or a list of records.
            y: Outputs from whose known samples the initial state of each record is found; None means rest.

        Returns:
            yhat, float64, (L), or a list of them.
        """
        several = len(split(u)) > 1 or split(u)[0] is not u
        if y is None:
            records = as_records(u, [torch.zeros(len(columns(part))) for part in split(u)])
            form = replace(self.form, initial=False)
        else:
            records, form = as_records(u, y), replace(self.form, initial=True)
        if records.inputs != self.system.channels:
            raise ValueError(f"this model has {self.system.channels} inputs, got {records.inputs}")
        found = output_error.predict(delayed(records, self.delay), self.model, form)
        rows = [row[: int(length)] for row, length in zip(found, records.lengths, strict=True)]
        return rows if several else rows[0]

    def __repr__(self) -> str:
        return (
            f"Identification(order {self.system.order}, {self.system.channels} inputs: fit {self.fit_percent:.2f} %, "
            f"residual std {self.residuals.std:.3g}; from {self.start} ({self.start_fit_percent:.2f} %) in "
            f"{self.steps} steps)"
        )


@torch.no_grad()
def fit(
    u: Data,
    y: Data,
    *,
    order: int,
    delay: int = 0,
    feedthrough: bool = True,
    intercept: bool = False,
    shared_denominator: bool = True,
    from_rest: bool = False,
    steps: int = 50,
    dt: float | None = None,
) -> Identification:
    """Identify a stable transfer function from records of inputs and outputs.

    The error that is minimised is that of the simulation: y - yhat, yhat computed from the inputs alone, so that noise
    added to the output leaves the result unbiased. Where to start comes in closed form: ARX by least squares and by
    instrumental variables, and poles read from the Hankel matrix of an estimated impulse response, which needs no
    complete stretch of outputs. The best of them is refined by Gauss-Newton steps
    (:mod:`transferfn.analysis.output_error`), none of which leaves the stable filters.

    Args:
        u: Inputs, (L) or (L, m); or a list of records of different lengths.
        y: Outputs, (L), NaN where a sample is missing; or a list of records.
        order: Order n of the denominators.
        delay: Samples by which the inputs act late, besides the order.
        feedthrough: Whether an input acts on the output of the same sample (of the one ``delay`` later).
        intercept: Whether a constant is added to the output: for data whose mean has no meaning.
        shared_denominator: Whether all inputs share one denominator; else each has its own of order n.
        from_rest: Whether all records start from rest; else their initial states are found, too.
        steps: Largest number of Gauss-Newton steps; 0 keeps the closed form.
        dt: Sampling interval in seconds, for the transfer function; None means per sample.

    Warns where most of the output is left unexplained and its mean is far from 0, which asks for ``intercept=True``.

    Returns:
        The model, its fit and the statistics of its residuals.

    Raises:
        TypeError: if sizes are no whole numbers, or data no real numbers.
        ValueError: if data do not fit together, or are fewer than the unknowns, or the output is constant.

    Source:
        Output-error models and their search: Ljung, System Identification, 2nd edition, sections 7.6, 10.2, 10.4.

    Example:
        >>> u = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> true = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.9]]), torch.zeros(1)).to(dtype=u.dtype)
        >>> y = torch.nn.functional.conv1d(u.view(1, 1, -1), true.impulse_response(400).flip(-1)[None], padding=399)
        >>> found = fit(u, y[0, 0, :400], order=1)
        >>> found.system.a.round(decimals=6).item(), round(found.fit_percent, 2)
        (-0.9, 100.0)
    """
    _check(order, delay, steps)
    records = delayed(as_records(u, y), delay)
    form = Form(feedthrough=feedthrough, constant=intercept, initial=not from_rest)
    check_enough(records, order, form, shared_denominator)
    known = records.y[records.known]
    if is_constant(known):
        raise ValueError(
            f"the output is constant: all {len(known)} known samples are {float(known[0]):g}, of which no input is the "
            "cause. Give a record in which the inputs move it"
        )
    model, start, start_cost = search(records, order, form, shared_denominator, steps)
    found = described(records, model, form, start, start_cost, delay, dt)
    mean, spread = float(known.mean()), float(known.std())
    if not intercept and found.fit_percent < 50 and abs(mean) > OFFSET * spread:
        warnings.warn(
            f"the mean of the output, {mean:.3g}, is far from 0 beside its spread of {spread:.3g}, and the fit is "
            f"{found.fit_percent:.1f} %: intercept=True adds a constant (fit_intercept=True of the estimator), or "
            "remove the means first",
            stacklevel=3,  # one of them is torch's
        )
    return found


def is_constant(known: Tensor) -> bool:
    """Whether an output does not move, to rounding.

    Args:
        known: Its known samples, (N).
    """
    return float(known.max() - known.min()) <= 1e-14 * float(known.abs().max())


def search(records: Records, order: int, form: Form, shared: bool, steps: int) -> tuple[Model, Start, float]:
    """The best closed form, refined.

    Args:
        records: Data.
        order: Order n.
        form: Which parameters there are.
        shared: Whether inputs share one denominator.
        steps: Largest number of steps.

    Returns:
        The model, the form it started from and the cost of that.
    """
    best: tuple[Model, Start] | None = None
    for start, a in closed_forms(records, order, form, shared):
        stable = output_error.mirrored(a, edge=output_error.edge(records))
        if stable is None:
            continue
        model = output_error.solve(records, stable, form)
        if best is None or model.cost < best[0].cost:
            best = model, start
    assert best is not None, "the last form, rest, is stable"
    model, start = best
    return output_error.refine(records, model, form, steps=steps) if steps else model, start, model.cost


def described(
    records: Records, model: Model, form: Form, start: Start, start_cost: float, delay: int, dt: float | None
) -> Identification:
    """A model as users know it.

    Args:
        records: Data, inputs delayed.
        model: The model.
        form: Which parameters it has.
        start: Closed form it comes from.
        start_cost: Its cost.
        delay: By how much inputs are delayed.
        dt: Sampling interval in seconds, or None.
    """
    error = torch.where(records.known, records.y - output_error.predict(records, model, form), torch.nan)
    known = records.y[records.known]
    spread = float((known - known.mean()).norm())
    return Identification(
        system=_system(model, delay, dt),
        intercept=float(model.constant),
        fit_percent=_percent(float(error[records.known].norm()), spread),
        residuals=_statistics(records, error),
        start=start,
        start_fit_percent=_percent(math.sqrt(max(start_cost, 0.0)), spread),
        steps=model.steps,
        model=model,
        form=form,
        delay=delay,
    )


def check_enough(records: Records, order: int, form: Form, shared: bool) -> None:
    """Raise unless there are more known samples than unknowns.

    Args:
        records: Data.
        order: Order n.
        form: Which parameters there are.
        shared: Whether inputs share one denominator.
    """
    wanted, found = unknowns(records, order, form, shared), int(records.known.sum())
    if found <= wanted:
        raise ValueError(
            f"{found} known samples of the output cannot tell {wanted} unknowns (numerators, denominators, and initial "
            f"states of {len(records.y)} records) from each other: lower the order={order}, or give longer records"
        )


def unknowns(records: Records, order: int, form: Form, shared: bool) -> int:
    """Number of parameters and of numbers in initial states.

    Args:
        records: Data.
        order: Order n.
        form: Which parameters there are.
        shared: Whether inputs share one denominator.
    """
    m, groups = records.inputs, 1 if shared else records.inputs
    states = order * groups * len(records.y) if form.initial else 0
    return m * (order + form.feedthrough) + order * groups + form.constant + states


def delayed(records: Records, delay: int) -> Records:
    """Let inputs act late; what they were before a record is not known, so that its first outputs tell nothing.

    Args:
        records: Data.
        delay: By how many samples.
    """
    if not delay:
        return records
    length = records.u.shape[1]
    u = pad(records.u, (0, 0, delay, 0))[:, :length]
    known = records.known & (torch.arange(length) >= delay)
    if not bool(known.any()):
        raise ValueError(f"no known sample of the output is later than the delay of {delay} samples")
    return replace(records, u=u, known=known)


def _system(model: Model, delay: int, dt: float | None) -> TransferFunction:
    numerators, a = model.numerators, model.a
    if delay:
        h0, b = numerators.new_zeros(len(numerators)), pad(numerators, (delay - 1, 0))
        return TransferFunction(b, pad(a, (0, delay)), h0, dt)
    h0 = numerators[:, 0]
    return TransferFunction(numerators[:, 1:] - h0[:, None] * a.expand(len(h0), -1), a, h0.clone(), dt)


def _percent(error: float, spread: float) -> float:
    return 100 * (1 - error / spread) if spread else (100.0 if error == 0 else -math.inf)


def _statistics(records: Records, error: Tensor) -> Residuals:
    known = int(records.known.sum())
    centered = torch.where(records.known, error - error.nanmean(), 0.0)
    std = float((centered.square().sum() / known).sqrt())
    if std <= ROUNDING * float(records.y[records.known].norm()) / math.sqrt(known):
        centered = torch.zeros_like(centered)  # what is left is rounding
    of_itself = torch.stack([_correlation(centered, centered, records.known, lag) for lag in range(1, LAGS + 1)])
    with_inputs = torch.stack(
        [
            torch.stack([_correlation(centered, u - u.mean(), records.known, lag) for lag in range(LAGS)])
            for u in records.u.unbind(-1)
        ]
    )
    return Residuals(std, of_itself, with_inputs, 2.58 / math.sqrt(known))


def _correlation(x: Tensor, past: Tensor, known: Tensor, lag: int) -> Tensor:
    """Correlation of x_t with past_(t-lag) over the pairs within records, zeros standing for what is missing."""
    length = max(x.shape[1] - lag, 0)
    later, earlier = x[:, lag:], past[:, :length]
    size = (later.square().sum() * torch.where(known[:, lag:], earlier, 0.0).square().sum()).sqrt()
    return (later * earlier).sum() / size.clamp_min(torch.finfo(x.dtype).tiny)


def _check(order: int, delay: int, steps: int) -> None:
    for name, value, least in (("order", order, 1), ("delay", delay, 0), ("steps", steps, 0)):
        check_whole(name, value)
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
