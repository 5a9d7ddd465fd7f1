"""Models whose mixers are constants and plain tensor operations: what can leave this package.

The operators that this package filters with do not exist elsewhere. Before a whole-sequence forward pass is exported,
every mixer that owns some is replaced by one that convolves, by PyTorch's FFT, with the impulse response that is
computed here once. Steps need no such change but for complex numbers, which ONNX does not have: their pairs of real
numbers are calculated with instead. States stay as they are.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from transferfn.core.modal import ModalSystem
from transferfn.nn import RTF, DPLRRealization, ModalRealization, SequenceMixer
from transferfn.nn.diagonal import DiagonalMixer, DiagonalRealization
from transferfn.nn.lattice_realization import LatticeRealization
from transferfn.nn.long_conv import LongConvolution
from transferfn.nn.mixer import valid_samples
from transferfn.nn.precision import widest
from transferfn.nn.realization import Realization
from transferfn.nn.section_realization import SectionRealization
from transferfn.nn.state_space import StateSpaceMixer

FILTERS = (RTF, Realization, SectionRealization, LatticeRealization, LongConvolution, StateSpaceMixer)


class _Convolving(SequenceMixer):
    """A bank of filters by its impulse responses, (D, M) or (2, D, M) with the future, for at most M samples."""

    kernel: Tensor

    def __init__(self, kernel: Tensor, *, dynamic: bool) -> None:
        super().__init__()
        self.channels, self.dynamic = kernel.shape[-2], dynamic
        self.register_buffer("kernel", pad(kernel, (0, dynamic)))  # a slice of all of it would be taken for a constant

    def forward(self, u: Tensor, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Tensor:
        """Filter sequences from rest.

        Args:
            u: Input, (B, L, D).
            lengths: Number of valid samples of each row, (B,); None means all.
            resets: Must be None.
        """
        _no_resets(resets)
        u = _clear(u, lengths)
        y = self._filter(u.to(self.kernel.dtype)).to(u.dtype)
        return _clear(y, lengths)

    def _filter(self, u: Tensor) -> Tensor:
        length = u.shape[1]
        points = _points(length, self.dynamic)
        if self.kernel.dim() == 2:
            response = _spectrum(self.kernel[:, :length], points)
        else:
            future = self.kernel[1, :, : length - 1].flip(-1)  # the last of the period is the sample before the first
            gap = self.kernel.new_zeros(self.channels, points - 2 * length + 1)
            response = _spectrum(torch.cat((self.kernel[0, :, :length], gap, future), -1), points)
        return torch.fft.irfft(_spectrum(u.mT, points) * response)[..., :length].mT


class _Diagonal(SequenceMixer):
    """A diagonal recurrence with shared states, by the responses of its modes."""

    into: Tensor
    powers: Tensor
    out: Tensor
    feedthrough: Tensor

    def __init__(self, layer: DiagonalMixer, length: int, *, dynamic: bool) -> None:
        super().__init__()
        self.channels, self.bidirectional = layer.channels, layer.bidirectional
        self.is_causal, self.dynamic, self.delay = layer.is_causal, dynamic, int(not layer.shared_sample)
        system, dtype = layer.state_space(), next(iter(layer.state_dict().values())).dtype
        a = system.a.to(torch.complex128)
        powers = a[:, None] ** torch.arange(length, device=a.device)
        C = system.C if layer.bidirectional else system.C[None]
        for name, value in (
            ("into", torch.stack((system.B.real, system.B.imag))),  # (2, P, H)
            ("powers", pad(torch.stack((powers.real, powers.imag)), (0, dynamic))),  # (2, P, L)
            ("out", torch.stack((C.real, -C.imag))),  # (2, directions, H, P)
            ("feedthrough", system.D),
        ):
            self.register_buffer(name, value.detach().to(dtype))

    def forward(self, u: Tensor, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Tensor:
        """Map sequences from rest.

        Args:
            u: Input, (B, L, H).
            lengths: Number of valid samples of each row, (B,); None means all.
            resets: Must be None.
        """
        _no_resets(resets)
        given, u = u.dtype, _clear(u, lengths).to(self.into.dtype)
        v = u[:, None] @ self.into.mT  # (B, 2, L, P)
        y = self._through(v, 0) + self.feedthrough * u
        if self.bidirectional:
            ahead = self._through(v.flip(2), 1).flip(1)
            y = y + (pad(ahead[:, self.delay :], (0, 0, 0, self.delay)) if self.delay else ahead)
        return _clear(y, lengths).to(given)

    def _through(self, v: Tensor, direction: int) -> Tensor:
        """Re(C (powers * v)) from real and imaginary parts."""
        length = v.shape[2]
        points = _points(length, self.dynamic)
        v_real, v_imag = (_spectrum(part.mT, points) for part in v.unbind(1))  # (B, P, F)
        a_real, a_imag = (_spectrum(part[:, :length], points) for part in self.powers.unbind())
        parts = v_real * a_real - v_imag * a_imag, v_real * a_imag + v_imag * a_real
        x = (torch.fft.irfft(part)[..., :length].mT for part in parts)
        return sum(part @ weight.mT for part, weight in zip(x, self.out[:, direction], strict=True))  # pyright: ignore[reportReturnType]


class _Step(SequenceMixer):
    """What stands in for a realized mixer where only steps are taken."""

    def forward(self, u: Tensor, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Tensor:
        """Not there.

        Args:
            u: Input.
            lengths: Lengths.
            resets: Resets.
        """
        raise NotImplementedError("this copy of a decoder takes steps only")


class _ModalStep(_Step):
    """The step of diagonal systems, one a channel, on pairs of real numbers."""

    def __init__(self, system: ModalSystem, dtype: torch.dtype) -> None:
        super().__init__()
        for name, value in (("A", system.A), ("B", system.B), ("C", 2 * system.C)):
            self.register_buffer(name + "_real", value.real.detach().to(dtype, copy=True))
            self.register_buffer(name + "_imag", value.imag.detach().to(dtype, copy=True))
        self.register_buffer("D", system.D.detach().to(dtype))

    def step(self, u_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            u_t: Sample, (B, D).
            state: Real and imaginary parts of the modes, (B, D, N, 2).
        """
        part: Any = self._buffers
        u, x, y = u_t.to(part["D"].dtype)[..., None], state[..., 0], state[..., 1]
        real = part["A_real"] * x - part["A_imag"] * y + part["B_real"] * u
        imag = part["A_real"] * y + part["A_imag"] * x + part["B_imag"] * u
        out = (part["C_real"] * real - part["C_imag"] * imag).sum(-1) + part["D"] * u[..., 0]
        return out.to(u_t.dtype), torch.stack((real, imag), -1)


class _DenseStep(_Step):
    """The step of dense systems, one a channel."""

    def __init__(self, layer: DPLRRealization, dtype: torch.dtype) -> None:
        super().__init__()
        system = layer.state_space()
        for name in "ABCD":
            self.register_buffer(name, getattr(system, name).detach().to(dtype))

    def step(self, u_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            u_t: Sample, (B, D).
            state: The states in pairs, (B, D, N / 2, 2).
        """
        held: Any = self._buffers
        u = u_t.to(held["D"].dtype)
        x = (held["A"] @ state.flatten(2)[..., None])[..., 0] + held["B"] * u[..., None]
        y = (held["C"] * x).sum(-1) + held["D"] * u
        return y.to(u_t.dtype), x.unflatten(2, (-1, 2))


class _DiagonalStep(_Step):
    """The step of a diagonal recurrence with shared states, on pairs of real numbers."""

    def __init__(self, layer: DiagonalRealization, dtype: torch.dtype) -> None:
        super().__init__()
        system = layer.state_space()
        for name, value in (("a", system.a), ("B", system.B), ("C", system.C)):
            self.register_buffer(name + "_real", value.real.detach().to(dtype, copy=True))
            self.register_buffer(name + "_imag", value.imag.detach().to(dtype, copy=True))
        self.register_buffer("D", system.D.detach().to(dtype))

    def step(self, u_t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            u_t: Sample, (B, H).
            state: Real and imaginary parts, (B, P, 2).
        """
        part: Any = self._buffers
        u, x, y = u_t.to(part["D"].dtype), state[..., 0], state[..., 1]
        real = part["a_real"] * x - part["a_imag"] * y + u @ part["B_real"].mT
        imag = part["a_real"] * y + part["a_imag"] * x + u @ part["B_imag"].mT
        out = real @ part["C_real"].mT - imag @ part["C_imag"].mT + part["D"] * u
        return out.to(u_t.dtype), torch.stack((real, imag), -1)


class _ConvolvingStep(_Step):
    """The step of a filter that is known by its response: a dot product with all samples so far."""

    kernel: Tensor

    def __init__(self, layer: LongConvolution) -> None:
        super().__init__()
        self.horizon = layer.horizon
        self.register_buffer("kernel", pad(_kernel(layer, layer.horizon), (0, 1)))

    def step(self, u_t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One step.

        Args:
            u_t: Sample, (B, D).
            state: All samples so far, (B, T, D), newest last, and how many of them count, (B).
        """
        past, counts = state
        both = torch.cat((past, u_t.to(past.dtype)[:, None]), 1)
        y = (self.kernel[:, : both.shape[1]].flip(-1).mT * both).sum(1)
        return y.to(u_t.dtype), (both, counts + 1)


@torch.no_grad()
def frozen_forward(model: nn.Module, length: int, *, dynamic: bool) -> nn.Module:
    """A copy in eval mode whose ``forward`` is made of constants and PyTorch's own operations.

    Args:
        model: A mixer, or a model of mixers.
        length: Number of samples that the forward pass will be given; the largest one if that varies.
        dynamic: Whether it varies.

    Raises:
        ValueError: if a filter is not known for so long.
    """

    def replaced(module: nn.Module) -> nn.Module | None:
        if isinstance(module, DiagonalMixer):
            return _Diagonal(module, length, dynamic=dynamic)
        if isinstance(module, FILTERS):
            return _Convolving(_kernel(module, length), dynamic=dynamic)
        return None

    return _replaced(model, replaced).eval().requires_grad_(False)


@torch.no_grad()
def frozen_step(decoder: nn.Module) -> nn.Module:
    """A copy of a decoder whose ``step`` has no complex numbers, and no sizes that depend on how much it remembers.

    Args:
        decoder: What ``decoder()`` or ``realize()`` returned.
    """

    def replaced(module: nn.Module) -> nn.Module | None:
        if isinstance(module, LongConvolution):
            return _ConvolvingStep(module)
        if isinstance(module, DiagonalRealization):
            return _DiagonalStep(module, module.feedthrough.dtype)
        if isinstance(module, ModalRealization):
            system = module.state_space()
            return _ModalStep(system, module._coefficients().dtype) if system.A.is_complex() else None
        if isinstance(module, DPLRRealization):
            return _DenseStep(module, module._coefficients().dtype)
        return None

    return _replaced(decoder, replaced).eval().requires_grad_(False)


def _replaced(model: nn.Module, replacement: Any) -> nn.Module:
    """A copy with modules replaced, from the outside in."""
    own = replacement(model)
    if own is not None:
        return own
    copy = deepcopy(model)
    for parent in list(copy.modules()):
        for name, child in list(parent.named_children()):
            other = replacement(child)
            if other is not None:
                setattr(parent, name, other)
    return copy


def _kernel(layer: Any, length: int) -> Tensor:
    dtype = next(iter(layer.state_dict().values())).dtype
    if isinstance(layer, LongConvolution):
        if length > layer.horizon:
            raise ValueError(
                f"this model has filters that are known up to their horizon of {layer.horizon} samples: export a "
                f"length of at most that, got {length}"
            )
        kernel = layer.kernel(length)
    elif isinstance(layer, StateSpaceMixer):
        kernel = layer.kernel(length)
    elif isinstance(layer, RTF) and layer.bidirectional:
        system: Any = layer.system()
        whole = hasattr(system, "horizon") and length <= system.horizon
        kernel = system.kernel() if whole else layer.kernel(length)
    else:
        impulse = torch.zeros(1, length, layer.channels, dtype=torch.float64)
        impulse[0, 0] = 1
        kernel = layer(widest(impulse.to(next(iter(layer.state_dict().values())).device)))[0].mT
    return kernel[..., :length].detach().to(dtype).contiguous()


def _points(length: int, dynamic: bool) -> int:
    """Points of a transform: a power of two where the length is known, which is what ONNX transforms fast."""
    return 2 * length if dynamic else max(1 << (2 * length - 2).bit_length(), 2)


def _spectrum(x: Tensor, points: int) -> Tensor:
    """Padded by hand: a number of points as an argument would be taken for a constant where it varies."""
    return torch.fft.rfft(pad(x, (0, points - x.shape[-1])))


def _clear(x: Tensor, lengths: Tensor | None) -> Tensor:
    return x if lengths is None else torch.where(valid_samples(lengths, x.shape[1])[..., None], x, 0)


def _no_resets(resets: Tensor | None) -> None:
    if resets is not None:
        raise ValueError("exported programs take no resets: cut the rows before")
