"""Programs that leave the package compute what the model computes, and need nothing of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from transferfn.interop import export
from transferfn.interop.frozen import frozen_forward, frozen_step
from transferfn.models import Backbone, Classifier
from transferfn.nn import LRU, RTF, S4, S4D, S5, Attention, Hyena, ImplicitFilter, NotCausalError

LENGTH = 20
rtf = partial(RTF, 4, 3, horizon=32)
MIXERS: dict[str, Callable[[], Any]] = {
    "rtf": rtf,
    "rtf-exact": partial(rtf, numerator="exact", constraint="reflection"),
    "s4": partial(S4, 4, 6, horizon=32),
    "s4d": partial(S4D, 4, 6),
    "s4d-real": partial(S4D, 4, 3, init="real"),
    "s5": partial(S5, 4, 8),
    "lru": partial(LRU, 4, 6),
    "attention": partial(Attention, 4, heads=2),
    "hyena": lambda: Hyena(4, filter=lambda: ImplicitFilter(4, horizon=32, features=5, width=8)),
    "hyena-rtf": lambda: Hyena(4, filter=rtf),
}
BOTH: dict[str, Callable[[], Any]] = {
    "rtf-both": partial(rtf, bidirectional=True),
    "rtf-exact-both": partial(rtf, bidirectional=True, numerator="exact"),
    "s4-both": partial(S4, 4, 6, horizon=32, bidirectional=True),
    "s4d-both": partial(S4D, 4, 6, bidirectional=True),
    "s5-both": partial(S5, 4, 8, bidirectional=True),
    "s5-both-apart": partial(S5, 4, 8, bidirectional=True, shared_sample=False),
}
causal = pytest.mark.parametrize("name", MIXERS)
ALLOWED = 1e-5


def model(name: str, *, head: str = "mean", layers: int = 2) -> Any:
    torch.manual_seed(0)
    return Classifier(Backbone(4, layers, (MIXERS | BOTH)[name], inputs=2), 3, head=head).eval()  # pyright: ignore[reportArgumentType]


def traced(name: str) -> Any:
    """One to trace, which takes seconds a layer: with several layers one of each kind of state, a tensor or a tree."""
    return model(name, layers=2 if name in ("rtf", "attention") else 1)


def signal(rows: int, length: int) -> Tensor:
    return torch.randn(rows, length, 2, generator=torch.Generator().manual_seed(1))


def close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= ALLOWED * expected.abs().max().clamp_min(1e-30)


# ------------------------------------------------------------------------------------------ what is traced


@pytest.mark.parametrize("name", MIXERS | BOTH)
@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@torch.no_grad()
def test_frozen_models_compute_the_same(name: str, dynamic: bool) -> None:
    for head in ("per_step", "mean"):
        original = model(name, head=head)
        frozen = frozen_forward(original, LENGTH, dynamic=dynamic)
        for length in (3, 7, LENGTH) if dynamic else (LENGTH,):
            u = signal(3, length)
            close(frozen(u), original(u))
            lengths = torch.tensor([length, 1, 0])
            close(frozen(u, lengths=lengths), original(u, lengths=lengths))


@causal
@torch.no_grad()
def test_frozen_steps_compute_the_same(name: str) -> None:
    decoder = model(name).decoder()
    frozen: Any = frozen_step(decoder)
    assert not any(x.is_complex() for x in frozen.state_dict().values())
    u = signal(3, 9)
    state = decoder.extend(u)[1]
    for found, expected in zip(
        torch.utils._pytree.tree_leaves(frozen.step(u[:, 0], state)),
        torch.utils._pytree.tree_leaves(decoder.step(u[:, 0], state)),
        strict=True,
    ):
        close(found, expected)


@causal
@torch.no_grad()
def test_the_step_takes_the_leaves_of_a_state(name: str) -> None:
    """From rest, where memories begin with zeros that count for nothing, it is the model over the whole sequence."""
    original = model(name)
    program = export.StepProgram(original)
    state, y = program.init_state(3), torch.empty(0)
    for u_t in signal(3, 9).unbind(1):
        y, *state = program(u_t, *state)
    close(y, original(signal(3, 9)))


def test_what_cannot_be_exported_is_refused() -> None:
    with pytest.raises(NotCausalError):
        export.export_step(model("rtf-both"))
    with pytest.raises(ValueError, match="known up to their horizon of 32 samples"):
        export.export_forward(model("hyena"), 33)
    with pytest.raises(ValueError, match="length must be at least 1"):
        export.export_forward(model("rtf"), 0)
    with pytest.raises(ValueError, match="take no resets"):
        frozen_forward(model("rtf"), 8, dynamic=False)(signal(1, 8), resets=torch.zeros(1, 8, dtype=torch.bool))


# -------------------------------------------------------------------------------------------- torch.export


@pytest.mark.compile
@pytest.mark.parametrize("name", [*MIXERS, "rtf-both", "s5-both-apart"])
@torch.no_grad()
def test_exported_forward(name: str) -> None:
    """For numbers of rows and lengths other than those traced."""
    original = traced(name)
    fixed = export.export_forward(original, LENGTH).module()
    dynamic = export.export_forward(original, LENGTH, dynamic_length=True).module()
    for rows, length in ((1, 3), (3, 7), (5, LENGTH)):
        u = signal(rows, length)
        close(dynamic(u), original(u))
        if length == LENGTH:
            close(fixed(u), original(u))


@pytest.mark.compile
@causal
@torch.no_grad()
def test_exported_step(name: str) -> None:
    original = traced(name)
    program, step = export.export_step(original).module(), export.StepProgram(original)
    for rows in (1, 5):
        state, y = step.init_state(rows), torch.empty(0)
        for u_t in signal(rows, 9).unbind(1):
            y, *state = program(u_t, *state)
        close(y, original(signal(rows, 9)))


@pytest.mark.compile
@torch.no_grad()
def test_exported_tokens() -> None:
    torch.manual_seed(0)
    original = Classifier(Backbone(4, 1, rtf, vocabulary=11), 3, head="last").eval()
    tokens = torch.randint(11, (3, LENGTH), generator=torch.Generator().manual_seed(0))
    close(export.export_forward(original, LENGTH).module()(tokens), original(tokens))
    step = export.StepProgram(original)
    program, state, y = export.export_step(original).module(), step.init_state(3), torch.empty(0)
    for token in tokens.unbind(1):
        y, *state = program(token, *state)
    close(y, original(tokens))


@pytest.mark.compile
@pytest.mark.parametrize("name", ["rtf", "hyena", "attention", "s5"])
def test_what_was_written_is_tried(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the model itself, so that a program with other numbers in it is found, and leaves the file before."""
    original, forward, step = traced(name), tmp_path / "forward.pt2", tmp_path / "step.pt2"
    programs: dict[str, Any] = {}
    for function in ("export_forward", "export_step"):
        monkeypatch.setattr(export, function, kept(getattr(export, function), programs))
    assert export.write_forward(original, LENGTH, forward, dynamic_length=True) <= export.TOLERANCE
    assert export.write_step(original, step) <= export.TOLERANCE
    assert list(programs) == ["export_forward", "export_step"]
    before = forward.read_bytes(), step.read_bytes()
    another = traced(name)  # whose programs are those of the original, made once
    with torch.no_grad():
        another.readout.weight.mul_(1.001)
    with pytest.raises(export.ExportError, match=r"forward.pt2 would compute something else than the model.*1e-05 is"):
        export.write_forward(another, LENGTH, forward, dynamic_length=True)
    with pytest.raises(export.ExportError, match=r"step.pt2 would compute something else than the model"):
        export.write_step(another, step)
    assert (forward.read_bytes(), step.read_bytes()) == before
    assert sorted(tmp_path.iterdir()) == [forward, step]


def kept(function: Callable[..., Any], results: dict[str, Any]) -> Callable[..., Any]:
    """Call a function once, and give the same again whatever it is called with."""

    def call(*arguments: Any, **options: Any) -> Any:
        if function.__name__ not in results:
            results[function.__name__] = function(*arguments, **options)
        return results[function.__name__]

    return call


ELSEWHERE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("transferfn", "numba", "jaxtyping"):
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocked())
import torch
try:
    import transferfn
    sys.exit("transferfn could be imported")
except ImportError:
    pass
for folder in sys.argv[1:]:
    given = torch.load(folder + "/given.pt", weights_only=True)
    forward = torch.export.load(folder + "/forward.pt2").module()
    step = torch.export.load(folder + "/step.pt2").module()
    state = given["state"]
    for u_t in given["u"].unbind(1):
        y, *state = step(u_t, *state)
    torch.save({"forward": forward(given["u"]), "step": y}, folder + "/found.pt")
"""


@pytest.mark.compile
@torch.no_grad()
def test_saved_programs_run_where_this_package_is_not(tmp_path: Path) -> None:
    folders, u = {name: tmp_path / name for name in ("rtf", "s5")}, signal(3, LENGTH)
    for name, folder in folders.items():
        folder.mkdir()
        export.save(export.export_forward(traced(name), LENGTH), folder / "forward.pt2")
        export.save(export.export_step(traced(name)), folder / "step.pt2")
        torch.save({"u": u, "state": export.StepProgram(traced(name)).init_state(3)}, folder / "given.pt")
    words = [sys.executable, "-c", ELSEWHERE, *map(str, folders.values())]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name, folder in folders.items():
        found = torch.load(folder / "found.pt", weights_only=True)
        close(found["forward"], traced(name)(u))
        close(found["step"], traced(name)(u))
