"""For whoever has an LSTM: replace it in a forecaster, and compare both honestly.

The series is real, a membrane potential of 12,000 samples that comes with matplotlib. Both models have about as many
parameters and the same data, steps and optimiser; beside them stand the last value and a linear prediction. With so few
steps the seed matters as much as the model, which is why there are two.

    python examples/forecast.py
"""

from __future__ import annotations

import time

import numpy as np
import torch
from matplotlib import cbook
from torch import Tensor, nn

from transferfn import RTF
from transferfn.models import Backbone, Classifier

AHEAD, PAST, LENGTH, STEPS = 5, 64, 256, 100  # samples ahead; samples before scoring starts; of a window; of training


class LSTMForecaster(nn.Module):
    """What is replaced."""

    def __init__(self, width: int = 28) -> None:
        super().__init__()
        self.lstm, self.readout = nn.LSTM(1, width, batch_first=True), nn.Linear(width, 1)

    def forward(self, u: Tensor) -> Tensor:
        return self.readout(self.lstm(u)[0])


def rtf_forecaster() -> nn.Module:
    """What replaces it: two blocks of learned filters, (batch, time, 1) in and out as before."""
    backbone = Backbone(24, 2, lambda: RTF(24, 8, horizon=LENGTH, constraint="reflection"), inputs=1, norm="layer")
    return Classifier(backbone, 1, head="per_step")


def train(model: nn.Module, series: Tensor, seed: int) -> float:
    """Train on windows of a series and return the seconds that it took."""
    start, draw = time.perf_counter(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=STEPS)
    for _ in range(STEPS):
        begin = torch.randint(len(series) - LENGTH - AHEAD, (8, 1), generator=draw)
        window = series[begin + torch.arange(LENGTH + AHEAD)][..., None]
        error = model(window[:, :LENGTH])[:, PAST:] - window[:, PAST + AHEAD :]
        optimizer.zero_grad()
        error.square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return time.perf_counter() - start


def main() -> None:
    """Train both with two seeds and print errors on the last 30 % of the series, which nothing was fitted to."""
    raw = np.fromfile(cbook.get_sample_data("membrane.dat", asfileobj=False), np.float32)
    cut = int(0.7 * len(raw))
    series = torch.from_numpy((raw - raw[:cut].mean()) / raw[:cut].std())
    test, target = series[cut:-AHEAD], series[cut + PAST + AHEAD :]
    columns = series.unfold(0, PAST, 1)[: cut - PAST - AHEAD + 1]
    weights = torch.linalg.lstsq(columns, series[PAST - 1 + AHEAD : cut, None]).solution
    linear = (test.unfold(0, PAST, 1) @ weights)[1:, 0]
    print(f"{AHEAD} samples ahead, root mean squared error in standard deviations of the series:")
    print(f"  {'the last value':<26}{(test[PAST:] - target).square().mean().sqrt():.4f}")
    print(f"  {f'linear in the last {PAST}':<26}{(linear - target).square().mean().sqrt():.4f}")
    for name, build in (("LSTM", LSTMForecaster), ("RTF", rtf_forecaster)):
        for seed in range(2):
            torch.manual_seed(seed)
            model = build()
            seconds = train(model, series[:cut], seed)
            with torch.no_grad():
                error = (model.eval()(test[None, :, None])[0, PAST:, 0] - target).square().mean().sqrt()
            size = sum(p.numel() for p in model.parameters())
            print(f"  {f'{name}, {size:,} parameters':<26}{error:.4f}  seed {seed}, trained in {seconds:.1f} s")


if __name__ == "__main__":
    main()
