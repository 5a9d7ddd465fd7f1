"""A run in a process of its own that kills itself without warning: python killed.py DATA OUT STEP DEVICES.

It writes the indices of each batch to OUT.batches (and OUT.batches1 of the second process), one line a step, and the
first process dies when STEP steps are done.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
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


def main() -> None:
    data, out, die_at, devices = sys.argv[1:]
    torch.set_num_threads(1)
    options = RunOptions(
        out=Path(out),
        workers=2,
        checkpoint_every=4,
        log_every=1,
        accelerator="cpu",
        devices=int(devices),
        progress=False,
    )
    fit(tiny(Path(data)), options, callbacks=[Record(Path(f"{out}.batches"), int(die_at))])


if __name__ == "__main__":
    main()
