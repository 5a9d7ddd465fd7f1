"""What a run tells: rows in a CSV file that survive an interruption, TensorBoard events, and lines on the screen."""

from __future__ import annotations

import csv
import math
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from transferfn.files import replacing
from transferfn.models.parameters import count_parameters
from transferfn.training.objective import Objective, format_score
from transferfn.training.radii import radius_row
from transferfn.training.run import RunError, process_rank, read_rows


class MetricsFile(Logger):
    """A CSV file with a row for each call; a run that continues first drops the rows it will write again.

    Args:
        path: The file.
        resume_step: Steps already done; later rows are dropped.
    """

    def __init__(self, path: Path, *, resume_step: int) -> None:
        super().__init__()
        self.path = path
        self.columns: list[str] = []
        if rank_zero_only.rank == 0:
            self._rewrite([row for row in read_rows(path) if int(row["step"]) <= resume_step], [])

    @property
    def name(self) -> str:
        """Name of the log."""
        return "metrics"

    @property
    def version(self) -> str:
        """There is one version."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the configuration has its own file.

        Args:
            args: Not used.
            kwargs: Not used.
        """

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Add a row.

        Args:
            metrics: Values by name of their column.
            step: Number of steps done.
        """
        row = {"step": step, **metrics}
        if new := [name for name in row if name not in self.columns]:
            self._rewrite(read_rows(self.path), new)
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    def _rewrite(self, rows: list[dict[str, str]], new: list[str]) -> None:
        self.columns = list(dict.fromkeys([*(name for row in rows[:1] for name in row), *self.columns, *new]))
        with replacing(self.path) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            if self.columns:
                writer.writeheader()
            writer.writerows(rows)


class Log(Callback):
    """Gives the loggers a row every few steps and one an epoch, and keeps the sums that it needs through a resume.

    Rows are written before the checkpoint of the same step, so that a run that continues finds all of them.

    Args:
        objective: What the model is trained for and judged by.
        every: Steps between two rows.
        progress: Whether to print a line an epoch, and show a bar on a terminal.
    """

    def __init__(self, objective: Objective, *, every: int, progress: bool) -> None:
        self.objective = objective
        self.every = every
        self.progress = progress
        self.sums: dict[str, Tensor] = {}
        self.step: dict[str, Tensor] = {}  # of the parts of one step; checkpoints are written between steps
        self.seconds = 0.0
        self._clock: float | None = None
        self._trainer: pl.Trainer | None = None
        self._bar: Any = None

    @property
    def elapsed(self) -> float:
        """Seconds of training, over all starts of the run."""
        return self.seconds + (0.0 if self._clock is None else time.monotonic() - self._clock)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, log what the filters remember at birth, and say what will be done.

        Args:
            trainer: The trainer.
            pl_module: The module.
        """
        self._clock, self._trainer = time.monotonic(), trainer
        start = f"continuing after step {trainer.global_step} of" if trainer.global_step else "for"
        steps = int(trainer.num_training_batches) // trainer.accumulate_grad_batches * (trainer.max_epochs or 0)
        self._say(trainer, f"training {count_parameters(pl_module):,} parameters {start} {steps:,} steps")
        if trainer.global_step == 0 and (radii := radius_row(pl_module)):
            _tell(trainer, {"epoch": 0, **radii})

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add a step to the sums and, if it is time, a row to the log.

        Args:
            trainer: The trainer.
            pl_module: The module.
            outputs: What the step returned.
            batch: The samples.
            batch_idx: Number of the batch in its epoch.
        """
        part = {name: _wide(outputs[name]) for name in ("total", "count")}
        part["loss"] = _wide(outputs["mean"]) * part["count"]  # Lightning has divided outputs["loss"] by the parts
        self.sums, self.step = _added(self.sums, part), _added(self.step, part)
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            if trainer.global_step % self.every == 0:
                sums = self._of_all_ranks(self.step)
                loss = finite_loss(sums["loss"] / sums["count"].clamp(min=1), step=trainer.global_step)
                _tell(trainer, {"epoch": trainer.current_epoch, "lr": _learning_rate(trainer), "loss": loss})
            self.step = {}
        self._advance(trainer, batch_idx)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the row of the epoch and show it.

        Args:
            trainer: The trainer.
            pl_module: The module.
        """
        sums, self.sums = {name: float(value) for name, value in self._of_all_ranks(self.sums).items()}, {}
        metric = self.objective.metric
        finite_loss(sums["loss"], step=trainer.global_step)
        row = {
            "epoch": trainer.current_epoch,
            "train_loss": sums["loss"] / sums["count"],
            f"train_{metric}": self.objective.score(sums["total"], sums["count"]),
        }
        row |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        row |= radius_row(pl_module)
        _tell(trainer, row)
        self._close()
        validated = f"  validation {format_score(metric, row[f'val_{metric}']):>6}" if f"val_{metric}" in row else ""
        self._say(
            trainer,
            f"epoch {row['epoch'] + 1:>3}/{trainer.max_epochs}  loss {row['train_loss']:.4f}  "
            f"training {format_score(metric, row[f'train_{metric}']):>6}{validated}  {self.elapsed:7.1f} s",
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock.

        Args:
            trainer: The trainer.
            pl_module: The module.
        """
        self.seconds, self._clock = self.elapsed, None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Take the bar away.

        Args:
            trainer: The trainer.
            pl_module: The module.
            exception: What happened.
        """
        self._close()

    def state_dict(self) -> dict[str, Any]:
        """Return the sums of the epoch so far, over all ranks, and the time spent."""
        return {"sums": self._of_all_ranks(self.sums), "seconds": self.elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the sums and the time.

        Args:
            state_dict: What ``state_dict`` returned.
        """
        self.sums = state_dict["sums"] if process_rank() == 0 else {}  # they are those of all ranks
        self.seconds = state_dict["seconds"]

    def _of_all_ranks(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add up the sums of all ranks, each of which must call this."""
        if self._trainer is None:
            return sums
        device = self._trainer.strategy.root_device
        mine = torch.stack([_wide(torch.as_tensor(sums.get(name, 0.0)).to(device)) for name in _SUMS])
        return dict(zip(_SUMS, self._trainer.strategy.reduce(mine, reduce_op="sum").cpu().unbind(), strict=True))

    def _say(self, trainer: pl.Trainer, line: str) -> None:
        if self.progress and trainer.is_global_zero:
            print(line, flush=True)

    def _advance(self, trainer: pl.Trainer, batch_idx: int) -> None:
        if not (self.progress and trainer.is_global_zero and sys.stderr.isatty()):
            return
        if self._bar is None:
            from tqdm import tqdm

            name = f"epoch {trainer.current_epoch + 1:>3}/{trainer.max_epochs}"
            self._bar = tqdm(total=int(trainer.num_training_batches), desc=name, unit="batch", leave=False)
        self._bar.update(batch_idx + 1 - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class TrainingDivergedError(RunError):
    """Raised when the loss is no longer a finite number; nothing of it is in a checkpoint."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(
            f"the loss is {loss} after {step} steps: lower optimizer.lr or optimizer.filter-lr, clip the gradient "
            "with optimizer.clip 1, or keep the filters stable with model.constraint reflection"
        )


def finite_loss(loss: Tensor | float, *, step: int) -> float:
    """Return a loss as a number.

    Args:
        loss: The loss.
        step: Number of steps done.

    Raises:
        TrainingDivergedError: if it is not finite.
    """
    value = float(loss)
    if not math.isfinite(value):
        raise TrainingDivergedError(step, value)
    return value


_SUMS = ("loss", "total", "count")
"""What is added up over the parts of a step and the steps of an epoch, and over all ranks."""


def _added(sums: dict[str, Tensor], part: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: sums[name] + value if name in sums else value for name, value in part.items()}


def _wide(value: Tensor) -> Tensor:
    """Return a number in float64, in which sums of so many float32 numbers are exact, in any order."""
    return value if value.device.type == "mps" else value.double()  # mps has no float64


def _learning_rate(trainer: pl.Trainer) -> float:
    return trainer.optimizers[0].param_groups[0]["lr"]


def _tell(trainer: pl.Trainer, row: dict[str, Any]) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(row, step=trainer.global_step)
