"""Small language models in the form of transformers, and prompts for them."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")

from transferfn.interop.huggingface import TransferFnConfig, TransferFnForCausalLM
from transferfn.models.language_model import LanguageMixer

MIXERS = get_args(LanguageMixer)
every = pytest.mark.parametrize("mixer", MIXERS)
PAD = 0


def config(mixer: str = "hyena-rtf", **options: Any) -> TransferFnConfig:
    values: dict[str, Any] = {"vocab_size": 17, "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 12}
    values |= {"num_attention_heads": 2, "order": 4, "horizon": 64, "rank": None, "init": "comb"}
    values |= {"constraint": "reflection", "dropout": 0.0}
    return TransferFnConfig(mixer=mixer, **(values | options))


def make(mixer: str = "hyena-rtf", **options: Any) -> TransferFnForCausalLM:
    """A model whose maps are far enough from zero that tokens depend on all that came before."""
    torch.manual_seed(0)
    model = TransferFnForCausalLM(config(mixer, **options)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("embedding.weight"):
                weight.mul_(10)
            elif name.endswith(("input.weight", "output.weight", "mlp.0.weight", "mlp.2.weight")):
                weight.mul_(40)
    return model


def prompts() -> tuple[Tensor, Tensor, list[int]]:
    """Three prompts of different lengths, padded at the left, with their mask and lengths."""
    lengths = [3, 7, 6]
    tokens = torch.randint(1, 16, (3, 7), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(7) >= 7 - torch.tensor(lengths)[:, None]
    return torch.where(mask, tokens, PAD), mask.long(), lengths
