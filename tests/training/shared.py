"""A run that several processes may share, stopped before so many steps: python shared.py DATA OUT DEVICES UNTIL."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from training.stub import Normed, tiny
from transferfn.training import RunOptions, fit


def run(data: Path, out: Path, devices: int, until: int) -> None:
    options = RunOptions(out=out, accelerator="cpu", devices=devices, checkpoint_every=4)
    callbacks = []
    if until:
        from training.test_resume import StopAt

        callbacks = [StopAt("on_train_batch_start", until)]
    fit(tiny(data, accumulate=2), options, build=Normed, callbacks=callbacks)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
