"""For audio: learn the equaliser of a small loudspeaker from a recording, and hand it over as second-order sections.

The sound is a recording that comes with pygame-ce (`pip install pygame-ce`); loudspeaker and microphone are simulated:
a resonance at 180 Hz, a dip at 900 Hz, dull above 1.5 kHz, with some noise. What is learned is the filter back.

    python examples/equalize.py
"""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.signal
from scipy.io import wavfile

import transferfn
from transferfn.interop import scipy_signal

BANDS = (60, 120, 250, 500, 1000, 2000, 4000)


def recording() -> tuple[int, np.ndarray]:
    """Samples a second, and seven seconds of sound without its mean."""
    found = importlib.util.find_spec("pygame")
    if found is None or found.origin is None:
        raise SystemExit("the sound comes with pygame-ce: pip install pygame-ce")
    rate, sound = wavfile.read(Path(found.origin).parent / "examples" / "data" / "house_lo.wav")
    sound = sound.astype(float) / 128
    return rate, sound - sound.mean()


def peak(rate: float, hertz: float, decibels: float, q: float) -> np.ndarray:
    """A bell of an equaliser, one second-order section."""
    w, gain = 2 * np.pi * hertz / rate, 10 ** (decibels / 40)
    alpha = np.sin(w) / (2 * q)
    row = [1 + alpha * gain, -2 * np.cos(w), 1 - alpha * gain, 1 + alpha / gain, -2 * np.cos(w), 1 - alpha / gain]
    return np.array(row) / row[3]


def levels(error: np.ndarray, sound: np.ndarray, rate: int) -> str:
    """How large an error is beside the sound, in decibels, octave by octave."""
    f, p = scipy.signal.welch(error, rate, nperseg=2048)
    _, q = scipy.signal.welch(sound, rate, nperseg=2048)
    rows = [(f > low) & (f <= high) for low, high in pairwise(BANDS)]
    return "".join(f"{10 * np.log10(p[row].sum() / q[row].sum()):8.1f}" for row in rows)


def main() -> None:
    """Play, record, learn the way back on the first two seconds, judge it on the rest."""
    rate, sound = recording()
    shelf = np.r_[scipy.signal.bilinear([1 / (2 * np.pi * 5000), 1], [1 / (2 * np.pi * 1500), 1], rate)]
    dull = np.array([[*shelf[:2], 0, *shelf[2:], 0]])
    speaker = np.vstack((peak(rate, 180, 9, 2.0), peak(rate, 900, -8, 1.5), dull))
    heard = scipy.signal.sosfilt(speaker, sound) + 1e-4 * np.random.default_rng(0).standard_normal(len(sound))
    cut = 2 * rate
    found = transferfn.fit(heard[:cut], sound[:cut], order=6, dt=1 / rate)
    print(found)
    sections, error = scipy_signal.to_sos(found.system)
    print(f"as {sections.shape[1]} second-order sections, off by {float(error.max()):.0e}:")
    print(np.array2string(sections[0], precision=5, suppress_small=True))
    equalized = scipy.signal.sosfilt(sections[0], heard)
    print(f"error beside the sound in dB, the last five seconds, by octave from {BANDS[0]} to {BANDS[-1]} Hz:")
    print("  as heard  " + levels((heard - sound)[cut:], sound[cut:], rate))
    print("  equalised " + levels((equalized - sound)[cut:], sound[cut:], rate))


if __name__ == "__main__":
    main()
