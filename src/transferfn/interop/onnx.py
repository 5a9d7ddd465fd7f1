"""ONNX files of a model's step and of its forward pass, checked in onnxruntime when they are written."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from transferfn.files import replacing
from transferfn.interop.export import (
    StepProgram,
    check_length,
    checked,
    export_forward,
    export_step,
    forward_error,
    step_error,
)


def onnx_step(model: nn.Module, path: Path) -> float:
    """Write the step of a model: inputs ``u`` and ``state_0``, ``state_1``, ..., outputs ``y`` and the states after it.

    The number of rows is free. The state's leaves are those of :class:`transferfn.interop.export.StepProgram`.

    Args:
        model: A causal mixer or model.
        path: File to write.

    Returns:
        Largest difference between onnxruntime and PyTorch over several steps, relative to the largest output, or to the
        largest value of a part of the state.

    Raises:
        transferfn.interop.export.ExportError: if that exceeds 1e-5; then nothing is written.
        ModuleNotFoundError: if onnx, onnxscript or onnxruntime is missing.
        NotCausalError: if the model looks ahead.
    """
    _require()
    step = StepProgram(model)
    program = export_step(model)
    count = len(step.init_state(1))
    names = [f"state_{k}" for k in range(count)]
    with replacing(path) as part:
        _write(program, part, ["u", *names], ["y", *(f"{name}_after" for name in names)])
        return checked(path, step_error(_run(part, names), step))


def onnx_forward(model: nn.Module, length: int, path: Path, *, dynamic_length: bool = False) -> float:
    """Write the forward pass of a model for sequences of a length: input ``u``, output ``y``, any number of rows.

    Args:
        model: A mixer or model, causal or not.
        length: Number of samples L.
        path: File to write.
        dynamic_length: Must be False; see the error.

    Returns:
        Largest difference between onnxruntime and PyTorch, relative to the largest output.

    Raises:
        transferfn.interop.export.ExportError: if that exceeds 1e-5; then nothing is written.
        ModuleNotFoundError: if onnx, onnxscript or onnxruntime is missing.
        ValueError: if the length makes no sense or varies.
    """
    if dynamic_length:
        raise ValueError(
            "ONNX files have no convolution by FFT whose length varies: onnxruntime (1.32) fails in a DFT whose number "
            "of points depends on the input, and a direct convolution would cost the longest response a sample. Write "
            "one file a length and pad to it, or write the step (onnx_step), which takes any number of samples; "
            "torch.export takes varying lengths."
        )
    _require()
    check_length(length, False)
    program = export_forward(model, length)
    with replacing(path) as part:
        _write(program, part, ["u"], ["y"])
        return checked(path, forward_error(_run(part, []), model, length))


def _write(program: Any, path: Path, inputs: list[str], outputs: list[str]) -> None:
    with _quiet():
        made: Any = torch.onnx.export(
            program, dynamo=True, input_names=inputs, output_names=outputs, verbose=False, optimize=True
        )
        made.save(str(path))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of packages that it would know if they were there."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _run(path: Path, names: list[str]) -> Callable[..., list[Tensor]]:
    """A file in onnxruntime, as a function of ``u`` and of what has the names."""
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    known = {x.name for x in session.get_inputs()}  # those that nothing depends on are left out

    def run(*given: Tensor) -> list[Tensor]:
        inputs = {name: x.numpy() for name, x in zip(["u", *names], given, strict=True) if name in known}
        return [torch.as_tensor(x) for x in session.run(None, inputs)]

    return run


def _require() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f"ONNX needs {', '.join(missing)}: pip install 'transferfn[export]'")
