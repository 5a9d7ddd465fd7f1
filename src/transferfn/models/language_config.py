"""What a language model is made of, and sizes to choose from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import tyro

from transferfn.nn.options import Constraint

LanguageMixer = Literal["hyena-rtf", "hyena", "hyena-s4d", "rtf", "s4", "s4d", "s5", "lru", "attention"]

ConstraintOption = Literal["none", Constraint]
"""What configurations take for the constraint of a layer: "none" where the layer takes None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageModelConfig:
    """What a language model is made of; the defaults are the paper's 125M parameters for WikiText-103.

    Raises:
        ValueError: if a value makes no sense.
    """

    vocabulary: int = 50264
    """Number of distinct tokens; GPT-2's 50,257, filled up to a multiple of 8."""

    mixer: Annotated[LanguageMixer, tyro.conf.arg(aliases=("--mixer",))] = "hyena-rtf"
    """What mixes tokens along time: Hyena with RTF, implicit or S4D filters; a layer of filters alone; or attention."""

    width: Annotated[int, tyro.conf.arg(aliases=("--width",))] = 768
    """Channels of every block."""

    layers: Annotated[int, tyro.conf.arg(aliases=("--layers",))] = 12
    """Number of blocks."""

    mlp: int = 3072
    """Width of the map that ends each block."""

    order: Annotated[int, tyro.conf.arg(aliases=("--order",))] = 64
    """Order n of RTF filters, or number of real states of state-space layers."""

    horizon: int = 1024
    """Samples the filters of RTF and S4 refer to. Implicit filters know no longer sequences."""

    denominator_groups: int | None = None
    """Distinct denominators of a layer of RTF; None gives every channel its own."""

    init: Literal["resonators", "comb", "zeros", "xavier", "montel"] = "xavier"
    """Where the filters of RTF start."""

    constraint: ConstraintOption = "l1"
    """What keeps the filters of RTF stable."""

    rank: int | None = 384
    """Channels of the low-rank mixer that ends Hyena; None takes a linear map."""

    short_width: int = 3
    """Taps of Hyena's short convolution."""

    heads: int = 12
    """Heads of attention, whose positions are rotary."""

    dropout: float = 0.25
    """Dropout of the embedding, of each block, and of the inputs of Hyena's filters."""

    def __post_init__(self) -> None:
        for name in ("vocabulary", "width", "layers", "mlp", "order", "horizon", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.mixer not in get_args(LanguageMixer):
            raise ValueError(f"mixer must be one of {', '.join(get_args(LanguageMixer))}; got {self.mixer!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a probability below 1, got {self.dropout}")


def tiny(vocabulary: int = 256, *, mixer: LanguageMixer = "hyena-rtf", horizon: int = 512) -> LanguageModelConfig:
    """About one million parameters, for bytes and a laptop.

    Args:
        vocabulary: Number of distinct tokens.
        mixer: What mixes tokens along time.
        horizon: Samples the filters refer to.
    """
    return LanguageModelConfig(
        vocabulary=vocabulary,
        mixer=mixer,
        width=128,
        layers=4,
        mlp=512,
        order=16,
        horizon=horizon,
        init="comb",
        constraint="reflection",
        rank=None,
        heads=4,
        dropout=0.0,
    )


def small(vocabulary: int = 8192, *, mixer: LanguageMixer = "hyena-rtf", horizon: int = 1024) -> LanguageModelConfig:
    """Some fourteen million parameters, for a vocabulary of a few thousand tokens.

    Args:
        vocabulary: Number of distinct tokens.
        mixer: What mixes tokens along time.
        horizon: Samples the filters refer to.
    """
    return LanguageModelConfig(
        vocabulary=vocabulary,
        mixer=mixer,
        width=384,
        layers=6,
        mlp=1536,
        order=32,
        horizon=horizon,
        init="comb",
        constraint="reflection",
        rank=None,
        heads=6,
        dropout=0.1,
    )
