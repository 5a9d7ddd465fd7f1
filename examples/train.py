"""For the researcher: learn a filter with long memory from its input and output, then read off what was learned.

The teacher is an echo chamber: the signal plus an echo 30 samples later that comes back again and again, 0.8 as loud
each time. A layer of order 32 that starts from a comb, as echoes are, finds both.

    python examples/train.py
"""

from __future__ import annotations

import torch

from transferfn import RTF, TransferFunction


def main() -> None:
    """Train and compare."""
    torch.manual_seed(0)
    delay, order, horizon = 30, 32, 512
    a = torch.zeros(1, order)
    a[0, delay - 1] = -0.8
    b = torch.zeros(1, order)
    b[0, delay - 1] = 0.5
    teacher = TransferFunction(b, a, torch.ones(1))

    layer = RTF(1, order, horizon=horizon, init="comb", constraint="reflection")
    optimizer = torch.optim.Adam(layer.parameters(), lr=2e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    truth = teacher.impulse_response(horizon)
    for step in range(301):
        u = torch.randn(8, horizon, 1)
        target = torch.fft.irfft(torch.fft.rfft(u, 2 * horizon, 1) * torch.fft.rfft(truth.T, 2 * horizon, 0), dim=1)
        loss = (layer(u) - target[:, :horizon]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step:3d}  mean squared error {loss.item():.1e}")

    learned = layer.transfer_function()
    error = (learned.impulse_response(horizon) - truth).norm() / truth.norm()
    strongest = int(learned.a.abs().argmax()) + 1
    print(f"\nrelative error of the learned response {error:.1e}; {learned.stability()}")
    print(f"strongest recursion at lag {strongest}, {learned.a.abs().max():.3f} (the echo: lag {delay}, 0.8)")


if __name__ == "__main__":
    main()
