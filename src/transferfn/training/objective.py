"""What a model is trained for and judged by: classes, signals, or how likely it takes the next token to be."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transferfn.tasks import IGNORED, Batch, Target

Metric = Literal["accuracy", "rmse", "bits"]
"""Share of right classes; root of the mean squared error; bits a token, the logarithm of the perplexity."""


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

    def judge(self, model: nn.Module, batch: Batch) -> Judged:
        """Compare what a model returns with what is asked for.

        Args:
            model: The model.
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

    def judge(self, model: nn.Module, batch: Batch) -> Judged:
        """Compare logits with classes.

        Args:
            model: A model that returns logits, (B, classes) or (B, L, classes).
            batch: The samples, with classes (B,) or (B, L).
        """
        outputs, targets = model(batch.inputs, lengths=batch.lengths), batch.targets
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

    def judge(self, model: nn.Module, batch: Batch) -> Judged:
        """Compare signals.

        Args:
            model: A model that returns signals, (B, L, O).
            batch: The samples, with signals of the same shape.
        """
        error = (model(batch.inputs, lengths=batch.lengths) - batch.targets).square()
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


class Tokens:
    """Negative log-likelihood of each next token, and the same in bits as the score."""

    metric: Metric = "bits"

    def judge(self, model: nn.Module, batch: Batch) -> Judged:
        """Add up what a language model takes the next tokens to be.

        Args:
            model: A ``LanguageModel``.
            batch: Tokens and those that follow, (B, L).
        """
        losses = model.losses(  # pyright: ignore[reportCallIssue]
            batch.inputs, batch.targets, lengths=batch.lengths, resets=batch.resets
        )
        count = (batch.targets != IGNORED).sum().float()
        total = losses.sum()
        return Judged(total / count.clamp(min=1), total.detach().float(), count)

    def score(self, total: float, count: float) -> float:
        """Return the bits a token takes in the mean.

        Args:
            total: Sum of negative log-likelihoods, in nats.
            count: Number of tokens.
        """
        return total / count / math.log(2)


def objective(target: Target) -> Classes | Signals | Tokens:
    """Return the objective for what a task asks for.

    Args:
        target: What is asked for.
    """
    match target:
        case "signal":
            return Signals()
        case "next-token":
            return Tokens()
        case _:
            return Classes()


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


def format_score(metric: Metric, score: float) -> str:
    """Write a score for people.

    Args:
        metric: What it is.
        score: The score.

    Example:
        >>> format_score("accuracy", 0.9375), format_score("rmse", 0.02912), format_score("bits", 1.8)
        ('93.8%', '0.0291', '1.800')
    """
    return {"accuracy": f"{score:.1%}", "rmse": f"{score:.3g}", "bits": f"{score:.3f}"}[metric]


def _valid(lengths: Tensor, length: int) -> Tensor:
    return torch.arange(length, device=lengths.device) < lengths[:, None]
