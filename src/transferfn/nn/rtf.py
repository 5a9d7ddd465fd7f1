"""The RTF layer: a learned bank of rational transfer functions that trains in parallel and decodes as a recurrence."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor
from typing_extensions import override

from transferfn.core.checks import check_interval
from transferfn.core.converted import Converted, check_error, response_error, samples_to_compare
from transferfn.core.doubt import LARGEST_ERROR as LARGEST_LOSS
from transferfn.core.doubt import IllConditionedWarning
from transferfn.core.from_poles import LARGEST_ERROR
from transferfn.core.polynomial import roots
from transferfn.core.system import TransferFunction
from transferfn.nn.guard import warn_if_overflowed, warn_if_rounded, warn_if_unstable
from transferfn.nn.lattice_realization import (
    LatticeRealization,
    extend_lattice,
    filter_lattice,
    step_lattice,
)
from transferfn.nn.learned_filters import LearnedFilters
from transferfn.nn.mixer import SequenceMixer, check_boundaries, check_sample, check_signal
from transferfn.nn.options import (
    Constraint,
    Init,
    NumeratorKind,
    check_dtype,
    check_horizon,
    check_options,
    check_start,
)
from transferfn.nn.precision import widest
from transferfn.nn.realization import Realization, extend_filter, filter_state, step_filter
from transferfn.ops.choice import Method
from transferfn.ops.filter import filter_both_ways, linear_filter, signal_dtype
from transferfn.typing import FilterState, Sample, Signal


class RTF(LearnedFilters, SequenceMixer):
    r"""One learned filter a channel, given by a rational transfer function.

    H(z) = h0 + (b_1 z^-1 + ... + b_n z^-n) / (1 + a_1 z^-1 + ... + a_n z^-n)

    ``forward`` trains in parallel at a cost that does not depend on the order; ``extend`` and ``step`` run the same
    filter as a recurrence with a state of n numbers a channel: that of the companion form, or with taps of a lattice
    that of the lattice. All of them agree to rounding, at every length.

    Args:
        channels: Number of channels D.
        order: Order n of each filter.
        horizon: Number of samples the truncated numerator refers to, and what sets the memory of
            ``init="resonators"``, ``"comb"`` and ``"bands"``. Sequences may be shorter or longer; up to the horizon
            the parallel form is finite for unstable filters, too.
        denominator_groups: Number of distinct denominators G, a divisor of ``channels``; channel d uses
            d * G // channels. None means one a channel.
        bidirectional: Adds a second bank that filters the future. Such a layer has ``forward`` only.
        numerator: ``"truncated"`` learns the numerator and feedthrough relative to the horizon, as the paper does;
            ``"exact"`` learns the true ones, the same function at every length; ``"lattice"`` learns taps of the
            normalised lattice, orthonormal coordinates of the true response, for ``constraint="reflection"``.
        init: ``"resonators"`` (stable, memories of all lengths), ``"comb"`` (stable, one long memory for all
            frequencies; the one for ``constraint="l1"``, which holds no resonators), ``"bands"`` (stable, smooth, at
            several time scales, of order 8 up to 149 samples; for low orders and ``numerator="lattice"``),
            ``"zeros"``, ``"xavier"``, ``"montel"`` or a function like those of :mod:`transferfn.core.init`.
        constraint: None; ``"l1"``, the paper's, sufficient for stability; or ``"reflection"``, which reaches every
            stable filter.
        method: As for :func:`transferfn.ops.linear_filter`: ``"auto"``, ``"fft"``, ``"scan"`` or ``"blocks"``. Taps of
            orders up to 16, and where poles crowd, are run by matrices of the lattice and an FFT, whatever it is.
        kernel_dropout: Probability of dropping a tap of the kernel in training. It implies the FFT, and in training
            mode ``extend`` and ``step`` raise.
        dt: Sampling interval of the filters in seconds; None means per sample. No output depends on it.
        device: Where the parameters live.
        dtype: Their type; None means PyTorch's default. Types narrower than float32 become float32.

    Raises:
        TypeError: if a size is no whole number.
        ValueError: if the sizes or options do not fit each other, dt is not positive, or ``init`` returns coefficients
            of other shapes or unstable ones for ``constraint="reflection"``.

    Source:
        Parnichkun et al. 2024, arXiv:2405.06147.

    Example:
        >>> layer = RTF(channels=8, order=4, horizon=100)
        >>> u = torch.randn(2, 120, 8)
        >>> y, state = layer.extend(u[:, :70])
        >>> more, state = layer.extend(u[:, 70:119], state)
        >>> last, state = layer.step(u[:, 119], state)
        >>> torch.allclose(torch.cat((y, more, last[:, None]), 1), layer(u), atol=1e-5)
        True
    """

    def __init__(
        self,
        channels: int,
        order: int,
        *,
        horizon: int,
        denominator_groups: int | None = None,
        bidirectional: bool = False,
        numerator: NumeratorKind = "truncated",
        init: Init = "resonators",
        constraint: Constraint | None = None,
        method: Method = "auto",
        kernel_dropout: float = 0.0,
        dt: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        groups = channels if denominator_groups is None else denominator_groups
        check_options(channels, order, horizon, groups, numerator, init, constraint, method, kernel_dropout)
        if dt is not None:
            check_interval(dt)
        super().__init__(
            channels,
            order,
            horizon=horizon,
            denominator_groups=groups,
            bidirectional=bidirectional,
            numerator=numerator,
            init=init,
            constraint=constraint,
            dt=dt,
            device=device,
            dtype=dtype,
        )
        self.is_causal = not bidirectional
        self.method: Method = method
        self.kernel_dropout = kernel_dropout

    @classmethod
    def from_transfer_function(
        cls,
        h: TransferFunction,
        *,
        horizon: int,
        numerator: NumeratorKind = "truncated",
        constraint: Constraint | None = None,
        method: Method = "auto",
        kernel_dropout: float = 0.0,
        length: int | None = None,
        tolerance: float = LARGEST_ERROR,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Converted[RTF]:
        """A layer that starts as given filters and learns on; it keeps their ``dt`` and shared denominators.

        :meth:`transfer_function` leads back. ``reset_parameters`` draws what a new layer begins as.

        Args:
            h: The filters, numerator (D, n), order 1 at least; (2, D, n) makes a bidirectional layer of a causal bank
                and one for the future.
            horizon: As for the layer itself, like the next four.
            numerator: ``"truncated"``, ``"exact"`` or ``"lattice"``.
            constraint: None, ``"l1"`` or ``"reflection"``.
            method: ``"auto"``, ``"fft"``, ``"scan"`` or ``"blocks"``.
            kernel_dropout: Probability of dropping a tap of the kernel in training.
            length: Number of samples over which the impulse responses are compared; None means until they have died
                out, for which all poles are computed.
            tolerance: Largest error that is not refused, relative to the largest sample of each channel.
            device: Where the parameters live; None means where h does.
            dtype: Their type; None means PyTorch's default, whatever that of h is.

        Returns:
            The layer, and what rounding its parameters changed of each channel's response, (D) or (2, D).

        Raises:
            ArithmeticError: if parameters of that type do not hold the filters.
            TypeError: if h is another object.
            ValueError: if h has no such shape, a denominator is not stable with ``constraint="reflection"``, or its
                |a_i| add up to 1 or more with ``"l1"``.

        Example:
            >>> h = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0]), dt=0.1)
            >>> layer, error = RTF.from_transfer_function(h, horizon=16, constraint="reflection")
            >>> layer(torch.eye(4)[None, :, :1]).flatten().detach()
            tensor([1.0000, 0.5000, 0.2500, 0.1250])
            >>> layer.transfer_function().dt, bool(error < 1e-6)
            (0.1, True)
        """
        check_start(h, constraint)
        layer = cls(
            h.channels,
            h.order,
            horizon=horizon,
            denominator_groups=h.denominator_groups,
            bidirectional=h.b.dim() == 3,
            numerator=numerator,
            init="zeros",
            constraint=constraint,
            method=method,
            kernel_dropout=kernel_dropout,
            dt=h.dt,
            device=device or h.a.device,
            dtype=dtype,
        )
        layer.init = "comb" if constraint == "l1" else "resonators"
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", IllConditionedWarning)  # what it warns of is measured
            layer._start_as(h)
            length = samples_to_compare(*roots(widest(h.a))) if length is None else length
            found, truth = (x.impulse_response(length) for x in (layer.transfer_function(), h.to(dtype=torch.float64)))
        error = response_error(found.cpu(), truth.cpu())
        check_error(
            error,
            tolerance,
            what=f"parameters in {str(layer._numerators()[0].dtype).removeprefix('torch.')} do not hold the filters",
            instead="Take dtype=torch.float64 or a lower order, with a truncated numerator a true one, or keep them "
            "fixed: realize(h).",
        )
        return Converted(layer, error, length)

    @override
    def forward(self, u: Signal, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Signal:
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        dropout = self.kernel_dropout if self.training else 0.0
        given = u
        if self.numerator_kind == "lattice":
            lattice = self._lattice()
            if lattice.prefers_matrices():
                return filter_lattice(u, lattice, lengths, resets, kernel_dropout=dropout)
            if self.method == "scan":
                u = widest(u)  # a recurrence in float32 holds less than the coefficients do
        system = self._system()
        if self.bidirectional:
            y = filter_both_ways(u, system, lengths=lengths, resets=resets, method=self.method, kernel_dropout=dropout)
        else:
            y, _ = linear_filter(
                u,
                system,
                lengths=lengths,
                resets=resets,
                method=self.method,
                return_state=False,
                kernel_dropout=dropout,
            )
        if self.numerator_kind != "truncated" or u.shape[1] > self.horizon:
            warn_if_overflowed(y, system.a, u, lengths)
        return y.to(given.dtype)

    @override
    def extend(
        self,
        u: Signal,
        state: FilterState | None = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Signal, FilterState]:
        self._require_recurrence("extend")
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        if self.numerator_kind != "lattice":
            return extend_filter(u, self._system(), state, lengths, resets, self.method)
        return extend_lattice(u, self._lattice(), state, lengths, resets, self.method)

    def step(self, u_t: Sample, state: FilterState) -> tuple[Sample, FilterState]:
        """Map one sample. The coefficients are converted at every call; :meth:`realize` does it once.

        Args:
            u_t: Sample, (B, D).
            state: State before the sample, (B, D, n).

        Returns:
            Output sample, (B, D), and the state after it.

        Raises:
            NotCausalError: if the layer is bidirectional.
            StateOverflowError: if the state is no longer finite.
        """
        self._require_recurrence("step")
        check_sample(u_t, self.channels)
        if self.numerator_kind == "lattice":
            return step_lattice(u_t, self._lattice(), state)
        system = self.transfer_function()
        return step_filter(u_t, system.b, system.a, system.h0, state)

    @override
    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> FilterState:
        self._require_recurrence("init_state")
        like = self._numerators()[0]
        if self.numerator_kind != "lattice":
            warn_if_unstable(self.system().a, self.horizon, dtype=signal_dtype(dtype or like.dtype))
        return filter_state(batch_size, like, device=device, dtype=dtype)

    def realize(self, dtype: torch.dtype | None = None) -> Realization | LatticeRealization:
        """An immutable recurrence with the exact coefficients, computed now and once; of taps the lattice.

        Args:
            dtype: Type the coefficients are rounded to, float32 or wider; None means that of the parameters. A
                recurrence runs in the type of its signals: where poles are clustered, float64 pays if both have it.

        Raises:
            NotCausalError: if the layer is bidirectional.
        """
        self._require_causal("realize")
        dtype = dtype or self._numerators()[0].dtype
        check_dtype(dtype)
        with torch.no_grad():
            if self.numerator_kind == "lattice":
                return LatticeRealization(self._lattice(), dtype=dtype, method=self.method)
            system = self.transfer_function()
            warn_if_rounded(system.a, signal_dtype(dtype))
        return Realization(system.to(dtype=signal_dtype(dtype)), method=self.method)

    def with_horizon(self, horizon: int) -> RTF:
        """A copy that computes the same filters, its numerator expressed relative to another horizon.

        Args:
            horizon: New horizon in samples; must exceed the order if the numerator is truncated.

        Raises:
            ValueError: if it does not.
        """
        check_horizon(horizon, self.order, self.numerator_kind)
        layer = copy.deepcopy(self)
        layer.horizon = horizon
        if self.numerator_kind == "truncated":
            with torch.no_grad():
                system = self.transfer_function().truncate(horizon)
                layer.truncated_numerator.copy_(system.b_tilde)
                layer.truncated_feedthrough.copy_(system.h0_tilde)
        return layer

    def stabilize(self, *, margin: float | None = None) -> tuple[RTF, Tensor]:
        """A copy whose filters are certainly stable, for streaming what was trained without a constraint.

        Args:
            margin: Least distance of a pole to the unit circle, between 0 and 1. None means a tenth of 1 / horizon, the
                memory of ten horizons: no initialization has as much, so that only what has outgrown them is repaired.

        Returns:
            The copy, and the relative error of each channel's response over the horizon, (D) or (2, D).

        Raises:
            ArithmeticError: if no stable coefficients of the parameters' type are near.
            ValueError: if the margin is not between 0 and 1, or the horizon does not exceed the order.
        """
        margin = 0.1 / self.horizon if margin is None else margin
        if self.numerator_kind == "lattice" and (rounding := self._lattice().rounding()) > LARGEST_LOSS:
            raise ArithmeticError(
                f"these filters are stable as they are, by their reflection coefficients; no margin can be given to "
                f"them by way of coefficients in float64, whose rounding changes responses by about {rounding:.1g}"
            )
        layer = copy.deepcopy(self)
        with torch.no_grad():
            before = self.transfer_function()
            if self.constraint != "reflection":  # what is rounded to the parameters' type are the coefficients
                before = before.to(dtype=self._numerators()[0].dtype)
            system, error = before.stabilize(self.horizon, margin=margin)
            if not torch.equal(system.a, before.a):
                layer._start_as(system)
        return layer, error

    def extra_repr(self) -> str:
        """Sizes and options, for ``print``."""
        init = self.init if isinstance(self.init, str) else getattr(self.init, "__name__", "custom")
        parts = [
            f"{self.channels}, {self.order}, horizon={self.horizon}",
            f"denominator_groups={self.denominator_groups}",
            f"numerator={self.numerator_kind!r}, init={init!r}",
        ]
        if self.bidirectional:
            parts.append("bidirectional=True")
        if self.constraint:
            parts.append(f"constraint={self.constraint!r}")
        if self.method != "auto":
            parts.append(f"method={self.method!r}")
        if self.kernel_dropout:
            parts.append(f"kernel_dropout={self.kernel_dropout}")
        if self.dt is not None:
            parts.append(f"dt={self.dt}")
        return ", ".join(parts)

    def _require_recurrence(self, verb: str) -> None:
        self._require_causal(verb)
        if self.training and self.kernel_dropout:
            raise RuntimeError(
                f"{type(self).__name__}.{verb}() in training mode has no recurrence for a kernel with kernel_dropout="
                f"{self.kernel_dropout}: dropped taps are not those of a transfer function. Call eval() first."
            )
