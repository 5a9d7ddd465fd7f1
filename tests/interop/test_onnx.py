"""ONNX files compute in onnxruntime what the model computes in PyTorch."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from interop.test_export import BOTH, MIXERS, model, signal, traced
from transferfn.interop import export, onnx

pytestmark = [pytest.mark.compile, pytest.mark.filterwarnings("ignore::DeprecationWarning:onnxscript.*")]
runtime = pytest.importorskip("onnxruntime", reason="ONNX files are run by onnxruntime")
pytest.importorskip("onnxscript", reason="ONNX files are written by onnxscript")

LENGTH = 20


def session(path: Path):
    return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", ["rtf", "s4d", "s5", "attention", "hyena", "rtf-both"])
@torch.no_grad()
def test_forward(name: str, tmp_path: Path) -> None:
    assert name in MIXERS | BOTH
    original, path = traced(name), tmp_path / "forward.onnx"
    assert onnx.onnx_forward(original, LENGTH, path) <= export.TOLERANCE
    for rows in (1, 5):
        u, expected = signal(rows, LENGTH), original(signal(rows, LENGTH))
        (found,) = session(path).run(None, {"u": u.numpy()})
        assert (torch.as_tensor(found) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", ["rtf", "s4", "s4d", "s5", "attention"])
@torch.no_grad()
def test_step(name: str, tmp_path: Path) -> None:
    original, path = traced(name), tmp_path / "step.onnx"
    assert onnx.onnx_step(original, path) <= export.TOLERANCE
    program = export.StepProgram(original)
    run, u = session(path), signal(5, 9)
    names = [x.name for x in run.get_inputs()]
    state, y = [x.numpy() for x in program.init_state(5)], None
    for u_t in u.unbind(1):
        given = {"u": u_t.numpy()} | {f"state_{k}": x for k, x in enumerate(state)}
        y, *state = run.run(None, {key: given[key] for key in names})
    expected = original(u)
    assert (torch.as_tensor(y) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"have no convolution by FFT whose length varies.*Write one file a length"):
        onnx.onnx_forward(model("rtf"), LENGTH, tmp_path / "f.onnx", dynamic_length=True)
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"ONNX needs onnx, onnxscript, onnxruntime: pip install"):
        onnx.onnx_step(model("rtf"), tmp_path / "s.onnx")


def test_files_that_compute_something_else_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_relative", lambda found, expected: 1e-3)
    original = model("rtf", layers=1)
    for write in (partial(onnx.onnx_forward, original, LENGTH), partial(onnx.onnx_step, original)):
        with pytest.raises(export.ExportError, match=r"differ by 0\.001 of the largest output"):
            write(tmp_path / "f.onnx")
    assert not list(tmp_path.iterdir())
