"""The residual block of the paper's experiments: a mixer along time, then a map across channels."""

from __future__ import annotations

from copy import deepcopy
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from transferfn.nn.mixer import (
    SequenceMixer,
    check_boundaries,
    check_sample,
    check_signal,
    step_factors,
    valid_samples,
)
from transferfn.nn.norm import NormKind, make_norm
from transferfn.typing import State


@runtime_checkable
class Realizable(Protocol):
    """A mixer that has a faster, immutable twin for decoding."""

    def realize(self) -> SequenceMixer:
        """Return the twin."""
        ...


class Block(SequenceMixer):
    r"""[norm] -> mixer -> GELU -> dropout -> Linear(D -> 2D), GLU -> dropout -> + input -> [norm].

    With `mlp` there follows [norm] -> Linear -> GELU -> Linear -> dropout -> + its input -> [norm], as in language
    models.

    Everything but the mixer acts on single samples (batch norm, too, in eval mode), so the state of the block is the
    state of its mixer. With every option off the block is its mixer.

    Args:
        channels: Number of channels D.
        mixer: What mixes along time, (B, L, D) to (B, L, D).
        norm: "batch" (statistics over valid samples only), "layer", or None.
        prenorm: Whether the norm comes first; else it comes after the residual connection.
        gelu: Whether the mixer's output goes through a GELU.
        glu: Whether channels are mixed by a gated linear unit.
        mlp: Width of a further map of each sample after the residual connection; None means there is none.
        residual: Whether the input is added to the output.
        dropout: Probability of dropping an output of the block before the residual connection.
        mixer_dropout: Probability of dropping an output of the mixer, after the GELU.

    Raises:
        TypeError: if `mixer` is not a `SequenceMixer`.
        ValueError: if `norm` is unknown, or `mlp` is no width.

    Source:
        Parnichkun et al. 2024, arXiv:2405.06147, experiments; the block is that of S4.

    Example:
        >>> from transferfn.nn import RTF
        >>> block = Block(4, RTF(4, 2, horizon=16), norm="layer")
        >>> u = torch.randn(2, 10, 4)
        >>> torch.allclose(block.extend(u)[0], block(u), atol=1e-5)
        True
    """

    def __init__(
        self,
        channels: int,
        mixer: SequenceMixer,
        *,
        norm: NormKind | None = "batch",
        prenorm: bool = True,
        gelu: bool = True,
        glu: bool = True,
        mlp: int | None = None,
        residual: bool = True,
        dropout: float = 0.0,
        mixer_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not isinstance(mixer, SequenceMixer):
            raise TypeError(f"mixer must be a SequenceMixer, such as RTF(...), got {type(mixer).__name__}.")
        self.channels = channels
        self.prenorm = prenorm
        self.gelu = gelu
        self.residual = residual
        self.is_causal = mixer.is_causal
        self.norm = make_norm(norm, channels)
        self.mixer = mixer
        self.mixer_dropout = nn.Dropout(mixer_dropout)
        self.output = nn.Linear(channels, 2 * channels) if glu else None
        self.dropout = nn.Dropout(dropout)
        if mlp is not None and mlp < 1:
            raise ValueError(f"mlp is the width of a map, at least 1, or None for no such map; got {mlp}")
        self.mlp = None if mlp is None else nn.Sequential(nn.Linear(channels, mlp), nn.GELU(), nn.Linear(mlp, channels))
        self.mlp_norm = None if mlp is None else make_norm(norm, channels)

    def forward(
        self, u: Tensor, *, lengths: Tensor | None = None, resets: Tensor | None = None, dt: Tensor | None = None
    ) -> Tensor:
        """Map a whole sequence, starting from rest.

        Args:
            u: Input, (B, L, D).
            lengths: Number of valid samples of each row, (B,), integers; None means all.
            resets: True where the state is cleared before the sample, (B, L); None means nowhere.
            dt: Factors on the step size of each sample, (B, L), zero or positive, for signals sampled irregularly, as
                S5 takes them; None means 1.

        Returns:
            Output, (B, L, D), in the dtype of `u`; zero past `lengths`.

        Raises:
            TypeError: if the mixer takes no `dt`.
        """
        u, valid = self._enter(u, lengths, resets)
        y = self.mixer(self._before(u, valid), lengths=lengths, resets=resets, **step_factors(self.mixer, dt))
        return self._after(u, y, valid)

    def extend(
        self,
        u: Tensor,
        state: State = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        dt: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Map the next chunk of a sequence and return the mixer's state after it.

        Args:
            u: Next samples, (B, L, D); L may be zero.
            state: State before the chunk; None means rest.
            lengths: Number of valid samples of each row, (B,), integers; None means all.
            resets: True where the state is cleared before the sample, (B, L); None means nowhere.
            dt: Factors on the step size of each sample, (B, L), zero or positive, for signals sampled irregularly, as
                S5 takes them; None means 1.

        Returns:
            Output, (B, L, D), and the state after each row's last valid sample.

        Raises:
            NotCausalError: if the mixer looks ahead.
            TypeError: if it takes no `dt`.
        """
        self._require_causal("extend")
        u, valid = self._enter(u, lengths, resets)
        factors = step_factors(self.mixer, dt)
        y, state = self.mixer.extend(self._before(u, valid), state, lengths=lengths, resets=resets, **factors)
        return self._after(u, y, valid), state

    def step(self, u_t: Tensor, state: State, *, dt: Tensor | None = None) -> tuple[Tensor, State]:
        """Map one sample.

        Args:
            u_t: Sample, (B, D).
            state: State before the sample.
            dt: Factors on the step size, (B,), as for `forward`.

        Returns:
            Output sample, (B, D), and the state after it.

        Raises:
            NotCausalError: if the mixer looks ahead.
            TypeError: if it takes no `dt`.
        """
        self._require_causal("step")
        check_sample(u_t, self.channels)
        y_t, state = self.mixer.step(self._before(u_t, None), state, **step_factors(self.mixer, dt))
        return self._after(u_t, y_t, None), state

    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """Return the mixer's state at rest.

        Args:
            batch_size: Number of rows B.
            device: Where the state lives; None means where the parameters are.
            dtype: Type of the signals to come; None means that of the parameters.

        Raises:
            NotCausalError: if the mixer looks ahead.
        """
        self._require_causal("init_state")
        return self.mixer.init_state(batch_size, device=device, dtype=dtype)

    @override
    def init_stream(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        self._require_causal("init_stream")
        return self.mixer.init_stream(batch_size, device=device, dtype=dtype)

    def realize(self) -> Block:
        """Return a copy for decoding: in eval mode, without gradients, its mixer realized if it can be."""
        block = deepcopy(self).eval().requires_grad_(False)
        if isinstance(block.mixer, Realizable):
            block.mixer = block.mixer.realize().eval().requires_grad_(False)
        return block

    def extra_repr(self) -> str:
        """Return what `repr` shows besides the submodules."""
        return f"{self.channels}, prenorm={self.prenorm}, gelu={self.gelu}, residual={self.residual}"

    def _enter(self, u: Tensor, lengths: Tensor | None, resets: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Check the input, and clear padding: a NaN there would reach gradients through zero times NaN."""
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        if lengths is None:
            return u, None
        valid = valid_samples(lengths, u.shape[1])
        return torch.where(valid[..., None], u, 0), valid

    def _before(self, u: Tensor, valid: Tensor | None) -> Tensor:
        return self.norm(u, valid) if self.norm is not None and self.prenorm else u

    def _after(self, u: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
        if self.gelu:
            y = F.gelu(y)
        y = self.mixer_dropout(y)
        if self.output is not None:
            y = F.glu(self.output(y), dim=-1)
        y = self._join(u, y, self.norm, valid)
        if self.mlp is not None:
            before = self.mlp_norm(y, valid) if self.mlp_norm is not None and self.prenorm else y
            y = self._join(y, self.mlp(before), self.mlp_norm, valid)
        return y if valid is None else torch.where(valid[..., None], y, 0)

    def _join(self, u: Tensor, y: Tensor, norm: nn.Module | None, valid: Tensor | None) -> Tensor:
        y = self.dropout(y)
        if self.residual:
            y = u + y
        y = y.to(u.dtype)  # autocast narrows linear maps
        return norm(y, valid) if norm is not None and not self.prenorm else y
