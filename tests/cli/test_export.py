"""`transferfn export RUN`: what it writes of a run's model, and what it says when it cannot."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from transferfn.cli import export
from transferfn.models import Backbone, Classifier
from transferfn.nn import RTF, Hyena, ImplicitFilter
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
    written = export.export_run(tmp_path, out=tmp_path / "programs", dynamic=True)
    assert written == sorted((tmp_path / "programs").iterdir())
    assert [path.name for path in written] == ["forward.pt2"] + ["step.pt2"] * (not both)
    u = torch.randn(3, LENGTH - 1, 1, generator=torch.Generator().manual_seed(0))
    found = torch.export.load(written[0]).module()(u)
    torch.testing.assert_close(found, model(u), rtol=0, atol=1e-6)


def test_errors_are_those_of_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, lambda: Hyena(4, filter=lambda: ImplicitFilter(4, horizon=8, features=3, width=4)))
    with pytest.raises(RunError, match=r"cannot be exported: .*known up to their horizon of 8 samples"):
        export.export_run(tmp_path)
    use(monkeypatch, lambda: RTF(4, 2, horizon=16))
    with pytest.raises(RunError, match="cannot be exported: ONNX files have no convolution by FFT"):
        export.export_run(tmp_path, format="onnx", dynamic=True)
