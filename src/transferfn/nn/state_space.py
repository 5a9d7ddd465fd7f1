"""The verbs of layers that are banks of state-space systems."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from transferfn.core.checks import check_length
from transferfn.core.converted import Converted
from transferfn.core.dense import DenseSystem
from transferfn.core.from_poles import LARGEST_ERROR, from_poles
from transferfn.core.modal import ModalSystem
from transferfn.core.system import TransferFunction
from transferfn.nn.guard import require_finite, warn_of_overflow
from transferfn.nn.mixer import (
    SequenceMixer,
    check_boundaries,
    check_sample,
    check_signal,
    check_state,
    values_are_hidden,
)
from transferfn.nn.precision import WideCoefficients
from transferfn.ops.filter import signal_dtype, without_autocast
from transferfn.ops.state_space import (
    Recurrence,
    StateSpace,
    convolution_filter,
    scan_both_ways,
    state_space_filter,
    state_space_step,
)
from transferfn.typing import Kernel, Sample, Signal

AXES = "batch, channels, modes, real and imaginary part if complex"
ADVICE = "A stable system needs poles inside the unit circle; to stream another one, reset more often."


class StateSpaceMixer(WideCoefficients, SequenceMixer):
    """A bank of state-space systems, one a channel: what they share beside the form of their state matrices."""

    channels: int
    bidirectional: bool = False

    @abstractmethod
    def state_space(self) -> ModalSystem | DenseSystem:
        """The discrete systems, in float64 where the device has it; differentiable.

        Those of a bidirectional layer have C and D with a leading axis of size 2, the causal ones first.
        """

    @abstractmethod
    def _coefficients(self) -> Tensor:
        """Any of the tensors that hold coefficients: they tell device and type."""

    def _recurrence(self) -> Recurrence:
        """What steps through single samples."""
        return self.state_space()

    def _parallel(self) -> StateSpace:
        """What filters chunks."""
        return self.state_space()

    def _state_shape(self) -> tuple[int, ...]:
        """Shape of a row's state."""
        return self.state_space().state_shape

    def kernel(self, length: int, dtype: torch.dtype = torch.float64) -> Kernel:
        """Impulse responses, the feedthrough included; differentiable.

        Args:
            length: Number of samples L.
            dtype: Type of the result; coefficients are computed in float64 in any case.

        Returns:
            (D, L); of a bidirectional layer (2, D, L), where the second one responds to the next sample first.

        Raises:
            TypeError: if the length is no whole number.
            ValueError: if it is less than 1.
        """
        check_length(length)
        with without_autocast(self._coefficients()):
            return self.state_space().kernel(length, dtype)

    @torch.no_grad()
    def to_transfer_function(self, length: int, *, tolerance: float = LARGEST_ERROR) -> Converted[TransferFunction]:
        """The same filters by the coefficients of their transfer functions, where these hold them.

        Args:
            length: Number of samples over which the impulse responses are compared, more than the number of states.
            tolerance: Largest error that is not refused, relative to the largest sample of each channel.

        Returns:
            The system, float64, and the error of each channel's response, (D).

        Raises:
            ArithmeticError: if coefficients in float64 do not hold the filters.
            NotCausalError: if the layer is bidirectional.
        """
        self._require_causal("to_transfer_function")
        check_length(length)
        system = self.state_space()
        dt = system.dt if isinstance(system, ModalSystem) else None
        return from_poles(system.poles(), self.kernel(length), tolerance=tolerance, dt=dt)

    @override
    def forward(self, u: Signal, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Signal:
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        if not u.numel():
            return u
        if resets is not None and values_are_hidden():  # rows cannot be cut there
            return self._scan(u, lengths, resets)
        kernel = self.kernel(u.shape[1], signal_dtype(u.dtype))
        y = convolution_filter(u, kernel, lengths=lengths, resets=resets)
        warn_of_overflow(y, u, lengths, self._largest_pole, ADVICE)
        return y

    @override
    def extend(
        self,
        u: Signal,
        state: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Signal, Tensor]:
        self._require_causal("extend")
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        if state is None:
            self._warn_if_unstable()
        else:
            check_state(state, (u.shape[0], *self._state_shape()), AXES)
        with without_autocast(u):
            y, after = state_space_filter(u, self._parallel(), state, lengths=lengths, resets=resets)
        assert after is not None
        require_finite(after, u, self._largest_pole, ADVICE)
        return y, after

    def step(self, u_t: Sample, state: Tensor) -> tuple[Sample, Tensor]:
        """Map one sample. A layer computes its coefficients at every call; ``realize()`` does it once.

        Args:
            u_t: Sample, (B, D).
            state: State before the sample.

        Returns:
            Output sample, (B, D), and the state after it.

        Raises:
            NotCausalError: if the layer is bidirectional.
            StateOverflowError: if the state is no longer finite.
        """
        self._require_causal("step")
        check_sample(u_t, self.channels)
        check_state(state, (u_t.shape[0], *self._state_shape()), AXES)
        with without_autocast(u_t):
            y, after = state_space_step(u_t, self._recurrence(), state)
        require_finite(after, u_t, self._largest_pole, ADVICE)
        return y, after

    @override
    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        self._require_causal("init_state")
        self._warn_if_unstable()
        like = self._coefficients()
        return torch.zeros(
            batch_size, *self._state_shape(), device=device or like.device, dtype=signal_dtype(dtype or like.dtype)
        )

    def _scan(self, u: Signal, lengths: Tensor | None, resets: Tensor) -> Signal:
        with without_autocast(u):
            system: Any = self.state_space()
            if not self.bidirectional:
                return state_space_filter(u, system, lengths=lengths, resets=resets, return_state=False)[0]
            causal, anticausal = (
                type(system)(system.A, system.B, C, D) for C, D in zip(system.C, system.D, strict=True)
            )
            return scan_both_ways(u, causal, anticausal, lengths=lengths, resets=resets)

    @torch.no_grad()
    def _largest_pole(self) -> float:
        return float(self.state_space().poles().abs().max())

    def _warn_if_unstable(self, *, stacklevel: int = 3) -> None:
        """Nothing to say about layers: the real parts of their eigenvalues are negative whatever is learned."""
