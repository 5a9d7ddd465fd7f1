"""ONNX files of a model's step and of its forward pass, checked in onnxruntime when they are written."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from transferfn.interop.export import (
    StepProgram,
    check_length,
    example_input,
    export_forward,
    export_step,
)

TOLERANCE = 1e-5  # largest difference of a file from the model, relative to the largest output
ROWS_CHECKED = 3  # other than the number that was traced


class ExportError(RuntimeError):
    """What was written does not compute what the model computes."""


def onnx_step(model: nn.Module, path: Path) -> float:
    """Write the step of a model: inputs ``u`` and ``state_0``, ``state_1``, ..., outputs ``y`` and the states after it.

    The number of rows is free. The state's leaves are those of :class:`transferfn.interop.export.StepProgram`.

    Args:
        model: A causal mixer or model.
        path: File to write.

    Returns:
        Largest difference between onnxruntime and PyTorch over several steps, relative to the largest output.

    Raises:
        ExportError: if that exceeds 1e-5.
        ModuleNotFoundError: if onnx, onnxscript or onnxruntime is missing.
        NotCausalError: if the model looks ahead.
    """
    _require()
    step = StepProgram(model)
    program = export_step(model)
    count = len(step.init_state(1))
    names = [f"state_{k}" for k in range(count)]
    _write(program, path, ["u", *names], ["y", *(f"{name}_after" for name in names)])
    return _checked(path, _step_error(path, step))


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
        ExportError: if that exceeds 1e-5.
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
    _write(program, path, ["u"], ["y"])
    u = _rows(example_input(model, length))
    with torch.no_grad():
        expected = model.eval()(u)
    (found,) = _session(path).run(None, {"u": u.numpy()})
    return _checked(path, _relative(torch.as_tensor(found), expected))


def _step_error(path: Path, step: StepProgram) -> float:
    session = _session(path)
    inputs = [x.name for x in session.get_inputs()]
    u = _rows(example_input(step.decoder, 5))
    state, mine, worst = step.init_state(len(u)), step.init_state(len(u)), 0.0
    with torch.no_grad():
        for u_t in u.unbind(1):
            y, *mine = step(u_t, *mine)
            given = dict(zip(["u", *(f"state_{k}" for k in range(len(state)))], (u_t, *state), strict=True))
            found = [torch.as_tensor(x) for x in session.run(None, {k: given[k].numpy() for k in inputs})]
            state = found[1:]
            worst = max(worst, *(_relative(x, z) for x, z in zip(found, (y, *mine), strict=True) if z.numel()))
    return worst


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


def _session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def _rows(u: Tensor) -> Tensor:
    """Another number of rows than was traced."""
    return u[torch.arange(ROWS_CHECKED) % len(u)]


def _relative(found: Tensor, expected: Tensor) -> float:
    difference = (found.double() - expected.double()).abs().max()
    return float(difference / expected.double().abs().max().clamp_min(torch.finfo(torch.float32).tiny))


def _checked(path: Path, error: float) -> float:
    if not error <= TOLERANCE:
        raise ExportError(
            f"{path} computes something else than the model: onnxruntime and PyTorch differ by {error:.2g} of the "
            f"largest output, where {TOLERANCE:.0e} is allowed"
        )
    return error


def _require() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f"ONNX needs {', '.join(missing)}: pip install 'transferfn[export]'")
