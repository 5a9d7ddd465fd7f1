"""The pictures of a run: how it learned, and a few of the filters it came to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from transferfn.analysis import plots
from transferfn.cli.radii import radii_figure
from transferfn.core import TransferFunction
from transferfn.files import replacing
from transferfn.nn import RTF
from transferfn.training import Result, load_model
from transferfn.training.objective import format_score
from transferfn.training.run import RunFolder, read_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    pictures = [
        ("learning_curve.png", "the score after each epoch", learning_figure(read_rows(folder.metrics), result))
    ]
    radii = radii_figure([("", [read_rows(folder.metrics)])])
    if radii is not None:
        pictures.append(("radii.png", "how long the filters remember while they learn", radii))
    mixers = [module for module in model.modules() if isinstance(module, RTF)]
    if mixers and not any(
        mixer.bidirectional for mixer in mixers
    ):  # a filter in both directions has no transfer function
        h, names = choose(model)
        pictures += [
            ("kernels.png", "a few learned kernels", kernel_figure(h, names, length=config.data.signature.length)),
            ("poles.png", "their poles against the unit circle", pole_figure(h, names)),
            ("bode.png", "the magnitude of their frequency response", bode_figure(h, names)),
        ]
    for name, _, figure in pictures:
        with replacing(folder.pictures / name) as part:
            figure.savefig(part, dpi=200, format="png", bbox_inches="tight", pad_inches=0.06)
    return [(folder.pictures / name, what) for name, what, _ in pictures]


@torch.no_grad()
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
        for mixer in (module for module in block.modules() if isinstance(module, RTF)):
            h = mixer.transfer_function()
            radius = h.poles().abs().amax(-1)
            for channel in range(h.channels):
                group = channel * h.denominator_groups // h.channels
                name = f"layer {layer}, channel {channel + 1}"
                found.append((float(radius[group]), name, (h.b[channel], h.a[group], h.h0[channel])))
    found.sort(key=lambda item: item[:2])
    last = len(found) - 1
    picked = [found[round(last * (0.02 + 0.96 * place / max(1, count - 1)))] for place in range(count)]
    b, a, h0 = (torch.stack([row[2][part] for row in picked]) for part in range(3))
    return TransferFunction(b, a, h0), [f"{name}\nlargest pole radius {radius:.4f}" for radius, name, _ in picked]


def learning_figure(rows: Sequence[dict[str, str]], result: Result) -> Figure:
    """Draw the score after each epoch.

    Args:
        rows: The run's log.
        result: What the run came to.
    """
    rows = [row for row in rows if row[f"train_{result.metric}"]]
    scale = 100 if result.metric == "accuracy" else 1
    unit = {"accuracy": "accuracy (%)", "rmse": "root mean squared error", "bits": "bits a token"}[result.metric]
    curves = {"training": [scale * float(row[f"train_{result.metric}"]) for row in rows]}
    if result.validation_score is not None:
        curves["validation"] = [scale * float(row[f"val_{result.metric}"]) for row in rows]
    figure = _figure(5.0, 3.2)
    ax = figure.add_subplot()
    plots.learning_curve([int(row["epoch"]) + 1 for row in rows], curves, ylabel=unit, ax=ax)
    test = scale * result.test_score
    ax.plot(
        [result.best_epoch],
        [test],
        marker="*",
        markersize=9,
        color=plots.COLOURS[2],
        linestyle="none",
        label=f"test, {format_score(result.metric, result.test_score)}",
    )
    ax.legend(frameon=False, fontsize="small", loc="best")
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
        plots.pole_zero(h, channels=[channel], zeros=False, marks=False, ax=ax)
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
