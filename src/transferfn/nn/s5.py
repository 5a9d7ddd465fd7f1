"""The S5 layer: one state-space system with a diagonal state matrix that all channels drive and read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from transferfn.core.checks import check_at_least_one, check_choice
from transferfn.core.discretize import Discretization, discretize
from transferfn.core.hippo import hippo_n_blocks
from transferfn.nn.diagonal import (
    DiagonalMixer,
    DiagonalSystem,
    draw_normal,
)
from transferfn.nn.mixer import (
    check_boundaries,
    check_sample,
    check_signal,
    check_tensor,
    valid_samples,
    values_are_hidden,
)
from transferfn.nn.options import parameter_dtype
from transferfn.nn.precision import as_complex, widest
from transferfn.nn.state_space_options import check_steps, log_uniform
from transferfn.ops.filter import signal_dtype
from transferfn.typing import DiagonalState, Sample, Signal, State

OutputInit = Literal["truncated_normal", "lecun_normal", "complex_normal"]

LARGEST_REAL_PART = -1e-4  # of an eigenvalue where they are clipped


class S5(DiagonalMixer):
    r"""One system dx/dt = Lambda * x + B u, y = c Re(C x) + D * u, discretized, with P complex states for all channels.

    Every output sees every input. c = 2 if one of each pair of conjugate states is kept, otherwise 1, and then the
    imaginary part of C x is dropped.

    A bidirectional layer adds the same recurrence run from the end, read by a C of its own. As in the official code
    both directions contain the current sample: it counts twice, unlike in RTF and S4, unless ``shared_sample=False``.

    ``forward``, ``extend`` and ``step`` take step sizes that vary in time: ``dt`` multiplies those that are learned.

    Args:
        channels: Number of channels H.
        state_size: Size of the system as it is initialized. P is half of that with conjugate symmetry, otherwise all.
        blocks: Number of equal HiPPO-LegS blocks the initial state matrix is made of; must divide ``state_size``.
        discretization: ``"zoh"`` (zero-order hold) or ``"bilinear"``.
        conj_sym: Keep one of each pair of conjugate states. Blocks must then be of even size.
        output_init: How C is drawn. ``"truncated_normal"``: real and imaginary parts of variance 1 / state_size, then
            times the eigenvectors; ``"lecun_normal"``: the same with variance 1 / (state_size * channels);
            ``"complex_normal"``: of variance 1/2 each, in the basis of the eigenvectors at once.
        dt_min: Smallest initial step size.
        dt_max: Largest initial step size. Their logarithms are drawn uniformly, one a state.
        clip_eigenvalues: Keep the real parts of the eigenvalues at -1e-4 or less, so that the layer is stable wherever
            training leads.
        bidirectional: Adds a second direction. Such a layer has ``forward`` only.
        shared_sample: Whether the second direction contains the current sample, too, as in the official code, or begins
            with the next one.
        step_scale: Factor on all step sizes, e.g. 2 for signals at half the rate of those the layer was trained on.
        device: Where the parameters live.
        dtype: Their type; None means PyTorch's default. Types narrower than float32 become float32.

    Raises:
        TypeError: if a size is no whole number.
        ValueError: if the sizes or options do not fit each other.

    Source:
        Smith et al. 2023, arXiv:2208.04933; the official code, lindermanlab/S5 3c18fdb.

    Example:
        >>> layer = S5(channels=4, state_size=16, blocks=2)
        >>> u = torch.randn(2, 50, 4)
        >>> y, state = layer.extend(u[:, :30])
        >>> more, state = layer.extend(u[:, 30:], state)
        >>> torch.allclose(torch.cat((y, more), 1), layer(u), atol=1e-5)
        True
    """

    takes_dt = True

    def __init__(
        self,
        channels: int,
        state_size: int,
        *,
        blocks: int = 1,
        discretization: Discretization = "zoh",
        conj_sym: bool = True,
        output_init: OutputInit = "truncated_normal",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        clip_eigenvalues: bool = False,
        bidirectional: bool = False,
        shared_sample: bool = True,
        step_scale: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_at_least_one(channels=channels, state_size=state_size, blocks=blocks)
        hippo_n_blocks(state_size, blocks, conj_sym=conj_sym)  # raises if they do not fit
        check_choice("discretization", discretization, get_args(Discretization))
        check_choice("output_init", output_init, get_args(OutputInit))
        check_steps(dt_min, dt_max)
        if not 0 < step_scale < math.inf:
            raise ValueError(f"step_scale is a positive factor, got {step_scale}")
        states = state_size // 2 if conj_sym else state_size
        super().__init__(channels, states, bidirectional=bidirectional, shared_sample=shared_sample)
        self.state_size, self.blocks, self.conj_sym = state_size, blocks, conj_sym
        self.discretization: Discretization = discretization
        self.output_init: OutputInit = output_init
        self.dt_min, self.dt_max, self.step_scale = dt_min, dt_max, step_scale
        self.clip_eigenvalues = clip_eigenvalues

        dtype = parameter_dtype(dtype)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.eigenvalue_real = parameter(states)
        self.eigenvalue_imag = parameter(states)
        self.log_step = parameter(states)
        self.input_matrix = parameter(states, channels, 2)
        self.output_matrix = parameter(*((2,) if bidirectional else ()), channels, states, 2)
        self.feedthrough = parameter(channels)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the parameters anew; the eigenvalues are always those of the blocks.

        Args:
            generator: Source of randomness, on the CPU; None means PyTorch's default.
        """
        if self.log_step.is_meta:
            return
        Lambda, V = hippo_n_blocks(self.state_size, self.blocks, conj_sym=self.conj_sym)
        self.eigenvalue_real.copy_(Lambda.real)
        self.eigenvalue_imag.copy_(Lambda.imag)
        size, channels = self.state_size, self.channels
        B = draw_normal(size, channels, std=size**-0.5, truncated=True, generator=generator)
        self.input_matrix.copy_(torch.view_as_real(V.mH.resolve_conj() @ B.to(V.dtype)))
        for C in self.output_matrix.unbind() if self.bidirectional else (self.output_matrix,):
            C.copy_(torch.view_as_real(self._draw_output(V, generator)))
        self.feedthrough.copy_(draw_normal(channels, std=1.0, truncated=False, generator=generator))
        self.log_step.copy_(log_uniform(self.states, self.dt_min, self.dt_max, generator))

    def _draw_output(self, V: Tensor, generator: torch.Generator | None) -> Tensor:
        size, channels = self.state_size, self.channels
        if self.output_init == "complex_normal":
            pairs = draw_normal(channels, self.states, 2, std=0.5**0.5, truncated=False, generator=generator)
            return torch.view_as_complex(pairs)
        std = size**-0.5 if self.output_init == "truncated_normal" else (size * channels) ** -0.5
        pairs = draw_normal(channels, size, 2, std=std, truncated=True, generator=generator)
        return torch.view_as_complex(pairs) @ V

    def filter_parameters(self) -> Iterable[nn.Parameter]:
        """Lambda, B and the step sizes, but not C and D."""
        return self.eigenvalue_real, self.eigenvalue_imag, self.log_step, self.input_matrix

    def eigenvalues(self) -> Tensor:
        """Eigenvalues Lambda in continuous time, complex, (P), clipped if the layer does that; differentiable."""
        real = widest(self.eigenvalue_real)
        if self.clip_eigenvalues:
            real = real.clamp_max(LARGEST_REAL_PART)
        return torch.complex(real, widest(self.eigenvalue_imag))

    def state_space(self, dt: Tensor | None = None) -> DiagonalSystem:
        """The recurrence that the layer runs, in complex128 where the device has it; differentiable.

        Args:
            dt: Factors on the step sizes, (B, L) or (B); the multipliers then have these axes in front, computed as
                widely and rounded to the type of these. None means 1.

        Returns:
            The system, with B discretized if ``dt`` is None, otherwise with its factors apart.
        """
        step = self.step_scale * widest(self.log_step).exp()
        z, B = self.eigenvalues() * step, as_complex(self.input_matrix)
        C, D = as_complex(self.output_matrix), widest(self.feedthrough)
        C = 2 * C if self.conj_sym else C
        if dt is None:
            a, gain = discretize(self.discretization, z, step, step.new_ones(()))
            return DiagonalSystem(a, None, gain[:, None] * B, C, D)
        # Rounding z before it is multiplied by dt would cost its phase |z| units of the last place, a hundred and more.
        a, gain = discretize(self.discretization, z, step, dt.to(step.dtype))
        kind = torch.promote_types(dt.dtype, torch.complex64)
        return DiagonalSystem(a.to(kind), gain.to(kind), B, C, D)

    def forward(
        self,
        u: Signal,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        dt: Tensor | None = None,
    ) -> Signal:
        """Map a whole sequence, starting from rest.

        Args:
            u: Input, (B, L, H).
            lengths: Number of valid samples of each row, (B,), integers; None means all.
            resets: True where the state is cleared before the sample, (B, L); None means nowhere.
            dt: Factors on the step size of each sample, (B, L), zero or positive, for signals sampled irregularly: that
                of a sample spans the time for which its input holds. Both directions use it. None means 1.

        Returns:
            Output, (B, L, H); zero past ``lengths``.
        """
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        return self._whole(u, self.state_space(_factors(dt, u, lengths)), lengths, resets)

    def extend(
        self,
        u: Signal,
        state: DiagonalState | None = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        dt: Tensor | None = None,
    ) -> tuple[Signal, DiagonalState]:
        """Map the next chunk of a sequence and return the state after it.

        Args:
            u: Next samples, (B, L, H).
            state: State before the chunk, (B, P, 2); None means rest.
            lengths: Number of valid samples of each row, (B,), integers; None means all.
            resets: True where the state is cleared before the sample, (B, L); None means nowhere.
            dt: Factors on the step size of each sample, (B, L), as for :meth:`forward`.

        Returns:
            Output, (B, L, H), and the state after each row's last valid sample.

        Raises:
            NotCausalError: if the layer is bidirectional.
            StateOverflowError: if the state is no longer finite.
        """
        self._require_causal("extend")
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        return self._extend(u, self.state_space(_factors(dt, u, lengths)), state, lengths, resets)

    def step(self, u_t: Sample, state: State, *, dt: Tensor | None = None) -> tuple[Sample, DiagonalState]:
        """Map one sample. The system is discretized at every call; :meth:`realize` does it once, for steps of one size.

        Args:
            u_t: Sample, (B, H).
            state: State before the sample, (B, P, 2).
            dt: Factors on the step size, (B,), as for :meth:`forward`.

        Returns:
            Output sample, (B, H), and the state after it.

        Raises:
            NotCausalError: if the layer is bidirectional.
            StateOverflowError: if the state is no longer finite.
        """
        self._require_causal("step")
        check_sample(u_t, self.channels)
        return self._step(u_t, self.state_space(_factors(dt, u_t, None)), state)

    def _advice(self) -> str:
        return "Train the layer with clip_eigenvalues=True, which keeps it stable, or reset more often."

    def extra_repr(self) -> str:
        """Sizes and options, for ``print``."""
        parts = [f"{self.channels}, {self.state_size}, blocks={self.blocks}, discretization={self.discretization!r}"]
        defaults = {
            "conj_sym": True,
            "clip_eigenvalues": False,
            "bidirectional": False,
            "shared_sample": True,
            "step_scale": 1.0,
        }
        parts += [f"{name}={getattr(self, name)}" for name, usual in defaults.items() if getattr(self, name) != usual]
        return ", ".join(parts)


def _factors(dt: Tensor | None, u: Tensor, lengths: Tensor | None) -> Tensor | None:
    """Checked factors on step sizes, in the type of computation, 1 in padding."""
    if dt is None:
        return None
    check_tensor("dt", dt)
    if dt.shape != u.shape[:-1] or not dt.is_floating_point():
        raise ValueError(
            f"dt holds one real factor on the step size for each sample, shape {tuple(u.shape[:-1])}, "
            f"got shape {tuple(dt.shape)} of {dt.dtype}."
        )
    dt = dt.to(signal_dtype(u.dtype))
    if lengths is not None:
        dt = torch.where(valid_samples(lengths, u.shape[1]), dt, 1)
    may_look = dt.device.type == "cpu" and not values_are_hidden()  # elsewhere looking would wait
    if may_look and not bool((dt >= 0).all()):
        raise ValueError(
            f"dt must be zero or positive numbers: time does not run backwards, got {float(dt.detach().min()):.6g}"
        )
    return dt
