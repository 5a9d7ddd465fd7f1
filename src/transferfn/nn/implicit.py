"""Long kernels as the output of a small network that is asked for each sample: the filter that Hyena began with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from typing_extensions import override

from transferfn.core.checks import check_at_least_one, check_whole
from transferfn.nn.horizon import RelativeToHorizon
from transferfn.nn.long_conv import FilterBank, LongConvolution
from transferfn.nn.mixer import merged
from transferfn.nn.options import parameter_dtype
from transferfn.nn.precision import widest
from transferfn.ops.filter import without_autocast
from transferfn.typing import Kernel

FEATURES_LR = 1e-5
"""Learning rate of learned positional features, as in the official code."""


class ImplicitFilter(RelativeToHorizon, LongConvolution):
    r"""One filter a channel, whose impulse response is a function of time that a network computes.

    k_i = W g(z_i) * (exp(-t_i |delta|) + shift) with t_i = i / (M - 1), where g is a network of sines,
    g <- sin(f * (W g + c)), and z_i are positional features: t_i, and cosines and sines of 2 pi i / M at frequencies
    evenly spread from 1e-4 to (E - 3) / 2. A skip term adds to k_0. The kernel is computed in float64.

    It knows no sequence longer than its horizon, and has no recurrence: see :class:`LongConvolution`. To decode,
    :meth:`realize` it, or each step computes the kernel anew.

    Args:
        channels: Number of channels D.
        horizon: Number of samples M that kernels have. A shorter sequence uses their beginning.
        features: Number of positional features E, odd.
        width: Width of the network.
        hidden: Number of layers of sines.
        frequency: What the learned frequencies f of the sines, one for each unit of a layer, start with.
        decay: After which fractions of the horizon the modulation of the first and of the last channel has fallen to
            ``decay_target``; those of the others are evenly spread in their rates. None means no modulation.
        decay_target: What the modulation falls to, between 0 and 1.
        shift: What the modulation ends at.
        normalized: Whether each sample of the kernel is divided by the sum of its absolute values over the channels.
        learned_features: Whether the positional features are parameters, (M, E), that only begin as they are above.
            :meth:`param_groups` lets them learn at 1e-5, as the official code does.
        skip: Whether there is a learned skip term.
        device: Where the parameters live.
        dtype: Their type; None means PyTorch's default. Types narrower than float32 become float32.

    Raises:
        TypeError: if a size is no whole number.
        ValueError: if the sizes or options make no sense.

    Source:
        Poli et al. 2023, arXiv:2302.10866; the details are those of its official implementation, which always learns
        the features.

    Example:
        >>> layer = ImplicitFilter(4, horizon=16, width=8)
        >>> u = torch.randn(2, 10, 4)
        >>> y, state = layer.extend(u[:, :9])
        >>> last, state = layer.step(u[:, 9], state)
        >>> torch.allclose(torch.cat((y, last[:, None]), 1), layer(u), atol=1e-5)
        True
    """

    relative = "frequencies"  # as all others: time is counted in shares of the horizon

    def __init__(
        self,
        channels: int,
        *,
        horizon: int,
        features: int = 3,
        width: int = 64,
        hidden: int = 3,
        frequency: float = 1.0,
        decay: tuple[float, float] | None = (1.5, 0.3),
        decay_target: float = 0.01,
        shift: float = 0.0,
        normalized: bool = False,
        learned_features: bool = False,
        skip: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        sizes = {"channels": channels, "horizon": horizon, "features": features, "width": width, "hidden": hidden}
        _check_options(sizes, decay, decay_target, shift)
        super().__init__(channels, horizon)
        self.features, self.width, self.frequency = features, width, frequency
        self.decay, self.decay_target, self.shift, self.normalized = decay, decay_target, shift, normalized
        dtype = parameter_dtype(dtype)

        def layer(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
            return nn.Linear(inputs, outputs, bias=bias, device=device, dtype=dtype)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, device=device, dtype=dtype))

        self.layers = nn.ModuleList(layer(features if i == 0 else width, width) for i in range(hidden))
        self.frequencies = parameter(width)
        self.readout = layer(width, channels, bias=False)
        self.skip = parameter(channels) if skip else None
        self.positions = parameter(horizon, features) if learned_features else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the parameters anew: weights and biases uniform in +-1/sqrt(inputs), skip terms normal.

        Args:
            generator: Source of randomness, on the CPU; None means PyTorch's default.
        """
        for layer in (*self._linears(), self.readout):
            bound = layer.in_features**-0.5
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        nn.init.constant_(self.frequencies, self.frequency)
        if self.skip is not None:
            nn.init.normal_(self.skip, generator=generator)
        if self.positions is not None:
            self.positions.copy_(positional_features(self.horizon, self.features).to(self.positions))

    def kernel_without_skip(self, length: int | None = None) -> Kernel:
        """The kernel without the skip term, in float64 where the device has it; differentiable.

        Args:
            length: Number of samples L; None means the horizon.

        Returns:
            k_0..k_(L-1), (D, L).

        Raises:
            TypeError: if the length is no whole number.
            ValueError: if it is asked for more samples than the horizon.
        """
        length = self.horizon if length is None else length
        check_whole("length", length)
        if not 0 <= length <= self.horizon:
            raise ValueError(f"length must lie in 0..{self.horizon}, the horizon, got {length}")
        device = self.readout.weight.device
        with without_autocast(self.readout.weight):
            if self.positions is None:
                g = widest(positional_features(self.horizon, self.features, device=device)[:length])
            else:
                g = widest(self.positions[:length])
            frequencies = widest(self.frequencies)
            for layer in self._linears():
                g = torch.sin(frequencies * linear(g, widest(layer.weight), widest(layer.bias)))
            k = linear(g, widest(self.readout.weight))
            if self.decay is not None:
                t = torch.arange(length, device=device, dtype=k.dtype) / max(self.horizon - 1, 1)
                k = k * (torch.exp(-t[:, None] * self.decay_rates()) + self.shift)
            if self.normalized:
                k = k / k.abs().sum(-1, keepdim=True)
        return k.mT

    @override
    def kernel(self, length: int) -> Kernel:
        k = self.kernel_without_skip(length)
        if self.skip is None or not length:
            return k
        return torch.cat((k[:, :1] + widest(self.skip)[:, None], k[:, 1:]), 1)

    def decay_rates(self) -> Tensor:
        """How fast the modulation decays, per horizon: |delta|, (D).

        Raises:
            ValueError: if there is no modulation.
        """
        if self.decay is None:
            raise ValueError("this filter has no modulation, decay=None")
        slow, fast = (-math.log(self.decay_target) / fraction for fraction in self.decay)
        like = widest(self.frequencies)
        return torch.linspace(slow, fast, self.channels, dtype=like.dtype, device=like.device)

    def split(self, banks: int) -> list[FilterBank]:
        """Share out the channels to several filters with this one in common, for a Hyena of higher order.

        The first of them registers it as its submodule, the others refer to it: they belong into one model.

        Args:
            banks: Number of filters; channel d of the i-th is channel d * banks + i here.

        Raises:
            ValueError: if the channels cannot be shared out equally.

        Example:
            >>> [bank.channels for bank in ImplicitFilter(8, horizon=16).split(2)]
            [4, 4]
        """
        return [FilterBank(self, index, banks=banks, owner=index == 0) for index in range(banks)]

    def filter_parameters(self) -> Iterable[nn.Parameter]:
        """All but the positional features, whose rates are fixed."""
        return (p for p in self.parameters() if p is not self.positions)

    def param_groups(self, *, lr: float | None = None, weight_decay: float | None = None) -> list[dict[str, Any]]:
        """Optimizer groups: the filter's parameters, and learned positional features at 1e-5 without decay.

        Args:
            lr: Learning rate, of all but the features; None leaves the optimizer's.
            weight_decay: Weight decay, of all but the features; None leaves the optimizer's.

        Example:
            >>> layer = ImplicitFilter(4, horizon=16, learned_features=True)
            >>> [(len(group["params"]), group["lr"]) for group in layer.param_groups(lr=1e-3)]
            [(9, 0.001), (1, 1e-05)]
        """
        features = [] if self.positions is None else [self.positions]
        own = {"params": features, "lr": FEATURES_LR, "weight_decay": 0.0}
        return merged([own, *super().param_groups(lr=lr, weight_decay=weight_decay)])[::-1]

    def extra_repr(self) -> str:
        """Sizes and options, for ``print``."""
        parts = [f"{self.channels}, horizon={self.horizon}, features={self.features}, width={self.width}"]
        parts.append(f"decay={self.decay}, decay_target={self.decay_target}, shift={self.shift}")
        parts += [f"{name}=True" for name, on in (("normalized", self.normalized),) if on]
        return ", ".join(parts)

    def _linears(self) -> list[nn.Linear]:
        return list(self.layers)  # pyright: ignore[reportReturnType]


def positional_features(horizon: int, features: int, *, device: torch.device | str | None = None) -> Tensor:
    """What tells a network the time: the time itself, and cosines and sines of it.

    Args:
        horizon: Number of samples M.
        features: Number of features E, odd.
        device: Where they are wanted.

    Returns:
        i / (M - 1), then cos(f 2 pi i / M), then -sin(f 2 pi i / M), (M, E), float64 where the device has it; the
        frequencies f go from 1e-4 to (E - 3) / 2.

    Example:
        >>> positional_features(3, 3)
        tensor([[ 0.0000,  1.0000, -0.0000],
                [ 0.5000,  1.0000, -0.0002],
                [ 1.0000,  1.0000, -0.0004]], dtype=torch.float64)
    """
    wide = torch.float32 if torch.device(device or "cpu").type == "mps" else torch.float64
    bands = (features - 1) // 2
    time = torch.arange(horizon, dtype=wide, device=device)[:, None]
    frequencies = torch.linspace(1e-4, bands - 1, bands, dtype=wide, device=device) if bands > 1 else 1e-4
    angle = (2 * math.pi / horizon) * time * frequencies if bands else time[:, :0]
    return torch.cat((time / max(horizon - 1, 1), angle.cos(), -angle.sin()), -1)


def _check_options(sizes: dict[str, int], decay: tuple[float, float] | None, decay_target: float, shift: float) -> None:
    check_at_least_one(**sizes)
    if sizes["features"] % 2 == 0:
        raise ValueError(
            f"features must be odd: the time, and pairs of a cosine and a sine; got features={sizes['features']}"
        )
    if decay is None:
        if shift:
            raise ValueError(f"shift is what the modulation ends at, but decay=None means none; got shift={shift}")
        return
    is_pair = isinstance(decay, Sequence) and len(decay) == 2 and all(isinstance(x, Real) for x in decay)
    if not is_pair or not all(0 < fraction < math.inf for fraction in decay):
        raise ValueError(
            f"decay must be a pair of positive fractions of the horizon, that of the first and that of the last "
            f"channel, or None, got {decay!r}"
        )
    if not 0 < decay_target < 1:
        raise ValueError(f"decay_target must lie between 0 and 1, got {decay_target}")
