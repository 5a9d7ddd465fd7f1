"""The S4 layer: diagonal plus low rank state-space systems, one a channel."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import get_args

import torch
from torch import Tensor, nn

from transferfn.core import hippo
from transferfn.core.checks import check_choice, check_length, check_whole
from transferfn.core.dense import DenseSystem
from transferfn.core.dplr import DPLR, DiscreteDPLR, output_modes, output_row, truncate, untruncate
from transferfn.core.dplr_blocks import ParallelDPLR
from transferfn.nn.horizon import RelativeToHorizon
from transferfn.nn.mixer import check_tensor
from transferfn.nn.options import parameter_dtype
from transferfn.nn.precision import as_complex, widest
from transferfn.nn.state_space_layer import StateSpaceLayer
from transferfn.nn.state_space_options import (
    check_sizes,
    check_steps,
    log_uniform,
)
from transferfn.nn.state_space_realization import DPLRRealization
from transferfn.ops.filter import without_autocast
from transferfn.ops.generating import generated_kernel
from transferfn.ops.state_space import Recurrence, StateSpace
from transferfn.typing import Kernel, Lengths, Resets, Signal

FEW = 16  # of how many samples of the horizon one must be wanted for the generating function, which computes all
LEAST_DECAY = 1e-4  # of the diagonal part, whose real part is exp of a parameter; that of most measures is zero


class S4(RelativeToHorizon, StateSpaceLayer[DPLRRealization]):
    r"""One diagonal plus low rank state-space system a channel, from HiPPO, discretized bilinearly.

    dx/dt = A x + B u,  y = C x + D u,  A = diag(Lambda) - sum_r P_r P_r^*,  Lambda = -exp(log_A_real) + i A_imag

    with dt = exp(log_dt), one of each pair of conjugate modes stored. ``forward`` trains in parallel, the impulse
    response from its generating function at the roots of unity, and one FFT. ``extend`` and ``step`` run the
    recurrence. States are pairs of real and imaginary parts, (B, D, N/2, 2).

    What is learned is the truncated output vector C~ = C (I - A_bar^horizon), always relative to the same horizon;
    :meth:`output_vector` gives the true one. Sequences longer than the horizon are filtered by the true system, and
    :meth:`with_horizon` re-expresses the same systems. All systems are stable: A + A^* is negative definite. A layer
    computes its matrices at every call of ``extend`` and ``step``; :meth:`realize` does it once.

    Differences from the official code: its parameter C is the true vector until the first forward pass and the
    truncated one from then on, relative to a length that doubles as needed; it stores -Im Lambda; and a step is that of
    the diagonal plus low rank recurrence, never of a diagonalized one, which is wrong by 1e-2 at N = 64. A saved
    official kernel is loaded with its ``l_kernel`` as the horizon, its C as ``truncated_C`` and -A_imag as ``A_imag``.
    The output is this sum alone, without activation, dropout and projection.

    Args:
        channels: Number of channels D.
        state_size: Number N of real states of a channel, even; N/2 modes are stored.
        horizon: Number of samples the truncated output vector refers to. Sequences may be shorter or longer; those
            of about as many samples cost least.
        measure: ``"legs"``, ``"legt"``, ``"lagt"`` or ``"fourier"``, see :func:`transferfn.core.hippo.hippo`, or a
            tuple of several, which the copies take in turn, as on the Long Range Arena. It also gives the rank: 2 with
            ``"legt"``, otherwise 1. The real part of Lambda, zero for all but ``"legs"``, starts
            at -1e-4 there.
        dt_min: Least initial step size; steps are log-uniform between the two.
        dt_max: Largest initial step size.
        groups: Number of copies of Lambda, P and B, a divisor of ``channels``; channel d uses copy d mod groups, as the
            official code's ``n_ssm`` does. None means one a channel.
        bidirectional: Adds a second C, whose response goes to the future; the current sample is left to the first one,
            as in the official code. Such a layer has ``forward`` only.
        b_clip: Bound on the initial |Im B|, which the official code has; None means the exact HiPPO system.
        device: Where the parameters live.
        dtype: Their type; None means PyTorch's default. Types narrower than float32 become float32.

    Raises:
        TypeError: if a size is no whole number.
        ValueError: if sizes or options do not fit each other.

    Source:
        Gu et al. 2022, arXiv:2111.00396.

    Example:
        >>> layer = S4(channels=8, state_size=16, horizon=100)
        >>> u = torch.randn(2, 120, 8)
        >>> y, state = layer.extend(u[:, :119])
        >>> last, state = layer.step(u[:, 119], state)
        >>> torch.allclose(torch.cat((y, last[:, None]), 1), layer(u), atol=1e-4)
        True
    """

    relative = "truncated_C"

    def __init__(
        self,
        channels: int,
        state_size: int,
        *,
        horizon: int,
        measure: hippo.Measure | tuple[hippo.Measure, ...] = "legs",
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
        groups: int | None = None,
        bidirectional: bool = False,
        b_clip: float | None = hippo.OFFICIAL_CLIP,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        groups = channels if groups is None else groups
        measures = measure if isinstance(measure, tuple) else (measure,)
        for one in measures:
            check_choice("measure", one, get_args(hippo.Measure), ", or a tuple of them")
        check_sizes(channels, state_size, groups, even=True)
        check_horizon(horizon)
        check_steps(dt_min, dt_max)
        self.channels, self.state_size, self.horizon, self.groups = channels, state_size, horizon, groups
        if not measures or groups % len(measures):
            raise ValueError(
                f"the number of copies must be a multiple of the number of measures, got groups={groups} for {measure}"
            )
        self.measure: hippo.Measure | tuple[hippo.Measure, ...] = measure
        self._measures: tuple[hippo.Measure, ...] = measures
        self.rank = 2 if "legt" in measures else 1
        self.dt_min, self.dt_max, self.b_clip = dt_min, dt_max, b_clip
        self.bidirectional, self.is_causal = bidirectional, not bidirectional

        dtype = parameter_dtype(dtype)
        directions = (2,) if bidirectional else ()
        modes = state_size // 2

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, device=device, dtype=dtype))

        self.log_dt = parameter(channels)
        self.log_A_real = parameter(groups, modes)
        self.A_imag = parameter(groups, modes)
        self.P = parameter(groups, self.rank, modes, 2)
        self.B = parameter(groups, modes, 2)
        self.truncated_C = parameter(*directions, channels, modes, 2)
        self.D = parameter(channels)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the parameters anew, as the layer's ``measure`` says; the true C and D are normal, of variance 1 each.

        Args:
            generator: Source of randomness, on the CPU; None means PyTorch's default.
        """
        systems = [hippo.nplr(measure, self.state_size, b_clip=self.b_clip) for measure in self._measures]
        if self.D.is_meta:
            return
        turns = self.groups // len(systems)

        def copies(*parts: Tensor) -> Tensor:
            return torch.stack(parts).repeat(turns, *[1] * parts[0].dim())

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=generator, device="cpu")

        self.log_dt.copy_(log_uniform(self.channels, self.dt_min, self.dt_max, generator))
        Lambda = copies(*(system.Lambda for system in systems))
        self.log_A_real.copy_((-Lambda.real).clamp_min(LEAST_DECAY).log())
        self.A_imag.copy_(Lambda.imag)
        P = [nn.functional.pad(system.P, (0, 0, 0, self.rank - len(system.P))) for system in systems]
        self.P.copy_(torch.view_as_real(copies(*P)))
        self.B.copy_(torch.view_as_real(copies(*(system.B for system in systems))))
        self.assign_output_vector(torch.view_as_complex(normal(*self.truncated_C.shape) * 0.5**0.5))
        self.D.copy_(normal(self.channels))

    def continuous_system(self) -> DPLR:
        """The systems in continuous time with one copy of the shared matrices a channel, float64; differentiable."""
        copies = self.channels // self.groups
        Lambda = torch.complex(-widest(self.log_A_real).exp(), widest(self.A_imag)).repeat(copies, 1)
        P, B = as_complex(self.P).repeat(copies, 1, 1), as_complex(self.B).repeat(copies, 1)
        return DPLR(Lambda, P, B, widest(self.log_dt).exp())

    def recurrence(self) -> DiscreteDPLR:
        """The systems in discrete time with their true output vectors, whose step costs O(N); differentiable."""
        return self.continuous_system().bilinear(self.output_vector(), self._feedthrough())

    def output_vector(self) -> Tensor:
        """The true C, valid at every length, complex, (D, N/2) or (2, D, N/2); differentiable."""
        row = output_row(as_complex(self.truncated_C))
        return output_modes(untruncate(row, self._matrix(), self.horizon))

    @torch.no_grad()
    def assign_output_vector(self, C: Tensor) -> None:
        """Set the truncated output vector such that the true one is C, for the systems as they are now.

        Args:
            C: True output vectors, one of each pair of conjugate modes, complex, (D, N/2) or (2, D, N/2).

        Raises:
            TypeError: if it is no tensor.
            ValueError: if it is not complex or of another shape.
        """
        expected = self.truncated_C.shape[:-1]
        check_tensor("C", C)
        if C.shape != expected or not C.is_complex():
            raise ValueError(
                f"expected complex output vectors of shape {tuple(expected)}, got shape {tuple(C.shape)} of {C.dtype}. "
                f"torch.view_as_complex makes them of pairs of real and imaginary parts."
            )
        matrix = self._matrix()
        row = output_row(C.to(device=matrix.device, dtype=torch.promote_types(matrix.dtype, torch.complex64)))
        self.truncated_C.copy_(torch.view_as_real(output_modes(truncate(row, matrix, self.horizon))))

    def state_space(self) -> DenseSystem:
        """The discrete systems with full real matrices, in float64 where the device has it; differentiable.

        They act on real and imaginary parts side by side. In a bidirectional layer C and D have a leading axis of size
        2, the causal ones first; the second D is zero.
        """
        return self.recurrence().dense()

    def kernel(self, length: int, dtype: torch.dtype = torch.float64) -> Kernel:
        """Impulse responses, the feedthrough included; differentiable.

        Up to the horizon from the truncated generating function, beyond, and of much shorter ones, from powers of the
        state matrices.

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
        if length > self.horizon or length * FEW < self.horizon:
            return super().kernel(length, dtype)
        with without_autocast(self.D):
            k = generated_kernel(self.continuous_system(), as_complex(self.truncated_C), self.horizon)[..., :length]
            return (k + nn.functional.pad(self._feedthrough()[..., None], (0, length - 1))).to(dtype)

    def with_horizon(self, horizon: int) -> S4:
        """A copy that computes the same systems, its output vectors expressed relative to another horizon.

        Args:
            horizon: New horizon in samples.

        Raises:
            ValueError: if it is not positive.
        """
        check_horizon(horizon)
        layer = copy.deepcopy(self)
        layer.horizon = horizon
        with torch.no_grad():
            layer.assign_output_vector(self.output_vector())
        return layer

    def filter_parameters(self) -> Iterable[nn.Parameter]:
        """A, B and the step sizes, but not C and D."""
        return self.log_dt, self.log_A_real, self.A_imag, self.P, self.B

    def extra_repr(self) -> str:
        """Sizes and options, for ``print``."""
        both = ", bidirectional=True" if self.bidirectional else ""
        return (
            f"{self.channels}, {self.state_size}, horizon={self.horizon}, measure={self.measure!r}, "
            f"groups={self.groups}{both}"
        )

    def _matrix(self) -> Tensor:
        """A_bar in real numbers, (D, N, N)."""
        system = self.continuous_system()
        return system.bilinear(system.B, system.dt).matrix()

    def _feedthrough(self) -> Tensor:
        D = widest(self.D)
        return torch.stack((D, torch.zeros_like(D))) if self.bidirectional else D

    def _recurrence(self) -> Recurrence:
        return self.recurrence()

    def _realized(self, dtype: torch.dtype) -> DPLRRealization:
        return DPLRRealization(self.recurrence(), dtype=dtype)

    def _parallel(self) -> StateSpace:
        return _Parallel(self)

    def _coefficients(self) -> Tensor:
        return self.D

    def _state_shape(self) -> tuple[int, ...]:
        return (self.channels, self.state_size // 2, 2)


class _Parallel:
    """What filters the chunks of a layer: true output vectors are dear, and made only where they are wanted."""

    def __init__(self, layer: S4) -> None:
        self.layer = layer
        self.channels, self.state_shape = layer.channels, layer._state_shape()
        self.kernel = layer.kernel
        system = layer.continuous_system()
        self.states = ParallelDPLR(system.bilinear(system.B, system.dt))  # of which no output is asked for
        self.reached, self.advanced = self.states.reached, self.states.advanced

    def response(self, state: Tensor, length: int) -> Signal:
        return ParallelDPLR(self.layer.recurrence()).response(state, length)

    def scan(self, u: Signal, state: Tensor, ends: Lengths | None, resets: Resets) -> tuple[Signal, Tensor]:
        return self.layer.state_space().scan(u, state, ends, resets)

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer.recurrence().step(u, state)


def check_horizon(horizon: int) -> None:
    """Raise unless a horizon is a number of samples.

    Args:
        horizon: What the caller passed.
    """
    check_whole("horizon", horizon)
    if horizon < 1:
        raise ValueError(f"the horizon is a number of samples, at least 1; got {horizon}")
