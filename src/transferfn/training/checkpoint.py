"""Checkpoints that are whole or absent, written at points from which a run continues exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from transferfn.files import replacing
from transferfn.models.substitutes import Substitute
from transferfn.training.config import TrainConfig
from transferfn.training.log import finite_loss
from transferfn.training.objective import Metric, better, objective, worst
from transferfn.training.saved import KEY, PREFIX
from transferfn.training.serialize import to_dict


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, so that a half-written file never replaces a good one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: What to write.
            path: Where to.
            storage_options: Must be None.
        """
        if storage_options is not None:
            raise TypeError(f"storage_options are not supported, got {storage_options!r}")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, part.open("wb") as file:
            torch.save(checkpoint, file)


class Checkpoints(Checkpoint):
    """Writes ``last.ckpt`` every few steps and after each epoch, and ``best.ckpt`` after the best one.

    No checkpoint is written between the last batch of an epoch and its validation: Lightning would skip that
    validation on resuming.

    Args:
        folder: Where the checkpoints go.
        config: What the run computes; kept in each checkpoint.
        every: Steps between two checkpoints.
    """

    def __init__(self, folder: Path, config: TrainConfig, *, every: int) -> None:
        super().__init__()
        self.folder = folder
        self.config = config
        self.every = every
        self.metric: Metric = objective(config.data.signature.target).metric
        self.best_score = worst(self.metric)
        self.best_loss = float("inf")
        self.best_epoch = -1

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write ``last.ckpt`` if it is time, except after the last batch of an epoch.

        Args:
            trainer: The trainer.
            pl_module: The module.
            outputs: What the step returned.
            batch: The samples.
            batch_idx: Number of the batch in its epoch.
        """
        whole = (batch_idx + 1) % trainer.accumulate_grad_batches == 0  # else gradients are summed up half-way
        if whole and trainer.global_step % self.every == 0 and batch_idx + 1 < trainer.num_training_batches:
            finite_loss(outputs["loss"], step=trainer.global_step)
            trainer.save_checkpoint(self.folder / "last.ckpt")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write ``best.ckpt`` if this epoch is the best so far, then ``last.ckpt``.

        Args:
            trainer: The trainer.
            pl_module: The module.
        """
        metrics = trainer.callback_metrics
        if "val_loss" in metrics:
            score, loss = float(metrics[f"val_{self.metric}"]), float(metrics["val_loss"])
            best = better(self.metric, score, self.best_score) or (score == self.best_score and loss < self.best_loss)
        else:
            score, loss, best = worst(self.metric), float("inf"), True  # nothing to choose by: the last epoch is kept
        if best:
            self.best_score, self.best_loss, self.best_epoch = score, loss, trainer.current_epoch
            trainer.save_checkpoint(self.folder / "best.ckpt")
        trainer.save_checkpoint(self.folder / "last.ckpt")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the configuration, so that a checkpoint tells what it is.

        Args:
            trainer: The trainer.
            pl_module: The module.
            checkpoint: What will be written.
        """
        checkpoint[KEY] = {"config": to_dict(self.config)}

    def state_dict(self) -> dict[str, Any]:
        """Return the best epoch so far."""
        return {"score": self.best_score, "loss": self.best_loss, "epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best epoch so far.

        Args:
            state_dict: What ``state_dict`` returned.
        """
        self.best_score, self.best_loss = state_dict["score"], state_dict["loss"]
        self.best_epoch = state_dict["epoch"]


def write_weights(path: Path, model: nn.Module, config: TrainConfig, substitutes: dict[str, Substitute]) -> None:
    """Write a checkpoint of weights alone: to load, not to continue from.

    Args:
        path: The file.
        model: The model.
        config: What it was built by.
        substitutes: Which of its filters stand in the places of others.
    """
    kept = {"config": to_dict(config), "substitutes": {name: to_dict(one) for name, one in substitutes.items()}}
    weights = {f"{PREFIX}{name}": value for name, value in model.state_dict().items()}
    AtomicCheckpointIO().save_checkpoint({KEY: kept, "state_dict": weights, "loops": {}}, path)
