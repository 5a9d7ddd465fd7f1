"""Files of a trained model, or of one layer's filters, that run without this package: ``transferfn export RUN``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from transferfn.cli.forms import in_form
from transferfn.files import write_text
from transferfn.nn.realize import FormOption
from transferfn.training import RunError, load_model
from transferfn.training.run import RunFolder
from transferfn.training.tokens import run_signature

Format = Literal["pt2", "onnx"]
Text = Literal["c", "numpy"]


def export_run(
    run: Path,
    *,
    format: Format = "pt2",
    out: Path | None = None,
    length: int | None = None,
    dynamic: bool = False,
    form: FormOption | None = None,
) -> dict[Path, float]:
    """Write the forward pass of a run's best model, and its step if it is causal, and try them on noise.

    Args:
        run: Folder of the run.
        format: ``"pt2"``, to be read by ``torch.export.load``, or ``"onnx"``, to be read by onnxruntime.
        out: Folder for ``forward`` and ``step``; None means that of the run.
        length: Number of samples of a sequence; None means that of the run's data.
        dynamic: Whether shorter sequences are taken, too; ONNX cannot do that.
        form: Form that the filters of the step decode in; None means the direct one, unmeasured.

    Returns:
        What was written, and the largest difference of each from the model, relative to the largest output.

    Raises:
        RunError: if there is no run, or the model cannot be exported; then nothing is written.
    """
    from transferfn.interop import export, onnx

    model, config = load_model(run)
    length = run_signature(RunFolder(path=run), config).length if length is None else length
    out = run if out is None else out
    forward, step = (out / f"{name}.{format}" for name in ("forward", "step"))
    write_forward = onnx.onnx_forward if format == "onnx" else export.write_forward
    write_step = onnx.onnx_step if format == "onnx" else export.write_step
    if form is not None and not getattr(model, "is_causal", True):
        raise RunError(f"{run} looks ahead and has no step, which --form is about: leave it out")
    decoder = model if form is None else in_form(model, form, run).decoder
    written: dict[Path, float] = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        written[forward] = write_forward(model, length, forward, dynamic_length=dynamic)
        if getattr(model, "is_causal", True):
            written[step] = write_step(decoder, step)
    except (OSError, ValueError, ModuleNotFoundError, export.ExportError) as error:
        for path in written:  # half of a model is of no use
            path.unlink()
        raise RunError(f"{run} cannot be exported: {error}") from error
    return written


@torch.no_grad()
def export_filters(
    run: Path,
    *,
    format: Text,
    layer: int = 1,
    channels: tuple[int, ...] = (),
    name: str = "filter",
    out: Path | None = None,
) -> tuple[Path, str]:
    """Write the filters of one layer of a run's best model as source text that depends on nothing.

    Args:
        run: Folder of the run.
        format: C99, or Python with NumPy.
        layer: Which of the model's layers with filters, from 1 on.
        channels: Which of its channels, from 0 on; none means all.
        name: What the names in the text, and the file, begin with.
        out: Folder; None means that of the run.

    Returns:
        What was written, and the text's own description of itself.

    Raises:
        RunError: if there is no run, no such layer or channel, or the text would be another filter.
    """
    from transferfn.core import select
    from transferfn.interop.source_code import filter_as_c, filter_as_numpy
    from transferfn.nn import RTF, Realization

    model, _ = load_model(run)
    found = [one for one in model.modules() if isinstance(one, RTF | Realization) and one.is_causal]
    if not found:
        raise RunError(
            f"{run} has no causal layer whose filters are transfer functions: distil it, or use another format"
        )
    if not 1 <= layer <= len(found):
        raise RunError(f"{run} has layers 1 to {len(found)} with transfer functions, got --layer {layer}")
    system = found[layer - 1].transfer_function()
    if wrong := [channel for channel in channels if not 0 <= channel < system.channels]:
        raise RunError(f"layer {layer} of {run} has channels 0 to {system.channels - 1}, got {wrong[0]}")
    path = (run if out is None else out) / f"{name}.{'c' if format == 'c' else 'py'}"
    try:
        text = (filter_as_c if format == "c" else filter_as_numpy)(
            select(system, list(channels)) if channels else system, name=name
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except (OSError, ValueError, ArithmeticError) as error:
        raise RunError(f"layer {layer} of {run} cannot be exported: {error}") from error
    return path, text.splitlines()[0].strip('/*" ')
