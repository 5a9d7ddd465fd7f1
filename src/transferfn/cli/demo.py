"""`transferfn demo`: train, test, stream, and draw what was learned."""

from __future__ import annotations

import time
from pathlib import Path

from transferfn.cli.measure import ROWS, Measured, measure
from transferfn.cli.pictures import draw
from transferfn.training import Result, RunOptions, TrainConfig, fit
from transferfn.training.recipes import smnist
from transferfn.training.variant import Variant


def demo(out: Path, *, overwrite: bool = False) -> None:
    """Train a small model on sequential MNIST, stream its test images, draw its filters and print what came out.

    Args:
        out: Folder of the run; a run that was interrupted is continued.
        overwrite: Whether a run that is there already is deleted and started anew.
    """
    start = time.monotonic()
    print("Sequential MNIST: handwritten digits, read one pixel after the other (784 samples a digit).\n")
    result = fit(demo_config(), RunOptions(out=out, overwrite=overwrite, accelerator="cpu"))
    print("\nStreaming the test images pixel by pixel ...", flush=True)
    parallel, stream = measure(out, "parallel"), measure(out, "stream")
    pictures = draw(out, result)
    print("\n" + "\n".join(summary(result, parallel, stream)))
    print()
    for path, what in pictures:
        print(f"{path}  {what}")
    print(f"\n{time.monotonic() - start:.0f} s for this command; everything is in {out}")


def demo_config() -> TrainConfig:
    """Return what the demo trains."""
    return smnist(Variant(size="small"))


def summary(result: Result, parallel: Measured, stream: Measured) -> list[str]:
    """Describe what was measured, one thing a line.

    Args:
        result: What the training came to.
        parallel: The test images at once.
        stream: The same images pixel by pixel.
    """
    difference = float((parallel.logits - stream.logits).abs().max())
    scale = float(parallel.logits.abs().max())
    changed = int((parallel.logits.argmax(-1) != stream.logits.argmax(-1)).sum())
    images = len(parallel.logits)
    rows = [
        ("", "parallel", "pixel by pixel"),
        (f"time for {images:,} images", _seconds(parallel.seconds), _seconds(stream.seconds)),
        (f"process grew by ({ROWS} at a time)", _bytes(parallel.peak), _bytes(stream.peak)),
        ("to keep, per image", f"{_bytes(parallel.kept)} a layer", f"{_bytes(stream.kept)} in all"),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    table = [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return [
        f"test accuracy   {result.test_score:.1%} on {result.test_samples:,} images; {result.parameters:,} "
        f"parameters, trained in {result.seconds:.0f} s",
        f"two ways        largest difference of any logit {difference:.1e} (logits up to {scale:.0f}), "
        f"{changed} of {images:,} predictions differ",
        "",
        *table,
    ]


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _bytes(value: int | None) -> str:
    if value is None:
        return "not measured"
    if value < 1e6:
        return f"{value / 1e3:.1f} kB"
    return f"{value / 1e6:.0f} MB"
