"""Checkpoints as they are read: weights and the configuration they were trained with. Needs no training framework."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transferfn.models.substitutes import Substitute
from transferfn.training.config import TrainConfig
from transferfn.training.run import RunError
from transferfn.training.serialize import from_dict

KEY = "transferfn"
"""Where a checkpoint keeps what is ours beside what Lightning writes."""

PREFIX = "model."
"""What the model is called in the module that is trained."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this library; only tensors and plain values are accepted.

    Args:
        path: The file.

    Raises:
        RunError: if it is missing, damaged or something else.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError(f"checkpoint {path} is missing: train first, or name the folder of another run") from None
    except Exception:  # noqa: BLE001 (reading a damaged file can raise anything; what PyTorch advises is to trust it)
        raise RunError(
            f"checkpoint {path} is broken ({path.stat().st_size} bytes that cannot be read as weights): delete it to "
            "start from the beginning, or train anew with --overwrite"
        ) from None
    if not isinstance(checkpoint, dict) or not {KEY, "state_dict", "loops"} <= checkpoint.keys():
        raise RunError(f"{path} is not a checkpoint of transferfn: delete it, or name the folder of another run")
    return checkpoint


def checkpoint_config(checkpoint: dict[str, Any]) -> TrainConfig:
    """Return the configuration that a checkpoint was trained with.

    Args:
        checkpoint: What ``read_checkpoint`` returned.

    Raises:
        RunError: if another version of this library wrote it.
    """
    try:
        return from_dict(TrainConfig, checkpoint[KEY]["config"])
    except ValueError as error:
        raise RunError(f"the run was written by another version of transferfn ({error}): train it again") from None


def checkpoint_substitutes(checkpoint: dict[str, Any]) -> dict[str, Substitute]:
    """Return which filters stand in the places of layers that the configuration builds; there are none after training.

    Args:
        checkpoint: What ``read_checkpoint`` returned.
    """
    kept = checkpoint[KEY].get("substitutes", {})
    return {name: from_dict(Substitute, values) for name, values in kept.items()}


def model_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights of the model in a checkpoint, ready for its ``load_state_dict``.

    Args:
        checkpoint: What ``read_checkpoint`` returned.
    """
    return {name.removeprefix(PREFIX): value for name, value in checkpoint["state_dict"].items()}
