from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from models.leaky import RealizedIntegrator
from models.subjects import CHANNELS, CLASSES, INPUTS, backbone, classifier, draw, make
from transferfn.models import Classifier
from transferfn.nn.block import Block

TIGHT = {"rtol": 1e-12, "atol": 1e-12}
LENGTHS = [9, 4, 1, 0]


def naive(model: Any, u: torch.Tensor, lengths: list[int], resets: torch.Tensor) -> torch.Tensor:
    """The pooled heads in one readable loop over rows, features taken from the backbone."""
    features = model.backbone(u, lengths=torch.tensor(lengths), resets=resets)
    logits = []
    for row, length in enumerate(lengths):
        starts = [0] + [t for t in range(length) if resets[row, t]]
        seen = features[row, starts[-1] : length]
        if len(seen) == 0:
            summary = torch.zeros(CHANNELS, dtype=u.dtype)
        else:
            summary = seen.mean(0) if model.head == "mean" else seen[-1]
        logits.append(model.readout(summary))
    return torch.stack(logits)


@pytest.mark.parametrize("head", ["mean", "last"])
def test_pooled_heads(head: str) -> None:
    model: Any = make(classifier, head=head, inputs=INPUTS)
    u, resets = draw(model, 4, 9), torch.zeros(4, 9, dtype=torch.bool)
    assert_close(model(u, lengths=torch.tensor(LENGTHS)), naive(model, u, LENGTHS, resets), **TIGHT)
    assert_close(model(u), naive(model, u, [9] * 4, resets), **TIGHT)
    resets[0, [0, 3, 4, 8]] = resets[1, [2, 5]] = resets[2, [0, 1]] = resets[3, 0] = True
    assert_close(model(u, lengths=torch.tensor(LENGTHS), resets=resets), naive(model, u, LENGTHS, resets), **TIGHT)
    assert_close(model(u, resets=resets), naive(model, u, [9] * 4, resets), **TIGHT)


def test_per_step_head() -> None:
    model: Any = make(classifier, head="per_step", inputs=INPUTS)
    u = draw(model, 4, 9)
    logits = model(u, lengths=torch.tensor(LENGTHS))
    assert logits.shape == (4, 9, CLASSES)
    features = model.backbone(u)
    for row, length in enumerate(LENGTHS):
        assert_close(logits[row, :length], model.readout(features[row, :length]), **TIGHT)
        assert logits[row, length:].eq(0).all()


@pytest.mark.parametrize("head", ["mean", "last"])
def test_rows_of_length_zero_have_features_of_zero(head: str) -> None:
    model: Any = make(classifier, head=head, inputs=INPUTS)
    u = torch.full((2, 5, INPUTS), torch.nan, dtype=torch.float64)
    expected = model.readout.bias.expand(2, -1)
    assert_close(model(u, lengths=torch.tensor([0, 0])), expected, rtol=0, atol=0)
    assert_close(model(u[:, :0]), expected, rtol=0, atol=0)


def test_the_readout_sees_one_row_a_sequence() -> None:
    """Pooling comes first: the linear map costs nothing that grows with the length."""
    for head, rows in (("mean", 4), ("last", 4), ("per_step", 4 * 9)):
        model: Any = make(classifier, head=head, inputs=INPUTS)
        seen: list[int] = []
        model.readout.register_forward_hook(lambda _m, args, _y, seen=seen: seen.append(args[0][..., 0].numel()))
        model(draw(model, 4, 9))
        assert seen == [rows]


def test_the_state_of_the_mean_is_sum_and_number() -> None:
    model: Any = make(classifier, head="mean", inputs=INPUTS)
    u, lengths = draw(model, 4, 9), torch.tensor(LENGTHS)
    _, (after, (total, count)) = model.extend(u, lengths=lengths)
    features, expected = model.backbone.extend(u, lengths=lengths)
    assert_close(after, expected, **TIGHT)
    assert_close(total, features.sum(1), **TIGHT)
    assert count.tolist() == LENGTHS


def test_summaries_of_narrow_features_are_kept_wide() -> None:
    """A running mean in bfloat16 would stop moving after 256 samples."""
    model: Any = make(classifier, head="mean", inputs=INPUTS, dtype=torch.float32)
    u = draw(model, 2, 700, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        state = model.init_state(2, dtype=torch.bfloat16)
        for t in range(700):
            logits, state = model.step(u[:, t].bfloat16(), state)
    assert_close(logits.float(), model(u), rtol=0.03, atol=0.03)


@pytest.mark.parametrize("head", ["mean", "last", "per_step"])
def test_decoder_streams_the_same_numbers(head: str) -> None:
    model: Any = make(classifier, head=head, inputs=INPUTS, dropout=0.5, training=True)
    u = draw(model, 3, 11)
    model(u)  # moves the running averages
    decoder = model.decoder()
    assert all(isinstance(b.mixer, RealizedIntegrator) for b in decoder.modules() if isinstance(b, Block))
    assert not any(module.training for module in decoder.modules())
    assert not any(p.requires_grad for p in decoder.parameters())
    assert all(module.training for module in model.modules())
    model.eval()
    state = decoder.init_state(3)
    for t in range(11):
        logits, state = decoder.step(u[:, t], state)
    expected = model(u)
    assert_close(logits, expected[:, -1] if head == "per_step" else expected, **TIGHT)


def test_parameter_groups_hold_each_parameter_once() -> None:
    model: Any = classifier(head="mean", inputs=INPUTS)
    groups = model.param_groups(lr=0.1, weight_decay=0.5, filter_lr=0.01, filter_weight_decay=0.0)
    listed = [id(p) for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in model.parameters())
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert rates[id(model.readout.weight)] == (0.1, 0.5)
    assert rates[id(model.readout.bias)] == (0.1, 0.0)


@pytest.mark.compile  # without the type-checking hook, which would speak first
def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(ValueError, match='"mean", "last" or "per_step", got \'max\''):
        Classifier(backbone(inputs=INPUTS), CLASSES, head="max")
