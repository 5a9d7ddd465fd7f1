"""For the control engineer: from a noisy record with gaps to a transfer function, and on to python-control.

Rao and Garnier's plant, two resonances a decade apart, is excited by noise, in two runs of different lengths that both
start in the middle of a motion; every tenth sample of the sensor is lost.

    python examples/identify.py
"""

from __future__ import annotations

import numpy as np
import scipy.signal

import transferfn
from transferfn import TransferFunctionRegressor


def measure(dt: float, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Two runs of the plant, the sensor's noise a tenth of its signal; and the plant's impulse response."""
    rng = np.random.default_rng(seed)
    num, den, _ = scipy.signal.cont2discrete(([-6400.0, 1600.0], [1.0, 5.0, 408.0, 416.0, 1600.0]), dt)
    inputs, outputs = [], []
    for samples in (1500, 800):
        u = rng.standard_normal(samples + 200)
        y = scipy.signal.lfilter(num.ravel(), den, u)
        y += 0.1 * y.std() * rng.standard_normal(len(y))
        y[rng.random(len(y)) < 0.1] = np.nan
        inputs.append(u[200:])
        outputs.append(y[200:])
    return inputs, outputs, scipy.signal.lfilter(num.ravel(), den, np.eye(400)[0])


def main() -> None:
    """Identify, look at what is left, choose the order, hand over."""
    dt = 0.05
    u, y, truth = measure(dt)
    found = transferfn.fit(u, y, order=4, dt=dt)
    print(found)
    left = found.residuals
    print(f"correlation of residuals and inputs: {left.cross_correlation.abs().max():.3f}, bound {left.bound:.3f}")
    error = np.linalg.norm(found.system.impulse_response(400)[0].numpy() - truth) / np.linalg.norm(truth)
    print(f"error of the impulse response: {error:.1%} of it; {found.system.stability()}")

    for order in (2, 3, 4, 5):  # the order is where the fit to data that were not used stops growing
        model = TransferFunctionRegressor(order=order).fit(u[0], y[0])
        print(f"order {order}: R^2 {model.score(u[1], y[1], initial=y[1]):.4f} on the other run")

    try:
        import control

        from transferfn.interop.control import to_tf
    except ModuleNotFoundError:
        print("python-control is not installed")
        return
    plant = to_tf(found.system)
    for gain in (0.002, 0.2):
        loop = control.feedback(gain * plant, 1)
        print(f"in python-control: with a gain of {gain} around it the largest pole is {max(abs(loop.poles())):.3f}")


if __name__ == "__main__":
    main()
