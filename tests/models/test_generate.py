from __future__ import annotations

from typing import get_args

import pytest
import torch

from models.test_language_model import make
from transferfn.models import LanguageModel
from transferfn.models.generate import generate
from transferfn.models.language_model import LanguageMixer

PROMPT = torch.tensor([3, 1, 4, 1, 5])


def loud(mixer: LanguageMixer) -> LanguageModel:
    model = make(mixer)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 2 and p.std() < 0.03:
                p.mul_(30)
    return model.train()


@pytest.mark.parametrize("mixer", get_args(LanguageMixer))
def test_the_likeliest_tokens_are_those_of_full_recomputation(mixer: LanguageMixer) -> None:
    model = loud(mixer)
    found = list(generate(model, PROMPT, 12, temperature=0.0))
    assert model.training
    model.eval()
    text = PROMPT.tolist()
    for _ in range(12):
        text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
    assert found == text[5:]


def test_draws_follow_the_scores() -> None:
    """Frequencies of the first token against the softmax; of the likeliest three only, and reproducible."""
    model = loud("hyena-rtf").eval()
    generator = torch.Generator().manual_seed(0)
    scores = model(PROMPT[None])[0, -1].detach()
    drawn = [next(generate(model, PROMPT, 1, temperature=0.7, top_k=3, generator=generator)) for _ in range(400)]
    best = scores.topk(3)
    expected = dict(zip(best.indices.tolist(), (best.values / 0.7).softmax(-1).tolist(), strict=True))
    assert set(drawn) <= set(expected)
    for token, probability in expected.items():
        sigma = (probability * (1 - probability) / 400) ** 0.5
        assert abs(drawn.count(token) / 400 - probability) < 4.5 * sigma
    seeds = (torch.Generator().manual_seed(5), torch.Generator().manual_seed(5))
    first, second = (list(generate(model, PROMPT, 9, generator=seed)) for seed in seeds)
    assert first == second


def test_the_end() -> None:
    model = loud("rtf")
    found = list(generate(model, PROMPT, 12, temperature=0.0))
    end = found[-1]
    assert list(generate(model, PROMPT, 12, temperature=0.0, end=end)) == found[: found.index(end)]
    assert list(generate(model, PROMPT, 0)) == []


def test_wrong_arguments_are_refused() -> None:
    model = make("rtf")
    with pytest.raises(ValueError, match=r"at least one token, \(length,\), got \(0,\)"):
        next(generate(model, PROMPT[:0], 1))
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        next(generate(model, PROMPT, 1, top_k=0))
