"""The folder of a run: what is in it, and whether a run may be started or continued there."""

from __future__ import annotations

import csv
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from transferfn.files import write_json
from transferfn.training.config import RunOptions, TrainConfig
from transferfn.training.objective import Metric
from transferfn.training.serialize import differences, from_dict, to_dict


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a finished run came to."""

    metric: Metric
    """What scores are: accuracy, a share, or the root of the mean squared error."""

    test_score: float
    """Score of the best checkpoint on the test samples."""

    test_loss: float
    """Its mean loss on them."""

    test_samples: int
    """How many there are."""

    validation_score: float | None
    """Score by which the best epoch was chosen; None if nothing was held out."""

    best_epoch: int
    """Number of that epoch, from 1."""

    steps: int
    """Steps of the optimiser."""

    parameters: int
    """Numbers that were learned."""

    seconds: float
    """Time of training and validation, over all starts."""

    peak_memory: int
    """Most bytes that the process, or what it trained on, ever held; of the last start. 0 where it cannot be told."""


class RunError(Exception):
    """Raised when a run cannot be started or continued: says why and what to do, in one line."""


class Terminated(SystemExit):
    """Raised when a process that trains is told to end (SIGTERM): it exits with 143, as if the signal had killed it."""

    def __init__(self) -> None:
        super().__init__(143)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """The files of a run."""

    path: Path
    """The folder."""

    @property
    def config(self) -> Path:
        """What the run computes."""
        return self.path / "config.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of ``last.ckpt`` and ``best.ckpt``."""
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        """The checkpoint to continue from."""
        return self.checkpoints / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return self.checkpoints / "best.ckpt"

    @property
    def metrics(self) -> Path:
        """Rows of what was measured."""
        return self.path / "metrics.csv"

    @property
    def events(self) -> Path:
        """Folder of the TensorBoard log."""
        return self.path / "events"

    @property
    def result(self) -> Path:
        """What a finished run came to."""
        return self.path / "result.json"

    @property
    def tokenizer(self) -> Path:
        """What the tokens of a language model mean, a file of the tokenizers library; runs of old have none."""
        return self.path / "tokenizer.json"

    @property
    def derived(self) -> Path:
        """What marks a run that was made from another one, and was never trained itself."""
        return self.path / "derived.json"

    @property
    def pictures(self) -> Path:
        """Folder of the pictures."""
        return self.path / "pictures"

    def read_config(self) -> TrainConfig:
        """Return the configuration of the run.

        Raises:
            RunError: if there is none, or it cannot be read.
        """
        try:
            return from_dict(TrainConfig, json.loads(self.config.read_text())["config"])
        except FileNotFoundError:
            raise RunError(f"{self.path} holds no run: {self.config.name} is missing") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{self.config} cannot be read ({str(error) or type(error).__name__}): name another folder, "
                "or train anew with --overwrite"
            ) from None

    def read_result(self) -> Result | None:
        """Return what the run came to, or None if it is not finished or the file is damaged: it can be made again."""
        try:
            return from_dict(Result, json.loads(self.result.read_text()))
        except (OSError, ValueError):
            return None

    def read_derivation(self) -> str | None:
        """Return how the run was made from another one, such as "distilled to order 16"; None if it was trained.

        Raises:
            RunError: if it cannot be read.
        """
        try:
            return str(json.loads(self.derived.read_text())["how"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{self.derived} cannot be read ({str(error) or type(error).__name__}): make the run again by "
                "transferfn reduce or distill"
            ) from None

    def clear(self) -> None:
        """Delete what runs write here, and nothing else."""
        for path in (self.checkpoints, self.events, self.pictures):
            shutil.rmtree(path, ignore_errors=True)
        for path in (self.config, self.metrics, self.result, self.tokenizer):
            path.unlink(missing_ok=True)
        self.derived.unlink(missing_ok=True)  # the mark last: it allows all this


def open_run(config: TrainConfig, options: RunOptions) -> RunFolder:
    """Look whether a run may be started, continued or read in its folder; nothing is written.

    Args:
        config: What the run computes.
        options: How it is carried out.

    Raises:
        RunError: if the folder holds a run with another configuration, or one that was made from another run.
    """
    folder = RunFolder(path=options.out)
    if options.overwrite:
        return folder
    if folder.derived.exists():  # its configuration is that of its source, but it is not what training would give
        raise RunError(
            f"{folder.path} holds a run that was {folder.read_derivation()}, not trained: choose another folder with "
            "--out, or delete that run with --overwrite"
        )
    if not (folder.last.exists() or folder.result.exists()):
        return folder
    if not folder.config.exists():
        raise RunError(
            f"{folder.path} holds a run but no {folder.config.name}, so it cannot be told which: choose another "
            "folder with --out, or delete that run with --overwrite"
        )
    if differing := differences(config, folder.read_config()):
        raise RunError(
            f"{folder.path} holds a run with another configuration: {', '.join(differing)}. Choose another "
            "folder with --out, or delete that run with --overwrite"
        )
    return folder


def resume_path(folder: RunFolder, options: RunOptions) -> Path | None:
    """Return the checkpoint to continue from, or None for a new run.

    Args:
        folder: What ``open_run`` returned.
        options: How it is carried out.
    """
    return folder.last if folder.last.exists() and not options.overwrite else None


def begin_run(folder: RunFolder, config: TrainConfig) -> None:
    """Clear the folder for a new run.

    Args:
        folder: What ``open_run`` returned.
        config: What the run computes.

    Raises:
        RunError: if the folder cannot be written.
    """
    if process_rank() == 0:
        try:
            folder.clear()
            folder.checkpoints.mkdir(parents=True, exist_ok=True)
            write_json(folder.config, {"config": to_dict(config)})
        except OSError as error:
            raise RunError(f"the run's folder cannot be written ({error}): choose another with --out") from None


def check_processes(options: RunOptions) -> None:
    """Refuse to be one of several processes that know nothing of each other.

    Args:
        options: How the run is carried out.

    Raises:
        RunError: if torchrun started another number of processes than is asked for.
    """
    started, wanted = os.environ.get("WORLD_SIZE"), options.devices * options.nodes
    if "RANK" in os.environ and started is not None and int(started) != wanted:  # Lightning's own have no RANK
        raise RunError(
            f"torchrun started {started} processes, but --devices {options.devices} and --nodes {options.nodes} ask "
            f"for {wanted}: --devices is the number of processes on each machine, --nodes that of machines"
        )


def process_rank() -> int:
    """Return which process of a distributed run this is; 0 for any other."""
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the whole rows of a CSV file; an interrupted last one is left out.

    Args:
        path: The file; a missing one has no rows.
    """
    if not path.exists():
        return []
    text = path.read_text()
    rows = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
    return [row for row in rows if None not in row.values()]
