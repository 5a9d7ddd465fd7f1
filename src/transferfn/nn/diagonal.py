"""What layers with a diagonal state matrix have in common: x_t = a * x_(t-1) + B u_t, y_t = c Re(C x_t) + D u_t."""

from __future__ import annotations

from abc import abstractmethod
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from typing_extensions import override

from transferfn.core.checks import check_length
from transferfn.core.converted import Converted
from transferfn.core.from_poles import LARGEST_ERROR, from_poles
from transferfn.core.system import TransferFunction
from transferfn.nn.guard import require_finite, warn_of_growth, warn_of_overflow
from transferfn.nn.mixer import (
    SequenceMixer,
    check_boundaries,
    check_sample,
    check_signal,
    check_state,
    valid_samples,
    values_are_hidden,
)
from transferfn.nn.options import check_dtype
from transferfn.nn.precision import WideCoefficients
from transferfn.ops.diagonal import diagonal_scan
from transferfn.ops.filter import signal_dtype, without_autocast
from transferfn.typing import DiagonalState, Lengths, Resets, Sample, Signal, State


class DiagonalSystem(NamedTuple):
    """A discrete system of P complex states, all of them seeing all H channels.

    x_t = a * x_(t-1) + gain_t * (B u_t), y_t = Re(C x_t) + D * u_t

    Attributes:
        a: Multipliers of the states, complex: (P), or one a sample, (B, L, P).
        gain: Factors of the input of each state, complex (B, L, P), or None for 1.
        B: Input matrix, complex, (P, H).
        C: Output matrix, complex, (H, P), or (2, H, P) with a second direction; a factor 2 for conjugates included.
        D: Feedthrough, real, (H).
    """

    a: Tensor
    gain: Tensor | None
    B: Tensor
    C: Tensor
    D: Tensor


class DiagonalMixer(WideCoefficients, SequenceMixer):
    """The verbs of layers with a diagonal state matrix. Subclasses say which, and how it is learned.

    Args:
        channels: Number of channels H.
        states: Number of complex states P.
        bidirectional: Whether a second recurrence runs from the end to the beginning.
        shared_sample: Whether that one contains the current sample, too, or begins with the next one.
    """

    def __init__(self, channels: int, states: int, *, bidirectional: bool = False, shared_sample: bool = True) -> None:
        super().__init__()
        if not (shared_sample or bidirectional):
            raise ValueError("shared_sample=False is about the second direction, and needs bidirectional=True")
        self.shared_sample = shared_sample
        self.channels, self.states = channels, states
        self.bidirectional, self.is_causal = bidirectional, not bidirectional

    @abstractmethod
    def state_space(self) -> DiagonalSystem:
        """The recurrence that the layer runs, in complex128 where the device has it; differentiable."""

    def poles(self) -> Tensor:
        """Multipliers a of the states, complex, (P): stable where their magnitude is below 1."""
        return self.state_space().a

    @override
    def forward(self, u: Signal, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Signal:
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        return self._whole(u, self.state_space(), lengths, resets)

    @override
    def extend(
        self,
        u: Signal,
        state: DiagonalState | None = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Signal, DiagonalState]:
        self._require_causal("extend")
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        return self._extend(u, self.state_space(), state, lengths, resets)

    def step(self, u_t: Sample, state: State) -> tuple[Sample, DiagonalState]:
        """Map one sample. Coefficients are computed at every call; :meth:`realize` does it once.

        Args:
            u_t: Sample, (B, H).
            state: State before the sample, (B, P, 2).

        Returns:
            Output sample, (B, H), and the state after it.

        Raises:
            NotCausalError: if the layer is bidirectional.
            StateOverflowError: if the state is no longer finite.
        """
        self._require_causal("step")
        check_sample(u_t, self.channels)
        return self._step(u_t, self.state_space(), state)

    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> DiagonalState:
        """Return the state at rest: real and imaginary parts, (B, P, 2).

        Args:
            batch_size: Number of rows B.
            device: Where the state lives; None means where the parameters are.
            dtype: Type of the signals to come; None means that of the parameters. States are kept in float32 or wider.

        Raises:
            NotCausalError: if the layer is bidirectional.
        """
        self._require_causal("init_state")
        like = self._like()
        self._warn_if_unstable()
        return torch.zeros(
            batch_size, self.states, 2, device=device or like.device, dtype=signal_dtype(dtype or like.dtype)
        )

    def realize(self, dtype: torch.dtype | None = None) -> DiagonalRealization:
        """An immutable recurrence with the coefficients computed now and once, for steps of constant size.

        Args:
            dtype: Type the coefficients are rounded to, float32 or wider; None means that of the parameters.

        Raises:
            NotCausalError: if the layer is bidirectional.
        """
        self._require_causal("realize")
        dtype = dtype or self._like().dtype
        check_dtype(dtype)
        with torch.no_grad():
            return DiagonalRealization(self.state_space(), signal_dtype(dtype))

    @torch.no_grad()
    def to_transfer_function(self, length: int, *, tolerance: float = LARGEST_ERROR) -> Converted[TransferFunction]:
        """The same filter by the coefficients of its transfer function, where these hold it, of a layer of one channel.

        Args:
            length: Number of samples over which the impulse responses are compared, more than the number of states.
            tolerance: Largest error that is not refused, relative to the largest sample.

        Returns:
            The system, float64, and the error of its response, (1).

        Raises:
            ArithmeticError: if coefficients in float64 do not hold the filter.
            NotCausalError: if the layer is bidirectional.
            ValueError: if there are several channels, whose states are the same.
        """
        self._require_causal("to_transfer_function")
        if self.channels != 1:
            raise ValueError(
                f"a layer of {self.channels} channels that share their states is {self.channels}^2 filters, of each "
                f"input to each output: only that of one channel is a bank of transfer functions"
            )
        check_length(length)
        impulse = torch.zeros(1, length, 1, dtype=torch.float64, device=self._like().device)
        impulse[0, 0] = 1
        system = self.state_space()
        y, _ = self._run(impulse, system, None, None, None)
        poles = torch.cat((system.a, system.a.conj()))  # of the real part of what the states give
        return from_poles(poles[None], y[..., 0], tolerance=tolerance)

    def _run(
        self,
        u: Signal,
        system: DiagonalSystem,
        state: DiagonalState | None,
        lengths: Lengths | None,
        resets: Resets | None,
    ) -> tuple[Signal, DiagonalState]:
        """Filter a signal from a state."""
        given, dtype = u.dtype, signal_dtype(u.dtype)
        with without_autocast(u):
            u = u.to(dtype)
            if lengths is not None:
                u = torch.where(valid_samples(lengths, u.shape[1])[..., None], u, 0)
            v = self._into(u, system)
            before = None if state is None else torch.view_as_complex(state.to(dtype).contiguous())
            # States are as large as the signal, or larger: none stays longer than it must.
            C, *back = system.C.unbind() if self.bidirectional else [system.C]
            y = None
            if back:
                z, _ = diagonal_scan(v, system.a, lengths=lengths, resets=resets, reverse=True)
                if not self.shared_sample:
                    z = _next(z, resets)
                y = _out_of(z, back[0])
                del z
            x, after = diagonal_scan(v, system.a, before, lengths=lengths, resets=resets)
            del v
            y = _out_of(x, C) if y is None else y + _out_of(x, C)
            del x
            y = torch.addcmul(y, system.D.to(dtype), u)
        return y.to(given), torch.view_as_real(after)

    def _whole(self, u: Signal, system: DiagonalSystem, lengths: Lengths | None, resets: Resets | None) -> Signal:
        """Filter a whole signal from rest, and say so if it has outgrown all numbers."""
        y = self._run(u, system, None, lengths, resets)[0]
        warn_of_overflow(y, u, lengths, self._largest_pole, self._advice(), stacklevel=4)
        return y

    def _extend(
        self,
        u: Signal,
        system: DiagonalSystem,
        state: DiagonalState | None,
        lengths: Lengths | None,
        resets: Resets | None,
    ) -> tuple[Signal, DiagonalState]:
        if state is None:
            self._warn_if_unstable(stacklevel=4)
        else:
            check_state(state, (u.shape[0], self.states, 2), "batch, states, real and imaginary part")
        y, after = self._run(u, system, state, lengths, resets)
        require_finite(after, u, self._largest_pole, self._advice())
        return y, after

    def _step(self, u_t: Sample, system: DiagonalSystem, state: State) -> tuple[Sample, DiagonalState]:
        """Advance by one sample; ``system`` has no axis of time."""
        check_state(state, (u_t.shape[0], self.states, 2), "batch, states, real and imaginary part")
        given, dtype = u_t.dtype, signal_dtype(u_t.dtype)
        with without_autocast(u_t):
            u = u_t.to(dtype)
            v = self._into(u, system)
            x = torch.addcmul(v, system.a.to(v.dtype), torch.view_as_complex(state.to(dtype).contiguous()))
            y = torch.addcmul(_out_of(x, system.C), system.D.to(dtype), u)
        after = torch.view_as_real(x)
        require_finite(after, u_t, self._largest_pole, self._advice())
        return y.to(given), after

    @staticmethod
    def _into(u: Tensor, system: DiagonalSystem) -> Tensor:
        """What enters the states: the real matrix product of pairs of a real and an imaginary part."""
        weight = torch.view_as_real(system.B.mT.contiguous()).flatten(-2).to(u.dtype)
        v = torch.view_as_complex((u @ weight).unflatten(-1, (-1, 2)))
        return v if system.gain is None else v * system.gain.to(v.dtype)

    def _like(self) -> Tensor:
        """A tensor of the layer's device and type."""
        return next(chain(self.parameters(), self.buffers()))

    @torch.no_grad()
    def _largest_pole(self) -> float:
        return float(self.poles().abs().max())

    def _warn_if_unstable(self, *, stacklevel: int = 3) -> None:
        if values_are_hidden() or self._like().is_meta:
            return
        warn_of_growth(self._largest_pole(), self._advice(), stacklevel=stacklevel + 1)

    def _advice(self) -> str:
        return "A stable layer needs poles inside the unit circle; to stream another one, reset more often."


class DiagonalRealization(DiagonalMixer):
    """The recurrence of a layer with a diagonal state matrix, as a module without parameters.

    Args:
        system: Coefficients, the same at all times, of one direction.
        dtype: Type they are rounded to.

    Example:
        >>> from transferfn.nn import LRU
        >>> layer = LRU(4, 8)
        >>> u = torch.randn(1, 10, 4)
        >>> torch.allclose(layer.realize()(u), layer(u), atol=1e-5)
        True
    """

    multipliers: Tensor
    input_matrix: Tensor
    output_matrix: Tensor
    feedthrough: Tensor

    def __init__(self, system: DiagonalSystem, dtype: torch.dtype) -> None:
        super().__init__(len(system.D), len(system.a))
        values = {"multipliers": system.a, "input_matrix": system.B, "output_matrix": system.C}
        for name, value in values.items():
            pairs = torch.view_as_real(value.detach().resolve_conj())
            self.register_buffer(name, pairs.to(dtype, copy=True))
        self.register_buffer("feedthrough", system.D.detach().to(dtype, copy=True))

    def state_space(self) -> DiagonalSystem:
        """The recurrence, in the type it was rounded to."""
        a, B, C = (torch.view_as_complex(x) for x in (self.multipliers, self.input_matrix, self.output_matrix))
        return DiagonalSystem(a, None, B, C, self.feedthrough)

    def extra_repr(self) -> str:
        """Sizes, for ``print``."""
        return f"channels={self.channels}, states={self.states}, dtype={self.feedthrough.dtype}"


def _next(x: Tensor, resets: Resets | None) -> Tensor:
    """What the next sample of the same sequence has, (B, L, P); nothing at the last."""
    ahead = pad(x[:, 1:], (0, 0, 0, 1))
    return ahead if resets is None else torch.where(pad(resets[:, 1:], (0, 1))[..., None], 0, ahead)


def _out_of(x: Tensor, C: Tensor) -> Tensor:
    """Re(C x) as a real matrix product of pairs."""
    pairs = torch.view_as_real(x)
    weight = torch.view_as_real(C.mT.conj().resolve_conj().contiguous())  # (P, H, 2): Re C, -Im C
    return pairs.flatten(-2) @ weight.transpose(1, 2).flatten(0, 1).to(pairs.dtype)


def draw_normal(*shape: int, std: float, truncated: bool, generator: torch.Generator | None) -> Tensor:
    """Draw from a normal distribution on the CPU, float64.

    Args:
        shape: Shape.
        std: Standard deviation of what is drawn, truncated or not.
        truncated: Whether to cut at two standard deviations of the distribution before it was cut.
        generator: Source of randomness; None means PyTorch's default.
    """
    x = torch.empty(shape, dtype=torch.float64, device="cpu")
    if not truncated:
        return x.normal_(0, std, generator=generator)
    uncut = std / 0.87962566103423978  # the standard deviation of a unit normal distribution cut at 2
    return nn.init.trunc_normal_(x, 0.0, uncut, -2 * uncut, 2 * uncut, generator=generator)
