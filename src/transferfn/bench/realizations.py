"""What each form of a filter loses over a million samples: ``transferfn bench realizations [--quick]``.

Filters of order 32 whose poles crowd together, decoded sample by sample in four forms, with states in float32 and in
bfloat16, against the recurrence of the same coefficients in NumPy's longdouble. Prints Markdown, and writes it with the
figures and a picture.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from transferfn.bench.machine import machine, machine_line
from transferfn.bench.pictures import COLORS
from transferfn.core import TransferFunction
from transferfn.files import replacing, with_ending, write_json, write_text
from transferfn.nn.realize import Form, build, true_output

COMMAND = "transferfn bench realizations"
ORDER = 32
LENGTH = 1_000_000
TOLD = (10**3, 10**4, 10**5, 10**6)  # samples after which the worst error so far is told
STATES = (torch.float32, torch.bfloat16)
CIRCLE = 2**16  # points at which the smallest |A| is looked for

Row = dict[str, Any]


def clusters() -> TransferFunction:
    """An all-pole filter with two clusters of 8 pairs of poles at a radius of 0.98, 0.05 rad apart."""
    angles = np.concatenate([center + 0.05 * (np.arange(8) - 3.5) for center in (np.pi / 4, 3 * np.pi / 4)])
    upper = 0.98 * np.exp(1j * angles)
    a = np.poly(np.concatenate((upper, upper.conj()))).real
    gain = np.abs(np.fft.rfft(a, CIRCLE)).min()
    return _bank(gain * np.eye(1, len(a))[0], a)


def low_pass(cutoff: float) -> TransferFunction:
    """A Butterworth low-pass.

    Args:
        cutoff: Cut-off, relative to the Nyquist frequency.
    """
    from scipy import signal

    design: Any = signal.butter(ORDER, cutoff)
    return _bank(*design)


def filters() -> dict[str, TransferFunction]:
    """The filters by name, one channel each, of the same order."""
    return {"two clusters": clusters(), "low-pass 0.4": low_pass(0.4), "low-pass 0.3": low_pass(0.3)}


def steps(form: Form, system: TransferFunction, u: Tensor, *, narrow: bool) -> Tensor:
    """Decode a signal by the steps of a form in float32, as its module takes them one by one.

    Args:
        form: Which form.
        system: One filter.
        u: Signal, float32, (L).
        narrow: Whether the state is rounded to bfloat16 after each sample.

    Returns:
        Output, float32, (L).
    """
    from transferfn.bench import _steps as loops

    names = {"direct": "b a h0", "sections": "b a h0", "modal": "A B C D", "lattice": "k c v h0"}[form].split()
    held = build(form, system, torch.float32).state_dict()
    # The first axis of the coefficients is the channel, but for feedthroughs of one number a channel.
    arrays = [(x[0] if x.dim() > 1 else x).contiguous().numpy() for x in (held[name] for name in names)]
    y = torch.empty_like(u)
    getattr(loops, form)(u.numpy(), *arrays, narrow, y.numpy())
    return y


def measure(bank: dict[str, TransferFunction], length: int) -> tuple[list[Row], dict[str, Any]]:
    """Decode noise through all filters in each form with each type of state.

    Args:
        bank: Filters by name, one channel each.
        length: Number of samples.

    Returns:
        A row for each filter, type and form; and the running maxima of the errors, by the same three.
    """
    u = torch.randn(length, generator=torch.Generator().manual_seed(1))
    rows, curves = [], {}
    for name, system in bank.items():
        truth = true_output(system, u[:, None])[:, 0]
        kappa = float(system.conditioning(CIRCLE))
        for kind, form in itertools.product(STATES, get_args(Form)):
            y = steps(form, system, u, narrow=kind == torch.bfloat16)
            errors = _running(y, truth)
            short = str(kind).removeprefix("torch.")
            curves[f"{name}, {short}, {form}"] = errors[_points(length) - 1].tolist()
            told = {f"{t:,}".replace(",", " "): float(errors[t - 1]) for t in TOLD if t <= length}
            rows.append({"filter": name, "kappa": kappa, "state": short, "form": form, **told})
    return rows, curves


def report(*, quick: bool = False, out: Path = Path("results/realizations")) -> None:
    """Measure, print Markdown, and write it with the figures and the picture.

    Args:
        quick: Ten thousand samples only, in some seconds.
        out: Where, without ending: .json, .md and .png.
    """
    torch.set_num_threads(1)
    length = 10_000 if quick else LENGTH
    command = COMMAND + " --quick" * quick
    told = machine("torch", "scipy")
    rows, curves = measure(filters(), length)
    lines = [
        f"`{command}` on {machine_line(told)}, 1 thread",
        "",
        f"Filters of order {ORDER}, {length:,} samples of white noise, coefficients and signals in float32, the state "
        f"kept in the type that is told: the largest error so far, relative to the largest output, against the "
        f"recurrence in longdouble (eps {np.finfo(np.longdouble).eps:.2g}). A form without numbers overflowed.",
        "",
        *_table(rows),
    ]
    print("\n".join(lines))
    out.parent.mkdir(parents=True, exist_ok=True)
    found = {"command": command, "machine": told, "length": length, "rows": rows, "curves": curves}
    found["points"] = _points(length).tolist()
    write_json(with_ending(out, ".json"), _finite(found))
    write_text(with_ending(out, ".md"), "\n".join(lines) + "\n")
    draw(found, with_ending(out, ".png"))


def draw(found: Row, out: Path) -> None:
    """Draw the errors over time, a panel for each filter and type of state.

    Args:
        found: What was measured.
        out: The picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(row["filter"] for row in found["rows"]))
    kinds = list(dict.fromkeys(row["state"] for row in found["rows"]))
    figure, axes = plt.subplots(
        len(kinds), len(names), figsize=(3.4 * len(names), 0.9 + 2.6 * len(kinds)), squeeze=False, sharex=True,
        sharey=True, layout="constrained",
    )  # fmt: skip
    figure.suptitle(f"Filters of order {ORDER} decoded in float32: error of each form so far")
    for line, kind in zip(axes, kinds, strict=True):
        for axis, name in zip(line, names, strict=True):
            for color, form in zip(COLORS, get_args(Form), strict=False):
                values = np.array(found["curves"][f"{name}, {kind}, {form}"], dtype=float)
                values = np.where(np.isfinite(values) & (values < 1e6), np.maximum(values, 1e-9), np.nan)
                axis.plot(found["points"], values, color=color, label=form, lw=1.6)
            axis.axhline(1, color="0.7", lw=0.8)
            axis.set(xscale="log", yscale="log", ylim=(1e-8, 1e6), title=f"{name}, {kind} state")
            axis.title.set_size(10)
            axis.grid(alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("samples")
    for axis in axes[:, 0]:
        axis.set_ylabel("error / largest output")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    with replacing(out) as part:
        figure.savefig(part, dpi=150, format="png")
    plt.close(figure)


def _bank(b: Any, a: Any) -> TransferFunction:
    """One channel from scipy's coefficients."""
    b, a = torch.as_tensor(np.asarray(b)), torch.as_tensor(np.asarray(a))
    return TransferFunction((b - b[0] * a)[None, 1:], a[None, 1:], b[:1])


def _running(y: Tensor, truth: Tensor) -> Tensor:
    """The largest error so far relative to the largest output, (L)."""
    error = (y.double() - truth).abs().nan_to_num(nan=torch.inf, posinf=torch.inf) / truth.abs().max()
    return error.cummax(0).values


def _points(length: int) -> Any:
    """Numbers of samples, evenly spaced on a logarithmic axis."""
    return np.unique(np.geomspace(10, length, 120).astype(int))


def _table(rows: list[Row]) -> list[str]:
    def told(key: str, value: Any) -> str:
        if isinstance(value, str | int):
            return str(value)
        return "-" if not np.isfinite(value) else f"{value:.2g}"

    head = [f"| {' | '.join(rows[0])} |", f"|{'---|' * len(rows[0])}"]
    return head + [f"| {' | '.join(told(key, value) for key, value in row.items())} |" for row in rows]


def _finite(value: Any) -> Any:
    """The same with None for what is not finite: JSON has no infinity."""
    if isinstance(value, dict):
        return {key: _finite(x) for key, x in value.items()}
    if isinstance(value, list):
        return [_finite(x) for x in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
