"""Identification as an estimator in the manner of scikit-learn, which need not be installed."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from transferfn.analysis import output_error
from transferfn.analysis.identify import (
    Identification,
    delayed,
    described,
    fit,
    is_constant,
    search,
    unknowns,
)
from transferfn.analysis.output_error import Form, Prior
from transferfn.analysis.records import Data, as_pairs, padded
from transferfn.analysis.waiting import Waiting
from transferfn.core import TransferFunction
from transferfn.core.polynomial import roots

ENOUGH = 5  # times as many known samples as unknowns, from which on a stream is worth a first model
STREAM_STEPS = 5  # Gauss-Newton steps for each further block of a stream


class TransferFunctionRegressor:
    """Predicts a signal from others by a transfer function: fit, predict, score and partial_fit.

    Rows of X are samples in time. Several records stand one below the other, and ``lengths`` says where each ends.

    Simulations begin at rest unless outputs are given to find their initial states from, ``initial``; ``score`` is R^2
    of what ``predict`` returns. To fit, initial states are always found.

    In scikit-learn, split in time: ``cross_val_score(model, X, y, cv=TimeSeriesSplit(5))``. Folds that are shuffled
    would cut records into single samples. A test fold begins in the midst of the record, and what came before it counts
    as error unless the scoring finds its state, see below.

    Args:
        order: Order n of the denominators.
        delay: Samples by which the inputs act late.
        feedthrough: Whether an input acts on the output of the same sample.
        fit_intercept: Whether a constant is added to the output.
        shared_denominator: Whether all inputs share one denominator.
        steps: Largest number of Gauss-Newton steps of :meth:`fit`.
        forgetting: For :meth:`partial_fit`, by what the weight of earlier data falls with each sample; 1 forgets
            nothing, 0.999 remembers about 1,000 samples.
        dt: Sampling interval in seconds, for the transfer function; None means per sample.

    Attributes:
        result_: The :class:`~transferfn.analysis.identify.Identification`, after a fit.
        system_: Its transfer function.
        intercept_: Its constant.
        fit_percent_: Its fit to the data it was last fitted to.
        n_features_in_: Number of inputs.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> X, y = rng.standard_normal((300, 1)), np.zeros(300)
        >>> for t in range(1, 300):
        ...     y[t] = 0.8 * y[t - 1] + X[t - 1, 0]
        >>> model = TransferFunctionRegressor(order=1).fit(X, y)
        >>> round(model.score(X, y), 6), model.system_.a.round(decimals=6).item()
        (1.0, -0.8)

        Tests of later parts on models of earlier ones, each with its own initial state:

        >>> from sklearn.model_selection import TimeSeriesSplit, cross_val_score
        >>> def in_the_midst(model, X, y):
        ...     return model.score(X, y, initial=y)
        >>> scores = cross_val_score(model, X, y, cv=TimeSeriesSplit(3), scoring=in_the_midst)
        >>> len(scores), bool(min(scores) > 0.999)
        (3, True)
    """

    _estimator_type = "regressor"

    result_: Identification
    system_: TransferFunction
    intercept_: float
    fit_percent_: float
    n_features_in_: int
    _waiting: Waiting
    _inputs: int

    def __init__(
        self,
        order: int = 2,
        *,
        delay: int = 0,
        feedthrough: bool = True,
        fit_intercept: bool = False,
        shared_denominator: bool = True,
        steps: int = 50,
        forgetting: float = 1.0,
        dt: float | None = None,
    ) -> None:
        self.order = order
        self.delay = delay
        self.feedthrough = feedthrough
        self.fit_intercept = fit_intercept
        self.shared_denominator = shared_denominator
        self.steps = steps
        self.forgetting = forgetting
        self.dt = dt

    def fit(self, X: Data, y: Data, lengths: Any = None) -> TransferFunctionRegressor:
        """Fit to records from scratch.

        Args:
            X: Inputs, (samples) or (samples, inputs), records one below the other.
            y: Outputs, (samples), NaN where missing.
            lengths: Number of samples of each record; None means one record.

        Returns:
            The estimator itself.
        """
        u, outputs = _cut(X, lengths), _cut(y, lengths)
        self._forget()
        self._keep(
            fit(
                u,
                outputs,
                order=self.order,
                delay=self.delay,
                feedthrough=self.feedthrough,
                intercept=self.fit_intercept,
                shared_denominator=self.shared_denominator,
                steps=self.steps,
                dt=self.dt,
            )
        )
        return self

    @torch.no_grad()
    def partial_fit(
        self, X: Data, y: Data, lengths: Any = None, *, continues: bool = False
    ) -> TransferFunctionRegressor:
        """Take in the next block of a stream; the estimator keeps a model and a matrix, not the data.

        Blocks are kept only until there are enough of them for a first model. Each later one moves the model by a few
        Gauss-Newton steps, against the information of all blocks before. The initial state of a block is found anew, so
        that blocks need not follow each other without gaps; they should be long beside the order. Blocks that do follow
        each other may be as short as a sample with ``continues``: they are joined until they are long beside what the
        model remembers, at most some 4,000 samples, and the model moves whenever they are.

        Args:
            X: Inputs of the block, (samples) or (samples, inputs).
            y: Outputs, (samples), NaN where missing.
            lengths: Number of samples of each record in the block; None means one.
            continues: Whether the block goes on where the last one that was given so ended.

        Returns:
            The estimator itself; it can predict once it has seen five times as many known samples as there are
            unknowns, besides those that initial states take, and the output has moved.

        Raises:
            ValueError: if the forgetting factor is no share, the number of inputs has changed, or a block that does
                not continue another is too short to tell anything.
        """
        if not 0 < self.forgetting <= 1:
            raise ValueError(f"forgetting must be above 0 and at most 1, got {self.forgetting}")
        pairs = as_pairs(_cut(X, lengths), _cut(y, lengths))
        inputs = pairs[0][0].shape[1]
        if getattr(self, "_inputs", inputs) != inputs:
            raise ValueError(f"earlier blocks had {self._inputs} inputs, this one has {inputs}")
        form = Form(feedthrough=self.feedthrough, constant=self.fit_intercept, initial=True)
        prior: Prior | None = getattr(self, "_prior", None)
        if not hasattr(self, "_waiting"):
            self._waiting = Waiting(states=self.order * (1 if self.shared_denominator else inputs), delay=self.delay)
        self._waiting.add(pairs, continues=continues)
        self._inputs = inputs
        if prior is None:
            wanted = unknowns(padded(pairs), self.order, replace(form, initial=False), self.shared_denominator)
            known = torch.cat([part[~part.isnan()] for _, part in self._waiting.telling or pairs])
            if self._waiting.surplus < ENOUGH * wanted or is_constant(known):
                return self
            records = delayed(padded(self._waiting.take()), self.delay)
            model, start, cost = search(records, self.order, form, self.shared_denominator, self.steps)
        else:
            radius = float(roots(self.result_.model.a)[0].abs().max())
            if not (taken := self._waiting.take(memory=-1 / math.log(max(radius, 1e-9)))):
                return self
            records = delayed(padded(taken), self.delay)
            weight = self.forgetting ** (float(records.lengths.sum()) / 2)
            prior = Prior(weight * prior.factor, prior.center)
            before = output_error.solve(records, self.result_.model.a, form, prior)
            model = output_error.refine(records, before, form, steps=STREAM_STEPS, prior=prior)
            start, cost = self.result_.start, before.cost
        self._prior = output_error.information(records, model, form, prior)
        self._keep(described(records, model, form, start, cost, self.delay, self.dt))
        return self

    def predict(self, X: Data, lengths: Any = None, *, initial: Data | None = None) -> np.ndarray:
        """Simulate the output: from rest, unless outputs are given to find the initial states from.

        Args:
            X: Inputs, (samples) or (samples, inputs).
            lengths: Number of samples of each record; None means one record.
            initial: Outputs, (samples), NaN where missing or not to be looked at, from whose known samples the initial
                state of each record is found; None means rest.

        Returns:
            yhat, (samples).
        """
        self._require_fitted("predict")
        found = self.result_.simulate(_cut(X, lengths), None if initial is None else _cut(initial, lengths))
        return np.concatenate([row.numpy() for row in found])

    def score(self, X: Data, y: Data, lengths: Any = None, *, initial: Data | None = None) -> float:
        """Coefficient of determination R^2 of what :meth:`predict` returns for the same arguments.

        Missing samples do not count. The fit in percent is 100 (1 - sqrt(1 - R^2)); :attr:`fit_percent_` is that of
        ``initial=y``.

        Args:
            X: Inputs, (samples) or (samples, inputs).
            y: Outputs, (samples), NaN where missing.
            lengths: Number of samples of each record; None means one record.
            initial: Outputs, (samples), to find initial states from; None means rest.
        """
        self._require_fitted("score")
        found = self.predict(X, lengths, initial=initial)
        wanted = np.concatenate([np.asarray(part, dtype=np.float64).ravel() for part in _cut(y, lengths)])
        if len(wanted) != len(found):
            raise ValueError(f"X has {len(found)} samples and y {len(wanted)}: give one output a sample")
        known = ~np.isnan(wanted)
        wanted, found = wanted[known], found[known]
        spread = float(np.square(wanted - wanted.mean()).sum())
        return 1 - float(np.square(found - wanted).sum()) / spread if spread else -math.inf

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters of the estimator by their names.

        Args:
            deep: Without effect: no parameter is an estimator.
        """
        return {
            name: getattr(self, name) for name in inspect.signature(type(self).__init__).parameters if name != "self"
        }

    def set_params(self, **params: Any) -> TransferFunctionRegressor:
        """Set parameters by their names.

        Args:
            params: New values.

        Returns:
            The estimator itself.

        Raises:
            ValueError: if there is no such parameter.
        """
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"no parameter is called {name!r}; there are {', '.join(known)}")
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags  # pyright: ignore[reportMissingImports]

        return Tags(
            estimator_type="regressor",
            target_tags=TargetTags(required=True),
            regressor_tags=RegressorTags(),
            input_tags=InputTags(),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "result_")

    def __repr__(self) -> str:
        return f"TransferFunctionRegressor({', '.join(f'{k}={v!r}' for k, v in self.get_params().items())})"

    def _keep(self, result: Identification) -> None:
        self.result_, self.system_, self.intercept_ = result, result.system, result.intercept
        self.fit_percent_, self.n_features_in_ = result.fit_percent, result.system.channels

    def _forget(self) -> None:
        for name in ("_prior", "_waiting", "_inputs"):
            if hasattr(self, name):
                delattr(self, name)

    def _require_fitted(self, verb: str) -> None:
        if not hasattr(self, "result_"):
            waits = self._waiting.count if hasattr(self, "_waiting") else 0
            more = f"; {waits} known samples wait for more of them" if waits else ""
            raise ValueError(f"{verb} needs a fitted model: call fit(X, y) first{more}")


def _cut(values: Any, lengths: Any) -> list[Any]:
    """Records that stand one below the other, apart."""
    whole = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if lengths is None:
        return [whole]
    sizes = [int(length) for length in lengths]
    if sum(sizes) != len(whole) or min(sizes, default=0) < 1:
        raise ValueError(f"lengths must be positive and add up to the {len(whole)} samples given, got {sizes}")
    return np.split(whole, np.cumsum(sizes)[:-1])
