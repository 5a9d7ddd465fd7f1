"""What defines a run, as typed and frozen values, and their way to JSON and back."""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

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

ConfigT = TypeVar("ConfigT")

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


# ---------------------------------------------------------------------------------------------------- JSON


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as nested dictionaries that JSON can hold.

    Args:
        config: A dataclass of plain values, paths, tuples and further such dataclasses.
    """
    hints = get_type_hints(type(config))
    return {item.name: _plain(hints[item.name], getattr(config, item.name)) for item in fields(config)}


def _plain(kind: Any, value: Any) -> Any:
    if is_dataclass(value):
        tag = {"kind": kind_name(type(value))} if len(_dataclasses(kind)) > 1 else {}
        return tag | to_dict(value)
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _dataclasses(kind: Any) -> list[type]:
    """Return which dataclasses a type allows; where there are several, JSON tells which it is."""
    return [part for part in get_args(kind) if is_dataclass(part) and isinstance(part, type)]


def kind_name(kind: type) -> str:
    """Return what a task, or a kind of model, is called.

    Args:
        kind: The class of its configuration.

    Example:
        >>> kind_name(SmnistConfig)
        'smnist'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__.removesuffix("Config")).lower()


def from_dict(kind: type[ConfigT], values: Any) -> ConfigT:
    """Build a configuration from what ``to_dict`` made of it.

    Args:
        kind: The dataclass to build.
        values: A value for each of its fields.

    Raises:
        ValueError: naming the field that is missing, unknown or of the wrong type.

    Example:
        >>> from_dict(OptimizerConfig, to_dict(OptimizerConfig(lr=0.01))) == OptimizerConfig(lr=0.01)
        True
    """
    return _build(kind, values, "")


def _build(kind: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise ValueError(f"{where or kind.__name__}: expected an object, got {values!r}")
    hints = get_type_hints(kind)
    names = [item.name for item in fields(kind) if item.name in values or item.metadata != LATER]
    if wrong := sorted(set(names) ^ set(values)):
        what = "unknown field" if wrong[0] in values else "missing field"
        raise ValueError(f"{what} {where}{wrong[0]}")
    return kind(**{name: _read(hints[name], values[name], f"{where}{name}") for name in names})


def _read(kind: Any, value: Any, where: str) -> Any:
    """Turn one JSON value into the annotated type, or say where it does not fit."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in parts:
            return None
        if len(kinds := {kind_name(part): part for part in _dataclasses(kind)}) > 1:
            if not isinstance(value, dict) or value.get("kind") not in kinds:
                raise ValueError(f"{where}: expected an object of kind {', '.join(kinds)}, got {value!r}")
            name = value["kind"]
            return _build(kinds[name], {key: value[key] for key in value if key != "kind"}, f"{where}.")
        (kind,) = (part for part in parts if part is not type(None))
        return _read(kind, value, where)
    if is_dataclass(kind):
        return _build(kind, value, f"{where}.")
    if origin is Literal:
        if value not in parts:
            raise ValueError(f"{where}: expected one of {', '.join(map(repr, parts))}, got {value!r}")
        return value
    if origin is tuple and isinstance(value, list) and parts[1:] == (...,):
        return tuple(_read(parts[0], item, where) for item in value)
    if origin is tuple and isinstance(value, list) and len(value) == len(parts):
        return tuple(_read(part, item, where) for part, item in zip(parts, value, strict=True))
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise ValueError(f"{where}: expected {getattr(kind, '__name__', kind)}, got {value!r}")


def differences(mine: Any, other: Any) -> list[str]:
    """Say which fields of two configurations of the same type differ, and how.

    Args:
        mine: A configuration.
        other: The one to compare it with.

    Example:
        >>> differences(OptimizerConfig(lr=0.01), OptimizerConfig(lr=0.02))
        ['lr 0.01 (there 0.02)']
    """
    return list(_differences(to_dict(mine), to_dict(other), ""))


def _differences(mine: dict[str, Any], other: dict[str, Any], where: str) -> Iterator[str]:
    if mine.get("kind") != other.get("kind"):
        yield f"{where}kind {mine['kind']} (there {other['kind']})"
        return
    for name, value in mine.items():
        if isinstance(value, dict):
            yield from _differences(value, other[name], f"{where}{name}.")
        elif value != other[name]:
            yield f"{where}{name} {_told(value)} (there {_told(other[name])})"


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
