"""What a model is trained for and judged by: classes by cross entropy and accuracy, signals by their squared error."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from transferfn.tasks import IGNORED, Batch, Target

Metric = Literal["accuracy", "rmse"]


class Judged(NamedTuple):
    """How good the outputs of a batch are."""

    loss: Tensor
    """What training makes small: a mean over all that is scored, a scalar."""

    total: Tensor
    """What the score is made of, a sum over all that is scored: right classes, or squared errors."""

    count: Tensor
    """How many classes or values were scored."""


@runtime_checkable
class Objective(Protocol):
    """A loss to train by and a score to judge by."""

    @property
    def metric(self) -> Metric:
        """What the score is called."""
        ...

    def judge(self, outputs: Tensor, batch: Batch) -> Judged:
        """Compare outputs with what was asked for.

        Args:
            outputs: What the model returned.
            batch: The samples.
        """
        ...

    def score(self, total: float, count: float) -> float:
        """Return the score of all batches together.

        Args:
            total: Sum of their totals.
            count: Sum of their counts.
        """
        ...


class Classes:
    """Cross entropy and the share of right classes, of sequences or of each sample; padding is not scored."""

    metric: Metric = "accuracy"

    def judge(self, outputs: Tensor, batch: Batch) -> Judged:
        """Compare logits with classes.

        Args:
            outputs: Logits, (B, classes) or (B, L, classes).
            batch: The samples, with classes (B,) or (B, L).
        """
        targets = batch.targets
        if targets.dim() == 2 and batch.lengths is not None:
            targets = torch.where(_valid(batch.lengths, targets.shape[1]), targets, IGNORED)
        scored = targets != IGNORED
        loss = F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), ignore_index=IGNORED)
        correct = (outputs.detach().argmax(-1) == targets) & scored
        return Judged(loss, correct.sum().float(), scored.sum().float())

    def score(self, total: float, count: float) -> float:
        """Return the accuracy, 0 to 1.

        Args:
            total: Number of right classes.
            count: Number of classes.
        """
        return total / count


class Signals:
    """Mean squared error, and its root as the score; padding is not scored."""

    metric: Metric = "rmse"

    def judge(self, outputs: Tensor, batch: Batch) -> Judged:
        """Compare signals.

        Args:
            outputs: Signals, (B, L, O).
            batch: The samples, with signals of the same shape.
        """
        error = (outputs - batch.targets).square()
        if batch.lengths is None:
            count = torch.tensor(float(error.numel()), device=error.device)
            return Judged(error.mean(), error.detach().sum(), count)
        valid = _valid(batch.lengths, error.shape[1])[..., None]
        total = torch.where(valid, error, 0).sum()
        count = (valid.sum() * error.shape[2]).float()
        return Judged(total / count.clamp(min=1), total.detach(), count)

    def score(self, total: float, count: float) -> float:
        """Return the root of the mean squared error, in the units of the signal.

        Args:
            total: Sum of squared errors.
            count: Number of values.
        """
        return math.sqrt(total / count)


def objective(target: Target) -> Classes | Signals:
    """Return the objective for what a task asks for.

    Args:
        target: What is asked for.
    """
    return Signals() if target == "signal" else Classes()


def better(metric: Metric, score: float, than: float) -> bool:
    """Say whether a score is better than another.

    Args:
        metric: What the scores are.
        score: The one.
        than: The other.

    Example:
        >>> better("accuracy", 0.9, 0.8), better("rmse", 0.9, 0.8)
        (True, False)
    """
    return score > than if metric == "accuracy" else score < than


def worst(metric: Metric) -> float:
    """Return a score that every other is better than.

    Args:
        metric: What the score is.
    """
    return -1.0 if metric == "accuracy" else math.inf


def told(metric: Metric, score: float) -> str:
    """Write a score for people.

    Args:
        metric: What it is.
        score: The score.

    Example:
        >>> told("accuracy", 0.9375), told("rmse", 0.02912)
        ('93.8%', '0.0291')
    """
    return f"{score:.1%}" if metric == "accuracy" else f"{score:.3g}"


def _valid(lengths: Tensor, length: int) -> Tensor:
    return torch.arange(length, device=lengths.device) < lengths[:, None]
