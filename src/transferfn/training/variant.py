"""The forms in which an experiment comes, and the optimiser's values that go with each mixer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from transferfn.models.language_config import LanguageMixer
from transferfn.training.config import MixerName, OptimizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """Which form of an experiment: how large, with which mixer, and whose values where paper and code differ."""

    size: Literal["full", "small"] = "full"
    """The experiment as published, or a small one that a laptop finishes in minutes."""

    mixer: LanguageMixer | None = None
    """What mixes the samples of a block along time, RTF if nothing is said; learning rates are those for it. Language
    models come with all that others come with."""

    source: Literal["code", "paper"] = "code"
    """Whose values hold where the paper and the official code differ."""

    @property
    def layer(self) -> MixerName:
        """The mixer of a model that is no language model."""
        if self.mixer == "hyena-s4d":
            raise ValueError("only language models come with hyena-s4d here: choose another mixer")
        return "rtf" if self.mixer is None else self.mixer

    @property
    def language_mixer(self) -> LanguageMixer:
        """The mixer of a language model, Hyena with RTF filters if nothing is said."""
        return "hyena-rtf" if self.mixer is None else self.mixer


DEFAULT = Variant()
"""The experiment as published, with RTF."""


def optimizer_for(
    variant: Variant,
    *,
    lr: float,
    weight_decay: float,
    filter_lr: float | None,
    filter_weight_decay: float,
    s4_lr: float,
) -> OptimizerConfig:
    """Return the optimiser's values for a mixer.

    Args:
        variant: Which mixer.
        lr: Highest learning rate of RTF's model.
        weight_decay: Its weight decay.
        filter_lr: Highest learning rate of RTF's coefficients; None takes lr.
        filter_weight_decay: Their weight decay.
        s4_lr: Highest learning rate of a model of S4, S4D or S5; their own parameters learn at 0.001, if that is less,
            without decay. What attention and the implicit filters of Hyena learn at, 0.001 or less, is ours.
    """
    match variant.mixer:
        case "s4" | "s4d" | "s5":
            return OptimizerConfig(lr=s4_lr, weight_decay=weight_decay, filter_lr=min(s4_lr, 1e-3))
        case "attention" | "hyena":
            return OptimizerConfig(lr=min(lr, 1e-3), weight_decay=weight_decay)
        case _:
            return OptimizerConfig(
                lr=lr, weight_decay=weight_decay, filter_lr=filter_lr, filter_weight_decay=filter_weight_decay
            )
