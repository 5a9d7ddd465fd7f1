"""A bank of filters as second-order sections in series: what forgives narrow types more than one long recurrence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from transferfn.core.converted import response_error, samples_to_compare
from transferfn.core.from_poles import LARGEST_ERROR, check_holds_sections
from transferfn.core.polynomial import roots
from transferfn.core.system import TransferFunction
from transferfn.kernels.forms import sections_step
from transferfn.kernels.tracing import is_plain
from transferfn.nn.guard import check_finite, warn_if_overflowed, warn_if_unstable
from transferfn.nn.mixer import SequenceMixer, check_boundaries, check_sample, check_signal, check_state
from transferfn.nn.precision import WideCoefficients, widest
from transferfn.ops.choice import Method
from transferfn.ops.filter import linear_filter, signal_dtype
from transferfn.typing import Sample, Signal, State

SectionState = Float[Tensor, "B D S 2"]
"""The last two samples of w of each section, newest first: its input filtered by its 1/a."""


class SectionRealization(WideCoefficients, SequenceMixer):
    """Sections of order 2 one after the other, as a module without parameters.

    The state, (B, D, S, 2), is that of each section: the last two samples of its input filtered by its 1/a, newest
    first, in the order of the sections.

    Args:
        sections: Sections of D channels, b0, b1, b2, a0, a1, a2 as ``scipy.signal`` has them, (D, S, 6): those of
            :func:`transferfn.core.forms.second_order_sections`, or designed as such, which no long polynomial holds.
        dtype: Real type the coefficients are rounded to, float32 or wider; None means that of the sections.
        method: ``"auto"``, ``"fft"``, ``"scan"`` or ``"blocks"``, for whole sequences and chunks.
        dt: Sampling interval in seconds; None means per sample.

    Raises:
        ValueError: if the shape is another, or an a0 is zero.

    Example:
        >>> sections = torch.tensor([[[1.0, 0.0, 0.0, 1.0, -0.5, 0.0], [2.0, 0.0, 0.0, 1.0, 0.0, 0.0]]])
        >>> layer = SectionRealization(sections)
        >>> y, state = layer.extend(torch.ones(1, 2, 1))
        >>> layer.step(torch.ones(1, 1), state)[0], state.shape
        (tensor([[3.5000]]), torch.Size([1, 1, 2, 2]))
    """

    b: Tensor
    a: Tensor
    h0: Tensor

    def __init__(
        self,
        sections: Tensor,
        *,
        dtype: torch.dtype | None = None,
        method: Method = "auto",
        dt: float | None = None,
    ) -> None:
        super().__init__()
        if sections.dim() != 3 or sections.shape[-1] != 6 or 0 in sections.shape[:2]:
            raise ValueError(
                f"expected sections of shape (channels, sections, 6), b0, b1, b2, a0, a1, a2 each, got "
                f"{tuple(sections.shape)}. The sections of one filter need sos[None]."
            )
        wide = widest(sections.detach())
        if not bool((wide[..., 3] != 0).all()):
            raise ValueError("each section needs an a0 that is not zero: it divides the others")
        b, a = (wide / wide[..., 3:4]).split(3, -1)
        self.channels, self.sections, self.dt = sections.shape[0], sections.shape[1], dt
        self.method: Method = method
        kind = signal_dtype(dtype or sections.dtype)
        proper = (b - b[..., :1] * a)[..., 1:]  # in float64: what cancels here is not rounded before
        for name, given in (("b", proper), ("a", a[..., 1:]), ("h0", b[..., 0])):
            self.register_buffer(name, given.to(kind, copy=True))

    @torch.no_grad()
    def transfer_function(self) -> TransferFunction:
        """The filters as one fraction each, multiplied out in float64 and measured: many sections are none.

        Raises:
            ArithmeticError: if coefficients in float64 do not hold the filters: their impulse responses, until they
                have died out, are off by more than a thousandth of the largest sample, or they are unstable.
        """
        banks = self._banks(lambda x: x.to("cpu", torch.float64))
        whole = banks[0]
        for bank in banks[1:]:
            whole = whole * bank
        poles = roots(torch.stack([bank.a for bank in banks], 1))[0].flatten(1)
        impulse = torch.zeros(1, samples_to_compare(poles), self.channels, dtype=torch.float64)
        impulse[:, 0] = 1
        truth = impulse
        for bank in banks:
            truth, _ = linear_filter(truth, bank, method="scan", return_state=False)
        error = response_error(whole.impulse_response(impulse.shape[1]), truth[0].mT)
        check_holds_sections(whole, poles, error, LARGEST_ERROR)
        return whole.to(device=self.a.device, dtype=widest(self.a).dtype)

    @override
    def forward(self, u: Signal, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Signal:
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        y = u.to(signal_dtype(u.dtype))
        for bank in self._banks():
            y, _ = linear_filter(y, bank, lengths=lengths, resets=resets, method=self.method, return_state=False)
        warn_if_overflowed(y, self.a.flatten(0, 1), u, lengths)
        return y.to(u.dtype)

    @override
    def extend(
        self,
        u: Signal,
        state: State = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Signal, SectionState]:
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        if state is None:
            warn_if_unstable(self.a.flatten(0, 1), u.shape[1])
        else:
            check_state(state, (u.shape[0], *self.a.shape), "batch, channels, sections, 2")
        before = [None] * self.sections if state is None else state.unbind(2)
        y, states = u.to(signal_dtype(u.dtype)), []
        for bank, one in zip(self._banks(), before, strict=True):
            y, after = linear_filter(y, bank, one, lengths=lengths, resets=resets, method=self.method)
            states.append(after)
        after = torch.stack(states, 2)
        check_finite(after, self.a.flatten(0, 1), u)
        return y.to(u.dtype), after

    @override
    def step(self, u_t: Sample, state: State) -> tuple[Sample, SectionState]:
        check_sample(u_t, self.channels)
        check_state(state, (u_t.shape[0], *self.a.shape), "batch, channels, sections, 2")
        dtype = signal_dtype(u_t.dtype)
        u, x, b, a, h0 = (c.to(dtype) for c in (u_t, state, self.b, self.a, self.h0))
        finite = False
        if u.device.type == "cpu" and is_plain(u, x, b, a, h0):
            y, after, finite = sections_step(u, x, b, a, h0)
        else:
            y, newest = u, []
            # Unpacked, since each section needs what the one before it gives.
            for x_s, b_s, a_s, h0_s in zip(x.unbind(2), b.unbind(1), a.unbind(1), h0.unbind(1), strict=True):
                newest.append(y - (a_s * x_s).sum(-1))
                y = h0_s * y + (b_s * x_s).sum(-1)
            after = torch.stack((torch.stack(newest, 2), x[..., 0]), -1)
        if not finite:
            check_finite(after, self.a.flatten(0, 1), u)
        return y.to(u_t.dtype), after

    @override
    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> SectionState:
        warn_if_unstable(self.a.flatten(0, 1), None)
        kind = signal_dtype(dtype or self.a.dtype)
        return torch.zeros(batch_size, *self.a.shape, device=device or self.a.device, dtype=kind)

    def extra_repr(self) -> str:
        """Sizes, for ``print``."""
        return f"channels={self.channels}, sections={self.sections}, dtype={self.b.dtype}"

    def _banks(self, to: Callable[[Tensor], Tensor] = lambda x: x) -> list[TransferFunction]:
        parts = (to(x).unbind(1) for x in (self.b, self.a, self.h0))
        return [TransferFunction(b, a, h0, self.dt) for b, a, h0 in zip(*parts, strict=True)]
