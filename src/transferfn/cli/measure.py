"""Time and memory of a trained model on test images, in a process of its own so that nothing else is counted.

``python -m transferfn.cli.measure RUN MODE OUT`` with MODE ``parallel`` (whole images at once) or ``stream`` (one pixel
after the other) writes logits and figures to the file OUT.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from transferfn.memory import highest, resident
from transferfn.nn import Stream
from transferfn.training import RunError, load_model

Mode = Literal["parallel", "stream"]
ROWS = 250


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One way to run the model over the test images."""

    logits: Tensor
    """What it computed, (images, classes)."""

    seconds: float
    """Time for all images."""

    peak: int | None
    """Bytes by which the process grew while it computed; None where the system does not tell."""

    kept: int
    """Bytes that one image needs from one pixel to the next: the state, or the features of one layer."""


def measure(run: Path, mode: Mode) -> Measured:
    """Run the best model of a run over its test images in a new process.

    Args:
        run: Folder of the run.
        mode: Whole images at once, or one pixel after the other.

    Raises:
        RunError: if the process fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "measured.pt"
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(run), mode, str(out)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            told = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise RunError(f"the measurement of {run} failed: {told}")
        return Measured(**torch.load(out, weights_only=True))


@torch.inference_mode()
def _measure_here(run: Path, mode: Mode) -> dict[str, Any]:
    model, config = load_model(run)
    images = config.data.load().test
    inputs = images.gather(range(len(images))).inputs
    decoder: Any = model.decoder() if mode == "stream" else None  # pyright: ignore[reportCallIssue]

    def compute(rows: Tensor) -> Tensor:
        return model(rows) if decoder is None else _pixel_by_pixel(Stream(decoder, len(rows)), rows)

    compute(inputs[:ROWS, :4])  # compilers are at work in the first call, and few rows have loops of their own
    compute(inputs[:2])
    before = _start_of_peak()
    start = time.perf_counter()
    logits = torch.cat([compute(rows) for rows in inputs.split(ROWS)])
    seconds = time.perf_counter() - start
    peak = _peak_since(before)
    if decoder is None:
        kept = config.data.signature.length * config.model.width * logits.element_size()
    else:
        kept = _state_bytes(Stream(decoder, 1))
    return {"logits": logits, "seconds": seconds, "peak": peak, "kept": kept}


def _pixel_by_pixel(stream: Stream, images: Tensor) -> Tensor:
    logits = images.new_empty(0)
    for pixel in images.unbind(1):
        logits = stream(pixel)
    return logits


def _state_bytes(stream: Stream) -> int:
    leaves = pytree.tree_leaves(stream.state)
    return sum(leaf.numel() * leaf.element_size() for leaf in leaves if isinstance(leaf, Tensor))


def _start_of_peak() -> int | None:
    """Forget the highest memory use so far, where the system can, and return the present one in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return highest()
    return resident("VmRSS")


def _peak_since(before: int | None) -> int | None:
    """Return the highest memory use since ``_start_of_peak``, less that at the start, in bytes."""
    after = highest()
    return None if before is None or after is None else max(0, after - before)


if __name__ == "__main__":
    torch.save(_measure_here(Path(sys.argv[1]), sys.argv[2]), sys.argv[3])  # pyright: ignore[reportArgumentType]
