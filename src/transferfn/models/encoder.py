"""What stands before the blocks: tokens or continuous samples to channels, sample by sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from transferfn.nn.mixer import check_sample, check_signal, values_are_hidden


class TokenEncoder(nn.Module):
    """One learned vector a token; vectors that come in the place of tokens, a soft prompt say, are taken as they are.

    Args:
        vocabulary: Number of distinct tokens; they are 0..vocabulary - 1.
        channels: Number of channels D.
    """

    def __init__(self, vocabulary: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, channels)

    def check(self, u: Tensor, *, sample: bool) -> None:
        """Raise unless `u` holds tokens, (B, L) integers, or their vectors, (B, L, D); no L if it is one sample.

        Args:
            u: What the caller passed.
            sample: Whether it is one time step.
        """
        if u.is_floating_point() and u.dim() == (2 if sample else 3) and u.shape[-1] == self.embedding.embedding_dim:
            return
        expected = "(batch,)" if sample else "(batch, length)"
        if u.dim() != (1 if sample else 2):
            raise ValueError(f"expected tokens of shape {expected}, got {tuple(u.shape)}.")
        if u.is_floating_point() or u.is_complex() or u.dtype == torch.bool:
            raise TypeError(
                f"expected integer tokens, got {u.dtype}. Continuous inputs need a backbone built with inputs=...."
            )

    def forward(self, u: Tensor, valid: Tensor | None = None) -> Tensor:
        """Look the tokens up.

        Args:
            u: Tokens, (...), integers, or their vectors, (..., D).
            valid: False at padding, (...), which may hold any number; None means all count.

        Returns:
            Their vectors, (..., D).

        Raises:
            IndexError: if a token is outside the vocabulary (on the CPU, where looking is free).
        """
        if u.is_floating_point():
            return u if valid is None else torch.where(valid[..., None], u, 0)
        tokens = u.long()
        if valid is not None:
            tokens = torch.where(valid, tokens, 0)
        if tokens.device.type == "cpu" and not values_are_hidden() and tokens.numel():  # elsewhere looking would wait
            low, high = (int(x) for x in tokens.aminmax())
            if low < 0 or high >= self.embedding.num_embeddings:
                raise IndexError(
                    f"tokens must lie in 0..{self.embedding.num_embeddings - 1}, the vocabulary of the backbone, "
                    f"got {low}..{high}. Padding may hold anything if lengths are passed."
                )
        return self.embedding(tokens)


class LinearEncoder(nn.Module):
    """A linear map of continuous samples.

    Args:
        inputs: Number of input channels.
        channels: Number of channels D.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, channels)

    def check(self, u: Tensor, *, sample: bool) -> None:
        """Raise unless `u` is a signal (B, L, inputs), or (B, inputs) if it is one sample.

        Args:
            u: What the caller passed.
            sample: Whether it is one time step.
        """
        (check_sample if sample else check_signal)(u, self.linear.in_features)

    def forward(self, u: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map each sample.

        Args:
            u: Samples, (..., inputs).
            valid: False at padding, (...), which may hold anything, NaN included; None means all count.

        Returns:
            Encoded samples, (..., D), in the dtype of `u`.
        """
        if valid is not None:
            u = torch.where(valid[..., None], u, 0)
        return self.linear(u).to(u.dtype)  # autocast narrows the linear map
