"""The training of a model as a Lightning module, and its data as a Lightning data module."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

from transferfn.tasks import Batch, Dataset
from transferfn.training.config import OptimizerConfig, RunOptions, TrainConfig
from transferfn.training.loader import Loader
from transferfn.training.objective import Judged, Objective


class TrainingModule(pl.LightningModule):
    """The objective, AdamW, a linear warm-up and a cosine decay stepped every batch.

    What is random in a step, such as dropout, is a pure function of (seed, rank, step), so that a run that was
    interrupted draws the same as one that was not.

    Args:
        model: The model, one with ``param_groups``.
        objective: What it is trained for and judged by.
        optimizer: The optimiser's values.
        steps: Number of steps of the whole run.
        seed: Seed of what is random in a step.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, optimizer: OptimizerConfig, *, steps: int, seed: int
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.optimizer_config = optimizer
        self.steps = steps
        self.seed = seed

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss, and what the score is made of.

        Args:
            batch: The samples.
            batch_idx: Number of the batch in its epoch.
        """
        step = self.current_epoch * int(self.trainer.num_training_batches) + batch_idx
        torch.manual_seed(step_seed(self.seed, rank=self.global_rank, step=step))
        judged = self._judge(batch)
        return {**judged._asdict(), "mean": judged.loss.detach()}  # the loss itself is divided by the parts of a batch

    def on_validation_epoch_start(self) -> None:
        """Forget the sums of the validation before."""
        self._sums = torch.zeros(3, dtype=torch.float64, device="cpu")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add loss and score of the batch to the sums.

        Args:
            batch: The samples.
            batch_idx: Number of the batch.
        """
        judged = self._judge(batch)
        if judged.count:  # a rank may get no samples of the last, smaller batch
            self._sums += torch.stack([judged.loss * judged.count, judged.total, judged.count]).double().cpu()

    def on_validation_epoch_end(self) -> None:
        """Log loss and score over all validation samples, of all ranks."""
        sums = self._sums.float().to(self.device)
        loss, total, count = self.trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        values = {"val_loss": loss / count, f"val_{self.objective.metric}": self.objective.score(total, count)}
        # The log writes them with what else it knows of the epoch; all ranks have the same, which sync_dist asks for.
        self.log_dict(values, logger=False, sync_dist=True)

    def _judge(self, batch: Batch) -> Judged:
        return self.objective.judge(self.model, batch)

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW over the model's own groups and the schedule."""
        values = self.optimizer_config
        groups = self.model.param_groups(  # pyright: ignore[reportCallIssue]
            lr=values.lr,
            weight_decay=values.weight_decay,
            filter_lr=values.filter_lr,
            filter_weight_decay=values.filter_weight_decay,
        )
        optimizer = torch.optim.AdamW(groups, lr=values.lr, weight_decay=values.weight_decay, betas=values.betas)
        warmup = round(values.warmup * self.steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_cosine(step, steps=self.steps, warmup=warmup, floor=values.floor)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class DataModule(pl.LightningDataModule):
    """Training and validation batches of this rank.

    It keeps the position in the training data itself: Lightning gives a loader its state back only if a run stopped
    within an epoch, not at its end.

    Args:
        train: Training samples.
        validation: Validation samples, or None.
        config: What the run computes.
        options: How it is carried out.
    """

    def __init__(self, train: Dataset, validation: Dataset | None, config: TrainConfig, options: RunOptions) -> None:
        super().__init__()
        self.train = train
        self.validation = validation
        self.config = config
        self.options = options
        self._train_loader: Loader | None = None
        self._position: dict[str, Any] = {}

    def train_dataloader(self) -> Loader:
        """Return the loader of the training samples."""
        self.close()
        self._train_loader = self._loader(self.train, training=True)
        if self._position:
            self._train_loader.load_state_dict(self._position)
        return self._train_loader

    def val_dataloader(self) -> Loader | list[Loader]:
        """Return the loader of the validation samples, or none."""
        return [] if self.validation is None else self._loader(self.validation, training=False)

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the training data."""
        return self._position if self._train_loader is None else self._train_loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a position in the training data.

        Args:
            state_dict: What ``state_dict`` returned.
        """
        self._position = state_dict

    def close(self) -> None:
        """Stop the worker processes."""
        if self._train_loader is not None:
            self._train_loader.close()

    def _loader(self, dataset: Dataset, *, training: bool) -> Loader:
        trainer = self.trainer
        assert trainer is not None
        return Loader(
            dataset,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            shuffle=training,
            drop_last=training,
            steps=self.config.epoch_steps if training else None,
            accumulate=self.config.accumulate if training else 1,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            workers=self.options.workers if training else 0,
            start_method=self.options.start_method,
            pin_memory=trainer.strategy.root_device.type == "cuda",
        )


def step_seed(seed: int, *, rank: int, step: int) -> int:
    """Return the seed of what is random in one step of one rank.

    Args:
        seed: Seed of the run.
        rank: Which process.
        step: Number of the batch in the whole run, from 0.
    """
    return int(np.random.SeedSequence([seed, rank, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def warmup_cosine(step: int, *, steps: int, warmup: int, floor: float = 0.0) -> float:
    """Return the factor of the learning rate in a step: a linear rise, then half a cosine down to the floor.

    Args:
        step: Number of the step, from 0.
        steps: Number of all steps.
        warmup: Number of steps of the rise.
        floor: The factor at the end.

    Example:
        >>> [round(warmup_cosine(step, steps=8, warmup=2), 3) for step in range(9)]
        [0.5, 1.0, 1.0, 0.933, 0.75, 0.5, 0.25, 0.067, 0.0]
    """
    if step < warmup:
        return (step + 1) / warmup
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))
    return floor + (1 - floor) * cosine
