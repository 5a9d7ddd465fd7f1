"""Convolution with a kernel as long as the sequence: what a filter without a recurrence does under the contract."""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad
from typing_extensions import override

from transferfn.nn.cache import Counts, beginnings, check_memory, remember
from transferfn.nn.mixer import (
    SequenceMixer,
    check_boundaries,
    check_sample,
    check_signal,
    valid_samples,
    values_are_hidden,
)
from transferfn.nn.precision import WideCoefficients
from transferfn.ops.boundaries import filter_segments
from transferfn.ops.filter import signal_dtype, without_autocast
from transferfn.ops.fourier import LongKernel, convolve
from transferfn.typing import Kernel, Lengths, Resets, Sample, Signal, State

ConvolutionState = tuple[Float[Tensor, "B _ D"], Counts]
"""All samples so far, (B, T, D), newest last, and how many of them count for each row, (B)."""


class HorizonError(ValueError):
    """Raised when a sequence is longer than a kernel is known."""


class LongConvolution(WideCoefficients, SequenceMixer):
    """One filter a channel that is known by its impulse response, up to a horizon.

    Whole sequences are filtered by FFT. There is no recurrence: the state is all samples so far, and a step is a dot
    product with them, so that time and memory of a step are proportional to their number. ``resets`` cut rows where
    their values say, which a graph of ``torch.compile`` cannot hold. A sample that is not finite is kept in the state
    as it is, without an error.

    Subclasses say what the impulse response is, and what is to be drawn or learned of it.

    Args:
        channels: Number of channels D.
        horizon: Number of samples M from the beginning of a sequence up to which the impulse response is known.
    """

    def __init__(self, channels: int, horizon: int) -> None:
        super().__init__()
        self.channels, self.horizon = channels, horizon

    @abstractmethod
    def kernel(self, length: int) -> Kernel:
        """The response to a single 1, in float64 where the device has it; differentiable.

        Args:
            length: Number of samples L, at most the horizon.

        Returns:
            h_0..h_(L-1), (D, L).
        """

    def forward(self, u: Signal, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Signal:
        """Filter a whole sequence, starting from rest.

        Args:
            u: Input, (B, L, D).
            lengths: Number of valid samples of each row, (B,), integers; None means all.
            resets: True where the state is cleared before the sample, (B, L); None means nowhere.

        Returns:
            Output, (B, L, D); zero past ``lengths``.

        Raises:
            ValueError: if a sequence is longer than the horizon.
        """
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        return self._filter(u, self._at_rest(u), lengths, resets)

    def extend(
        self, u: Signal, state: State = None, *, lengths: Tensor | None = None, resets: Tensor | None = None
    ) -> tuple[Signal, State]:
        """Filter the next chunk of a sequence and return the state after it: all its samples so far.

        Args:
            u: Next samples, (B, L, D); L may be zero.
            state: State before the chunk; None means rest.
            lengths: Number of valid samples of each row, (B,), integers; None means all.
            resets: True where the state is cleared before the sample, (B, L); None means nowhere.

        Returns:
            Output, (B, L, D), and the state after each row's last valid sample.

        Raises:
            ValueError: if a sequence has become longer than the horizon.
        """
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        if state is None:
            state = self._at_rest(u)
        else:
            check_memory(state, ((u.shape[0], "T", self.channels),), u.shape[0])
        y = self._filter(u, state, lengths, resets)
        if not u.numel():
            return y, state
        past, counts = state
        (past,), counts = remember((past,), counts, (u.to(signal_dtype(u.dtype)),), lengths, resets)
        return y, (past, counts)

    def step(self, u_t: Sample, state: State) -> tuple[Sample, State]:
        """Filter one sample, at a cost proportional to the number of samples so far.

        Args:
            u_t: Sample, (B, D).
            state: State before the sample.

        Returns:
            Output sample, (B, D), and the state after it, one sample larger.

        Raises:
            ValueError: if the sequence has become longer than the horizon.
        """
        check_sample(u_t, self.channels)
        y, state = self.extend(u_t[:, None], state)
        return y[:, 0], state

    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> ConvolutionState:
        """Return the state at rest: no samples.

        Args:
            batch_size: Number of rows B.
            device: Where the state lives; None means where the coefficients are.
            dtype: Type of the signals to come; None means that of the coefficients. It is kept in float32 or wider.
        """
        like = self._like()
        nothing = torch.zeros(
            batch_size, 0, self.channels, device=device or like.device, dtype=signal_dtype(dtype or like.dtype)
        )
        return nothing, torch.zeros(batch_size, device=nothing.device, dtype=torch.long)

    def realize(self, dtype: torch.dtype | None = None) -> FixedConvolution:
        """The same filters with their impulse response up to the horizon computed now and once.

        Args:
            dtype: Type the response is rounded to, float32 or wider; None means that of the coefficients.
        """
        like = self._like()
        with torch.no_grad():
            return FixedConvolution(self.kernel(self.horizon).to(signal_dtype(dtype or like.dtype)))

    def _filter(self, u: Signal, state: ConvolutionState, lengths: Lengths | None, resets: Resets | None) -> Signal:
        """Output of a chunk after what came before it."""
        if not u.numel():
            return u
        past, counts = state
        length, size, given = u.shape[1], past.shape[1] + u.shape[1], u.dtype
        self._check_horizon(size, counts, length, lengths, resets)
        valid = None if lengths is None else valid_samples(lengths, length)[..., None]
        u = u.to(signal_dtype(given))
        u = u if valid is None else torch.where(valid, u, 0)
        counted = torch.arange(size - length, device=u.device) >= (size - length - counts)[:, None]
        past = torch.where(counted[..., None], past.to(u.dtype), 0)
        with without_autocast(u):
            response = pad(self.kernel(min(size, self.horizon)), (0, max(size - self.horizon, 0)))
            if resets is None:
                y = _tail(torch.cat((past, u), 1), response, length)
            else:
                y, _ = filter_segments(
                    lambda rows, before, ends: (convolve(rows, response)[0], None), u, None, lengths, resets
                )
                if past.shape[1]:
                    goes_on = (beginnings(counts, length, resets) < 0)[..., None]
                    y = y + torch.where(goes_on, _tail(torch.cat((past, torch.zeros_like(u)), 1), response, length), 0)
        return (y if valid is None else torch.where(valid, y, 0)).to(given)

    def _check_horizon(
        self, size: int, counts: Counts, length: int, lengths: Lengths | None, resets: Resets | None
    ) -> None:
        """Look how long sequences are, but only if any could be too long."""
        if size <= self.horizon:
            return
        longest = size
        if not values_are_hidden():
            time = torch.arange(length, device=counts.device)
            since = time - beginnings(counts, length, resets) + 1
            longest = int((since if lengths is None else torch.where(time < lengths[:, None], since, 0)).max())
        if longest > self.horizon:
            raise HorizonError(
                f"a sequence has {longest} samples, but the kernel of this {type(self).__name__} is known for "
                f"horizon={self.horizon} samples. Build it with a longer horizon, cut the sequence with resets, or "
                f"take a recurrent filter, such as RTF, which has no such limit."
            )

    def _like(self) -> Tensor:
        """Something of the device and type of the coefficients."""
        return next(x for x in (*self.parameters(), *self.buffers()) if x.is_floating_point())

    def _at_rest(self, u: Signal) -> ConvolutionState:
        nothing = u.new_zeros(u.shape[0], 0, self.channels, dtype=signal_dtype(u.dtype))
        return nothing, torch.zeros(u.shape[0], device=u.device, dtype=torch.long)


class FixedConvolution(LongConvolution):
    """The convolution with given kernels, as a module without parameters.

    Args:
        response: Impulse responses h_0..h_(M-1), (D, M). They are kept in the type they come in, or float32 if that is
            narrower.

    Example:
        >>> layer = FixedConvolution(torch.tensor([[1.0, 0.5, 0.25]]))
        >>> layer(torch.ones(1, 3, 1)).flatten()
        tensor([1.0000, 1.5000, 1.7500])
    """

    response: Tensor

    def __init__(self, response: Kernel) -> None:
        super().__init__(*response.shape)
        self.register_buffer("response", response.detach().to(signal_dtype(response.dtype), copy=True))

    @override
    def kernel(self, length: int) -> Kernel:
        return self.response[:, :length]

    def extra_repr(self) -> str:
        """Sizes, for ``print``."""
        return f"channels={self.channels}, horizon={self.horizon}, dtype={self.response.dtype}"


class FilterBank(LongConvolution):
    """A share of the channels of a long convolution, every so many of them.

    Args:
        whole: Whose channels are shared out.
        index: Which share this one is, from 0.
        banks: Number of shares; channel d here is channel d * banks + index there.
        owner: Whether ``whole`` is a submodule of this share. Of all shares in a model one must be the owner, and only
            one, so that each parameter is there once.

    Raises:
        ValueError: if there is no such share, or the channels cannot be shared out equally.

    Example:
        >>> whole = FixedConvolution(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> FilterBank(whole, 1, banks=2).kernel(2)
        tensor([[3., 4.]])
    """

    whole: LongConvolution

    def __init__(self, whole: LongConvolution, index: int, *, banks: int, owner: bool = True) -> None:
        if banks < 1 or whole.channels % banks or not 0 <= index < banks:
            raise ValueError(
                f"banks must divide the {whole.channels} channels and index be one of 0..banks-1, "
                f"got banks={banks}, index={index}"
            )
        super().__init__(whole.channels // banks, whole.horizon)
        self.index, self.banks = index, banks
        if owner:
            self.whole = whole
        else:
            object.__setattr__(self, "whole", whole)  # an attribute that PyTorch does not list

    @override
    def kernel(self, length: int) -> Kernel:
        return self.whole.kernel(length)[self.index :: self.banks]

    def extra_repr(self) -> str:
        """Sizes, for ``print``."""
        return f"channels={self.channels}, index={self.index}, banks={self.banks}"

    def _like(self) -> Tensor:
        return self.whole._like()


def _tail(u: Signal, response: LongKernel, length: int) -> Tensor:
    """The last samples of a convolution; a single one is a dot product."""
    if length > 1:
        return convolve(u, response)[0][:, u.shape[1] - length :]
    return (u * response[:, : u.shape[1]].flip(-1).mT.to(u.dtype)).sum(1, keepdim=True)
