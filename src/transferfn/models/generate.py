"""Text as it comes: one parallel pass over the prompt, then a step a token."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from transferfn.models.int8 import Int8Decoder
from transferfn.models.language_model import LanguageModel
from transferfn.nn.stream import Stream


@torch.no_grad()
def generate(
    model: LanguageModel,
    prompt: Tensor,
    count: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    end: int | None = None,
    int8: bool = False,
    generator: torch.Generator | None = None,
) -> Iterator[int]:
    """Continue a prompt, token by token.

    Filters run as recurrences, whose coefficients are computed once at the beginning; the model is left as it is.

    Args:
        model: The model.
        prompt: Tokens, (L,), at least one.
        count: Number of tokens to return at most.
        temperature: What logits are divided by; 0 takes the likeliest token each time.
        top_k: How many of the likeliest tokens are drawn from; None means all.
        end: A token that ends the text, and is not returned.
        int8: Whether linear maps have weights of one byte, see :class:`~transferfn.models.int8.Int8Decoder`.
        generator: Source of randomness, on the model's device; None means PyTorch's default.

    Yields:
        The next token.

    Raises:
        ValueError: if the prompt holds no token, or a number makes no sense.

    Example:
        >>> from transferfn.models.language_model import tiny
        >>> torch.manual_seed(0).initial_seed()
        0
        >>> model = LanguageModel.from_config(tiny())
        >>> len(list(generate(model, torch.tensor([72, 105]), 5, top_k=10)))
        5
    """
    if prompt.dim() != 1 or not len(prompt):
        raise ValueError(f"expected a prompt of at least one token, (length,), got {tuple(prompt.shape)}")
    check_numbers(count, temperature, top_k)
    stream = Stream(Int8Decoder(model) if int8 else model.decoder(), batch_size=1)
    scores = stream(prompt[None])[0, -1]
    for done in range(1, count + 1):
        token = _draw(scores, temperature, top_k, generator)
        if token == end:
            return
        yield token
        if done < count:
            scores = stream(prompt.new_tensor([token]))[0]


def check_numbers(count: int, temperature: float, top_k: int | None) -> None:
    """Refuse numbers that make no sense to :func:`generate`, which itself looks at them when the first token is asked.

    Args:
        count: As there.
        temperature: As there.
        top_k: As there.

    Raises:
        ValueError: if one makes no sense.
    """
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must not be negative, and finite, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")


def _draw(scores: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None) -> int:
    if temperature == 0:
        return int(scores.argmax())
    scores, tokens = scores.float().topk(len(scores) if top_k is None else min(top_k, len(scores)))
    return int(tokens[torch.multinomial((scores / temperature).softmax(-1), 1, generator=generator)])
