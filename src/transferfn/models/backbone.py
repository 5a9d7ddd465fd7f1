"""An encoder and a stack of blocks: a whole model that obeys the contract of a single layer."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

from transferfn.models.encoder import LinearEncoder, TokenEncoder
from transferfn.models.parameters import WithParamGroups
from transferfn.nn.block import Block
from transferfn.nn.mixer import SequenceMixer, check_boundaries, valid_samples
from transferfn.nn.norm import NormKind, make_norm
from transferfn.typing import State


class Backbone(WithParamGroups, SequenceMixer):
    r"""Encoder -> blocks [-> norm, if the blocks' comes first].

    The input is either tokens, (B, L) integers (or vectors in their place, (B, L, D)), or continuous, (B, L, inputs).
    The state is the tuple of the blocks' states. With ``gradient_checkpointing = True`` training keeps only what goes
    into each block and computes the rest anew in the backward pass.

    Args:
        channels: Width of the model, D.
        layers: Number of blocks.
        mixer: Called once a layer; returns the layer's mixer.
        vocabulary: Number of distinct tokens, for tokens. Give either this or `inputs`.
        inputs: Number of input channels, for continuous inputs.
        norm: "batch" (statistics over valid samples only), "layer", or None.
        prenorm: Whether each block starts with its norm, and one more follows the last block; else each ends with it.
        gelu: Whether a mixer's output goes through a GELU.
        glu: Whether each block mixes channels by a gated linear unit.
        mlp: Width of a further map of each sample that ends each block; None means there is none.
        residual: Whether each block adds its input to its output.
        dropout: Probability of dropping an output of a block before the residual connection.
        mixer_dropout: Probability of dropping an output of a mixer, after the GELU.
        input_dropout: Probability of dropping an output of the encoder.

    Raises:
        TypeError: if `mixer` is not a function that returns a `SequenceMixer`.
        ValueError: if not exactly one of `vocabulary` and `inputs` is given, or a number or norm makes no sense.

    Example:
        >>> from transferfn.nn import RTF
        >>> model = Backbone(8, 2, lambda: RTF(8, 4, horizon=32), inputs=1).eval()
        >>> u = torch.randn(3, 32, 1)
        >>> y, state = model.extend(u[:, :20])
        >>> y_t, state = model.step(u[:, 20], state)
        >>> torch.allclose(y_t, model(u)[:, 20], atol=1e-5)
        True
    """

    gradient_checkpointing: bool = False

    def __init__(
        self,
        channels: int,
        layers: int,
        mixer: Callable[[], SequenceMixer],
        *,
        vocabulary: int | None = None,
        inputs: int | None = None,
        norm: NormKind | None = "batch",
        prenorm: bool = True,
        gelu: bool = True,
        glu: bool = True,
        mlp: int | None = None,
        residual: bool = True,
        dropout: float = 0.0,
        mixer_dropout: float = 0.0,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if channels < 1 or layers < 1:
            raise ValueError(f"channels and layers must be at least 1, got channels={channels}, layers={layers}.")
        if isinstance(mixer, nn.Module):
            raise TypeError(
                f"mixer must be a function that returns a new mixer for each layer, got one {type(mixer).__name__}. "
                f"Pass lambda: {type(mixer).__name__}(...)."
            )
        self.channels = channels
        if vocabulary is not None and inputs is None:
            self.encoder = TokenEncoder(vocabulary, channels)
        elif inputs is not None and vocabulary is None:
            self.encoder = LinearEncoder(inputs, channels)
        else:
            raise ValueError(
                f"give either vocabulary (for tokens) or inputs (for continuous samples), got vocabulary={vocabulary}, "
                f"inputs={inputs}."
            )
        self.input_dropout = nn.Dropout(input_dropout)
        self.blocks = nn.ModuleList(
            Block(
                channels,
                mixer(),
                norm=norm,
                prenorm=prenorm,
                gelu=gelu,
                glu=glu,
                mlp=mlp,
                residual=residual,
                dropout=dropout,
                mixer_dropout=mixer_dropout,
            )
            for _ in range(layers)
        )
        self.norm = make_norm(norm, channels) if prenorm else None
        self.is_causal = all(block.is_causal for block in self._blocks())

    def forward(
        self,
        u: Tensor,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        dt: Tensor | None = None,
        hidden: list[Tensor] | None = None,
    ) -> Tensor:
        """Map a whole sequence, starting from rest.

        Args:
            u: Tokens, (B, L), or samples, (B, L, inputs).
            lengths: Number of valid samples of each row, (B,), integers; None means all.
            resets: True where the state is cleared before the sample, (B, L); None means nowhere.
            dt: Factors on the step size of each sample, (B, L), zero or positive, for signals sampled irregularly, as
                S5 takes them; None means 1.
            hidden: A list to which is added what goes into each block, (B, L, D); None means that nobody asks.

        Returns:
            Features, (B, L, D); zero past `lengths`.

        Raises:
            TypeError: if a mixer takes no `dt`.
        """
        y, valid = self._encode(u, lengths, resets)
        recompute = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        for block in self._blocks():
            _note(hidden, y)
            run = partial(checkpoint, block, use_reentrant=False) if recompute else block
            y = run(y, lengths=lengths, resets=resets, dt=dt)
        return self._finish(y, valid)

    def extend(
        self,
        u: Tensor,
        state: State = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        dt: Tensor | None = None,
        hidden: list[Tensor] | None = None,
    ) -> tuple[Tensor, State]:
        """Map the next chunk of a sequence and return the state after it.

        Args:
            u: Next tokens, (B, L), or samples, (B, L, inputs); L may be zero.
            state: State before the chunk, a tuple with an entry a block; None means rest.
            lengths: Number of valid samples of each row, (B,), integers; None means all.
            resets: True where the state is cleared before the sample, (B, L); None means nowhere.
            dt: Factors on the step size of each sample, (B, L), zero or positive, for signals sampled irregularly, as
                S5 takes them; None means 1.
            hidden: A list to which is added what goes into each block, (B, L, D); None means that nobody asks.

        Returns:
            Features, (B, L, D), and the state after each row's last valid sample.

        Raises:
            NotCausalError: if a mixer looks ahead.
            TypeError: if one takes no `dt`.
        """
        self._require_causal("extend")
        before = (None,) * len(self.blocks) if state is None else self._check_state(state)
        y, valid = self._encode(u, lengths, resets)
        after = []
        for block, block_state in zip(self._blocks(), before, strict=True):
            _note(hidden, y)
            y, block_state = block.extend(y, block_state, lengths=lengths, resets=resets, dt=dt)
            after.append(block_state)
        return self._finish(y, valid), tuple(after)

    def step(
        self, u_t: Tensor, state: State, *, dt: Tensor | None = None, hidden: list[Tensor] | None = None
    ) -> tuple[Tensor, State]:
        """Map one sample.

        Args:
            u_t: Token, (B,), or sample, (B, inputs).
            state: State before the sample.
            dt: Factors on the step size, (B,), as for `forward`.
            hidden: A list to which is added what goes into each block, (B, D); None means that nobody asks.

        Returns:
            Features, (B, D), and the state after the sample.

        Raises:
            NotCausalError: if a mixer looks ahead.
            TypeError: if one takes no `dt`.
        """
        self._require_causal("step")
        self.encoder.check(u_t, sample=True)
        y_t = self.encoder(u_t)
        after = []
        for block, block_state in zip(self._blocks(), self._check_state(state), strict=True):
            _note(hidden, y_t)
            y_t, block_state = block.step(y_t, block_state, dt=dt)
            after.append(block_state)
        return self._finish(y_t, None), tuple(after)

    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """Return the state at rest, a tuple with an entry a block.

        Args:
            batch_size: Number of rows B.
            device: Where the state lives; None means where the parameters are.
            dtype: Type of the features inside the model; None means that of the parameters.

        Raises:
            NotCausalError: if a mixer looks ahead.
        """
        self._require_causal("init_state")
        return tuple(block.init_state(batch_size, device=device, dtype=dtype) for block in self._blocks())

    @override
    def init_stream(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        self._require_causal("init_stream")
        return tuple(block.init_stream(batch_size, device=device, dtype=dtype) for block in self._blocks())

    def decoder(self) -> Backbone:
        """Return a copy for decoding: in eval mode, without gradients, its mixers realized where they can be.

        Raises:
            NotCausalError: if a mixer looks ahead.
        """
        self._require_causal("decoder")
        model = deepcopy(self).requires_grad_(False)
        model.blocks = nn.ModuleList(block.realize() for block in model._blocks())
        return model.eval()

    def _blocks(self) -> list[Block]:
        return list(self.blocks)  # pyright: ignore[reportReturnType]

    def _check_state(self, state: State) -> tuple[State, ...]:
        if not isinstance(state, tuple) or len(state) != len(self.blocks):
            found = f"{len(state)} of them" if isinstance(state, tuple) else type(state).__name__
            raise ValueError(f"expected a tuple of {len(self.blocks)} states, one a block, got {found}.")
        return state

    def _encode(self, u: Tensor, lengths: Tensor | None, resets: Tensor | None) -> tuple[Tensor, Tensor | None]:
        self.encoder.check(u, sample=False)
        check_boundaries(u, lengths, resets)
        valid = None if lengths is None else valid_samples(lengths, u.shape[1])
        return self.input_dropout(self.encoder(u, valid)), valid

    def _finish(self, y: Tensor, valid: Tensor | None) -> Tensor:
        if self.norm is None:
            return y
        y = self.norm(y, valid)
        return y if valid is None else torch.where(valid[..., None], y, 0)


def _note(hidden: list[Tensor] | None, y: Tensor) -> None:
    if hidden is not None:
        hidden.append(y)
