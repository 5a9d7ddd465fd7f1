from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from transferfn.models import LanguageModel
from transferfn.models.language_config import tiny
from transferfn.tasks import IGNORED, Batch
from transferfn.training.objective import Classes, Signals, Tokens, better, format_score, objective, worst


def batch(targets: torch.Tensor, lengths: torch.Tensor | None = None) -> Batch:
    return Batch(inputs=targets, targets=targets, index=torch.arange(len(targets)), lengths=lengths)


def gives(outputs: torch.Tensor) -> nn.Module:
    """A model that always returns the same."""
    model = nn.Module()
    model.forward = lambda inputs, lengths=None: outputs
    return model


def test_a_class_a_row() -> None:
    logits = torch.randn(5, 3)
    targets = torch.tensor([0, 1, 2, 0, 1])
    judged = Classes().judge(gives(logits), batch(targets))
    assert torch.equal(judged.loss, F.cross_entropy(logits, targets))
    assert (judged.total, judged.count) == (int((logits.argmax(1) == targets).sum()), 5)
    assert Classes().score(3.0, 4.0) == 0.75


def test_samples_that_are_not_asked_for_do_not_count() -> None:
    logits = torch.randn(2, 4, 3, requires_grad=True)
    targets = torch.tensor([[IGNORED, IGNORED, 0, 1], [2, IGNORED, 1, 0]])
    judged = Classes().judge(gives(logits), batch(targets, lengths=torch.tensor([4, 3])))
    scored = [(0, 2), (0, 3), (1, 0), (1, 2)]  # the last of the second row is padding
    wanted = torch.stack([F.cross_entropy(logits[at], targets[at]) for at in scored]).mean()
    torch.testing.assert_close(judged.loss, wanted)
    assert judged.count == 4
    assert judged.total == sum(int(logits[at].argmax() == targets[at]) for at in scored)
    (gradient,) = torch.autograd.grad(judged.loss, logits)
    assert not gradient[0, :2].any()
    assert not gradient[1, 3].any()


def test_signals_by_their_squared_error() -> None:
    outputs, targets = torch.randn(3, 5, 2), torch.randn(3, 5, 2)
    judged = Signals().judge(gives(outputs), batch(targets))
    torch.testing.assert_close(judged.loss, F.mse_loss(outputs, targets))
    assert Signals().score(float(judged.total), float(judged.count)) == pytest.approx(math.sqrt(float(judged.loss)))


def test_padding_of_signals_does_not_count_even_if_it_is_no_number() -> None:
    outputs, targets = torch.randn(2, 5, 2), torch.randn(2, 5, 2)
    outputs[0, 3:] = math.nan
    judged = Signals().judge(gives(outputs), batch(targets, lengths=torch.tensor([3, 5])))
    errors = torch.cat([(outputs[0, :3] - targets[0, :3]).flatten(), (outputs[1] - targets[1]).flatten()])
    torch.testing.assert_close(judged.loss, errors.square().mean())
    assert judged.count == 16


def test_tokens_by_their_bits() -> None:
    torch.manual_seed(0)
    model = LanguageModel.from_config(replace(tiny(9, horizon=8), width=8, layers=1, mlp=8, order=2)).eval()
    inputs, targets = torch.randint(9, (2, 6)), torch.randint(9, (2, 6))
    targets[0, 4:] = IGNORED
    judged = Tokens().judge(model, Batch(inputs=inputs, targets=targets, index=torch.arange(2)))
    wanted = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    torch.testing.assert_close(judged.loss, wanted)
    assert judged.count == 10
    assert Tokens().score(float(judged.total), 10.0) == pytest.approx(float(wanted.detach()) / math.log(2), rel=1e-5)


def test_which_score_is_better() -> None:
    assert (objective("signal").metric, objective("next-token").metric) == ("rmse", "bits")
    assert {objective(kind).metric for kind in ("class", "class-of-pair", "class-per-sample")} == {"accuracy"}
    for metric in ("accuracy", "rmse", "bits"):
        assert better(metric, 0.5, worst(metric))
        assert not better(metric, 0.5, 0.5)
    assert format_score("rmse", 0.00612) == "0.00612"
