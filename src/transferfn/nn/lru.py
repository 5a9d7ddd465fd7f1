"""The Linear Recurrent Unit: a diagonal recurrence whose multipliers are inside the unit circle by construction."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from transferfn.core.checks import check_at_least_one
from transferfn.nn.diagonal import DiagonalMixer, DiagonalSystem, draw_normal
from transferfn.nn.options import parameter_dtype
from transferfn.nn.precision import as_complex, widest


class LRU(DiagonalMixer):
    r"""x_t = a * x_(t-1) + gamma * (B u_t), y_t = Re(C x_t) + D * u_t with N complex states for all channels.

    a = exp(-exp(nu_log) + i exp(theta_log)), so that its magnitude is below 1 whatever is learned. gamma =
    exp(gamma_log) starts at sqrt(1 - |a|^2), which gives each state the variance that white noise has at its input, and
    is learned.

    A bidirectional layer (not in the paper) adds the same recurrence run from the end, read by a C of its own; both
    directions contain the current sample, as in S5.

    Args:
        channels: Number of channels H.
        states: Number of complex states N, of two real numbers each.
        r_min: Smallest initial magnitude of a.
        r_max: Largest initial magnitude of a. They are spread uniformly over the ring in between.
        max_phase: Largest initial phase of a, in radians; phases are uniform from 0.
        bidirectional: Adds a second direction. Such a layer has ``forward`` only.
        shared_sample: Whether the second direction contains the current sample, too, or begins with the next one.
        device: Where the parameters live.
        dtype: Their type; None means PyTorch's default. Types narrower than float32 become float32.

    Raises:
        TypeError: if a size is no whole number.
        ValueError: if the sizes or options do not fit each other.

    Source:
        Orvieto et al. 2023, arXiv:2303.06349, section 3 and appendix A.

    Example:
        >>> layer = LRU(channels=4, states=16, r_min=0.9, r_max=0.99)
        >>> u = torch.randn(2, 50, 4)
        >>> y, state = layer.extend(u[:, :49])
        >>> last, state = layer.step(u[:, 49], state)
        >>> torch.allclose(last, layer(u)[:, 49], atol=1e-5)
        True
    """

    def __init__(
        self,
        channels: int,
        states: int,
        *,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
        bidirectional: bool = False,
        shared_sample: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_at_least_one(channels=channels, states=states)
        if not 0 <= r_min < r_max <= 1:
            raise ValueError(f"the ring needs 0 <= r_min < r_max <= 1, got r_min={r_min}, r_max={r_max}")
        if not 0 < max_phase <= 2 * math.pi:
            raise ValueError(f"max_phase is an angle in radians above 0, at most 2 pi; got {max_phase}")
        super().__init__(channels, states, bidirectional=bidirectional, shared_sample=shared_sample)
        self.r_min, self.r_max, self.max_phase = r_min, r_max, max_phase

        dtype = parameter_dtype(dtype)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.nu_log = parameter(states)
        self.theta_log = parameter(states)
        self.gamma_log = parameter(states)
        self.input_matrix = parameter(states, channels, 2)
        self.output_matrix = parameter(*((2,) if bidirectional else ()), channels, states, 2)
        self.feedthrough = parameter(channels)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the parameters anew.

        Args:
            generator: Source of randomness, on the CPU; None means PyTorch's default.
        """
        if self.nu_log.is_meta:
            return

        def uniform() -> Tensor:  # in (0, 1]: no magnitude and no phase has a logarithm of minus infinity
            return 1 - torch.rand(self.states, dtype=torch.float64, device="cpu", generator=generator)

        inner, outer = self.r_min**2, self.r_max**2
        # The logarithm of |a|^2; a magnitude of 1 would be one that no nu_log has.
        log_square = (inner + (outer - inner) * uniform()).log().clamp_max(-torch.finfo(torch.float32).eps)
        self.nu_log.copy_((-0.5 * log_square).log())
        self.theta_log.copy_((self.max_phase * uniform()).log())
        self.gamma_log.copy_(0.5 * (-torch.expm1(log_square)).log())

        def normal(*shape: int, std: float) -> Tensor:
            return draw_normal(*shape, std=std, truncated=False, generator=generator)

        self.input_matrix.copy_(normal(self.states, self.channels, 2, std=(2 * self.channels) ** -0.5))
        self.output_matrix.copy_(normal(*self.output_matrix.shape, std=self.states**-0.5))
        self.feedthrough.copy_(normal(self.channels, std=1.0))

    def filter_parameters(self) -> Iterable[nn.Parameter]:
        """What the multipliers and the inputs of the states are made of, but not C and D."""
        return self.nu_log, self.theta_log, self.gamma_log, self.input_matrix

    def state_space(self) -> DiagonalSystem:
        """The recurrence that the layer runs, gamma in B, in complex128 where the device has it; differentiable."""
        a = torch.polar((-widest(self.nu_log).exp()).exp(), widest(self.theta_log).exp())
        B = widest(self.gamma_log).exp()[:, None] * as_complex(self.input_matrix)
        return DiagonalSystem(a, None, B, as_complex(self.output_matrix), widest(self.feedthrough))

    def extra_repr(self) -> str:
        """Sizes and options, for ``print``."""
        both = ", bidirectional=True" if self.bidirectional else ""
        ring = f"r_min={self.r_min}, r_max={self.r_max}, max_phase={self.max_phase:.4g}"
        return f"{self.channels}, {self.states}, {ring}{both}"
