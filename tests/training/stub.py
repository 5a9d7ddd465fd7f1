"""A small classifier with dropout and running statistics, and the configuration of a run that takes a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from transferfn.nn.norm import BatchNorm
from transferfn.tasks import Signature, SmnistConfig
from transferfn.training import ModelConfig, OptimizerConfig, TrainConfig


class Stub(nn.Module):
    def __init__(self, config: ModelConfig, data: Signature) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(data.length, config.width),
            nn.BatchNorm1d(config.width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.width, data.outputs),
        )

    def forward(self, inputs: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return self.layers(inputs[..., 0])

    def param_groups(
        self, *, lr: float, weight_decay: float, filter_lr=None, filter_weight_decay=None
    ) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters()), "lr": lr, "weight_decay": weight_decay}]


class Linear(Stub):
    """Without what depends on how a batch is shared out: dropout and statistics of the batch."""

    def __init__(self, config: ModelConfig, data: Signature) -> None:
        super().__init__(config, data)
        self.layers = nn.Sequential(nn.Linear(data.length, data.outputs))


class Normed(Linear):
    """With a batch norm, whose statistics must be those of all processes."""

    def __init__(self, config: ModelConfig, data: Signature) -> None:
        super().__init__(config, data)
        self.layers = nn.Sequential(
            nn.Linear(data.length, 8, bias=False),  # a norm takes a bias away, which would drift by rounding alone
            BatchNorm(8),
            nn.ReLU(),
            BatchNorm(8),
            nn.Linear(8, data.outputs),
        )


def tiny(path: Path, **changes) -> TrainConfig:
    """200 digits of 7 x 7 pixels, 20 held out: 9 steps an epoch, 3 epochs."""
    values = {
        "data": SmnistConfig(published=False, path=path, side=7),
        "model": ModelConfig(width=8, layers=1, order=4, dropout=0.2),
        "optimizer": OptimizerConfig(lr=1e-2),
        "epochs": 3,
        "batch_size": 20,
    }
    return TrainConfig(**(values | changes))
