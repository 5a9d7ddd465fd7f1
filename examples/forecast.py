"""For whoever has an LSTM: replace it in a forecaster, and compare both honestly.

The series is real, a membrane potential of 12,000 samples that comes with matplotlib. Both models have about as many
parameters, the same data, steps and optimiser, and each the better of two learning rates on held-out samples.

    python examples/forecast.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from matplotlib import cbook
from torch import Tensor, nn

from transferfn import RTF, lfilter
from transferfn.models import Backbone, Classifier

AHEAD, PAST, LENGTH, STEPS = 5, 64, 256, 200  # samples ahead; samples before scoring starts; of a window; of training


class LSTM(nn.Module):
    """What is replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.readout = nn.LSTM(1, 28, batch_first=True), nn.Linear(28, 1)

    def forward(self, u: Tensor) -> Tensor:
        return self.readout(self.lstm(u)[0])


def rtf() -> nn.Module:
    """What replaces it: two blocks of learned filters, (batch, time, 1) in and out as before."""
    mixer = partial(RTF, 24, 8, horizon=32, numerator="exact", constraint="reflection")
    return Classifier(Backbone(24, 2, mixer, inputs=1, norm="layer"), 1, head="per_step")


def train(model: nn.Module, series: Tensor, rate: float) -> None:
    """Train on windows of a series."""
    draw, optimizer = torch.Generator().manual_seed(0), torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=STEPS)
    for _ in range(STEPS):
        begin = torch.randint(len(series) - LENGTH - AHEAD, (8, 1), generator=draw)
        window = series[begin + torch.arange(LENGTH + AHEAD)][..., None]
        optimizer.zero_grad()
        (model(window[:, :LENGTH])[:, PAST:] - window[:, PAST + AHEAD :]).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


def rmse(predict: Callable[[Tensor], Tensor], series: Tensor) -> float:
    """Root mean squared error over a whole series, after its first samples."""
    with torch.no_grad():
        error = predict(series[None, :-AHEAD, None])[0, PAST:, 0] - series[PAST + AHEAD :]
    return error.square().mean().sqrt().item()


def main() -> None:
    """Choose each model's learning rate on held-out samples, and print errors on the last 30 % of the series."""
    raw = np.fromfile(cbook.get_sample_data("membrane.dat", asfileobj=False), np.float32)
    first, cut = int(0.6 * len(raw)), int(0.7 * len(raw))
    series = torch.from_numpy((raw - raw[:cut].mean()) / raw[:cut].std())
    past = series[:cut].unfold(0, PAST + AHEAD, 1)
    taps = torch.linalg.lstsq(past[:, :PAST], past[:, -1:]).solution[:, 0].flip(0)
    print(f"{AHEAD} samples ahead, root mean squared error in standard deviations of the series:")
    print(f"  the last value           {rmse(lambda u: u, series[cut:]):.4f}")
    print(f"  linear in the last {PAST}    {rmse(lambda u: lfilter(taps, torch.ones(1), u, axis=1), series[cut:]):.4f}")
    for build in (LSTM, rtf):
        tried = []
        for rate in (1e-2, 3e-2):
            torch.manual_seed(0)
            start, model = time.perf_counter(), build()
            train(model, series[:first], rate)
            seconds = time.perf_counter() - start
            tried.append((rmse(model, series[first:cut]), rmse(model, series[cut:]), rate, seconds))
        _, test, rate, seconds = min(tried)
        size = f"{build.__name__.upper()}, {sum(p.numel() for p in model.parameters()):,} parameters"
        print(f"  {size:<25}{test:.4f}  learning rate {rate:g}, trained in {seconds:.1f} s")


if __name__ == "__main__":
    main()
