"""A layer beside other layers, over the order and over the length: ``transferfn bench peers``.

Layers that compute other functions cannot be compared in their outputs; what holds our filters is, before any ratio.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from transferfn.bench import memory, pictures, sides
from transferfn.bench.layer import MIB, check_same, table
from transferfn.bench.machine import machine, machine_line
from transferfn.bench.sides import Shape, Side
from transferfn.bench.timing import alternate
from transferfn.files import with_ending, write_json, write_text
from transferfn.nn import RTF

OVER_ORDER: Shape = (4, 4096, 64)
ORDERS = (16, 64, 256, 1024)
LARGEST_VANDERMONDE = 2**25  # complex numbers that S4D in plain PyTorch may write down
LENGTHS = (256, 1024, 4096, 16384, 65536)
ORDERS_OVER_LENGTH = (16, 64, 1024)
CHANNELS = 64

Row = dict[str, Any]


class S4D(nn.Module):
    """S4D in plain PyTorch: a Vandermonde matrix gives the kernel of n / 2 pairs of poles, an FFT convolves.

    Args:
        channels: Number of channels D.
        order: State size n, even.

    Source:
        Gu et al. 2022, arXiv:2206.11893, S4D-Lin with the zero-order hold.
    """

    def __init__(self, channels: int, order: int) -> None:
        super().__init__()
        pairs = order // 2
        self.log_step = nn.Parameter(torch.empty(channels).uniform_(math.log(1e-3), math.log(1e-1)))
        self.log_decay = nn.Parameter(torch.full((channels, pairs), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(pairs).expand(channels, pairs).clone())
        self.readout = nn.Parameter(torch.randn(channels, pairs, 2) * 0.5**0.5)
        self.feedthrough = nn.Parameter(torch.randn(channels))

    def kernel(self, length: int) -> Tensor:
        """Impulse response without the feedthrough, (D, L).

        Args:
            length: Number of samples L.
        """
        poles = torch.complex(-self.log_decay.exp(), self.frequency)
        scaled = poles * self.log_step.exp()[:, None]
        residues = torch.view_as_complex(self.readout) * (scaled.exp() - 1) / poles
        powers = torch.exp(scaled[..., None] * torch.arange(length, device=scaled.device))
        return 2 * torch.einsum("dn,dnl->dl", residues, powers).real

    def forward(self, u: Tensor) -> Tensor:
        """Filter a signal.

        Args:
            u: Input, (B, D, L).
        """
        length = u.shape[-1]
        spectrum = torch.fft.rfft(u, 2 * length) * torch.fft.rfft(self.kernel(length), 2 * length)
        return torch.fft.irfft(spectrum, 2 * length)[..., :length] + self.feedthrough[:, None] * u


def s4d(shape: Shape, order: int) -> Side | None:
    """S4D on its favourite layout, (B, D, L); None where its matrix would not fit.

    Args:
        shape: B, L and D.
        order: State size n.
    """
    batch, length, channels = shape
    if channels * order // 2 * length > LARGEST_VANDERMONDE:
        return None
    torch.manual_seed(0)
    return _side(S4D(channels, order), torch.randn(batch, channels, length), time_axis=2)


def s5(shape: Shape, order: int) -> Side | None:
    """The S5 of the package s5-pytorch; None if that is not installed.

    Args:
        shape: B, L and D.
        order: State size n.
    """
    if find_spec("s5") is None:
        return None
    from s5 import S5  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    return _side(S5(shape[2], state_width=order), torch.randn(shape))


def attention(shape: Shape) -> Side:
    """PyTorch's causal attention, one head over all channels, with its four projections.

    Args:
        shape: B, L and D.
    """
    torch.manual_seed(0)
    channels = shape[2]
    inward, outward = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
    u, cotangent = torch.randn(shape, requires_grad=True), torch.randn(shape)

    def forward() -> Tensor:
        query, key, value = inward(u).chunk(3, -1)
        return outward(F.scaled_dot_product_attention(query, key, value, is_causal=True))

    return Side(forward, cotangent, [u, *inward.parameters(), *outward.parameters()])


def scipy_lfilter(mine: Side, layer: RTF) -> Callable[[], Tensor]:
    """Our filters by ``scipy.signal.lfilter``, channel by channel, on the layout that suits it, (D, B, L).

    Args:
        mine: Our side, whose input it takes.
        layer: Whose filters they are.
    """
    from scipy.signal import lfilter

    with torch.no_grad():
        system = layer.transfer_function()
    b, a, h0 = (x.numpy().astype(np.float32) for x in (system.b, system.a, system.h0))
    u = mine.leaves[0].detach().permute(2, 0, 1).contiguous().numpy()
    designs = [
        (np.concatenate(([h0[d]], b[d] + h0[d] * a[d])), np.concatenate((np.ones(1, np.float32), a[d])))
        for d in range(len(b))
    ]

    def forward() -> Tensor:
        rows = [lfilter(top, bottom, x) for (top, bottom), x in zip(designs, u, strict=True)]
        return torch.from_numpy(np.stack(rows)).permute(1, 2, 0)

    return forward


def over_order(seconds: float) -> Iterator[Row]:
    """Milliseconds of all layers at one shape, a row for each layer and order, forward and training.

    Args:
        seconds: How long to measure each order, forward and training.

    Raises:
        ArithmeticError: if sides that hold the same filters do not compute the same.
    """
    for order in ORDERS:
        mine, layer = sides.ours(OVER_ORDER, order, "exact")
        truncated, _ = sides.ours(OVER_ORDER, order, "truncated")
        published, floor = sides.published(OVER_ORDER, layer), sides.floor(OVER_ORDER, layer)
        for name, other in (("published", published), ("floor", floor)):
            check_same(mine, other, name)
        everyone: dict[str, Side | None] = {
            "ours, exact": mine,
            "ours, truncated": truncated,
            "RTF as published": published,
            "free kernel": floor,
            "S4D (PyTorch)": s4d(OVER_ORDER, order),
            "s5-pytorch": s5(OVER_ORDER, order),
            "attention": attention(OVER_ORDER),
        }
        present = {name: side for name, side in everyone.items() if side is not None}
        filtering = scipy_lfilter(mine, layer)
        error = float((filtering() - mine.inference()).abs().max() / mine.inference().abs().max())
        if not error <= 1e-3:  # scipy's own recurrence runs in float32
            raise ArithmeticError(f"scipy and ours differ by {error:.1e}: no ratio of them means anything")
        forward = alternate(
            {name: side.inference for name, side in present.items()} | {"scipy lfilter": filtering}, seconds
        )
        training = alternate({name: side.training for name, side in present.items()}, seconds)
        medians = [{name: 1e3 * statistics.median(x) for name, x in times.items()} for times in (forward, training)]
        for name in (*present, "scipy lfilter"):
            row: Row = {"n": order, "layer": name}
            for what, found in zip(("forward", "training"), medians, strict=True):
                row[f"{what}, ms"] = found.get(name, math.nan)
                row[f"{what}, times ours (exact)"] = found.get(name, math.nan) / found["ours, exact"]
            yield row


def over_length(seconds: float) -> Iterator[Row]:
    """Milliseconds of a forward pass and MiB of a training step, one row of signals, over the length.

    Args:
        seconds: How long to measure each length.

    Raises:
        ArithmeticError: if sides that hold the same filters do not compute the same.
    """
    for length in LENGTHS:
        shape: Shape = (1, length, CHANNELS)
        orders = [n for n in ORDERS_OVER_LENGTH if n < length]
        mine = {n: sides.ours(shape, n, "truncated") for n in orders}
        published, floor = (make(shape, mine[orders[0]][1]) for make in (sides.published, sides.floor))
        for name, other in (("published", published), ("floor", floor)):
            check_same(mine[orders[0]][0], other, name)
        calls: dict[str, Callable[[], object]] = {f"ours, n = {n}": side.inference for n, (side, _) in mine.items()}
        calls |= {"RTF as published": published.inference, "free kernel": floor.inference}
        times = alternate(calls, seconds)
        for name, values in times.items():
            row: Row = {"L": length, "layer": name, "forward, ms": 1e3 * statistics.median(values)}
            if memory.is_measurable():
                side: memory.Name = "ours" if "ours" in name else "published" if "RTF" in name else "floor"
                order = int(name.split()[-1]) if side == "ours" else orders[0]
                peak = memory.measure(side, shape, order, "truncated", training=True, retain=False)
                row["training, MiB"] = peak / MIB
            yield row


def report(*, out: Path, seconds: float = 1.0) -> None:
    """Measure, print Markdown, and write it with the figures and the pictures.

    Args:
        out: Where, without ending.
        seconds: How long to measure each order and each length.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    command = "transferfn bench peers"
    found: Row = {"command": command, "machine": machine("torch", "numba"), "threads": torch.get_num_threads()}
    told = machine_line(found["machine"])
    shape = ", ".join(map(str, OVER_ORDER))
    lines = [f"`{command}` on {told}, {found['threads']} threads; float32, medians, the default allocator."]
    found["order"] = list(tqdm(over_order(seconds), "over the order", unit="row"))
    lines += ["", f"## Over the order, B, L, D = {shape}", "", *table(found["order"])]
    if find_spec("s5") is None:
        lines += ["", "s5-pytorch is not installed: `pip install 'transferfn[peers]'`."]
    found["length"] = list(tqdm(over_length(seconds), "over the length", unit="row"))
    lines += ["", f"## Over the length, B, D = 1, {CHANNELS}, truncated numerators", "", *table(found["length"])]
    print("\n".join(lines))
    write_json(with_ending(out, ".json"), found)
    write_text(with_ending(out, ".md"), "\n".join(lines) + "\n")
    pictures.draw_peers(found, out)


def _side(module: nn.Module, u: Tensor, *, time_axis: int = 1) -> Side:
    u.requires_grad_()
    leaves = [u, *(p for p in module.parameters() if p.requires_grad)]
    return Side(lambda: module(u), torch.randn_like(u), leaves, time_axis=time_axis)
