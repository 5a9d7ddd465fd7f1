"""Long Range Arena with S4, S4D and S5, as published with these layers.

S4: the configuration files of the official code, state-spaces/s4 e757cef, ``configs/experiment/lra``. The official code
of RTF, ruke1ire/RTF 1d9e1e5, has them, too, with Path-X at twice the learning rate; that is taken here. S4D:
the same files run with ``model/layer=s4d``, as the changelog of S4 says; they set ``init: legs``, and the rest is that
layer's default. S5: the commands of lindermanlab/S5 3c18fdb, ``bin/run_experiments``. Where a file sets nothing, its
code's default holds.

What differs, as there are no options for it here: rates of single parameters, which are all slow here and do not decay
(S4 and S4D of 4 states learn step sizes at the model's rate there, S5 those of Text and Retrieval; S5 lets B decay on
ListOps, Image and Path-X, on the first two at the model's rate); the softplus that official step sizes of S4 are of,
here exponentials; and the gate of S5, of one linear map there, of two here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from transferfn.nn.s5 import OutputInit
from transferfn.training.config import OptimizerConfig, TrainConfig
from transferfn.training.layer_options import S4DOptions, S4Options, S5Options

LraTask = Literal["listops", "text", "retrieval", "image", "pathfinder", "path-x"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _S4:
    """What is published of S4 beside its rates; width, depth, normalisation and batches are those of RTF."""

    order: int
    epochs: int
    groups: int | None
    dt_min: float = 1e-3
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _S5:
    """What is published of S5; all blocks begin with a batch norm."""

    width: int
    layers: int = 6
    order: int
    blocks: int
    output_init: OutputInit
    state_lr: float = 1e-3
    lr_factor: float
    weight_decay: float
    dropout: float = 0.0
    batch_size: int
    epochs: int
    warmup_epochs: int = 1
    dt_min: float = 1e-3
    clip_eigenvalues: bool = False


S4_VALUES: dict[LraTask, _S4] = {
    "listops": _S4(order=4, groups=1, epochs=40),
    "text": _S4(order=4, groups=1, epochs=32),
    "retrieval": _S4(order=4, groups=1, epochs=20),
    "image": _S4(order=64, groups=1, epochs=200, dropout=0.1),
    "pathfinder": _S4(order=64, groups=None, epochs=200),
    "path-x": _S4(order=64, groups=None, epochs=50, dt_min=1e-4),
}

S5_VALUES: dict[LraTask, _S5] = {
    "listops": _S5(
        width=128,
        layers=8,
        order=16,
        blocks=8,
        output_init="lecun_normal",
        lr_factor=3.0,
        weight_decay=0.04,
        batch_size=50,
        epochs=40,
    ),
    "text": _S5(
        width=256,
        order=192,
        blocks=12,
        output_init="lecun_normal",
        lr_factor=4.0,
        weight_decay=0.07,
        dropout=0.1,
        batch_size=50,
        epochs=35,
        warmup_epochs=0,
    ),
    "retrieval": _S5(
        width=128,
        order=256,
        blocks=16,
        output_init="truncated_normal",
        lr_factor=2.0,
        weight_decay=0.05,
        batch_size=32,
        epochs=20,
    ),
    "image": _S5(
        width=512,
        order=384,
        blocks=3,
        output_init="lecun_normal",
        lr_factor=4.5,
        weight_decay=0.07,
        dropout=0.1,
        batch_size=50,
        epochs=250,
        clip_eigenvalues=True,
    ),
    "pathfinder": _S5(
        width=192,
        order=256,
        blocks=8,
        output_init="truncated_normal",
        state_lr=9e-4,
        lr_factor=5.0,
        weight_decay=0.03,
        dropout=0.05,
        batch_size=64,
        epochs=200,
    ),
    "path-x": _S5(
        width=128,
        order=256,
        blocks=16,
        output_init="complex_normal",
        state_lr=6e-4,
        lr_factor=3.0,
        weight_decay=0.06,
        batch_size=32,
        epochs=75,
        dt_min=1e-4,
    ),
}


def as_published(config: TrainConfig, task: LraTask) -> TrainConfig:
    """Return a recipe with the values published for its mixer, if that is S4, S4D or S5.

    Args:
        config: The recipe as it is for RTF, but for the mixer and the rates of S4.
        task: What it is about.
    """
    match config.model.mixer:
        case "s4" | "s4d":
            return _with_s4(config, S4_VALUES[task])
        case "s5":
            return _with_s5(config, S5_VALUES[task])
        case _:
            return config


def _with_s4(config: TrainConfig, found: _S4) -> TrainConfig:
    start = {"dt_min": found.dt_min, "groups": found.groups}
    options = {"s4": S4Options(**start)} if config.model.mixer == "s4" else {"s4d": S4DOptions(init="legs", **start)}
    return replace(
        config,
        model=replace(config.model, order=found.order, dropout=found.dropout, mixer_dropout=None, **options),
        optimizer=replace(config.optimizer, weight_decay=0.05),
        epochs=found.epochs,
    )


def _with_s5(config: TrainConfig, found: _S5) -> TrainConfig:
    options = S5Options(
        blocks=found.blocks,
        output_init=found.output_init,
        dt_min=found.dt_min,
        clip_eigenvalues=found.clip_eigenvalues,
    )
    return replace(
        config,
        model=replace(
            config.model,
            width=found.width,
            layers=found.layers,
            order=found.order,
            prenorm=True,
            dropout=found.dropout,
            mixer_dropout=None,
            s5=options,
        ),
        optimizer=OptimizerConfig(
            lr=found.state_lr * found.lr_factor,
            weight_decay=found.weight_decay,
            filter_lr=found.state_lr,
            warmup=found.warmup_epochs / found.epochs,
        ),
        batch_size=found.batch_size,
        epochs=found.epochs,
    )
