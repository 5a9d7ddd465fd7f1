"""For the control or DSP person: a designed filter as a layer, and a layer as a designed filter.

python examples/design.py
"""

from __future__ import annotations

import numpy as np
import scipy.signal
import torch

from transferfn import Realization, lfilter
from transferfn.interop.scipy_signal import from_ba


def main() -> None:
    """Go from scipy to a layer and back, close a loop, and tune a cut-off by gradient descent."""
    torch.manual_seed(0)
    num, den = scipy.signal.butter(4, 0.1)
    h = from_ba(num, den, dt=1 / 8000)
    print(h.stability())

    x = torch.randn(1, 2000, 1, dtype=torch.float64)
    ours, theirs = Realization(h)(x), scipy.signal.lfilter(num, den, x.numpy(), axis=1)
    print(f"as a layer against scipy.signal.lfilter: largest difference {np.abs(ours.numpy() - theirs).max():.0e}")

    for gain in (0.5, 2.0):
        loop = h.feedback(gain)
        at_rest = loop.frequency_response(torch.zeros(1)).abs().item()
        print(f"a gain of {gain} around it: {at_rest:.3f} at rest, {loop.stability()}")

    # A one-pole smoother whose pole is fitted to what the Butterworth filter does: lfilter has gradients.
    pole = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([pole], lr=0.02)
    signal, target = x[0, :, 0], torch.tensor(theirs)[0, :, 0]
    for _ in range(150):
        error = lfilter((1 - pole)[None], torch.stack((torch.ones_like(pole), -pole)), signal) - target
        optimizer.zero_grad()
        error.square().mean().backward()
        optimizer.step()
    print(f"nearest one-pole smoother: pole at {pole.item():.3f}, rms error {error.square().mean().sqrt().item():.3f}")


if __name__ == "__main__":
    main()
