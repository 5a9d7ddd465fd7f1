"""How accurate each path is, against 60 digits: ``transferfn bench numerics``.

Prints Markdown and writes the same figures to results/numerics.json.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transferfn.bench import filters, shortcuts, truth
from transferfn.bench.machine import machine, machine_line
from transferfn.core import TransferFunction, UnstableFilterWarning, convert, impulse_response
from transferfn.core.kernel import aliased_kernel, recursive_response
from transferfn.files import write_json
from transferfn.nn import Realization

HORIZONS = (784, 1025, 4001)
COMMAND = "transferfn bench numerics"
LOST = 0.1  # where eps kappa exceeds it, the type cannot hold the filter
CAUTIONS = ((4, 0.02), (4, 0.05), (8, 0.01), (8, 0.05), (8, 0.1))  # orders and cut-offs of Butterworth low-passes

Row = dict[str, Any]


def conversions(name: str, system: TransferFunction) -> Iterator[Row]:
    """Errors of kernels and conversions in float64, relative to the largest sample, in units of eps kappa.

    Args:
        name: What the filter is called.
        system: One channel, float64.
    """
    b, a, h0 = truth.coefficients(system)
    h = truth.impulse_response(b, a, h0, max(HORIZONS) + 1)
    for horizon in HORIZONS:
        true_b_tilde, true_h0_tilde = truth.truncate(b, a, h, horizon)
        b_tilde, h0_tilde = truth.rounded(true_b_tilde)[None], truth.rounded([true_h0_tilde])
        kappa = float(system.conditioning(horizon))
        unit = kappa * torch.finfo(torch.float64).eps
        response = h[:horizon]

        def of_response(*true: Tensor, response: list[Any] = response, unit: float = unit) -> float:
            found = impulse_response(true[0], system.a, true[1], length=len(response))
            return truth.relative_error(found[0], response) / unit

        found = convert.truncate(system.b, system.a, system.h0, horizon=horizon)
        kernel = aliased_kernel(b_tilde, system.a, h0_tilde, period=horizon)
        given = (b_tilde, system.a, h0_tilde)
        yield {
            "filter": name,
            "horizon": horizon,
            "kappa": kappa,
            "aliased kernel": truth.relative_error(kernel[0], response) / unit,
            "impulse response": of_response(system.b, system.h0),
            "truncate": truth.relative_error(torch.cat((found[0][0], found[1])), [*true_b_tilde, true_h0_tilde]) / unit,
            "untruncate, solving": of_response(*convert.untruncate_by_solving(*given, horizon=horizon)),
            "untruncate, kernel": of_response(*convert.untruncate_by_kernel(*given, horizon=horizon)),
            "round trip": of_response(*convert.untruncate(found[0], system.a, found[1], horizon=horizon)),
        }


def paths(name: str, system: TransferFunction) -> Iterator[Row]:
    """Errors of a filtered signal by each path in each type, relative to the largest output, in units of eps kappa.

    Args:
        name: What the filter is called.
        system: One channel, float64.
    """
    length = max(HORIZONS)
    u = torch.randn(1, length, 1, generator=torch.Generator().manual_seed(0))  # float32, so that both types hold it
    y = truth.filter_signal(truth.exact(u.flatten()), *truth.coefficients(system))
    for dtype in (torch.float32, torch.float64):
        kappa = float(system.conditioning(length))
        unit = torch.finfo(dtype).eps * kappa
        row = {"filter": name, "type": str(dtype).removeprefix("torch."), "kappa": kappa}
        if unit > LOST:
            yield row | dict.fromkeys(("fft", "scan", "step"))
            continue
        module, signal = Realization(system, method="fft"), u.to(dtype)
        scanned = Realization(system.to(dtype=dtype), method="scan")
        outputs: dict[str, list[Tensor]] = {
            "fft": [module(signal[:, :n]).flatten() for n in HORIZONS],
            "scan": [scanned(signal).flatten()[:n] for n in HORIZONS],
            "step": [_by_steps(scanned, signal)[:n] for n in HORIZONS[:2]],
        }
        errors = {path: max(truth.relative_error(x, y[: len(x)]) / unit for x in ys) for path, ys in outputs.items()}
        yield row | errors


def cautions() -> Iterator[Row]:
    """Errors, relative to the largest value, of shortcuts to the response of 1/A(z) on Butterworth low-passes."""
    length, exponent = 4001, 784
    for order, cutoff in CAUTIONS:
        a = filters.butterworth(order, cutoff).a
        exact = truth.exact(a[0])
        g = truth.recursive_response(exact, length)
        power = shortcuts.power_by_squaring(a, exponent)
        yield {
            "filter": f"butterworth-n{order}-{cutoff}",
            "recurrence": _error(recursive_response(a, length), g),
            "Newton": _error(shortcuts.newton_inverse(a, length), g),
            "Newton, float32": _error(shortcuts.newton_inverse(a.float(), length), g),
            "blocks of 128": _error(shortcuts.response_by_blocks(a, length, block=128), g),
            f"z^{exponent} by squaring": _error(power, truth.power(exact, exponent)),
        }


def report(*, out: Path = Path("results/numerics.json")) -> None:
    """Measure, print Markdown and write JSON.

    Args:
        out: File for the figures.
    """
    grid = {**filters.STABLE, **filters.UNSTABLE}
    found: Row = {"command": COMMAND, "machine": machine("torch", "mpmath")}
    told = machine_line(found["machine"])
    print(f"`{COMMAND}` on {told}\n")

    found["conversions"] = [row for name, build in grid.items() for row in conversions(name, build())]
    print(f"Conversions in float64, errors in units of eps kappa, the worst of the horizons {_listed(HORIZONS)}:\n")
    print(_table(_worst(found["conversions"]), least=1e-3))

    found["paths"] = [row for name, build in grid.items() for row in paths(name, build())]
    print("\nA filtered signal, errors in units of eps kappa of each type, the worst of the same lengths:\n")
    print(_table(_side_by_side(found["paths"]), least=1e-3))

    found["cautions"] = list(cautions())
    print("\nShortcuts not taken, relative errors in float64 unless said otherwise:\n")
    print(_table(found["cautions"]))

    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, found)


def _by_steps(module: Realization, u: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnstableFilterWarning)  # which the last filters of the grid are
        state = module.init_state(1, dtype=u.dtype)
    ys = []
    for u_t in u[:, : HORIZONS[1]].unbind(1):
        y_t, state = module.step(u_t, state)
        ys.append(y_t)
    return torch.cat(ys).flatten()


def _error(found: Tensor, expected: list[Any]) -> float:
    return truth.relative_error(found[0], expected) if bool(found.isfinite().all()) else math.inf


def _worst(rows: list[Row]) -> list[Row]:
    """One row a filter: the largest figure over the horizons."""
    merged: dict[str, Row] = {}
    for row in rows:
        so_far = merged.setdefault(row["filter"], {"filter": row["filter"]})
        so_far |= {key: max(row[key], so_far.get(key, 0.0)) for key in row if key not in ("filter", "horizon")}
    return list(merged.values())


def _side_by_side(rows: list[Row]) -> list[Row]:
    """One row a filter: the paths in both types."""
    merged: dict[str, Row] = {}
    for row in rows:
        so_far = merged.setdefault(row["filter"], {"filter": row["filter"], "kappa": row["kappa"]})
        so_far |= {f"{path}, {row['type']}": row[path] for path in ("fft", "scan", "step")}
    return list(merged.values())


def _table(rows: list[Row], *, least: float = 0.0) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_cell(value, least) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: str | float | None, least: float) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if value < least:
        return f"< {least:g}"
    return f"{value:.2g}" if math.isfinite(value) else "not finite"


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"
