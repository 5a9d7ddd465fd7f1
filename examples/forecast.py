"""For whoever has an LSTM: replace it in a forecaster, and compare both honestly.

The series is real, a membrane potential of 12,000 samples that comes with matplotlib. Both models have about as many
parameters, and the same data, optimiser, learning rates (0.015 and 0.1 were worse for both) and time: steps of the LSTM
take half as long, so that it makes twice as many. After 100 steps of both it was ahead. python examples/forecast.py
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

AHEAD, PAST, LENGTH = 5, 64, 256  # samples ahead, of a window before scoring and in all
STEPS = 400  # of the RTF


class LSTM(nn.Module):  # what is replaced
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.readout = nn.LSTM(1, 28, batch_first=True), nn.Linear(28, 1)

    def forward(self, u: Tensor) -> Tensor:
        return self.readout(self.lstm(u)[0])


def rtf() -> nn.Module:  # what replaces it: two blocks of learned filters, (batch, time, 1) in and out as before
    mixer = partial(RTF, 24, 8, horizon=64, numerator="exact", constraint="reflection")
    return Classifier(Backbone(24, 2, mixer, inputs=1, norm="layer"), 1, head="per_step")


def squared_error(predict: Callable[[Tensor], Tensor], windows: Tensor) -> Tensor:
    return (predict(windows[:, :LENGTH, None])[:, PAST:, 0] - windows[:, PAST + AHEAD :]).square().mean()


def train(model: nn.Module, series: Tensor, rate: float, steps: int) -> None:
    draw, optimizer = torch.Generator().manual_seed(0), torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(steps):
        begin = torch.randint(len(series) - LENGTH - AHEAD, (8, 1), generator=draw)
        optimizer.zero_grad()
        squared_error(model, series[begin + torch.arange(LENGTH + AHEAD)]).backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def rmse(predict: Callable[[Tensor], Tensor], series: Tensor) -> float:
    return squared_error(predict, series.unfold(0, LENGTH + AHEAD, LENGTH - PAST)).sqrt().item()


def main() -> None:  # train on the first 70 % of the series and print errors on the rest
    raw = np.fromfile(cbook.get_sample_data("membrane.dat", asfileobj=False), np.float32)
    cut = int(0.7 * len(raw))
    series = torch.from_numpy((raw - raw[:cut].mean()) / raw[:cut].std())
    past = series[:cut].unfold(0, PAST + AHEAD, 1)
    taps = torch.linalg.lstsq(past[:, :PAST], past[:, -1:]).solution[:, 0].flip(0)
    print(f"{AHEAD} samples ahead, root mean squared error in standard deviations of the series:")
    print(f"  the last value           {rmse(lambda u: u, series[cut:]):.4f}")
    print(f"  linear in the last {PAST}    {rmse(lambda u: lfilter(taps, torch.ones(1), u, axis=1), series[cut:]):.4f}")
    for build, steps in ((LSTM, 2 * STEPS), (rtf, STEPS)):
        for rate in (3e-2, 6e-2):
            torch.manual_seed(0)
            start, model = time.perf_counter(), build()
            train(model, series[:cut], rate, steps)
            told = f"learning rate {rate:g}, {steps} steps in {time.perf_counter() - start:.1f} s"
            name = f"{build.__name__.upper()}, {sum(p.numel() for p in model.parameters()):,} parameters"
            print(f"  {name:<25}{rmse(model, series[cut:]):.4f}  {told}")


if __name__ == "__main__":
    main()
