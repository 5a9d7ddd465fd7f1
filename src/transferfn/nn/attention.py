"""Softmax attention under the contract of all mixers: its state is what it has seen."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from typing_extensions import override

from transferfn.core.checks import check_at_least_one, check_choice
from transferfn.nn.cache import Counts, beginnings, check_memory, remember
from transferfn.nn.mixer import (
    SequenceMixer,
    check_boundaries,
    check_sample,
    check_signal,
    valid_samples,
)
from transferfn.ops.filter import signal_dtype
from transferfn.typing import Sample, Signal, State

Positions = Literal["rotary"]
Heads = Float[Tensor, "B heads _ C"]
"""Queries, keys or values of samples, the channels of each head last."""

AttentionState = tuple[Heads, Heads, Counts]
"""Keys and values of all samples so far, (B, heads, T, D / heads), newest last, and how many of them count, (B)."""


class Attention(SequenceMixer):
    r"""Multi-head self-attention.

    y_t = W_o concat_h sum_s softmax_s(q_t . k_s / sqrt(D / heads)) v_s, over the samples s <= t of the same sequence
    (over all of them if bidirectional), where q, k and v are linear maps of the input.

    Unlike the state of a filter its state grows: it is a cache of keys and values of all samples so far, and a step
    costs time and memory proportional to their number. After resets, ``extend`` drops what no row sees any more. Keys
    and values are kept in float32 or wider, as all states are. Those of a sample that is not finite are kept, too, and
    no error: whatever sees them is NaN, and nothing after a reset does, neither values nor gradients.

    Args:
        channels: Number of channels D.
        heads: Number of heads, a divisor of ``channels``.
        positions: ``"rotary"``, which turns queries and keys by angles proportional to the time since the sequence
            began, so that only differences of time matter; or None, for attention that knows of order only what
            causality tells.
        rotary_base: The wavelengths of the rotation go from 2 pi to almost 2 pi times this, in samples.
        bidirectional: Whether samples see the future, too. Such a layer has ``forward`` only.
        bias: Whether the linear maps have biases.
        device: Where the parameters live.
        dtype: Their type; None means PyTorch's default.

    Raises:
        TypeError: if a size is no whole number.
        ValueError: if the sizes or options do not fit each other.

    Source:
        Vaswani et al. 2017, arXiv:1706.03762; rotary positions: Su et al. 2021, arXiv:2104.09864.

    Example:
        >>> layer = Attention(8, heads=2)
        >>> u = torch.randn(3, 10, 8)
        >>> y, state = layer.extend(u[:, :9])
        >>> last, state = layer.step(u[:, 9], state)
        >>> torch.allclose(torch.cat((y, last[:, None]), 1), layer(u), atol=1e-5)
        True
        >>> [tuple(x.shape) for x in state]
        [(3, 2, 10, 4), (3, 2, 10, 4), (3,)]
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        positions: Positions | None = "rotary",
        rotary_base: float = 10000.0,
        bidirectional: bool = False,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_options(channels, heads, positions, rotary_base)
        self.channels, self.heads = channels, heads
        self.positions: Positions | None = positions
        self.rotary_base = rotary_base
        self.bidirectional, self.is_causal = bidirectional, not bidirectional
        self.input = nn.Linear(channels, 3 * channels, bias=bias, device=device, dtype=dtype)
        self.output = nn.Linear(channels, channels, bias=bias, device=device, dtype=dtype)

    @override
    def forward(self, u: Signal, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Signal:
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        return self._attend(u, self._at_rest(u), lengths, resets)[0]

    @override
    def extend(
        self,
        u: Signal,
        state: State = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Signal, State]:
        self._require_causal("extend")
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        if state is None:
            state = self._at_rest(u)
        else:
            self._check_state(state, u)
        y, (keys, values) = self._attend(u, state, lengths, resets)
        if not u.numel():
            return y, state
        dtype = signal_dtype(u.dtype)
        new = keys.to(dtype), values.to(dtype)
        (keys, values), counts = remember(state[:2], state[2], new, lengths, resets)
        return y, (keys, values, counts)

    def step(self, u_t: Sample, state: State) -> tuple[Sample, State]:
        """Map one sample, at a cost proportional to the number of samples so far.

        Args:
            u_t: Sample, (B, D).
            state: State before the sample.

        Returns:
            Output sample, (B, D), and the state after it, one sample larger.

        Raises:
            NotCausalError: if the layer is bidirectional.
        """
        self._require_causal("step")
        check_sample(u_t, self.channels)
        y, state = self.extend(u_t[:, None], state)
        return y[:, 0], state

    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> AttentionState:
        """Return the state at rest: a cache of no samples.

        Args:
            batch_size: Number of rows B.
            device: Where the state lives; None means where the parameters are.
            dtype: Type of the signals to come; None means that of the parameters. States are kept in float32 or wider.

        Raises:
            NotCausalError: if the layer is bidirectional.
        """
        self._require_causal("init_state")
        like = self.input.weight
        nothing = torch.zeros(
            batch_size,
            self.heads,
            0,
            self.channels // self.heads,
            device=device or like.device,
            dtype=signal_dtype(dtype or like.dtype),
        )
        return nothing, nothing.clone(), torch.zeros(batch_size, device=nothing.device, dtype=torch.long)

    def extra_repr(self) -> str:
        """Sizes and options, for ``print``."""
        parts = [f"{self.channels}, heads={self.heads}, positions={self.positions!r}"]
        if self.positions == "rotary":
            parts.append(f"rotary_base={self.rotary_base}")
        if self.bidirectional:
            parts.append("bidirectional=True")
        return ", ".join(parts)

    def _attend(
        self, u: Signal, state: AttentionState, lengths: Tensor | None, resets: Tensor | None
    ) -> tuple[Signal, tuple[Heads, Heads]]:
        """Output of a chunk, and the keys and values of its samples."""
        past_keys, past_values, counts = state
        if not u.numel():
            return u, (past_keys, past_values)
        valid = None if lengths is None else valid_samples(lengths, u.shape[1])[..., None]
        clear = u if valid is None else torch.where(valid, u, 0)
        clear, sound = clear.to(self.input.weight.dtype), None
        if resets is not None:  # what is not finite must not reach sequences that begin after it, nor their gradients
            sound = clear.isfinite().all(-1, keepdim=True)
            clear = torch.where(sound, clear, 0)
        queries, keys, values = self.input(clear).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        has_past = past_keys.shape[2] > 0
        begun = None if resets is None and not has_past else beginnings(counts, u.shape[1], resets)
        if self.positions == "rotary":
            time = torch.arange(u.shape[1], device=u.device)
            since = time if begun is None else (time - begun)[:, None]
            queries, keys = (rotate(x, since, self.rotary_base) for x in (queries, keys))
        new = keys, values
        if sound is not None:
            keys, values = (torch.where(sound[:, None], x, torch.nan) for x in new)
            new = keys, values
        if has_past:
            keys, values = (torch.cat((x.to(y.dtype), y), 2) for x, y in ((past_keys, keys), (past_values, values)))
        spoiled = None
        if begun is not None:
            visible = self._visible(begun, keys.shape[2], valid)
            if sound is not None:
                keys, values, spoiled = _cleared(keys, values, visible)
            y = scaled_dot_product_attention(queries, keys, values, visible)
        elif self.is_causal or valid is None:  # what is ahead is hidden anyhow, be it padding or not
            y = scaled_dot_product_attention(queries, keys, values, is_causal=self.is_causal)
        else:
            y = scaled_dot_product_attention(queries, keys, values, _itself(valid) | valid.mT[:, None])
        y = self.output(y.transpose(1, 2).flatten(2)).to(u.dtype)  # autocast narrows linear maps
        if spoiled is not None:
            y = torch.where(spoiled, torch.nan, y)
        return y if valid is None else torch.where(valid, y, 0), new

    def _visible(self, begun: Int[Tensor, "B L"], size: int, valid: Tensor | None) -> Bool[Tensor, "B 1 L _"]:
        """Which of all samples, those before the chunk first, a sample of the chunk sees: those of its own sequence."""
        length = begun.shape[1]
        if self.is_causal:
            now = torch.arange(length, device=begun.device)
            time = torch.arange(length - size, length, device=begun.device)
            seen = (time <= now[:, None]) & (time >= begun[..., None])
            return seen[:, None]
        same = (begun[:, :, None] == begun[:, None, :])[:, None]
        return same if valid is None else (same & valid.mT[:, None]) | _itself(valid)

    def _at_rest(self, u: Signal) -> AttentionState:
        nothing = u.new_zeros(u.shape[0], self.heads, 0, self.channels // self.heads, dtype=signal_dtype(u.dtype))
        return nothing, nothing, torch.zeros(u.shape[0], device=u.device, dtype=torch.long)

    def _check_state(self, state: object, u: Tensor) -> None:
        shape = u.shape[0], self.heads, "T", self.channels // self.heads
        check_memory(state, (shape, shape), u.shape[0])


def rotate(x: Heads, time: Int[Tensor, "*_ L"], base: float) -> Heads:
    """Turn pairs of channels, c and c + C/2, by angles proportional to time: time * base^(-2c/C).

    Args:
        x: Queries or keys, (B, heads, L, C), C even.
        time: Their times in samples, (L), or (B, 1, L).
        base: How slow the slowest pair turns.

    Returns:
        As many, in the type of ``x``; dot products depend on differences of time only.

    Example:
        >>> x = torch.ones(1, 1, 4, 2)
        >>> rotate(x, torch.tensor([0, 1, 7, 8]), 10.0)[0, 0] @ rotate(x, torch.tensor([0, 1, 7, 8]), 10.0)[0, 0, 1]
        tensor([1.0806, 2.0000, 1.9203, 1.5078])
    """
    half = x.shape[-1] // 2
    wide = torch.float32 if x.device.type == "mps" else torch.float64  # angles grow, their rounding must not
    frequency = base ** (-torch.arange(half, device=x.device, dtype=wide) / half)
    angle = time[..., None].to(wide) * frequency
    dtype = signal_dtype(x.dtype)
    cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat((first * cos - second * sin, first * sin + second * cos), -1).to(x.dtype)


def _cleared(
    keys: Heads, values: Heads, visible: Bool[Tensor, "B 1 L T"]
) -> tuple[Heads, Heads, Bool[Tensor, "B L 1"]]:
    """Keys and values of finite numbers only, since a weight of zero times NaN is NaN; and which samples see others."""
    sound = (keys.isfinite() & values.isfinite()).all(-1).all(1)
    keys, values = (torch.where(sound[:, None, :, None], x, 0) for x in (keys, values))
    return keys, values, (visible & ~sound[:, None, None])[:, 0].any(-1, keepdim=True)


def _itself(valid: Bool[Tensor, "B L 1"]) -> Bool[Tensor, "L L"]:
    """What even padding sees, so that its weights are those of something."""
    return torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)


def _check_options(channels: int, heads: int, positions: object, rotary_base: float) -> None:
    check_at_least_one(channels=channels, heads=heads)
    if channels % heads:
        raise ValueError(f"heads must divide channels={channels}, got heads={heads}")
    check_choice("positions", positions, (*get_args(Positions), None))
    if positions == "rotary" and channels // heads % 2:
        raise ValueError(
            f"rotary positions turn pairs of channels: channels / heads must be even, got {channels} / {heads}. "
            f"Take fewer heads, or positions=None."
        )
    if not rotary_base > 1:
        raise ValueError(f"rotary_base must be greater than 1, got {rotary_base}")
