"""Time of one layer beside RTF as it was published and beside the floor: ``python -m transferfn.bench.layer``.

The floor is a convolution with a free kernel and no parametrisation at all, on its favourite layout. Calls of all sides
alternate in one run, so that what else the machine does hits them alike: read the ratios. No ratio is printed unless
the outputs agree.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import Tensor, nn

from transferfn.bench.machine import machine
from transferfn.core import TruncatedTransferFunction
from transferfn.nn import RTF

COMMAND = "python -m transferfn.bench.layer"
SHAPES = ((4, 1024, 64), (4, 4096, 64), (1, 16384, 64), (16, 784, 128), (4, 4096, 6))
ORDERS = (4, 16, 64, 256, 1024)
SAME = 1e-4  # largest difference of two sides' outputs, relative to the largest value: they compute in float32
SECONDS = 1.0  # of each cell's measurement, about

Row = dict[str, Any]
Side = Callable[[], Tensor]


class PublishedRTF(nn.Module):
    """The layer's forward pass as the paper writes it: transforms along the time axis of (B, L, D), all in float32.

    Args:
        system: Its coefficients at the start.
    """

    def __init__(self, system: TruncatedTransferFunction) -> None:
        super().__init__()
        self.horizon = system.horizon
        self.b, self.a, self.h0 = (
            nn.Parameter(x.detach().float()) for x in (system.b_tilde, system.a, system.h0_tilde)
        )

    def forward(self, u: Tensor) -> Tensor:
        """Filter a signal.

        Args:
            u: Input, (B, L, D), L at most the horizon.
        """
        length, pad = u.shape[1], torch.nn.functional.pad
        response = torch.fft.rfft(pad(self.b, (1, 0)), self.horizon) / torch.fft.rfft(
            pad(self.a, (1, 0), value=1.0), self.horizon
        )
        kernel = torch.fft.irfft(response, self.horizon)[:, :length].T
        spectrum = torch.fft.rfft(u, 2 * length, dim=1) * torch.fft.rfft(kernel, 2 * length, dim=0)
        return torch.fft.irfft(spectrum, 2 * length, dim=1)[:, :length] + self.h0 * u


def cell(
    shape: tuple[int, int, int], order: int, numerator: Literal["truncated", "exact"], *, seconds: float = SECONDS
) -> Row | None:
    """Measure one shape and order, forward and training, in milliseconds and in ratios to ours.

    Args:
        shape: B, L and D.
        order: Order n.
        numerator: Which numerator our layer learns; the published one is truncated.
        seconds: How long to measure.

    Returns:
        The figures, or None where the order does not fit the length.

    Raises:
        ArithmeticError: if the sides do not compute the same.
    """
    _, length, channels = shape
    if order >= length:
        return None
    torch.manual_seed(0)
    ours = RTF(channels, order, horizon=length, numerator=numerator)
    with torch.no_grad():
        tf = ours.transfer_function()
        published = PublishedRTF(tf.truncate(length))
        kernel = nn.Parameter(tf.impulse_response(length).float())
    u = torch.randn(shape, requires_grad=True)
    channels_first = u.detach().mT.contiguous().requires_grad_()
    cotangent = torch.randn(shape)

    def floor() -> Tensor:
        spectrum = torch.fft.rfft(channels_first, 2 * length) * torch.fft.rfft(kernel, 2 * length)
        return torch.fft.irfft(spectrum, 2 * length)[..., :length]

    sides: dict[str, tuple[Side, Tensor, list[Tensor]]] = {
        "ours": (lambda: ours(u), cotangent, [u, *ours.parameters()]),
        "published": (lambda: published(u), cotangent, [u, *published.parameters()]),
        "floor": (floor, cotangent.mT.contiguous(), [channels_first, kernel]),
    }
    row: Row = {"B, L, D": ", ".join(map(str, shape)), "n": order, "numerator": numerator}
    with torch.no_grad():
        found = ours(u)
        for name, other in (("published", published(u)), ("floor", floor().mT)):
            error = float((other - found).abs().max() / found.abs().max())
            if not error <= SAME:
                raise ArithmeticError(
                    f"{name} and ours differ by {error:.1e} at {row}: no ratio of them means anything"
                )

        def without_gradients(side: Side) -> Callable[[], object]:
            return torch.no_grad()(side)

        times = _alternate({name: without_gradients(side) for name, (side, _, _) in sides.items()}, seconds)
    row |= _figures("forward", times)

    def training(side: Side, weights: Tensor, inputs: list[Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(side(), inputs, weights)

    times = _alternate({name: training(*parts) for name, parts in sides.items()}, seconds)
    return row | _figures("training", times)


def report(*, quick: bool = False, out: Path = Path("results/layer.json")) -> None:
    """Measure, print Markdown and write JSON.

    Args:
        quick: One shape and three orders only.
        out: File for the figures.
    """
    command = COMMAND + " --quick" * quick
    found: Row = {"command": command, "machine": machine("torch", "numba"), "threads": torch.get_num_threads()}
    told = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    print(f"`{command}` on {told}, {found['threads']} threads; float32, medians\n")
    found["cells"] = []
    for row in cells(SHAPES[:1] if quick else SHAPES, ORDERS[:3] if quick else ORDERS):
        if not found["cells"]:
            print(f"| {' | '.join(row)} |\n|{'---|' * len(row)}")
        print(f"| {' | '.join(x if isinstance(x, str) else f'{x:.3g}' for x in row.values())} |", flush=True)
        found["cells"].append(row)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")


def cells(shapes: tuple[tuple[int, int, int], ...], orders: tuple[int, ...]) -> Iterator[Row]:
    """Every cell of a grid that exists.

    Args:
        shapes: B, L and D of each.
        orders: Orders n.
    """
    for shape in shapes:
        for order in orders:
            for numerator in ("truncated", "exact"):
                row = cell(shape, order, numerator)
                if row is not None:
                    yield row


def _alternate(sides: dict[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Times of calls that take turns."""
    for side in sides.values():
        side()  # compilers and caches are at work in the first call
    times: dict[str, list[float]] = {name: [] for name in sides}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["ours"]) < 3:
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - start)
    return times


def _figures(what: str, times: dict[str, list[float]]) -> Row:
    median = {name: statistics.median(values) for name, values in times.items()}
    low, _, high = statistics.quantiles(times["ours"], n=4)
    return {
        f"{what}, ms": 1e3 * median["ours"],
        f"{what}, half of the calls within": f"{1e3 * low:.3g} to {1e3 * high:.3g}",
        f"{what}, published / ours": median["published"] / median["ours"],
        f"{what}, floor / ours": median["floor"] / median["ours"],
    }


if __name__ == "__main__":
    tyro.cli(report)
