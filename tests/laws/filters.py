"""The grid of filters every law is held to, and the layers that hold them."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from scipy import signal
from torch import Tensor

from laws.tolerance import C, kappa_of
from transferfn.core import IllConditionedWarning, TransferFunction
from transferfn.core.constrain import step_up
from transferfn.nn import RTF

CHANNELS = 4
GROUPS = (1, 2, CHANNELS)
ROUNDED_AWAY = 0.1  # a tolerance above this allows anything: the type cannot hold the filter's coefficients

F32, F64 = torch.float32, torch.float64
TYPE_IDS = {F32: "f32", F64: "f64"}


@dataclasses.dataclass(frozen=True)
class Filter:
    """A family of denominators with numerators of ordinary size.

    Attributes:
        name: What it is called in test ids.
        order: Order n.
        denominators: From a generator and a number G to a_1..a_n, (G, n).
        numerators: From denominators, one a channel, to b and h0 that go with them; None means random ones.
        constraints: The constraints that can express it.
    """

    name: str
    order: int
    denominators: Callable[[torch.Generator, int], Tensor]
    numerators: Callable[[int], tuple[Tensor, Tensor]] | None = None
    constraints: tuple[str | None, ...] = (None, "reflection")

    def __str__(self) -> str:
        return self.name

    def bank(self, groups: int = CHANNELS, *, seed: int = 0) -> TransferFunction:
        """D channels with G distinct denominators."""
        generator = torch.Generator().manual_seed(seed)
        a = self.denominators(generator, groups)
        gain = 0.5 + torch.rand(CHANNELS, dtype=F64, generator=generator)
        if self.numerators is not None:
            b, h0 = self.numerators(groups)
        else:
            b = torch.randn(CHANNELS, self.order, dtype=F64, generator=generator) / math.sqrt(self.order)
            h0 = torch.randn(CHANNELS, dtype=F64, generator=generator)
        return TransferFunction(gain[:, None] * b, a, gain * h0)

    @property
    def kappa(self) -> float:
        return _kappa(self)

    def fits(self, dtype: torch.dtype) -> bool:
        """Whether coefficients of this type still say which filter it is."""
        return C * torch.finfo(dtype).eps * self.kappa < ROUNDED_AWAY


@cache
def _kappa(one: Filter) -> float:
    return kappa_of(one.bank())


def _comb(memory: float, order: int, generator: torch.Generator, groups: int) -> Tensor:
    a = torch.zeros(groups, order, dtype=F64)
    sign = torch.randint(2, (groups,), generator=generator) * 2 - 1
    a[:, -1] = sign * torch.exp(-order / (memory * (1 + torch.rand(groups, dtype=F64, generator=generator))))
    return a


def _montel(order: int, generator: torch.Generator, groups: int) -> Tensor:
    return (torch.rand(groups, order, dtype=F64, generator=generator) * 2 - 1) / order


def _reflections(spread: float, order: int, generator: torch.Generator, groups: int) -> Tensor:
    return step_up(torch.tanh(spread * torch.randn(groups, order, dtype=F64, generator=generator)))


def _ring(radius: float, order: int, generator: torch.Generator, groups: int) -> Tensor:
    """Pairs of poles of one radius, their angles apart."""
    angles = torch.arange(order // 2) + 0.25 + 0.5 * torch.rand(groups, order // 2, dtype=F64, generator=generator)
    upper = radius * torch.exp(1j * angles * math.pi / (order // 2)).numpy()
    return torch.tensor(np.array([np.poly(np.concatenate((row, row.conj()))).real[1:] for row in upper]))


def _butterworth(order: int, cutoff: float, groups: int) -> tuple[Tensor, Tensor]:
    """scipy's b and a, with a slightly different cut-off for each denominator."""
    designs = [signal.butter(order, cutoff * (1 + 0.1 * g / groups)) for g in range(groups)]
    b, a = (torch.tensor(np.array(part)) for part in zip(*designs, strict=True))
    return b, a


def _butterworth_denominators(order: int, cutoff: float, generator: torch.Generator, groups: int) -> Tensor:
    return _butterworth(order, cutoff, groups)[1][:, 1:]


def _butterworth_numerators(order: int, cutoff: float, groups: int) -> tuple[Tensor, Tensor]:
    b, a = (x.repeat_interleave(CHANNELS // groups, 0) for x in _butterworth(order, cutoff, groups))
    return b[:, 1:] - b[:, :1] * a[:, 1:], b[:, 0]


def _butter(order: int, cutoff: float) -> Filter:
    is_refused = order == 8 and cutoff <= 0.02  # by reflection_parameters: rounding makes another filter of them
    return Filter(
        f"butter{order}@{cutoff}",
        order,
        partial(_butterworth_denominators, order, cutoff),
        partial(_butterworth_numerators, order, cutoff),
        constraints=(None,) if is_refused else (None, "reflection"),
    )


ANY = (None, "l1", "reflection")
SMALL = [
    Filter("comb4", 4, partial(_comb, 400.0, 4), constraints=ANY),
    Filter("montel4", 4, partial(_montel, 4), constraints=ANY),
    Filter("reflections4", 4, partial(_reflections, 0.5, 4)),
    Filter("ring4", 4, partial(_ring, 0.999, 4)),
    *(_butter(order, cutoff) for order in (2, 4, 8) for cutoff in (0.01, 0.02, 0.05, 0.1, 0.2)),
]
LARGE = [
    Filter("comb64", 64, partial(_comb, 400.0, 64), constraints=ANY),
    Filter("montel64", 64, partial(_montel, 64), constraints=ANY),
    Filter("reflections64", 64, partial(_reflections, 0.1, 64)),
    Filter("comb256", 256, partial(_comb, 800.0, 256), constraints=ANY),
    Filter("montel256", 256, partial(_montel, 256), constraints=ANY),
    Filter("reflections256", 256, partial(_reflections, 0.05, 256)),
]


@dataclasses.dataclass(frozen=True)
class Case:
    """A filter of the grid in a layer with certain options."""

    filter: Filter
    dtype: torch.dtype
    numerator: str = "exact"
    constraint: str | None = None
    groups: int = CHANNELS
    horizon: int = 784

    def __str__(self) -> str:
        constraint = self.constraint or "free"
        return f"{self.filter}-{self.numerator}-{constraint}-G{self.groups}-P{self.horizon}-{TYPE_IDS[self.dtype]}"

    def layer(self, *, bidirectional: bool = False, **options: Any) -> RTF:
        """The layer, in eval mode."""
        layer = RTF(
            CHANNELS,
            self.filter.order,
            horizon=self.horizon,
            denominator_groups=self.groups,
            bidirectional=bidirectional,
            numerator=self.numerator,  # pyright: ignore[reportArgumentType]
            init="zeros",
            constraint=self.constraint,  # pyright: ignore[reportArgumentType]
            dtype=self.dtype,
            **options,
        )
        banks = [self.filter.bank(self.groups, seed=seed) for seed in range(2 if bidirectional else 1)]
        if self.numerator == "truncated":
            with warnings.catch_warnings():  # of filters that are ill-conditioned on purpose
                warnings.simplefilter("ignore", IllConditionedWarning)
                parts = [(t.b_tilde, t.a, t.h0_tilde) for t in (bank.truncate(self.horizon) for bank in banks)]
        else:
            parts = [(bank.b, bank.a, bank.h0) for bank in banks]
        layer._assign(*(torch.stack(x) if bidirectional else x[0] for x in zip(*parts, strict=True)))
        return layer.eval()
