"""Files of a trained model that run without this package: ``transferfn export RUN``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from transferfn.training import RunError, load_model

Format = Literal["pt2", "onnx"]


def export_run(
    run: Path, *, format: Format = "pt2", out: Path | None = None, length: int | None = None, dynamic: bool = False
) -> list[Path]:
    """Write the forward pass of a run's best model, and its step if it is causal.

    Args:
        run: Folder of the run.
        format: ``"pt2"``, to be read by ``torch.export.load``, or ``"onnx"``, which is checked in onnxruntime.
        out: Folder for ``forward`` and ``step``; None means that of the run.
        length: Number of samples of a sequence; None means that of the run's data.
        dynamic: Whether shorter sequences are taken, too; ONNX cannot do that.

    Returns:
        What was written.

    Raises:
        RunError: if there is no run, or the model cannot be exported.
    """
    from transferfn.interop import export, onnx

    model, config = load_model(run)
    length = config.data.signature.length if length is None else length
    out = run if out is None else out
    forward, step = (out / f"{name}.{format}" for name in ("forward", "step"))
    written = [forward, step] if getattr(model, "is_causal", True) else [forward]
    try:
        out.mkdir(parents=True, exist_ok=True)
        if format == "onnx":
            onnx.onnx_forward(model, length, forward, dynamic_length=dynamic)
            if step in written:
                onnx.onnx_step(model, step)
        else:
            export.save(export.export_forward(model, length, dynamic_length=dynamic), forward)
            if step in written:
                export.save(export.export_step(model), step)
    except (OSError, ValueError, ModuleNotFoundError, onnx.ExportError) as error:
        raise RunError(f"{run} cannot be exported: {error}") from error
    return written
