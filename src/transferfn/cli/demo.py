"""`transferfn demo`: train, test, stream, and draw what was learned."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from transferfn.analysis import plots
from transferfn.cli.measure import ROWS, Measured, measure
from transferfn.core import TransferFunction
from transferfn.training import Result, RunOptions, fit, load_model
from transferfn.training.recipes import smnist_demo
from transferfn.training.run import RunFolder, read_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def demo(out: Path, *, overwrite: bool = False) -> None:
    """Train a small model on sequential MNIST, stream its test images, draw its filters and print what came out.

    Args:
        out: Folder of the run; a run that was interrupted is continued.
        overwrite: Whether a run that is there already is deleted and started anew.
    """
    start = time.monotonic()
    print("Sequential MNIST: handwritten digits, read one pixel after the other (784 samples a digit).\n")
    result = fit(smnist_demo(), RunOptions(out=out, overwrite=overwrite))
    print("\nStreaming the test images pixel by pixel ...", flush=True)
    parallel, stream = measure(out, "parallel"), measure(out, "stream")
    pictures = draw(out, result)
    print("\n" + "\n".join(summary(result, parallel, stream)))
    print("\npictures")
    for path, what in pictures:
        print(f"  {path}  {what}")
    print(f"\n{time.monotonic() - start:.0f} s in all; everything is in {out}")


# ---------------------------------------------------------------------------------------------------- figures


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
        f"test accuracy   {result.test_accuracy:.1%} on {result.test_samples:,} images; {result.parameters:,} "
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


# ---------------------------------------------------------------------------------------------------- pictures


def draw(out: Path, result: Result) -> list[tuple[Path, str]]:
    """Draw the learning curve and a few learned filters into the run's folder.

    Args:
        out: Folder of the run.
        result: What the training came to.

    Returns:
        The files and what they show.
    """
    folder = RunFolder(path=out)
    folder.pictures.mkdir(exist_ok=True)
    model, config = load_model(out)
    h, names = choose(model)
    pictures = [
        ("learning_curve.png", "accuracy after each epoch", learning_figure(read_rows(folder.metrics), result)),
        ("kernels.png", "a few learned kernels", kernel_figure(h, names, length=config.data.length)),
        ("poles.png", "their poles against the unit circle", pole_figure(h, names)),
        ("bode.png", "the magnitude of their frequency response", bode_figure(h, names)),
    ]
    for name, _, figure in pictures:
        figure.savefig(folder.pictures / name, dpi=200, bbox_inches="tight", pad_inches=0.06)
    return [(folder.pictures / name, what) for name, what, _ in pictures]


def choose(model: nn.Module, count: int = 4) -> tuple[TransferFunction, list[str]]:
    """Choose filters that show the range of what was learned, from the shortest memory to the longest.

    Args:
        model: A classifier with a backbone of filters.
        count: How many.

    Returns:
        A bank of these filters, and what each is called.
    """
    backbone: Any = model.backbone
    found: list[tuple[float, str, tuple[Tensor, Tensor, Tensor]]] = []
    for layer, block in enumerate(backbone.blocks, 1):
        h: TransferFunction = block.mixer.transfer_function()
        radius = h.poles().abs().amax(-1)
        for channel in range(h.channels):
            group = channel * h.denominator_groups // h.channels
            name = f"layer {layer}, channel {channel + 1}"
            found.append((float(radius[group]), name, (h.b[channel], h.a[group], h.h0[channel])))
    found.sort(key=lambda item: item[:2])
    last = len(found) - 1
    picked = [found[round(last * (0.02 + 0.96 * place / max(1, count - 1)))] for place in range(count)]
    b, a, h0 = (torch.stack([row[2][part].detach() for row in picked]) for part in range(3))
    return TransferFunction(b, a, h0), [f"{name}\nlargest pole radius {radius:.4f}" for radius, name, _ in picked]


def learning_figure(rows: Sequence[dict[str, str]], result: Result) -> Figure:
    """Draw accuracy after each epoch.

    Args:
        rows: The run's log.
        result: What the run came to.
    """
    rows = [row for row in rows if row["train_accuracy"]]
    curves = {"training": [100 * float(row["train_accuracy"]) for row in rows]}
    if result.validation_accuracy is not None:
        curves["validation"] = [100 * float(row["val_accuracy"]) for row in rows]
    figure = _figure(5.0, 3.2)
    ax = figure.add_subplot()
    plots.learning_curve([int(row["epoch"]) + 1 for row in rows], curves, ax=ax)
    test = 100 * result.test_accuracy
    ax.plot(
        [result.best_epoch],
        [test],
        marker="*",
        markersize=9,
        color=plots.COLOURS[2],
        linestyle="none",
        label=f"test, {test:.1f} %",
    )
    ax.legend(frameon=False, fontsize="small", loc="lower right")
    return figure


def kernel_figure(h: TransferFunction, names: Sequence[str], *, length: int) -> Figure:
    """Draw one kernel below the other.

    Args:
        h: The filters.
        names: What they are called.
        length: Number of samples.
    """
    figure = _figure(6.0, 1.3 * h.channels + 0.4)
    axes = figure.subplots(h.channels, 1, sharex=True, squeeze=False)[:, 0]
    for channel, (name, ax) in enumerate(zip(names, axes, strict=True)):
        plots.impulse_response(h, length, channels=[channel], ax=ax)
        ax.set_title(name.replace("\n", ", "), fontsize="small", loc="left")
        ax.set_ylabel("")
        ax.label_outer()
    figure.supylabel("impulse response", fontsize="medium")
    return figure


def pole_figure(h: TransferFunction, names: Sequence[str]) -> Figure:
    """Draw the poles of each filter in a picture of its own.

    Args:
        h: The filters.
        names: What they are called.
    """
    figure = _figure(2.2 * h.channels + 0.4, 2.6)
    axes = figure.subplots(1, h.channels, sharex=True, sharey=True, squeeze=False)[0]
    for channel, (name, ax) in enumerate(zip(names, axes, strict=True)):
        plots.pole_zero(h, channels=[channel], ax=ax)
        ax.set_title(name, fontsize="small")
        ax.label_outer()
    return figure


def bode_figure(h: TransferFunction, names: Sequence[str]) -> Figure:
    """Draw the magnitude of the frequency responses.

    Args:
        h: The filters.
        names: What they are called.
    """
    figure = _figure(6.0, 1.3 * h.channels + 0.4)
    axes = figure.subplots(h.channels, 1, sharex=True, squeeze=False)[:, 0]
    for channel, (name, ax) in enumerate(zip(names, axes, strict=True)):
        plots.bode_magnitude(h, channels=[channel], log=False, ax=ax)
        ax.set_title(name.replace("\n", ", "), fontsize="small", loc="left")
        ax.set_ylabel("")
        ax.label_outer()
    figure.supylabel("magnitude (dB)", fontsize="medium")
    return figure


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
