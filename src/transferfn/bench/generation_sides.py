"""The models of ``transferfn bench generation``: ours beside transformers' Mamba and GPT-2 of equal size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils import _pytree as pytree

from transferfn.models import LanguageModel, LanguageModelConfig

OURS, STREAM, INT8, MAMBA, GPT2, FLOOR = (
    "Hyena-RTF",
    "Hyena-RTF, stream",
    "Hyena-RTF, stream, int8",
    "Mamba",
    "GPT-2",
    "floor",
)
SAME = 1e-3
SHORT = 16  # tokens after which caches are begun where the context itself is not taken in


@dataclass
class Side:
    """A model of the comparison.

    Attributes:
        name: What it is called.
        model: The model, as transformers knows it.
        bytes_a_token: What a pass over the context takes of memory, about, for each token.
        kept_a_token: What is kept of each token, in bytes, while more are decoded; none where the state is constant.
    """

    name: str
    model: Any
    bytes_a_token: float
    kept_a_token: float = 0.0

    def prefill(self, tokens: Tensor) -> Any:
        """Take in the context and return the cache after it.

        Args:
            tokens: (B, L).
        """
        return self.model(tokens, use_cache=True, logits_to_keep=1).cache

    def pretend(self, tokens: Tensor) -> Any:
        """Return a cache that takes a step as long as one after the context, without taking that in.

        A constant state is that after a few tokens; keys and values are as many as they would be, all the same.

        Args:
            tokens: The context, (B, L).
        """
        cache = self.prefill(tokens[:, :SHORT])
        if self.kept_a_token:
            for layer in cache.layers:
                for name in ("keys", "values"):
                    batch, heads, _, size = getattr(layer, name).shape
                    setattr(layer, name, torch.full((batch, heads, tokens.shape[1], size), 0.1))
        return cache

    def step(self, token: Tensor, cache: Any) -> None:
        """Take in one token.

        Args:
            token: (B, 1).
            cache: What was kept of all before; changed.
        """
        self.model(token, use_cache=True, logits_to_keep=1, cache=cache)


def sides(config: LanguageModelConfig, longest: int) -> list[Side]:
    """Our model, and the nearest in size of the others.

    Args:
        config: Our model.
        longest: Number of tokens of the longest text, which GPT-2 has positions for.
    """
    from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM

    from transferfn.interop.huggingface import TransferFnConfig, TransferFnForCausalLM

    torch.manual_seed(0)
    ours = TransferFnForCausalLM(TransferFnConfig.from_language_model(config)).eval()
    size, width = parameters(ours), config.width

    def mamba(layers: int) -> Any:
        return MambaForCausalLM(
            MambaConfig(vocab_size=config.vocabulary, hidden_size=width, num_hidden_layers=layers)
        ).eval()

    def gpt2(layers: int) -> Any:
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=config.vocabulary,
                n_embd=width,
                n_layer=layers,
                n_head=config.heads,
                n_positions=longest,
                bos_token_id=0,
                eos_token_id=0,
            )
        ).eval()

    def nearest(build: Callable[[int], Any]) -> Any:
        with torch.device("meta"):
            one, two = parameters(build(1)), parameters(build(2))
        return build(max(round((size - 2 * one + two) / (two - one)), 1))

    heavy, attentive = nearest(mamba), nearest(gpt2)
    kept = 4.0 * 2 * attentive.config.n_layer * width
    return [
        Side(OURS, ours, 4.0 * 40 * width),
        Side(MAMBA, heavy, 4.0 * 6 * 2 * width * heavy.config.state_size),
        Side(GPT2, attentive, kept + 4.0 * 40 * width, kept),
    ]


def parameters(model: nn.Module) -> int:
    """Number of parameters, learned positions left out: how many there are is a matter of the longest text.

    Args:
        model: The model.
    """
    return sum(p.numel() for name, p in model.named_parameters() if not name.endswith("wpe.weight"))


def floor(model: LanguageModel, batch: int) -> Callable[[], object]:
    """The products with all weight matrices that a step of ours needs, in float32, and nothing else.

    Args:
        model: Our model.
        batch: Number of rows.
    """
    weights = [part.weight for part in model.modules() if isinstance(part, nn.Linear)] + [model.embedding.weight]
    inputs = {size: torch.randn(batch, size) for size in {weight.shape[1] for weight in weights}}
    return lambda: [linear(inputs[weight.shape[1]], weight) for weight in weights]


@torch.no_grad()
def check(side: Side, vocabulary: int) -> None:
    """Make sure that what is measured computes what it should: a cache and full recomputation give the same scores.

    Args:
        side: A model.
        vocabulary: Number of tokens.

    Raises:
        ArithmeticError: if they differ.
    """
    tokens = torch.randint(vocabulary, (2, 24))
    cache = side.prefill(tokens[:, :20])
    for t in range(20, 23):
        side.step(tokens[:, t : t + 1], cache)
    found = side.model(tokens[:, 23:], use_cache=True, cache=cache).logits[:, -1]
    expected = side.model(tokens, use_cache=False).logits[:, -1]
    error = float((found - expected).abs().max() / expected.abs().max())
    if not error <= SAME:
        raise ArithmeticError(f"with its cache {side.name} is off by {error:.1e}: its speed means nothing")


def cache_bytes(cache: Any) -> int:
    """Memory of all that a cache of transformers keeps.

    Args:
        cache: The cache.
    """
    kept = [
        (getattr(layer, "keys", None), getattr(layer, "values", None), dict(getattr(layer, "conv_states", {})),
         dict(getattr(layer, "recurrent_states", {})))
        for layer in cache.layers
    ]  # fmt: skip
    return sum(leaf.nbytes for leaf in pytree.tree_leaves(kept) if isinstance(leaf, Tensor))
