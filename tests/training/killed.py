"""A run that kills its process without warning.

It writes the indices of each batch to OUT.batches (and OUT.batches1 of the second process), one line a step, and the
first process dies when so many steps are done.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

from training.stub import tiny
from transferfn.training import RunOptions, fit


class Record(Callback):
    def __init__(self, path: Path, die_at: int) -> None:
        self.path = path
        self.die_at = die_at

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        rank = trainer.global_rank
        with Path(f"{self.path}{rank or ''}").open("a") as file:
            step = trainer.global_step
            file.write(json.dumps({"step": step, "batch": batch_idx, "index": batch.index.tolist()}) + "\n")
        if rank == 0 and trainer.global_step == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)


def run(data: Path, out: Path, die_at: int, devices: int) -> None:
    options = RunOptions(
        out=out, workers=2, checkpoint_every=4, log_every=1, accelerator="cpu", devices=devices, progress=False
    )
    fit(tiny(data), options, callbacks=[Record(Path(f"{out}.batches"), die_at)])
