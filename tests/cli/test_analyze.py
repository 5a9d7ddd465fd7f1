"""The page of a run's filters: complete, by itself, and of layers of every kind."""

from __future__ import annotations

import html.parser
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.stub import tiny
from transferfn.analysis.layers import model_filters
from transferfn.cli import analyze, main
from transferfn.cli.page import inlined
from transferfn.cli.panels import CAPTIONS, drawing, panel, shown
from transferfn.core import TransferFunction
from transferfn.models import Backbone, Classifier
from transferfn.nn import RTF, S5, Attention, Hyena, ImplicitFilter
from transferfn.training import ModelConfig

pytest.importorskip("matplotlib")


class Outline(html.parser.HTMLParser):
    """What a page is made of, and whether everything that is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs) -> None:
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "!doctype"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs) -> None:
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def use(monkeypatch: pytest.MonkeyPatch, *mixers) -> None:
    """Let the run be a model with these layers, as it starts."""
    torch.manual_seed(0)
    makers = iter(mixers)
    model = Classifier(Backbone(4, len(mixers), lambda: next(makers)(), inputs=1), 3).eval()
    monkeypatch.setattr(analyze, "load_model", lambda folder: (model, tiny(Path(), model=ModelConfig())))


def rtf() -> RTF:
    return RTF(4, 4, horizon=32)


def test_the_page_holds_everything_and_fetches_nothing(tmp_path: Path, monkeypatch, capsys) -> None:
    use(monkeypatch, rtf, lambda: S5(4, 4), lambda: Attention(4, 2))
    assert main(["analyze", str(tmp_path), "--png"]) == 0
    told = capsys.readouterr().out
    out = tmp_path / "analysis"
    text = (out / "analysis.html").read_text()
    page = Outline()
    page.feed(text)
    assert not page.open
    drawings = 2 + 2 * len(CAPTIONS)
    assert page.seen.count("svg") == drawings
    assert len(list(out.glob("*.svg"))) == len(list(out.glob("*.png"))) == drawings
    assert "script" not in page.seen
    fetched = [str(value) for name, value in page.attributes if name in ("src", "href", "xlink:href")]
    assert fetched
    assert all(value.startswith(("#", "data:")) for value in fetched)
    references = {found for pair in re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", text) for found in pair if found}
    names = re.findall(r'\bid="([^"]+)"', text)
    assert references <= set(names)
    assert len(names) == len(set(names))
    assert "prefers-color-scheme: dark" in text
    assert "#0072b2" not in text.split("</style>")[1]  # colours are those of the page
    for part in (told, text):
        assert "S5, each channel to itself" in part
        assert "layer 3: not shown, attention weighs samples by what they hold" in part
    assert not list(out.glob("*.part"))


def test_with_a_rate_units_are_seconds_and_hertz(tmp_path: Path, monkeypatch, capsys) -> None:
    use(monkeypatch, rtf)
    assert main(["analyze", str(tmp_path), "--out", str(tmp_path / "here")]) == 0
    samples = capsys.readouterr().out.splitlines()
    assert main(["analyze", str(tmp_path), "--out", str(tmp_path / "here"), "--rate", "100"]) == 0
    seconds = capsys.readouterr().out.splitlines()
    assert "τ 50% (samples)" in samples[0]
    assert "τ 50% (s)" in seconds[0]
    median = [float(re.split(r"\s{2,}", lines[1])[7]) for lines in (samples, seconds)]
    assert median[0] == pytest.approx(100 * median[1], rel=0.01)
    drawn = (tmp_path / "here" / "01-layer-1-bode.svg").read_text()
    assert "frequency (Hz)" in drawn
    assert "rad/sample" not in drawn


def test_layers_that_know_their_rate_are_drawn_in_hertz(tmp_path: Path, monkeypatch, capsys) -> None:
    use(monkeypatch, rtf, lambda: RTF(4, 4, horizon=32, dt=0.01))
    assert main(["analyze", str(tmp_path)]) == 0
    assert "τ 50% (s)" in capsys.readouterr().out
    for name in ("01-layer-1", "02-layer-2"):
        assert "frequency (Hz)" in (tmp_path / "analysis" / f"{name}-bode.svg").read_text()
    assert model_filters(analyze.load_model(tmp_path)[0]).layers[1].bank.dt == 0.01
    use(monkeypatch, *(lambda dt=dt: RTF(4, 4, horizon=32, dt=dt) for dt in (0.01, 0.02)))
    assert main(["analyze", str(tmp_path)]) == 2
    assert "have 100 and 50 samples a second: choose one for the page with --rate" in capsys.readouterr().err


def test_poles_of_what_is_drawn_are_computed_once(monkeypatch) -> None:
    layer = model_filters(Classifier(Backbone(4, 1, rtf, inputs=1), 3)).layers[0]
    computed = []
    poles = TransferFunction.poles
    monkeypatch.setattr(TransferFunction, "poles", lambda self: computed.append(1) or poles(self))
    with drawing():
        these = shown(layer)
        for name in CAPTIONS:
            panel(name, these)
    assert len(computed) == 1


def test_without_filters_there_is_nothing_to_draw(tmp_path: Path, monkeypatch, capsys) -> None:
    use(monkeypatch, *[lambda: Hyena(4, filter=lambda: ImplicitFilter(4, horizon=8, features=3, width=4))] * 3)
    assert main(["analyze", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("layer 1 to layer 3 (3 of them): not shown, a response of free samples")
    assert not (tmp_path / "analysis").exists()


def test_an_unstable_layer_is_named(tmp_path: Path, monkeypatch, capsys) -> None:
    def grown() -> RTF:
        layer = RTF(4, 2, horizon=16, init="zeros", constraint=None)
        with torch.no_grad():
            layer.denominator[0, 0] = -1.5
        return layer

    use(monkeypatch, grown)
    assert main(["analyze", str(tmp_path)]) == 0
    row = re.split(r"\s{2,}", capsys.readouterr().out.splitlines()[1])
    assert row[4:6] == ["1 unstable", "-0.5"]
    assert "unstable" in row[-1]


def test_states_that_are_not_counted_say_why() -> None:
    layer = model_filters(Classifier(Backbone(4, 1, rtf, inputs=1), 3)).layers[0]
    these = replace(shown(layer), hankel=np.array([[np.nan, np.nan], [2.0, 0.01], [0.0, 0.0]]))
    assert these.counting == ["not computed", "1", "0"]
    unstable = replace(these, layer=replace(layer, unstable=1))
    assert unstable.counting == ["not computed", "1", "0"]  # another channel is
    outside = TransferFunction(torch.ones(3, 1), torch.tensor([[-1.5]] * 3), torch.zeros(3))
    assert replace(unstable, bank=outside).counting == ["unstable", "1", "0"]


def test_of_an_earlier_page_nothing_stays_but_what_is_not_its(tmp_path: Path, monkeypatch, capsys) -> None:
    use(monkeypatch, rtf, rtf)
    assert main(["analyze", str(tmp_path), "--png"]) == 0
    out = tmp_path / "analysis"
    assert (out / "02-layer-2-bode.png").exists()
    (out / "01-notes.svg").write_text("mine")
    use(monkeypatch, rtf)
    monkeypatch.chdir(tmp_path)
    assert main(["analyze", "."]) == 0
    left = sorted(path.name for path in out.iterdir())
    assert "01-notes.svg" in left
    assert "01-layer-1-bode.svg" in left
    assert not [name for name in left if name.startswith("02-") or name.endswith(".png")]
    assert f"Filters of {tmp_path.name}" in (out / "analysis.html").read_text()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path, monkeypatch, capsys) -> None:
    use(monkeypatch, rtf)
    (tmp_path / "file").write_text("")
    assert main(["analyze", str(tmp_path), "--out", str(tmp_path / "file")]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert "the page's folder cannot be written" in told
    assert "choose another with --out" in told


def test_a_wrong_rate_or_run_is_refused(tmp_path: Path, monkeypatch, capsys) -> None:
    assert main(["analyze", str(tmp_path)]) == 2
    assert "best.ckpt is missing" in capsys.readouterr().err
    assert main(["analyze", str(tmp_path), "--rate", "0"]) == 2
    assert "--rate is in samples a second, a positive number; got 0" in capsys.readouterr().err


def test_a_drawing_becomes_a_part_of_the_page() -> None:
    drawing = '<?xml?><svg a="1"><metadata>x\ny</metadata><g id="axes"><path id="p" style="stroke: #1a1a1a"/></g></svg>'
    expected = '<svg role="img" aria-label="a &lt; b" a="1"><g><path id="d1-p" style="stroke: var(--ink)"/></g></svg>'
    assert inlined(drawing, "d1", "a < b") == expected
