"""For those who design: two filters of different kinds, looked at from all sides in one picture.

python examples/look.py results/filters.png
"""

from __future__ import annotations

import sys

import scipy.signal
from matplotlib.figure import Figure

from transferfn import TransferFunction, stack
from transferfn.analysis import plots
from transferfn.analysis.banks import hankel_values
from transferfn.interop.scipy_signal import from_sos

FS = 48_000
NAMES = ["band-pass", "low-pass"]


def design() -> TransferFunction:
    """An elliptic band-pass and a Butterworth low-pass as one bank."""
    band = scipy.signal.ellip(4, 1, 60, [2_000, 5_000], "bandpass", fs=FS, output="sos")
    low = scipy.signal.butter(4, 500, fs=FS, output="sos")
    return stack([from_sos(sos, dt=1 / FS).value for sos in (band, low)])


def picture(h: TransferFunction) -> Figure:
    """Bode plot on the left, time constants and Hankel singular values on the right."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots(2, 2)
    plots.bode(h, labels=NAMES, axes=(axes[0, 0], axes[1, 0]))
    plots.time_constants(h, labels=NAMES, ax=axes[0, 1])
    plots.hankel_values(h, labels=NAMES, ax=axes[1, 1])
    return figure


def main() -> None:
    """Design, tell what there is, and draw it where the caller says."""
    h = design()
    print(h.stability())
    for name, values in zip(NAMES, hankel_values(h), strict=True):
        worth = int((values > 0.01 * values[0]).sum())
        print(f"{name}: {worth} states are worth more than a hundredth of the first")
    figure = picture(h)
    print(f"four pictures of {h.channels} filters of order {h.order}: {[ax.get_ylabel() for ax in figure.axes]}")
    if len(sys.argv) > 1:
        figure.savefig(sys.argv[1], dpi=110)


if __name__ == "__main__":
    main()
