from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from models.subjects import CHANNELS, TOKENS, backbone
from transferfn.models import LanguageModel, LanguageModelConfig
from transferfn.models.language_model import INIT_STD, LanguageMixer, small, tiny

MIXERS = get_args(LanguageMixer)
every = pytest.mark.parametrize("mixer", MIXERS)


def config(mixer: LanguageMixer, **options: Any) -> LanguageModelConfig:
    values: dict[str, Any] = {"vocabulary": 11, "width": 8, "layers": 2, "mlp": 12, "heads": 2}
    values |= {"order": 4, "horizon": 32}
    values |= {"init": "comb", "constraint": "none", "rank": None, "dropout": 0.0}
    return LanguageModelConfig(mixer=mixer, **(values | options))


def make(mixer: LanguageMixer, dtype: torch.dtype = torch.float64, **options: Any) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel.from_config(config(mixer, **options)).to(dtype)


def tokens(batch: int, length: int) -> Tensor:
    return torch.randint(11, (batch, length), generator=torch.Generator().manual_seed(length))


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def on_meta(config: LanguageModelConfig) -> LanguageModel:
    with torch.device("meta"):
        return LanguageModel.from_config(config)


# ------------------------------------------------------------------------------------------------------ sizes


def test_the_papers_model_has_its_number_of_parameters() -> None:
    """Published: about 125 million. Counted by hand from the official code: 124,981,248."""
    width, mlp, order, rank, vocabulary = 768, 3072, 64, 384, 50264
    norms = 2 * 2 * width
    hyena = (width + 1) * 3 * width + 3 * width * (3 + 1)
    filters = width * (2 * order + 1) + width  # numerators, denominators, feedthrough; the constraint's slack
    low_rank = width + (width + 1) * rank + (rank + 1) * width
    feed_forward = (width + 1) * mlp + (mlp + 1) * width
    expected = vocabulary * width + 12 * (norms + hyena + filters + low_rank + feed_forward) + 2 * width
    model = on_meta(LanguageModelConfig())
    assert count(model) == expected
    assert abs(count(model) / 125e6 - 1) < 0.005


@every
def test_all_mixers_make_a_model_of_about_that_size(mixer: LanguageMixer) -> None:
    """Hyena and attention have maps of 4 D^2 numbers in each block, filters alone a gated one of 2 D^2."""
    expected = 125e6 - (0 if mixer == "attention" or "hyena" in mixer else 12 * 2 * 768**2)
    assert abs(count(on_meta(LanguageModelConfig(mixer=mixer))) / expected - 1) < 0.015


@every
def test_smaller_sizes(mixer: LanguageMixer) -> None:
    assert 0.7e6 < count(on_meta(tiny(mixer=mixer))) < 1.2e6
    assert 12e6 < count(on_meta(small(mixer=mixer))) < 15e6


def test_initial_weights() -> None:
    torch.manual_seed(0)
    model = LanguageModel.from_config(LanguageModelConfig(layers=2, vocabulary=300, width=192, mlp=768, rank=96))
    weights = {name: p.detach() for name, p in model.named_parameters()}
    inner = ["embedding.weight", "mixer.input.weight", "mixer.output.1.weight", "mlp.0.weight"]
    outer = ["mixer.output.3.weight", "mlp.2.weight"]
    for names, std in ((inner, INIT_STD), (outer, INIT_STD / 2)):
        for name in names:
            found = [w for key, w in weights.items() if key.endswith(name)]
            assert found
            assert all(abs(float(w.std()) / std - 1) < 0.05 for w in found), name
    assert not any(w.any() for key, w in weights.items() if key.endswith(("put.bias", "mlp.0.bias", "mlp.2.bias")))
    probabilities = model.eval()(torch.randint(300, (2, 50))).detach().softmax(-1)
    assert float((probabilities * 300).log().abs().mean()) < 0.5  # at first every token is about as likely


# ----------------------------------------------------------------------------------------------------- numbers


@every
def test_the_head_is_the_embedding(mixer: LanguageMixer) -> None:
    model = make(mixer).eval()
    u = tokens(2, 9)
    assert_close(model(u), model.backbone(u) @ model.embedding.weight.T)
    assert model.vocabulary == 11
    assert len([p for p in model.parameters() if p.shape[0] == 11]) == 1


@every
def test_order_matters_without_positions(mixer: LanguageMixer) -> None:
    model = make(mixer).eval()
    with torch.no_grad():
        for p in model.embedding.parameters():
            p.mul_(50)
    u = tokens(1, 12)
    swapped = u.clone()
    swapped[:, :4] = u[:, :4].flip(1)
    assert not torch.allclose(model(u)[:, -1], model(swapped)[:, -1], rtol=1e-6, atol=0)


@every
def test_losses_are_those_of_all_logits_at_once(mixer: LanguageMixer) -> None:
    """Whatever the chunks, with ignored targets, padding and resets; values and every gradient."""
    model = make(mixer)
    u, targets = tokens(3, 9), tokens(3, 10)[:, 1:].clone()
    targets[0, 3:5] = -100
    lengths, resets = torch.tensor([9, 5, 0]), torch.zeros(3, 9, dtype=torch.bool)
    resets[0, 4] = resets[1, 2] = True

    def gradients(losses: Tensor) -> dict[str, Tensor]:
        model.zero_grad()
        (losses * torch.linspace(1, 2, 27).view(3, 9)).sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    scored = torch.where(torch.arange(9) < lengths[:, None], targets, -100)
    logits = model(u, lengths=lengths, resets=resets)
    expected = F.cross_entropy(logits.flatten(0, 1), scored.flatten(), reduction="none").view(3, 9)
    expected_gradients = gradients(expected)
    assert not expected[0, 3:5].any()
    assert not expected[1, 5:].any()
    for chunk in (1, 4, 27, 1000):
        losses = model.losses(u, targets, lengths=lengths, resets=resets, chunk=chunk)
        assert_close(losses, expected)
        assert_close(gradients(losses), expected_gradients)


def test_losses_never_hold_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = make("rtf"), []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda x, w, *b: sizes.append((len(w), x[..., 0].numel())) or linear(x, w, *b))
    model.losses(tokens(3, 9), tokens(3, 9), chunk=5).sum().backward()
    rows = [size for outputs, size in sizes if outputs == 11]
    assert max(rows) == 5
    assert sum(rows) == 2 * 27  # forward, and once more in the backward pass


def test_losses_of_nothing_and_of_narrow_features() -> None:
    model = make("rtf", torch.float32)
    assert model.losses(tokens(2, 0), tokens(2, 0)).shape == (2, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.losses(tokens(2, 9), tokens(2, 9))
    assert losses.dtype == torch.float32
    assert_close(losses, model.losses(tokens(2, 9), tokens(2, 9)), rtol=0.02, atol=0.02)


@every
def test_gradient_checkpointing_changes_no_number(mixer: LanguageMixer) -> None:
    model = make(mixer, dropout=0.3).train()
    u = tokens(2, 9)

    def run() -> dict[str, Tensor]:
        model.zero_grad()
        torch.manual_seed(3)
        losses = model.losses(u, u)
        losses.sum().backward()
        return {"": losses.detach()} | {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}

    calls = []
    model.backbone.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    expected = run()
    once = len(calls)
    model.backbone.gradient_checkpointing = True
    assert_close(run(), expected)
    assert len(calls) == 3 * once  # once more in the backward pass
    assert_close(model.eval()(u), model(u))


@every
def test_decoder(mixer: LanguageMixer) -> None:
    model = make(mixer, dropout=0.3).train()
    decoder = model.decoder()
    assert not any(module.training for module in decoder.modules())
    assert not any(p.requires_grad for p in decoder.parameters())
    u = tokens(2, 12)
    expected = model.eval()(u)
    y, state = decoder.extend(u[:, :5])
    ys = [y]
    for t in range(5, 12):
        y, state = decoder.step(u[:, t], state)
        ys.append(y[:, None])
    assert_close(torch.cat(ys, 1), expected)


@every
def test_parameter_groups_hold_each_parameter_once(mixer: LanguageMixer) -> None:
    model = make(mixer)
    groups = model.param_groups(lr=0.1, weight_decay=0.5, filter_lr=0.01, filter_weight_decay=0.0)
    listed = [id(p) for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in model.parameters())
    slow = {id(p) for group in groups if group["lr"] == 0.01 for p in group["params"]}
    assert bool(slow) == (mixer != "attention")
    assert id(model.embedding.weight) not in slow


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"needs a backbone of tokens.*vocabulary"):
        LanguageModel(backbone(inputs=2))
    with pytest.raises(ValueError, match="layers must be at least 1, got 0"):
        config("rtf", layers=0)
    with pytest.raises(ValueError, match=r"below 1, got 1\.0"):
        config("rtf", dropout=1.0)
    model = LanguageModel(backbone(vocabulary=TOKENS, norm="layer"))
    assert model.backbone.channels == CHANNELS
    with pytest.raises(ValueError, match=r"as many targets as tokens, \(2, 9\), got \(2, 8\)"):
        model.losses(tokens(2, 9), tokens(2, 8))
    with pytest.raises(ValueError, match="at least 1; got 0"):
        model.losses(tokens(2, 9), tokens(2, 9), chunk=0)


@pytest.mark.compile  # without the type-checking hook, which would speak first
def test_an_unknown_mixer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one of hyena-rtf, hyena, .*; got 'lstm'"):
        config("lstm")  # pyright: ignore[reportArgumentType]
