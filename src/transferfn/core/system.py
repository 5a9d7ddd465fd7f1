"""The values everything revolves around: a bank of transfer functions, and the same relative to a horizon."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce
from numbers import Integral
from typing import Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils import _pytree as pytree

from transferfn.core import algebra, convert, kernel
from transferfn.core.checks import Gain, as_gain, check_bank, check_interval, check_length, check_whole, common_interval
from transferfn.core.doubt import warn_of_lost, warn_of_uncertain
from transferfn.core.polynomial import companion, finite_roots, monic, roots
from transferfn.core.stability import Stability, stability
from transferfn.core.stabilize import stabilize
from transferfn.core.state_space import StateSpace
from transferfn.typing import Denominator, Feedthrough, Kernel, Numerator

Connection = Callable[[algebra.Coefficients, algebra.Coefficients], algebra.Coefficients]


@dataclass(frozen=True, eq=False)
class TransferFunction:
    r"""A bank of D discrete-time filters with G distinct denominators.

    H(z) = h0 + (b_1 z^-1 + ... + b_n z^-n) / (1 + a_1 z^-1 + ... + a_n z^-n)

    Channel d uses denominator d * G // D. The value is immutable, a pytree, and adds up as transfer functions do:
    ``g * h`` in series, ``g + h`` and ``g - h`` in parallel, ``g.feedback(h)``. A bank of one channel goes with one of
    any number. ``1 / h``, ``g / h`` and ``h**n`` with a whole number n are filters, too, unless h begins with a delay
    (h0 = 0); inverses have their poles at its zeros. ``h * gain`` and ``h / gain`` scale, ``h + gain`` adds to the
    feedthrough: a gain is a number, or a tensor or array of one a channel, (D). The intervals ``dt`` of two banks
    agree, or one is None.

    Args:
        b: True numerator b_1..b_n, strictly proper, (*bank, D, n).
        a: Denominator a_1..a_n, the leading 1 left out, (*bank, G, n).
        h0: True response at t = 0, (*bank, D).
        dt: Sampling interval in seconds; None means per sample.

    Raises:
        ValueError: if the shapes do not fit, G does not divide D, types or devices differ, or dt is not positive.

    Example:
        A leaky integrator, y_t = 0.9 y_(t-1) + u_t:

        >>> h = TransferFunction(torch.tensor([[0.9]]), torch.tensor([[-0.9]]), torch.tensor([1.0]))
        >>> h.impulse_response(4)
        tensor([[1.0000, 0.9000, 0.8100, 0.7290]])
        >>> h.poles()
        tensor([[0.9000+0.j]], dtype=torch.complex128)
    """

    b: Numerator
    a: Denominator
    h0: Feedthrough
    dt: float | None = None

    __array_ufunc__ = None  # a number of NumPy's leaves its products with a bank to the bank

    def __post_init__(self) -> None:
        check_bank(self.b, self.a, self.h0)
        if self.dt is not None:
            check_interval(self.dt)

    @property
    def order(self) -> int:
        """Order n: the degree of the denominators."""
        return self.a.shape[-1]

    @property
    def channels(self) -> int:
        """Number of channels D."""
        return self.b.shape[-2]

    @property
    def denominator_groups(self) -> int:
        """Number of distinct denominators G."""
        return self.a.shape[-2]

    def to(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> TransferFunction:
        """Move the coefficients or change their type.

        Args:
            device: New device; None keeps it.
            dtype: New floating-point type; None keeps it.
        """
        b, a, h0 = (x.to(device=device, dtype=dtype) for x in (self.b, self.a, self.h0))
        return TransferFunction(b, a, h0, self.dt)

    def impulse_response(self, length: int) -> Kernel:
        """True impulse response, from the recurrence.

        Args:
            length: Number of samples, at least 1.

        Returns:
            h_0..h_(length-1), (*bank, D, length).

        Raises:
            TypeError: if the length is no whole number.
            ValueError: if it is less than 1.
        """
        check_length(length)
        return kernel.impulse_response(self.b, self.a, self.h0, length=length)

    def frequency_response(
        self, omega: ArrayLike | Tensor, *, unit: Literal["rad/sample", "Hz"] = "rad/sample"
    ) -> Tensor:
        """Complex response H(exp(i omega)).

        Args:
            omega: Frequencies, (F); a tensor, an array or a list.
            unit: Theirs: angles per sample, or Hz, for which the filters need a ``dt``.

        Returns:
            Values, complex128, (*bank, D, F); infinite where the filter has a pole.

        Raises:
            ValueError: if the unit is another one, or Hz without a ``dt``.

        Example:
            >>> h = TransferFunction(torch.tensor([[0.9]]), torch.tensor([[-0.9]]), torch.tensor([1.0]))
            >>> h.frequency_response(torch.tensor([0.0])).real.round(decimals=4)
            tensor([[10.]], dtype=torch.float64)
        """
        if unit not in ("rad/sample", "Hz") or (unit == "Hz" and self.dt is None):
            raise ValueError(f"the unit is 'rad/sample', or 'Hz' of filters with a dt; got {unit!r} and dt={self.dt}")
        angle = torch.as_tensor(omega, dtype=torch.float64, device=self.a.device)
        angle = angle if unit == "rad/sample" or self.dt is None else 2 * math.pi * self.dt * angle
        # z^-i = exp(-i omega) for i = 0..n; near a pole A(z) cancels, so all of it happens in double precision.
        i = torch.arange(self.order + 1, dtype=torch.float64, device=self.a.device)
        basis = torch.exp(-1j * i[:, None] * angle)
        b, a, h0 = (x.to(torch.float64) for x in (self.b, self.a, self.h0))
        denominator = kernel.spread(monic(a).to(basis.dtype) @ basis, self.channels)
        at_a_pole = denominator == 0
        proper = (b.to(basis.dtype) @ basis[1:]) / torch.where(at_a_pole, 1, denominator)
        return h0[..., None] + torch.where(at_a_pole, torch.inf, proper)

    def poles(self) -> Tensor:
        """Poles of each denominator: the eigenvalues of its companion matrix in double precision; differentiable.

        Warns (:class:`~transferfn.IllConditionedWarning`) where rounding of the coefficients, to the type they are in,
        moves a pole by more than a thousandth: the coefficients of clustered poles do not determine them. The
        derivatives of a multiple pole are infinite.

        Returns:
            Poles, complex128, (*bank, G, n).
        """
        poles, error = roots(self.a.to(torch.float64), rounding=torch.finfo(self.a.dtype).eps / 2)
        warn_of_uncertain("poles", poles, error, dtype=self.a.dtype)
        return poles

    def zeros(self) -> Tensor:
        """Zeros of each channel: the roots of h0 A(z) + B(z) in double precision; differentiable.

        A channel whose leading numerator coefficients are zero, or no more than rounding of the others, has fewer than
        n zeros; the rest are complex infinities, in last place. Warns like :meth:`poles`.

        Returns:
            Zeros, complex128, (*bank, D, n).
        """
        whole = algebra.numerator(self.b, self.a, self.h0).to(torch.float64)
        zeros, error = finite_roots(whole, rounding=torch.finfo(self.b.dtype).eps / 2)
        warn_of_uncertain("zeros", zeros, error, dtype=self.b.dtype)
        return zeros

    def stability(self) -> Stability:
        """Verdict on each denominator: stable, unstable or undecided, with the largest pole radius."""
        return stability(self.a)

    def stabilize(self, horizon: int, *, margin: float = 1e-3) -> tuple[TransferFunction, Tensor]:
        """Pull poles that are not certainly inside the unit circle to radius 1 - margin, and fit the numerator anew.

        Args:
            horizon: Number of samples over which the response is fitted; must exceed the order.
            margin: Least distance of a pole to the unit circle, between 0 and 1; doubled where rounding asks for it.

        Returns:
            The repaired filters, certainly stable, and the relative error of each response, (*bank, D).
        """
        b, a, error = stabilize(self.b, self.a, self.h0, margin=margin, horizon=horizon)
        return TransferFunction(b, a, self.h0, self.dt), error

    def conditioning(self, period: int) -> Tensor:
        """How strongly rounding is amplified: kappa = (1 + sum|a_i|) / min_m |A(w_m)|.

        Args:
            period: Number of roots of unity w_m; must exceed the order.

        Returns:
            kappa of each denominator, (*bank, G).
        """
        return kernel.conditioning(self.a.to(torch.float64), period=period)

    def state_space(self) -> StateSpace:
        """Companion realisation x' = A x + B u, y = C x + D u, as ``scipy.signal.tf2ss`` gives it, with its ``dt``.

        The state is (w_(t-1), ..., w_(t-n)) with w the input filtered by 1/A(z).

        Returns:
            A (*bank, D, n, n), B (*bank, D, n, 1), C (*bank, D, 1, n), D (*bank, D, 1, 1) and dt.
        """
        a_matrix = companion(kernel.spread(self.a, self.channels))
        first = torch.zeros_like(self.b[..., None])
        first[..., :1, 0] = 1
        return StateSpace(a_matrix, first, self.b[..., None, :], self.h0[..., None, None], self.dt)

    def truncate(self, horizon: int) -> TruncatedTransferFunction:
        """Express the same filters relative to a horizon.

        Warns (:class:`~transferfn.IllConditionedWarning`) where the error, about eps kappa in the type of the
        coefficients, exceeds a thousandth: poles crowd together or one is on a P-th root of unity. Also where an
        unstable response grows by more than a thousandth of 1/eps, and the rest is rounded away.

        Args:
            horizon: Period P in samples; must exceed the order.

        Raises:
            TypeError: if the horizon is no whole number.
            ValueError: if it does not exceed the order.
        """
        check_whole("horizon", horizon)
        b_tilde, h0_tilde = convert.truncate(self.b, self.a, self.h0, horizon=horizon)
        warn_of_lost(self.a, horizon=horizon)
        return TruncatedTransferFunction(b_tilde, self.a, h0_tilde, horizon, self.dt)

    def feedback(self, other: TransferFunction | Gain = 1.0, *, sign: int = -1) -> TransferFunction:
        """Close a loop around these filters: H / (1 - sign H G).

        Args:
            other: G in the feedback path, as many channels, or one of the two has one; a number, or a tensor or array
                of one a channel, (D), is a gain.
            sign: -1 for negative feedback, +1 for positive.

        Returns:
            The closed loop, one denominator a channel.

        Raises:
            TypeError: if G is something else.
            ValueError: if the loop has no solution at t = 0 (1 - sign h0 g0 = 0), channels do not fit, or sampling
                intervals differ.
        """
        if sign not in (-1, 1):
            raise ValueError(f"sign is -1 (negative feedback) or +1 (positive feedback), got {sign}")
        path = other if isinstance(other, TransferFunction) else self._constant(other)
        return self._joined(partial(algebra.feedback, sign=sign), path)

    def __mul__(self, other: TransferFunction | Gain) -> TransferFunction:
        if isinstance(other, TransferFunction):
            return self._joined(algebra.series, other)
        gain = as_gain(other, self.channels)
        if gain is None:
            return NotImplemented
        h, each = self._beside(gain)
        return replace(h, b=h.b * each[..., None], h0=h.h0 * each)

    __rmul__ = __mul__

    def __truediv__(self, other: TransferFunction | Gain) -> TransferFunction:
        if isinstance(other, TransferFunction):
            return self * other._inverse()
        gain = as_gain(other, self.channels)
        return NotImplemented if gain is None else self * (1 / gain)

    def __rtruediv__(self, other: Gain) -> TransferFunction:
        gain = as_gain(other, self.channels)
        return NotImplemented if gain is None else self._inverse() * gain

    def __pow__(self, exponent: int) -> TransferFunction:
        if isinstance(exponent, bool) or not isinstance(exponent, Integral):
            return NotImplemented
        factors = (
            [self if exponent > 0 else self._inverse()] * abs(int(exponent)) if exponent else [self._constant(1.0)]
        )
        return reduce(operator.mul, factors)

    def __add__(self, other: TransferFunction | Gain) -> TransferFunction:
        if isinstance(other, TransferFunction):
            return self._joined(algebra.parallel, other)
        gain = as_gain(other, self.channels)
        if gain is None:
            return NotImplemented
        h, each = self._beside(gain)
        return replace(h, h0=h.h0 + each)

    __radd__ = __add__

    def __neg__(self) -> TransferFunction:
        return self * -1.0

    def __sub__(self, other: TransferFunction | Gain) -> TransferFunction:
        term = other if isinstance(other, TransferFunction) else as_gain(other, self.channels)
        return NotImplemented if term is None else self + (-term)

    def __rsub__(self, other: Gain) -> TransferFunction:
        return -self + other

    def _inverse(self) -> TransferFunction:
        return TransferFunction(*algebra.inverse(self._coefficients), self.dt)

    @property
    def _coefficients(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.b, self.a, self.h0

    def _joined(self, connect: Connection, other: TransferFunction) -> TransferFunction:
        """Connect two banks, where a single filter stands for as many as the other has."""
        dt = common_interval((self.dt, other.dt))
        try:
            shape = torch.broadcast_shapes(self.h0.shape, other.h0.shape)
        except RuntimeError:
            raise ValueError(
                f"the banks must have as many channels, or one of them one, got numerators {tuple(self.b.shape)} and "
                f"{tuple(other.b.shape)}"
            ) from None
        return TransferFunction(*connect(self._spread(shape)._coefficients, other._spread(shape)._coefficients), dt)

    def _beside(self, gain: float | Tensor) -> tuple[TransferFunction, Tensor]:
        """These filters and a gain for each, in their type; a single filter becomes as many as there are gains."""
        each = torch.as_tensor(gain, dtype=self.h0.dtype, device=self.h0.device)
        return self._spread(torch.broadcast_shapes(self.h0.shape, each.shape)), each

    def _spread(self, shape: torch.Size) -> TransferFunction:
        """The same with more channels, if it has one, or leading axes: its feedthrough has this shape."""
        if shape == self.h0.shape:
            return self
        a = self.a.expand(*shape[:-1], *self.a.shape[-2:])
        return TransferFunction(self.b.expand(*shape, self.order), a, self.h0.expand(shape), self.dt)

    def _constant(self, value: Gain) -> TransferFunction:
        gain = as_gain(value, self.channels)
        if gain is None:
            raise TypeError(f"expected a bank or a number in the feedback path, got {type(value).__name__}")
        h, each = self._beside(gain)
        return TransferFunction(h.b[..., :0], h.a[..., :1, :0], each.expand_as(h.h0), h.dt)


@dataclass(frozen=True, eq=False)
class TruncatedTransferFunction:
    """The paper's form of a bank: numerator and feedthrough relative to a horizon of P samples.

    The kernel of period P, one FFT a polynomial, holds the true samples 0..P-1 whether the filters are stable or not.

    Args:
        b_tilde: Truncated numerator b~ = b (I - A^P), (*bank, D, n).
        a: Denominator a_1..a_n, (*bank, G, n).
        h0_tilde: Truncated feedthrough h0~ = h0 - h_P, (*bank, D).
        horizon: Period P in samples; must exceed n.
        dt: Sampling interval in seconds; None means per sample.

    Raises:
        ValueError: as for :class:`TransferFunction`, or if the horizon does not exceed the order.

    Example:
        >>> half = torch.tensor([[0.5]])
        >>> TruncatedTransferFunction(15 / 16 * half, -half, torch.tensor([15 / 16]), horizon=4).kernel()
        tensor([[1.0000, 0.5000, 0.2500, 0.1250]])
    """

    b_tilde: Numerator
    a: Denominator
    h0_tilde: Feedthrough
    horizon: int
    dt: float | None = None

    def __post_init__(self) -> None:
        check_bank(self.b_tilde, self.a, self.h0_tilde)
        if self.horizon <= self.order:
            raise ValueError(
                f"the horizon must exceed the order, got horizon={self.horizon} for order {self.order}. "
                f"Take a longer horizon, or use the true numerator (TransferFunction), which has none."
            )

    @property
    def order(self) -> int:
        """Order n: the degree of the denominators."""
        return self.a.shape[-1]

    @property
    def channels(self) -> int:
        """Number of channels D."""
        return self.b_tilde.shape[-2]

    def kernel(self) -> Kernel:
        """True impulse response up to the horizon, (*bank, D, P), at a cost that does not depend on the order."""
        return kernel.aliased_kernel(self.b_tilde, self.a, self.h0_tilde, period=self.horizon)

    def transfer_function(self) -> TransferFunction:
        """The same filters with their true numerator and feedthrough.

        Warns like :meth:`TransferFunction.truncate`.
        """
        b, h0 = convert.untruncate(self.b_tilde, self.a, self.h0_tilde, horizon=self.horizon)
        warn_of_lost(self.a, horizon=self.horizon)
        return TransferFunction(b, self.a, h0, self.dt)

    def conditioning(self) -> Tensor:
        """How strongly rounding is amplified, kappa of each denominator at the horizon, (*bank, G)."""
        return kernel.conditioning(self.a.to(torch.float64), period=self.horizon)


def _register(cls: type, tensors: tuple[str, ...], rest: tuple[str, ...]) -> None:
    """Make a value a pytree. Rebuilding skips the checks: transforms put placeholders where tensors were."""

    def flatten(value):
        return [getattr(value, name) for name in tensors], tuple(getattr(value, name) for name in rest)

    def unflatten(leaves, context):
        value = object.__new__(cls)
        for name, leaf in zip((*tensors, *rest), (*leaves, *context), strict=True):
            object.__setattr__(value, name, leaf)
        return value

    pytree.register_pytree_node(cls, flatten, unflatten, serialized_type_name=f"transferfn.{cls.__name__}")


_register(TransferFunction, ("b", "a", "h0"), ("dt",))
_register(TruncatedTransferFunction, ("b_tilde", "a", "h0_tilde"), ("horizon", "dt"))
