"""`transferfn export RUN`: what it writes of a run's model, and what it says when it cannot."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from transferfn.cli import export, main
from transferfn.core import select
from transferfn.interop.export import StepProgram
from transferfn.models import Backbone, Classifier
from transferfn.nn import RTF, Hyena, ImplicitFilter, realize_model
from transferfn.nn.realize import true_output
from transferfn.training import RunError

LENGTH = 12


def use(monkeypatch: pytest.MonkeyPatch, mixer) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(Backbone(4, 1, mixer, inputs=1), 3).eval()
    data = SimpleNamespace(signature=SimpleNamespace(length=LENGTH))
    monkeypatch.setattr(export, "load_model", lambda folder: (model, SimpleNamespace(data=data)))
    return model


@pytest.mark.compile
@pytest.mark.parametrize("both", [False, True], ids=["causal", "both"])
@torch.no_grad()
def test_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, both: bool) -> None:
    model = use(monkeypatch, lambda: RTF(4, 2, horizon=16, bidirectional=both))
    errors = export.export_model(tmp_path, out=tmp_path / "programs", dynamic=True)
    written = list(errors)
    assert written == sorted((tmp_path / "programs").iterdir())
    assert [path.name for path in written] == ["forward.pt2"] + ["step.pt2"] * (not both)
    assert all(error <= 1e-5 for error in errors.values())
    u = torch.randn(3, LENGTH - 1, 1, generator=torch.Generator().manual_seed(0))
    found = torch.export.load(written[0]).module()(u)
    torch.testing.assert_close(found, model(u), rtol=0, atol=1e-6)


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore::DeprecationWarning:onnxscript.*")
@torch.no_grad()
def test_onnx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="ONNX files are run by onnxruntime")
    pytest.importorskip("onnxscript", reason="ONNX files are written by onnxscript")
    model = use(monkeypatch, lambda: RTF(4, 2, horizon=16))
    assert main(["export", str(tmp_path), "--format", "onnx"]) == 0
    for line, name in zip(capsys.readouterr().out.splitlines(), ("forward", "step"), strict=True):
        path, told = line.split(": differs from the model by at most ")
        assert path == str(tmp_path / f"{name}.onnx")
        assert float(told.split()[0]) <= 1e-5
    u = torch.randn(3, LENGTH, 1, generator=torch.Generator().manual_seed(0))
    found = runtime.InferenceSession(tmp_path / "forward.onnx").run(None, {"u": u.numpy()})[0]
    torch.testing.assert_close(torch.as_tensor(found), model(u), rtol=0, atol=1e-6)


@pytest.mark.compile
@torch.no_grad()
def test_the_step_takes_a_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    model = use(monkeypatch, lambda: RTF(4, 3, horizon=16, constraint="reflection", init="comb"))
    assert main(["export", str(tmp_path), "--form", "lattice"]) == 0
    assert "lattice" in capsys.readouterr().err
    program = torch.export.load(tmp_path / "step.pt2").module()
    u = torch.randn(3, LENGTH, 1, generator=torch.Generator().manual_seed(0))
    state = StepProgram(realize_model(model, form="lattice").decoder).init_state(3)
    for u_t in u.unbind(1):
        y, *state = program(u_t, *state)
    torch.testing.assert_close(y, model(u), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="--format c has no option --form"):
        export.Export(run=tmp_path, format="c", form="lattice")
    use(monkeypatch, lambda: RTF(4, 2, horizon=16, bidirectional=True))
    with pytest.raises(RunError, match="looks ahead and has no step, which --form is about"):
        export.export_model(tmp_path, form="lattice")


@pytest.mark.compile
def test_a_program_that_computes_something_else_leaves_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    use(monkeypatch, lambda: RTF(4, 2, horizon=16))
    monkeypatch.setattr("transferfn.interop.export.step_error", lambda run, step: 0.02)
    assert main(["export", str(tmp_path)]) == 2
    assert "step.pt2 would compute something else than the model: the two differ by 0.02" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_where_help_is_is_told_once(tmp_path: Path, capsys) -> None:
    assert main(["export", str(tmp_path / "nowhere"), "--layer", "2"]) == 2
    told = capsys.readouterr().err
    assert told.count("see transferfn export --help") == 1
    assert "--format pt2 has no option --layer" in told


@pytest.mark.parametrize("format", ["c", "numpy"])
def test_filters_of_a_layer_as_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, format: export.Text) -> None:
    model = use(monkeypatch, lambda: RTF(4, 3, horizon=16, constraint="reflection", init="comb"))
    path, about = export.export_filters(tmp_path, format=format, channels=(2, 0), name="voice", out=tmp_path / "text")
    assert path == tmp_path / "text" / ("voice.c" if format == "c" else "voice.py")
    assert about.startswith("2 filters of order 3 as second-order sections")
    assert "of the largest output." in about
    text = path.read_text()
    u = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (layer,) = (one for one in model.modules() if isinstance(one, RTF))
    with torch.no_grad():
        expected = true_output(select(layer.transfer_function(), [2, 0]), u)
    if format == "numpy":
        program: dict = {}
        exec(text, program)
        state, found = program["voice_init"](1), []
        for sample in u.numpy():
            y, state = program["voice_step"](state, sample[None])
            found.append(torch.from_numpy(y[0]))
        torch.testing.assert_close(torch.stack(found), expected, rtol=0, atol=1e-12)
    else:
        assert "void voice_step(voice_state *state" in text


def test_text_of_what_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, lambda: RTF(4, 2, horizon=16))
    with pytest.raises(RunError, match=r"has layers 1 to 1 with transfer functions, got --layer 2"):
        export.export_filters(tmp_path, format="c", layer=2)
    with pytest.raises(RunError, match=r"layer 1 of .* has channels 0 to 3, got 4"):
        export.export_filters(tmp_path, format="c", channels=(1, 4))
    with pytest.raises(RunError, match=r"cannot be exported: a name is made of letters"):
        export.export_filters(tmp_path, format="c", name="2nd")
    use(monkeypatch, lambda: Hyena(4, filter=lambda: ImplicitFilter(4, horizon=8, features=3, width=4)))
    with pytest.raises(RunError, match="no causal layer whose filters are transfer functions"):
        export.export_filters(tmp_path, format="numpy")
    with pytest.raises(ValueError, match="--format pt2 has no option --layer"):
        export.Export(run=tmp_path, layer=2)
    with pytest.raises(ValueError, match="--format c has no option --length"):
        export.Export(run=tmp_path, format="c", length=20)


def test_errors_are_those_of_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, lambda: Hyena(4, filter=lambda: ImplicitFilter(4, horizon=8, features=3, width=4)))
    with pytest.raises(RunError, match=r"cannot be exported: .*known up to their horizon of 8 samples"):
        export.export_model(tmp_path)
    use(monkeypatch, lambda: RTF(4, 2, horizon=16))
    with pytest.raises(RunError, match="cannot be exported: ONNX files have no convolution by FFT"):
        export.export_model(tmp_path, format="onnx", dynamic=True)
