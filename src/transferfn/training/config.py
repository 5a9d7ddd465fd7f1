"""What defines a run, as typed and frozen values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from transferfn.models.language_config import ConstraintOption, LanguageModelConfig
from transferfn.nn.options import NamedInit, NumeratorKind
from transferfn.tasks import (
    CopyingConfig,
    DelayConfig,
    DigitsConfig,
    ExcerptsConfig,
    ImageConfig,
    ListopsConfig,
    PathfinderConfig,
    RetrievalConfig,
    SeriesConfig,
    SmnistConfig,
    SpeechCommandsConfig,
    TextConfig,
    TextCorpusConfig,
)
from transferfn.tasks.dataset import LATER
from transferfn.training.layer_options import S4DOptions, S4Options, S5Options

TaskConfig = (
    SmnistConfig
    | CopyingConfig
    | DelayConfig
    | DigitsConfig
    | ExcerptsConfig
    | ImageConfig
    | ListopsConfig
    | PathfinderConfig
    | RetrievalConfig
    | SeriesConfig
    | SpeechCommandsConfig
    | TextConfig
    | TextCorpusConfig
)
"""The tasks that can be trained here."""

MixerName = Literal["rtf", "s4", "s4d", "s5", "lru", "hyena", "hyena-rtf", "attention"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """A stack of blocks with a readout on top."""

    mixer: Annotated[MixerName, tyro.conf.arg(aliases=("--mixer",))] = "rtf"
    """What mixes the samples of a block along time."""

    width: Annotated[int, tyro.conf.arg(aliases=("--width",))] = 64
    """Channels of every block."""

    layers: Annotated[int, tyro.conf.arg(aliases=("--layers",))] = 3
    """Number of blocks."""

    order: Annotated[int, tyro.conf.arg(aliases=("--order",))] = 32
    """Order n of each filter, or number of real states; attention and hyena have none."""

    heads: int = 4
    """Heads of attention."""

    denominator_groups: int | None = None
    """Distinct denominators of a layer of RTF; None gives every channel its own."""

    bidirectional: bool = False
    """Whether filters also run backwards in time; such a model cannot be streamed."""

    numerator: NumeratorKind = "truncated"
    """Which numerator RTF learns: the paper's, relative to the length of the signals, the true one, or taps of the
    normalised lattice, for constraint reflection."""

    init: NamedInit = "resonators"
    """Where the filters of RTF start."""

    feedthrough: Literal["init", "normal"] = field(default="init", metadata=LATER)
    """Feedthrough that the filters of RTF start with: that of init, or drawn from N(0, 1) as in the official code."""

    constraint: ConstraintOption = "reflection"
    """What keeps the filters of RTF stable."""

    norm: Literal["layer", "batch", "none"] = "layer"
    """Normalisation of a block."""

    prenorm: bool = True
    """Whether the normalisation comes before the filter or after the residual sum."""

    gelu: bool = True
    """Whether what a mixer returns goes through a GELU."""

    glu: bool = True
    """Whether each block mixes channels by a gated linear unit."""

    residual: bool = True
    """Whether each block adds its input to its output."""

    dropout: float = 0.0
    """Dropout of what each block returns."""

    mixer_dropout: float | None = None
    """Dropout of what each mixer returns; None takes dropout."""

    head: Literal["mean", "last"] = "mean"
    """Which features are classified, where a sequence has one class: their mean over time or the last ones."""

    s4: S4Options = field(default_factory=S4Options, metadata=LATER)
    """Options of S4."""

    s4d: S4DOptions = field(default_factory=S4DOptions, metadata=LATER)
    """Options of S4D."""

    s5: S5Options = field(default_factory=S5Options, metadata=LATER)
    """Options of S5."""

    def __post_init__(self) -> None:
        for name, untouched in {"s4": S4Options(), "s4d": S4DOptions(), "s5": S5Options()}.items():
            if self.mixer != name and getattr(self, name) != untouched:
                raise ValueError(
                    f"model.{name} holds options of --mixer {name} and would do nothing with --mixer {self.mixer}, got "
                    f"{getattr(self, name)}: leave them out, or choose that mixer"
                )


AnyModelConfig = ModelConfig | LanguageModelConfig
"""A model with a readout for the task, or one that generates text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """AdamW with a linear warm-up and a cosine decay, stepped every batch."""

    lr: float = 1e-2
    """Highest learning rate."""

    weight_decay: float = 0.05
    """Weight decay; biases and norms have none."""

    filter_lr: float | None = None
    """Highest learning rate of the filters' coefficients; None takes lr."""

    filter_weight_decay: float = 0.0
    """Weight decay of the filters' coefficients."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of gradients and of their squares."""

    warmup: float = 0.1
    """Share of all steps in which the learning rate rises, 0 to 1."""

    floor: float = 0.0
    """Share of the highest learning rate that is left at the end, 0 to 1."""

    clip: float | None = None
    """Largest norm of the gradient; None does not clip."""

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay", "filter_lr", "filter_weight_decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"optimizer.{name} must be a finite number, 0 or more; got {value}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optimizer.betas must be at least 0 and less than 1, got {self.betas}")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"optimizer.warmup is a share of all steps, 0 to 1; got {self.warmup}")
        if not 0 <= self.floor <= 1:
            raise ValueError(f"optimizer.floor is a share of the highest learning rate, 0 to 1; got {self.floor}")
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ValueError(f"optimizer.clip is the largest norm of the gradient, more than 0; got {self.clip}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """All that the result of a run depends on."""

    data: TaskConfig = field(default_factory=SmnistConfig)
    """The data."""

    model: AnyModelConfig = field(default_factory=ModelConfig)
    """The model."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The optimiser."""

    epochs: int = 20
    """Passes over the training data, each followed by a validation."""

    epoch_steps: int | None = None
    """Steps of an epoch, the next one going on where it stopped; None means a whole pass."""

    batch_size: int = 50
    """Samples of an optimiser step, over all devices."""

    accumulate: int = 1
    """Parts into which these are split to save memory; their gradients are added up."""

    ema: float | None = None
    """Decay of a running mean of the weights, which then is what is validated and kept; None keeps none."""

    seed: int = 0
    """Seed of the weights, of the order of the samples and of dropout."""

    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"] = "32-true"
    """Number format of the training."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.epoch_steps is not None and self.epoch_steps < 1:
            raise ValueError(f"epoch_steps must be at least 1, got {self.epoch_steps}")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size counts the samples of all parts and must be a multiple of their number, got "
                f"batch_size={self.batch_size} and accumulate={self.accumulate}"
            )
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema must lie between 0 and 1, got {self.ema}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must lie in 0..2^63 - 1, got {self.seed}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """Where and how a run is carried out; none of it changes what is computed from the same batches."""

    out: Path
    """Folder of the run. A run with the same values that is there already is continued."""

    overwrite: bool = False
    """Whether a run that is there already is deleted and started anew."""

    workers: int = 0
    """Processes that gather batches ahead of time."""

    start_method: Literal["fork", "spawn", "forkserver"] | None = None
    """How these processes are started; None takes the platform's default."""

    accelerator: str = "auto"
    """What trains: cpu, gpu, mps, ..."""

    devices: int = 1
    """How many of them on each machine."""

    nodes: int = 1
    """How many machines; start the same command on each with torchrun."""

    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """How several devices share the work: each has a whole model (ddp) or a part of it (fsdp, needs GPUs)."""

    checkpoint_every: int = 50
    """Steps between two checkpoints; one is also written after each epoch."""

    log_every: int = 10
    """Steps between two rows of the log; each epoch has a row, too."""

    progress: bool = True
    """Whether a line an epoch is printed, and a bar shown on a terminal."""

    def __post_init__(self) -> None:
        for name in ("checkpoint_every", "log_every", "devices", "nodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.workers < 0:
            raise ValueError(f"workers must not be negative, got {self.workers}")
