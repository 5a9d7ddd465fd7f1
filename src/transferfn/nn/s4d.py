"""The S4D layer: diagonal state-space systems, one a channel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import torch
from torch import Tensor, nn

from transferfn.core import hippo
from transferfn.core.checks import check_choice
from transferfn.core.discretize import Discretization, discretize
from transferfn.core.modal import ModalSystem
from transferfn.nn.options import parameter_dtype
from transferfn.nn.precision import as_complex, widest
from transferfn.nn.state_space_layer import StateSpaceLayer
from transferfn.nn.state_space_options import (
    check_sizes,
    check_steps,
    log_uniform,
)
from transferfn.nn.state_space_realization import ModalRealization


class S4D(StateSpaceLayer[ModalRealization]):
    r"""One diagonal state-space system a channel, in continuous time with a learned step size.

    dx/dt = Lambda x + B u,  y = 2 Re(C x) + D u,  Lambda = -exp(log_A_real) + i A_imag,  dt = exp(log_dt)

    ``forward`` trains in parallel: the impulse response by matrix products, and one FFT. ``extend`` and ``step`` run
    the recurrence x_t = A_bar x_(t-1) + B_bar u_t. States are pairs of real and imaginary parts, (B, D, N/2, 2); those
    of ``init="real"`` are (B, D, N).

    Differences from the official code: Im Lambda is the parameter itself with its sign (the full kernel stores -Im
    Lambda, the minimal layer Im Lambda, of opposite signs), and it is not kept away from zero; ``init="real"`` has N
    real modes instead of N/2 complex ones; the output is this sum alone, without activation, dropout and projection.

    Args:
        channels: Number of channels D.
        state_size: Number N of real states of a channel: N/2 stored modes that stand for themselves and their
            conjugates, or N real ones for ``init="real"``.
        init: ``"lin"``, ``"inv"``, ``"legs"`` or ``"real"``, see :func:`transferfn.core.hippo.s4d`.
        discretization: ``"zoh"`` or ``"bilinear"``.
        dt_min: Least initial step size; steps are log-uniform between the two.
        dt_max: Largest initial step size.
        groups: Number of copies of Lambda and B, a divisor of ``channels``; channel d uses copy d mod groups, as the
            official code's ``n_ssm`` does. None means one a channel.
        bidirectional: Adds a second C, whose response goes to the future; the current sample is left to the first one,
            as in the official code. Such a layer has ``forward`` only.
        b_clip: Bound on the initial |Im B| of ``init="legs"``, which the official code has; None means exact.
        device: Where the parameters live.
        dtype: Their type; None means PyTorch's default. Types narrower than float32 become float32.

    Raises:
        TypeError: if a size is no whole number.
        ValueError: if sizes or options do not fit each other.

    Source:
        Gu et al. 2022, arXiv:2206.11893.

    Example:
        >>> layer = S4D(channels=8, state_size=16)
        >>> u = torch.randn(2, 120, 8)
        >>> y, state = layer.extend(u[:, :119])
        >>> last, state = layer.step(u[:, 119], state)
        >>> torch.allclose(torch.cat((y, last[:, None]), 1), layer(u), atol=1e-4)
        True
    """

    def __init__(
        self,
        channels: int,
        state_size: int,
        *,
        init: hippo.S4DInit = "lin",
        discretization: Discretization = "zoh",
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
        check_choice("init", init, get_args(hippo.S4DInit))
        check_choice("discretization", discretization, get_args(Discretization))
        check_sizes(channels, state_size, groups, even=init != "real")
        check_steps(dt_min, dt_max)
        self.channels, self.state_size, self.groups = channels, state_size, groups
        self.init: hippo.S4DInit = init
        self.discretization: Discretization = discretization
        self.dt_min, self.dt_max, self.b_clip = dt_min, dt_max, b_clip
        self.bidirectional, self.is_causal = bidirectional, not bidirectional

        dtype = parameter_dtype(dtype)
        directions = (2,) if bidirectional else ()
        modes = (state_size,) if init == "real" else (state_size // 2,)
        pairs = () if init == "real" else (2,)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, device=device, dtype=dtype))

        self.log_dt = parameter(channels)
        self.log_A_real = parameter(groups, *modes)
        if init != "real":
            self.A_imag = parameter(groups, *modes)
        self.B = parameter(groups, *modes, *pairs)
        self.C = parameter(*directions, channels, *modes, *pairs)
        self.D = parameter(channels)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the parameters anew, as the layer's ``init`` says; C and D are normal, of variance 1 each.

        Args:
            generator: Source of randomness, on the CPU; None means PyTorch's default.
        """
        is_real = self.init == "real"
        Lambda, B = hippo.s4d(self.init, self.state_size * (1 + is_real), b_clip=self.b_clip)
        if self.C.is_meta:
            return

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=generator, device="cpu")

        self.log_dt.copy_(log_uniform(self.channels, self.dt_min, self.dt_max, generator))
        self.log_A_real.copy_((-Lambda.real).log())
        if is_real:
            self.B.copy_(B.real)
        else:
            self.A_imag.copy_(Lambda.imag)
            self.B.copy_(torch.view_as_real(B))
        self.C.copy_(normal(*self.C.shape) * (1.0 if is_real else 0.5**0.5))
        self.D.copy_(normal(self.channels))

    def state_space(self) -> ModalSystem:
        """The discrete systems A_bar, B_bar (D, N/2), C (D, N/2) and D (D), in float64 where the device has it.

        Differentiable. In a bidirectional layer C and D have a leading axis of size 2, the causal ones first; the
        second D is zero.
        """
        decay = -widest(self.log_A_real).exp()
        if self.init == "real":
            Lambda, B, C = decay, widest(self.B), widest(self.C)
        else:
            Lambda = torch.complex(decay, widest(self.A_imag))
            B, C = as_complex(self.B), as_complex(self.C)
        copies = self.channels // self.groups
        A_bar, B_bar = discretize(
            self.discretization, Lambda.repeat(copies, 1), B.repeat(copies, 1), widest(self.log_dt).exp()
        )
        D = widest(self.D)
        return ModalSystem(A_bar, B_bar, C, torch.stack((D, torch.zeros_like(D))) if self.bidirectional else D)

    def filter_parameters(self) -> Iterable[nn.Parameter]:
        """Lambda, B and the step sizes, but not C and D."""
        frequencies = () if self.init == "real" else (self.A_imag,)
        return self.log_dt, self.log_A_real, *frequencies, self.B

    def extra_repr(self) -> str:
        """Sizes and options, for ``print``."""
        both = ", bidirectional=True" if self.bidirectional else ""
        return (
            f"{self.channels}, {self.state_size}, init={self.init!r}, discretization={self.discretization!r}, "
            f"groups={self.groups}{both}"
        )

    def _realized(self, dtype: torch.dtype) -> ModalRealization:
        return ModalRealization(self.state_space(), dtype=dtype)

    def _coefficients(self) -> Tensor:
        return self.D

    def _state_shape(self) -> tuple[int, ...]:
        return tuple(self.C.shape[1:] if self.bidirectional else self.C.shape)
