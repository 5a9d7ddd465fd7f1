"""What a bank of rational filters learns, and how it is read: numerators, denominators, reflection coefficients."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from transferfn.core import constrain
from transferfn.core import init as inits
from transferfn.core.checks import check_length
from transferfn.core.doubt import LARGEST_ERROR, IllConditionedWarning
from transferfn.core.lattice import lattice_filter, reflection_coefficients
from transferfn.core.lattice_system import Lattice
from transferfn.core.polynomial import roots
from transferfn.core.system import TransferFunction, TruncatedTransferFunction
from transferfn.kernels.tracing import values_are_hidden
from transferfn.nn.horizon import RelativeToHorizon
from transferfn.nn.options import Constraint, Init, NumeratorKind, check_draw, parameter_dtype
from transferfn.nn.precision import WideCoefficients, widest
from transferfn.typing import Kernel


class LearnedFilters(RelativeToHorizon, WideCoefficients):
    """The parameters of D filters of order n over G denominators, as one of three numerators and three constraints.

    Args:
        channels: Number of channels D.
        order: Order n.
        horizon: Number of samples the truncated numerator refers to, and what sets the memory of initializers.
        denominator_groups: Number of distinct denominators G.
        bidirectional: Whether there is a second bank; then all parameters have a leading axis of size 2.
        numerator: ``"truncated"``, ``"exact"`` or ``"lattice"``.
        init: How coefficients are drawn.
        constraint: None, ``"l1"`` or ``"reflection"``.
        dt: Sampling interval in seconds; None means per sample.
        device: Where the parameters live.
        dtype: Their type; None means PyTorch's default.
    """

    relative = "truncated_numerator"

    def __init__(
        self,
        channels: int,
        order: int,
        *,
        horizon: int,
        denominator_groups: int,
        bidirectional: bool,
        numerator: NumeratorKind,
        init: Init,
        constraint: Constraint | None,
        dt: float | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.channels, self.order, self.horizon, self.dt = channels, order, horizon, dt
        self.denominator_groups, self.bidirectional = denominator_groups, bidirectional
        self.numerator_kind: NumeratorKind = numerator
        self.init: Init = init
        self.constraint: Constraint | None = constraint

        dtype = parameter_dtype(dtype)
        directions = (2,) if bidirectional else ()

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*directions, *shape, device=device, dtype=dtype))

        if numerator == "truncated":
            self.truncated_numerator = parameter(channels, order)
            self.truncated_feedthrough = parameter(channels)
        else:
            if numerator == "lattice":
                self.taps = parameter(channels, order)
            else:
                self.numerator = parameter(channels, order)
            self.feedthrough = parameter(channels)
        if constraint == "reflection":
            self.reflection = parameter(denominator_groups, order)
        else:
            self.denominator = parameter(denominator_groups, order)
        if constraint == "l1":
            self.slack = parameter(denominator_groups)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the parameters anew, as the layer's ``init`` says.

        Args:
            generator: Source of randomness, on the CPU; None means PyTorch's default.
        """
        if self._numerators()[0].is_meta:
            return
        draw = getattr(inits, self.init) if isinstance(self.init, str) else self.init
        draws = [
            draw(
                self.channels,
                self.order,
                horizon=max(self.horizon, self.order + 1),
                denominator_groups=self.denominator_groups,
                numerator=self.numerator_kind,
                generator=generator,
            )
            for _ in range(2 if self.bidirectional else 1)
        ]
        for coefficients in draws:
            check_draw(coefficients, self.channels, self.order, self.denominator_groups, self.numerator_kind)
        b, a, h0 = (torch.stack(parts) if self.bidirectional else parts[0] for parts in zip(*draws, strict=True))
        if self.numerator_kind == "lattice":
            largest = 1 - torch.finfo(torch.float64).eps
            self._assign_lattice(b, widest(a).clamp(-largest, largest).atanh(), h0)
        else:
            self._assign(b, a, h0)

    def system(self) -> TransferFunction | TruncatedTransferFunction:
        """The filters as they are learned, in float64 where the device has it; differentiable.

        A bidirectional layer has a leading axis of size 2, the causal bank first.
        """
        b, h0 = (widest(x) for x in self._numerators())
        match self.constraint:
            case "reflection" if self.numerator_kind == "lattice":
                a, b = lattice_filter(widest(self.reflection), b.unflatten(-2, (self.denominator_groups, -1)))
                b = b.flatten(-3, -2)
            case "reflection":
                a = constrain.reflection(widest(self.reflection))
            case "l1":
                a = constrain.l1(widest(self.denominator), widest(self.slack))
            case None:
                a = widest(self.denominator)
        return self._as_system(b, a, h0)

    def _system(self) -> TransferFunction | TruncatedTransferFunction:
        """The same for filtering, which widens coefficients by itself, and then no copy of them is made before."""
        b, h0 = self._numerators()
        if self.constraint or self.denominator.dtype != b.dtype:
            return self.system()
        return self._as_system(b, self.denominator, h0)

    def _as_system(self, b: Tensor, a: Tensor, h0: Tensor) -> TransferFunction | TruncatedTransferFunction:
        if self.numerator_kind == "truncated":
            return TruncatedTransferFunction(b, a, h0, self.horizon, self.dt)
        return TransferFunction(b, a, h0, self.dt)

    def transfer_function(self) -> TransferFunction:
        """The filters with their true numerator and feedthrough, valid at every length; differentiable.

        A bidirectional layer has a leading axis of size 2, the causal bank first. Warns
        (:class:`~transferfn.IllConditionedWarning`) where taps belong to poles so close together that no coefficients
        in float64 hold them; the layer itself does not need these.
        """
        if self.numerator_kind == "lattice" and not (values_are_hidden() or self.taps.is_meta):
            self._warn_of_rounded(self._lattice().rounding())
        system = self.system()
        return system if isinstance(system, TransferFunction) else system.transfer_function()

    def poles(self) -> Tensor:
        """Poles, complex, (G, n), or (2, G, n) of a bidirectional layer; from taps without any coefficients."""
        if self.numerator_kind != "lattice":
            return roots(widest(self.system().a))[0]
        banks = [bank.poles() for bank in self._lattice().banks()]
        return torch.stack(banks) if self.bidirectional else banks[0]

    def kernel(self, length: int) -> Kernel:
        """Impulse responses at any length, the feedthrough included, in float64 where possible; differentiable.

        Args:
            length: Number of samples L.

        Returns:
            (D, L); of a bidirectional layer (2, D, L), where the second one responds to the next sample first.

        Raises:
            TypeError: if the length is no whole number.
            ValueError: if it is less than 1.
        """
        check_length(length)
        if self.numerator_kind != "lattice" or not (lattice := self._lattice()).prefers_matrices():
            return self.transfer_function().impulse_response(length)
        return lattice.kernel(length, lattice.v.dtype)

    def filter_parameters(self) -> Iterable[nn.Parameter]:
        """Numerators, denominators and what constrains them, but not taps and the feedthrough beside them.

        Taps weigh orthonormal responses, as C weighs the states of S4, and bear the rate of all other weights.
        """
        return (self.reflection,) if self.numerator_kind == "lattice" else self.parameters()

    def _numerators(self) -> tuple[Tensor, Tensor]:  # functional_call puts tensors where parameters were
        if self.numerator_kind == "truncated":
            return self.truncated_numerator, self.truncated_feedthrough
        return self.taps if self.numerator_kind == "lattice" else self.numerator, self.feedthrough

    def _start_as(self, h: TransferFunction) -> None:
        """Set the parameters to filters, their numerator expressed as the layer learns it."""
        h = h.to(dtype=torch.float64)
        if self.numerator_kind == "truncated":
            truncated = h.truncate(self.horizon)
            self._assign(truncated.b_tilde, truncated.a, truncated.h0_tilde)
            return
        if self.numerator_kind == "exact":
            self._assign(h.b, h.a, h.h0)
            return
        raw = constrain.reflection_parameters(h.a, scaled=False)
        states = torch.eye(self.order, dtype=h.b.dtype, device=h.b.device)
        _, rows = lattice_filter(raw, states.expand(*raw.shape, -1))
        b = h.b.unflatten(-2, (self.denominator_groups, -1))
        taps = torch.linalg.solve_triangular(rows, b, upper=False, left=False).flatten(-3, -2)
        self._assign_lattice(taps, raw, h.h0)

    @torch.no_grad()
    def _assign(self, b: Tensor, a: Tensor, h0: Tensor) -> None:
        """Set the parameters to given coefficients, the numerator as the layer reads it."""
        numerator, feedthrough = self._numerators()
        numerator.copy_(b)
        feedthrough.copy_(h0)
        if self.constraint == "reflection":
            self.reflection.copy_(constrain.reflection_parameters(a))
        elif self.constraint == "l1":
            raw, slack = constrain.l1_parameters(a)
            self.denominator.copy_(raw)
            self.slack.copy_(slack)
        else:
            self.denominator.copy_(a)

    def _warn_of_rounded(self, rounding: float) -> None:
        if rounding > LARGEST_ERROR:
            warnings.warn(
                f"poles are so close together that rounding their coefficients in float64 changes responses by about "
                f"{rounding:.1g}: what is made of the transfer function is another filter. The layer itself, its "
                f"poles(), its kernel(length) and what realize() returns do not go by way of it.",
                IllConditionedWarning,
                stacklevel=3,
            )

    @torch.no_grad()
    def _assign_lattice(self, taps: Tensor, raw: Tensor, h0: Tensor) -> None:
        self.taps.copy_(taps)
        self.reflection.copy_(raw)
        self.feedthrough.copy_(h0)

    def _lattice(self) -> Lattice:
        """What taps are those of, in float64 where the device has it; differentiable. Banks have a leading axis."""
        raw = widest(self.reflection)
        k, c = reflection_coefficients(raw, scaled=False), 2 * (-torch.logaddexp(raw, -raw)).exp()  # tanh and 1 / cosh
        return Lattice(k, c, widest(self.taps), widest(self.feedthrough), self.dt)
