"""How long a step of a run takes, and how many steps give several runs equal time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from transferfn.tasks import Batch, Dataset
from transferfn.training.config import TrainConfig
from transferfn.training.fit import seeded_model
from transferfn.training.objective import objective


def step_seconds(configs: Sequence[TrainConfig], *, rounds: int = 7) -> list[float]:
    """Time forward pass, backward pass and the optimiser's step on one thread, those of all runs in turn.

    Reading batches and validation are not in it. Processor time is taken, which other work on the machine lengthens
    less than the clock; the first round warms up.

    Args:
        configs: The runs.
        rounds: Steps of each run.

    Returns:
        The median of each, in seconds.

    Raises:
        RunError: if a configuration makes no model.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            data = {config.data: config.data.load().train for config in configs}
            steps = [_Step(config, data[config.data]) for config in configs]
            times = [[step.seconds() for step in steps] for _ in range(rounds)][1:]
    finally:
        torch.set_num_threads(threads)
    return [statistics.median(found) for found in zip(*times, strict=True)]


class _Step:
    """A training step that can be repeated."""

    def __init__(self, config: TrainConfig, data: Dataset) -> None:
        self.model = seeded_model(config, config.data.signature).train()
        values = config.optimizer
        groups = self.model.param_groups(lr=0.0, weight_decay=0.0)  # pyright: ignore[reportCallIssue]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=values.betas)
        self.goal = objective(config.data.signature.target)
        self.batch: Batch = data.gather(range(config.batch_size))

    def seconds(self) -> float:
        start = time.process_time()
        self.goal.judge(self.model, self.batch).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.process_time() - start


def of_equal_time(config: TrainConfig, *, step: float, minutes: float) -> TrainConfig:
    """Return a run with as many steps as fit in a time, over as many epochs as it had.

    Args:
        config: The run.
        step: Seconds of a step.
        minutes: How long it is to train.

    Example:
        >>> of_equal_time(TrainConfig(epochs=10), step=0.05, minutes=1.0).epoch_steps
        120
    """
    return replace(config, epoch_steps=max(round(60 * minutes / step / config.epochs), 1))
