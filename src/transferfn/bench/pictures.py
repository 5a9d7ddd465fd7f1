"""Pictures of what was measured: time and memory over the length and over the order, as the paper draws them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transferfn.files import replacing, with_ending

Row = dict[str, Any]

COLORS = (  # told apart by everyone
    "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#882255", "#999933",
)  # fmt: skip


def draw(found: Row, out: Path) -> None:
    """Draw time and memory over the order, one panel a shape.

    Args:
        found: What was measured.
        out: Where, without ending.
    """
    import matplotlib

    matplotlib.use("Agg")
    if found["cells"]:
        _over_order(found, "forward", out.with_name(out.name + "-forward.png"))
        _over_order(found, "training", out.with_name(out.name + "-training.png"))
    if found["memory"]:
        _memory(found, out.with_name(out.name + "-memory.png"))


def draw_peers(found: Row, out: Path) -> None:
    """Draw forward and training over the order beside other layers, and time and memory over the length.

    Args:
        found: What was measured.
        out: Where, without ending.
    """
    import matplotlib

    matplotlib.use("Agg")
    where = f"{found['machine']['processor']}, {found['threads']} threads"
    figure, axes = _panels(2, f"B, L, D = 4, 4096, 64 on {where}")
    for axis, what in zip(axes, ("forward", "training"), strict=True):
        _lines(axis, [row for row in found["order"] if row[f"{what}, ms"] == row[f"{what}, ms"]], "n", f"{what}, ms")
        axis.set_title("forward pass" if what == "forward" else "training step", fontsize=10)
    _finish(figure, axes, out.with_name(out.name + "-order.png"), x="order n", y="milliseconds")
    measured = [("forward, ms", "forward pass, milliseconds")]
    if all("training, MiB" in row for row in found["length"]):
        measured.append(("training, MiB", "training step, peak MiB"))
    figure, axes = _panels(len(measured), f"B, D = 1, 64, truncated numerators, on {where}")
    for axis, (column, title) in zip(axes, measured, strict=True):
        _lines(axis, found["length"], "L", column)
        axis.set_title(title, fontsize=10)
    _finish(figure, axes, out.with_name(out.name + "-length.png"), x="length L", y="")


def draw_mixers(found: Row, out: Path) -> None:
    """Draw what all layers cost over the state size and over the length.

    Args:
        found: What was measured.
        out: Where, without ending.
    """
    import matplotlib

    matplotlib.use("Agg")
    where = f"{found['machine']['processor']}, {found['threads']} threads"
    columns = ["training, ms", "training, MiB", "prefill, ms", "step, us", "state, KiB"]
    titles = ["training step, ms", "training step, peak MiB", "prefill, ms", "decoding step, µs", "state of a row, KiB"]
    for key, x, label, title in (
        ("order", "n", "states n", f"B, L, D = 4, 4096, 64 on {where}"),
        ("length", "L", "length L", f"one row of 64 channels, n = 64, on {where}"),
    ):
        rows = [dict(row) for row in found[key]]
        for row in rows:
            row["L"] = int(row["B, L, D"].split(", ")[1])
        if x == "n":  # what has no such number costs the same at all of them
            orders = sorted({row["n"] for row in rows if row["n"] != "-"})
            count: dict[str, int] = {}
            for row in rows:
                at = count[row["layer"]] = count.get(row["layer"], -1) + 1
                row["n"] = orders[at]
        shown = [(c, t) for c, t in zip(columns, titles, strict=True) if all(c in row for row in rows)]
        figure, axes = _panels(len(shown), title)
        for axis, (column, name) in zip(axes, shown, strict=True):
            _lines(axis, rows, x, column)
            axis.set_title(name, fontsize=10)
        _finish(figure, axes, out.with_name(f"{out.name}-{key}.png"), x=label, y="")


def draw_generation(found: Row, out: Path) -> None:
    """Draw speed and memory of decoding over the context.

    Args:
        found: What was measured.
        out: Where, without ending.
    """
    import matplotlib

    matplotlib.use("Agg")
    rows = found["rows"]
    batches = list(dict.fromkeys(row["B"] for row in rows))
    columns = ("tokens/s", "time to first token, s", "KiB a row")
    shown = [(batch, column) for batch in batches for column in columns if column != "KiB a row" or batch == batches[0]]
    figure, axes = _panels(len(shown), f"Decoding, {found['machine']['processor']}, {found['threads']} threads")
    for axis, (batch, column) in zip(axes, shown, strict=True):
        some = [row for row in rows if row["B"] == batch and isinstance(row[column], float)]
        if column != "tokens/s":  # streams differ in nothing but speed
            some = [row for row in some if "stream" not in row["layer"]]
        _lines(axis, some, "context", column)
        axis.set_title(f"{column}, {batch} row{'s' * (batch > 1)}" if column != "KiB a row" else column, fontsize=10)
    _finish(figure, axes, with_ending(out, ".png"), x="context, tokens", y="")


def _lines(axis: Any, rows: list[Row], x: str, y: str) -> None:
    """A line for each layer: ours whole, the others broken."""
    names = list(dict.fromkeys(row["layer"] for row in rows))
    colors = iter(COLORS)
    for name in names:
        some = [row for row in rows if row["layer"] == name]
        color = "0.5" if name in ("free kernel", "floor") else next(colors)
        style = "o-" if name.startswith(("ours", "RTF (", "Hyena-RTF")) or name == "RTF" else "s--"
        axis.plot([row[x] for row in some], [row[y] for row in some], style, color=color, label=name, markersize=4)


def _shapes(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["B, L, D"] for row in rows))


def _panels(count: int, title: str) -> tuple[Any, list[Any]]:
    import matplotlib.pyplot as plt

    columns = min(count, 3)
    lines = -(-count // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(1 + 3.2 * columns, 0.9 + 2.6 * lines), squeeze=False, layout="constrained"
    )
    figure.suptitle(title)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:count])


def _finish(figure: Any, axes: list[Any], file: Path, *, y: str, x: str = "order n") -> None:
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    plain = FuncFormatter(lambda x, _: f"{x:g}")
    for axis in axes:
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.xaxis.set_major_formatter(plain)
        axis.yaxis.set_major_formatter(plain)
        axis.grid(alpha=0.25, which="major")
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlabel(x)
        axis.set_ylabel(y)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    with replacing(file) as part:
        figure.savefig(part, dpi=150, format="png")
    plt.close(figure)


def _over_order(found: Row, what: str, file: Path) -> None:
    cells = found["cells"]
    shapes = _shapes(cells)
    name = "Forward pass" if what == "forward" else "Training step"
    figure, axes = _panels(len(shapes), f"{name}, {found['machine']['processor']}, {found['threads']} threads")
    for axis, shape in zip(axes, shapes, strict=True):
        rows = [row for row in cells if row["B, L, D"] == shape]
        for color, kind in zip(COLORS, ("truncated", "exact"), strict=False):
            some = [row for row in rows if row["numerator"] == kind]
            orders = [row["n"] for row in some]
            axis.plot(orders, [row[f"{what}, ms"] for row in some], "o-", color=color, label=f"ours, {kind}")
        some = [row for row in rows if row["numerator"] == "truncated"]
        orders = [row["n"] for row in some]
        for color, side, label in ((COLORS[2], "published", "RTF as published"), ("0.5", "floor", "free kernel")):
            times = [row[f"{what}, ms"] * row[f"{what}, {side} / ours"] for row in some]
            axis.plot(orders, times, "s--", color=color, label=label, markersize=4)
        axis.set_title(f"B, L, D = {shape}", fontsize=10)
    _finish(figure, axes, file, y="milliseconds")


def _memory(found: Row, file: Path) -> None:
    rows = found["memory"]
    shapes = _shapes(rows)
    figure, axes = _panels(len(shapes), "Peak memory beyond inputs and parameters, in sizes of the input")
    for axis, shape in zip(axes, shapes, strict=True):
        some = [row for row in rows if row["B, L, D"] == shape]
        for k, what in enumerate(("forward", "training")):
            style = "o-" if k == 0 else "s-"
            for color, kind in zip(COLORS, ("truncated", "exact"), strict=False):
                mine = [row for row in some if row["side"] == "ours" and row["numerator"] == kind]
                axis.plot(
                    [row["n"] for row in mine], [row[f"{what}, inputs"] for row in mine], style, color=color,
                    markerfacecolor=color if k == 0 else "white", label=f"ours, {kind}, {what}",
                )  # fmt: skip
            theirs = next(row for row in some if row["side"] == "published")
            axis.axhline(
                theirs[f"{what}, inputs"], color=COLORS[2], ls=":" if k == 0 else "--", label=f"published, {what}"
            )
        axis.set_title(f"B, L, D = {shape}", fontsize=10)
    _finish(figure, axes, file, y="inputs")
