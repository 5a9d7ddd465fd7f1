"""Runs fed from pipes and files: what comes out, what is kept, and what is refused."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from scipy.signal import butter
from torch import nn

from cli.runs import write_run
from tasks.digit_files import write_idx
from transferfn import sosfilt
from transferfn.cli import main
from transferfn.cli.samples import Expected, blocks_of, read_sound
from transferfn.core import TransferFunction, stack
from transferfn.interop.scipy_signal import from_sos
from transferfn.models import Backbone, Classifier
from transferfn.nn import RTF, Hyena, ImplicitFilter, Realization, SequenceMixer, Stream
from transferfn.nn.stream_file import read_state
from transferfn.tasks import Signature
from transferfn.training import RunError, load_model

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
PROGRAM = [sys.executable, "-c", "import sys; from transferfn.cli import main; sys.exit(main(sys.argv[1:]))"]


def trained(recipe: str, out: Path, *more: str, **options: object) -> Path:
    """A run that takes a second or two."""
    common = {"epochs": 1, "accelerator": "cpu", "out": out}
    words = [word for name, value in {**options, **common}.items() for word in (f"--{name.replace('_', '-')}", value)]
    assert main(["train", recipe, "--size", "small", "--no-progress", *map(str, words), *more]) == 0
    return out


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = write_idx(tmp_path_factory.mktemp("digits"))
    options = {"data.path": data, "data.side": 7, "width": 8, "layers": 2, "order": 4, "batch-size": 30}
    return trained("smnist", tmp_path_factory.mktemp("classes"), "--data.no-published", **options)


@pytest.fixture(scope="module")
def signals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = {"data.length": 64, "data.lag": 5, "data.samples": 16, "data.held-out": 8}
    return trained("delay", tmp_path_factory.mktemp("signals"), **data, **{"order": 8, "batch-size": 8})


def feed(monkeypatch: pytest.MonkeyPatch, raw: bytes | str) -> None:
    raw = raw.encode() if isinstance(raw, str) else raw
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))


def output(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    capsys.readouterr()
    assert main(["stream", *map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that is told."""
    capsys.readouterr()
    assert main(["stream", *map(str, arguments)]) == 2
    *before, told = capsys.readouterr().err.splitlines()
    assert all(line.startswith(("continuing after ", "what has come so far is in ")) for line in before)
    assert told.startswith("transferfn: ")
    return told


def noise(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, length).astype(np.float32)


def as_text(values: np.ndarray) -> str:
    return "".join(f"{value:.9g}\n" for value in values)


# ---------------------------------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize("block", [1, 7, 100])
def test_a_signal_comes_out_as_the_model_computes_it(signals: Path, block: int, monkeypatch, capsys) -> None:
    u = noise(40)
    feed(monkeypatch, as_text(u))
    lines = output(capsys, signals, "--block", block)
    model, _ = load_model(signals)
    expected = model(torch.from_numpy(u)[None, :, None])[0, :, 0].detach().numpy()
    np.testing.assert_allclose([float(line) for line in lines], expected, atol=1e-5)


@pytest.mark.parametrize(("block", "numbers"), [(1, [*range(1, 11)]), (4, [4, 8, 10])])
def test_a_classifier_tells_what_it_thinks_so_far(
    classes: Path, block: int, numbers: list[int], monkeypatch, capsys
) -> None:
    u = noise(10)
    feed(monkeypatch, as_text(u))
    rows = [line.split(",") for line in output(capsys, classes, "--block", block)]
    assert [int(row[0]) for row in rows] == numbers
    model, _ = load_model(classes)
    for number, chosen, share in rows:
        logits = model(torch.from_numpy(u[: int(number)])[None, :, None])[0].detach()
        assert int(chosen) == int(logits.argmax())
        assert float(share) == pytest.approx(float(logits.softmax(-1).max()), abs=1e-5)


def test_text_raw_numbers_and_a_sound_file_are_the_same_samples(
    signals: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    whole = (noise(30) * 2**15).astype("<i2")
    scaled = (whole / 2**15).astype("<f4")
    feed(monkeypatch, as_text(scaled))
    expected = output(capsys, signals, "--block", 8)
    feed(monkeypatch, scaled.tobytes())
    assert output(capsys, signals, "--block", 8, "--format", "float32") == expected
    feed(monkeypatch, whole.tobytes())
    assert output(capsys, signals, "--block", 8, "--format", "int16") == expected
    wavfile.write(tmp_path / "sound.wav", 8000, whole)
    assert output(capsys, signals, "--block", 8, "--input", tmp_path / "sound.wav") == expected


def test_the_benchmark_shows_each_number_of_streams(signals: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("transferfn.cli.latency.STREAMS", (1, 3))
    monkeypatch.setattr("transferfn.cli.latency.MOST", 30)
    head, *rows = output(capsys, signals, "--benchmark", "--rate", 100)
    assert head.split()[1:7] == ["p50", "ms", "p95", "ms", "p99", "ms"]
    for row, count in zip(rows, (1, 3), strict=True):
        streams, p50, p95, p99, most, speed, factor = (float(word.replace(",", "")) for word in row.split())
        assert streams == count
        assert 0 < p50 <= p95 <= p99 <= most
        assert factor == pytest.approx(100 * count / speed, rel=0.05)


@pytest.mark.parametrize("form", ["auto", "lattice"])
def test_a_form_gives_the_same_results_and_tells_what_was_measured(
    signals: Path, form: str, monkeypatch, capsys
) -> None:
    u = noise(40)
    feed(monkeypatch, as_text(u))
    expected = [float(line) for line in output(capsys, signals)]
    feed(monkeypatch, as_text(u))
    assert main(["stream", str(signals), "--form", form]) == 0
    found = capsys.readouterr()
    np.testing.assert_allclose([float(line) for line in found.out.splitlines()], expected, atol=1e-4)
    assert ".mixer: '" in found.err
    assert " of errors over " in found.err
    assert ("direct" in found.err) == (form == "auto")
    feed(monkeypatch, as_text(u))
    assert main(["stream", str(signals), "--form", form, "--narrow"]) == 0
    narrow = [float(line) for line in capsys.readouterr().out.splitlines()]
    largest = max(map(abs, expected))
    assert narrow != expected
    assert max(abs(x - y) for x, y in zip(narrow, expected, strict=True)) / largest < 0.1


def test_forms_that_cannot_be_are_refused(signals: Path, tmp_path: Path, capsys) -> None:
    assert "--narrow goes with --form" in refused(capsys, signals, "--narrow")
    run = write_run(tmp_path, "s4d").path
    assert "no filters given by transfer functions" in refused(capsys, run, "--form", "auto")


def test_a_state_belongs_to_its_form(signals: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    state, u = tmp_path / "state.pt", noise(20)
    feed(monkeypatch, as_text(u[:10]))
    output(capsys, signals, "--state", state, "--form", "lattice")
    feed(monkeypatch, as_text(u[10:]))
    assert "is the state of another decoder" in refused(capsys, signals, "--state", state)
    feed(monkeypatch, as_text(u[10:]))
    rest = output(capsys, signals, "--state", state, "--form", "lattice")
    feed(monkeypatch, as_text(u))
    assert output(capsys, signals, "--form", "lattice")[10:] == rest


# ---------------------------------------------------------------------------------------------------- sound


BAND = butter(2, [300, 3400], "bandpass", fs=8000, output="sos")


class Equaliser(nn.Module):
    """Known filters as a model: a band-pass of the first channel and of the second one, and a delay of a sample."""

    def decoder(self) -> Realization:
        system, _ = from_sos(BAND)
        delay = torch.zeros(1, system.order, dtype=torch.float64)
        delay[0, 0] = 1
        of_delay = TransferFunction(delay, torch.zeros_like(delay), torch.zeros(1, dtype=torch.float64))
        return Realization(stack([system, of_delay]).to(dtype=torch.float32))


@pytest.fixture
def equaliser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    config = SimpleNamespace(
        data=SimpleNamespace(signature=Signature(length=9, outputs=2, target="signal", channels=2))
    )
    monkeypatch.setattr("transferfn.cli.stream.load_model", lambda folder: (Equaliser(), config))
    return tmp_path


def stereo(folder: Path, length: int) -> tuple[Path, np.ndarray]:
    u = np.stack([noise(length), noise(length, 1)], 1)
    wavfile.write(folder / "in.wav", 8000, u)
    return folder / "in.wav", u


@pytest.mark.parametrize("block", [1, 7])
def test_a_sound_comes_out_filtered_as_the_library_filters_it(equaliser: Path, block: int, capsysbinary) -> None:
    sound, u = stereo(equaliser, 50)
    by_library = sosfilt(torch.from_numpy(BAND), torch.from_numpy(u[:, 0].astype(float))).numpy()
    delayed = np.concatenate([[0], u[:-1, 1]])
    out, common = equaliser / "out.wav", ["stream", str(equaliser), "--input", str(sound), "--block", str(block)]
    for kind, eps in (("float32", 0.0), ("int16", 2.0**-16)):
        out.write_bytes(b"the one before")
        assert main([*common, "--output", str(out), "--output-format", kind]) == 0
        rate, found = wavfile.read(out)  # warns, which is an error, of a header that is not right
        assert (rate, found.dtype, found.shape) == (8000, kind, (50, 2))
        found = found.astype(float) / (1 if kind == "float32" else 2**15)
        np.testing.assert_allclose(found[:, 0], by_library, rtol=0, atol=1e-6 + eps)
        np.testing.assert_allclose(found[:, 1], delayed, rtol=0, atol=eps)
        assert capsysbinary.readouterr() == (b"", b"")
        assert main([*common, "--output-format", kind]) == 0
        raw = capsysbinary.readouterr().out
        assert out.read_bytes().endswith(raw)
        assert len(raw) == 100 * found_size(kind)
    assert main([*common, "--output", str(out)]) == 0
    assert out.read_bytes().endswith(raw)  # int16 unless it is told
    np.testing.assert_array_equal(wavfile.read(out)[1].tobytes(), raw)
    assert sorted(path.name for path in equaliser.iterdir()) == ["in.wav", "out.wav"]


def found_size(kind: str) -> int:
    return np.dtype(kind).itemsize


def test_what_is_too_loud_is_clipped_and_told(equaliser: Path, monkeypatch, capsys) -> None:
    feed(monkeypatch, "0 1.5\n0 -1.5\n0 -1\n0 0.25\n0 0\n")
    assert main(["stream", str(equaliser), "--rate", "8000", "--output", str(equaliser / "out.wav")]) == 0
    assert capsys.readouterr().err.startswith("2 numbers were beyond -1..1 and are clipped: --output-format float32 ")
    assert wavfile.read(equaliser / "out.wav")[1][:, 1].tolist() == [0, 2**15 - 1, -(2**15), -(2**15), 2**13]


def test_a_sound_that_ends_early_is_kept_beside_the_good_one(equaliser: Path, monkeypatch, capsys) -> None:
    out, part = equaliser / "out.wav", equaliser / "out.wav.part"
    out.write_bytes(b"a good one")
    common = [equaliser, "--output", out, "--state", equaliser / "state"]
    feed(monkeypatch, "0 0.5\n0 0.25\nhigh\n")
    assert main(["stream", *map(str, common), "--rate", "8000"]) == 2
    assert capsys.readouterr().err.startswith(f"what has come so far is in {part}\n")
    assert out.read_bytes() == b"a good one"
    rate, found = wavfile.read(part)
    assert (rate, found[:, 1].tolist()) == (8000, [0, 2**14])
    feed(monkeypatch, "0 0\n0 0\n")
    assert output(capsys, *common) == []
    assert wavfile.read(out)[1][:, 1].tolist() == [0, 2**14, 2**13, 0]  # its state and its sound went on
    assert not part.exists()


@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_a_sound_goes_on_with_its_state(equaliser: Path, kind: str, capsys) -> None:
    sound, u = stereo(equaliser, 50)
    once, twice = equaliser / "once.wav", equaliser / "twice.wav"
    common = [equaliser, "--output-format", kind, "--block", 4]
    output(capsys, *common, "--input", sound, "--output", once)
    begin = equaliser / "begin.wav"
    for size in (24, 40, 50, 50):  # the last time nothing is left, and nothing is lost
        wavfile.write(begin, 8000, u[:size])
        assert output(capsys, *common, "--input", begin, "--state", equaliser / "s", "--output", twice) == []
        assert len(wavfile.read(twice)[1]) == size
    assert twice.read_bytes() == once.read_bytes()


def test_samples_reach_the_disk_before_their_state_and_are_not_waited_for_without_one(
    equaliser: Path, monkeypatch, capsys
) -> None:
    sound, _ = stereo(equaliser, 30)
    calls = []
    monkeypatch.setattr("transferfn.cli.sound.os.fsync", lambda _: calls.append(1))
    output(capsys, equaliser, "--input", sound, "--output", equaliser / "out.wav")
    assert len(calls) == 1  # at the end
    output(capsys, equaliser, "--input", sound, "--output", equaliser / "out.wav", "--state", equaliser / "s")
    assert len(calls) > 60  # of each sample, and of each state


def test_a_sound_that_is_not_its_state_s_is_left_alone(equaliser: Path, capsys) -> None:
    sound, _ = stereo(equaliser, 20)
    out, other = equaliser / "out.wav", equaliser / "other.wav"
    common = [equaliser, "--input", sound, "--state", equaliser / "s"]
    output(capsys, *common)  # lines of text
    held = b"a sound of someone else"
    out.write_bytes(held)
    assert f"{out} is not what the stream of this --state wrote" in refused(capsys, *common, "--output", out)
    (equaliser / "s").unlink()
    output(capsys, *common, "--output", other)
    for wrong in (held, other.read_bytes()[:-1], other.read_bytes() + b"more"):  # another, cut, or longer
        out.write_bytes(wrong)
        assert "and is left as it is: move it away" in refused(capsys, *common, "--output", out)
        assert out.read_bytes() == wrong
    assert "is not what" in refused(capsys, *common, "--output", other, "--output-format", "float32")


def test_killed_and_continued_the_sound_is_that_of_one_pass(signals: Path, tmp_path: Path, capsys) -> None:
    sound, once, out, state = (tmp_path / name for name in ("in.wav", "once.wav", "out.wav", "state"))
    wavfile.write(sound, 8000, noise(40))
    common = [signals, "--input", sound, "--block", 5]
    output(capsys, *common, "--output", once)
    kill = """
import os, signal, sys
from transferfn.cli import main
from transferfn.nn import Stream
save, kept = Stream.save, []
def killed(stream, file, *, note=None):
    if len(kept) == 3:  # samples of the fourth block are written, its state is not
        os.kill(os.getpid(), signal.SIGKILL)
    kept.append(save(stream, file, note=note))
Stream.save = killed
main(sys.argv[1:])
"""
    arguments = ["stream", *map(str, common), "--output", str(out), "--state", str(state)]
    done = subprocess.run([sys.executable, "-c", kill, *arguments], env=ENVIRONMENT, timeout=200, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert (tmp_path / "out.wav.part").stat().st_size == 44 + 20 * 2
    assert read_state(state).note["samples"] == 15
    assert output(capsys, *common, "--output", out, "--state", state) == []
    assert out.read_bytes() == once.read_bytes()


def test_what_is_no_sound_is_refused(classes: Path, equaliser: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    out = ("--output", tmp_path / "out.wav")
    feed(monkeypatch, "0 0.5\n")
    assert "samples a second, which is not known: tell it with --rate" in refused(capsys, equaliser, *out)
    assert "which is 0.5: tell it" in refused(capsys, equaliser, *out, "--rate", 0.5)
    assert "leave --output-format text out" in refused(capsys, equaliser, *out, "--output-format", "text")
    assert "there is no folder" in refused(capsys, equaliser, "--output", tmp_path / "missing" / "out.wav")
    assert "leave out --output and --output-format" in refused(
        capsys, equaliser, "--benchmark", *out, "--output-format", "int16"
    )
    (tmp_path / "out.wav.part").mkdir()
    assert "out.wav cannot be written" in refused(capsys, equaliser, *out, "--rate", 8000)
    monkeypatch.setattr("transferfn.cli.sound._ROOM", 4)
    (tmp_path / "out.wav.part").rmdir()
    feed(monkeypatch, "0 0.5\n0 0.5\n")
    assert "a WAV file holds 4 bytes and no more" in refused(capsys, equaliser, *out, "--rate", 8000)
    assert sys.stdin.read() == ""
    monkeypatch.undo()
    feed(monkeypatch, "0.5\n")
    for options in (out, ("--output-format", "float32")):
        told = refused(capsys, classes, *options)
        assert "tells one of 10 classes, which is no sound: leave --output and --output-format out" in told
    assert sys.stdin.readline() == "0.5\n"  # nothing was read


# ---------------------------------------------------------------------------------------------------- what is kept


def test_killed_and_continued_the_outputs_are_the_same_to_the_last_bit(
    classes: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    block, blocks = 5, 8
    u = as_text(noise(block * blocks))
    arguments = [classes, "--block", block, "--state"]
    feed(monkeypatch, u)
    uninterrupted = output(capsys, *arguments, tmp_path / "whole")
    assert len(uninterrupted) == blocks

    state = tmp_path / "killed"
    running = subprocess.Popen(
        [*PROGRAM, "stream", *map(str, arguments), str(state)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write("".join(u.splitlines(keepends=True)[: 3 * block + 2]))  # two samples into the fourth block
    running.stdin.flush()
    before = [running.stdout.readline().rstrip("\n") for _ in range(3)]
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and (not state.exists() or read_state(state).note["samples"] < 3 * block):
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait(timeout=50)
    running.stdin.close()
    running.stdout.close()
    feed(monkeypatch, u)
    assert before + output(capsys, *arguments, state, "--from-start") == uninterrupted
    final = [read_state(path).leaves for path in (tmp_path / "whole", state)]
    torch.testing.assert_close(final[0], final[1], rtol=0, atol=0)


def test_single_samples_continue_to_the_last_bit(signals: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    u = noise(90)  # more than a ring has room for
    feed(monkeypatch, as_text(u))
    expected = output(capsys, signals)
    found = []
    for part in np.split(u, [37, 38]):
        feed(monkeypatch, as_text(part))
        assert main(["stream", str(signals), "--state", str(tmp_path / "state")]) == 0
        screen = capsys.readouterr()
        found += screen.out.splitlines()
    assert screen.err == "continuing after 38 samples: the first that is read now must be sample 39\n"
    assert found == expected
    assert not list(tmp_path.glob("*.part"))


def test_a_sound_goes_on_where_the_state_is(signals: Path, tmp_path: Path, capsys) -> None:
    for name, samples in (("begin", 12), ("all", 30)):
        wavfile.write(tmp_path / f"{name}.wav", 8000, noise(30)[:samples])
    expected = output(capsys, signals, "--block", 4, "--input", tmp_path / "all.wav")
    state = ("--block", 4, "--state", tmp_path / "state", "--input")
    found = output(capsys, signals, *state, tmp_path / "begin.wav")
    assert found + output(capsys, signals, *state, tmp_path / "all.wav") == expected
    assert "has 12: it is another sound" in refused(capsys, signals, *state, tmp_path / "begin.wav")


# ---------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0.1\n0.2\n0.3 0.4\n", "line 3 has 2 channels, this run takes 1"),
        ("0.1\n\n0.2\nhigh\n", "line 4: 'high' is not a number"),
        ("0.1\n0.2\nnan\n", "line 3: nan is not finite"),
        ("0.1\n0.2\n1e39\n", "line 3: 1e39 is not finite"),
    ],
)
def test_a_wrong_line_is_named_and_those_before_are_taken_in(signals, text, told, monkeypatch, capsys) -> None:
    feed(monkeypatch, text)
    assert main(["stream", str(signals), "--block", "10"]) == 2
    screen = capsys.readouterr()
    assert told in screen.err
    assert len(screen.out.splitlines()) == 2


def test_raw_numbers_that_end_early_are_named() -> None:
    source = io.BytesIO(np.zeros(5, "<f4").tobytes())
    blocks = blocks_of(source, "float32", Expected(2), 2)
    assert next(blocks).shape == (2, 2)
    with pytest.raises(RunError, match="ends in the middle of sample 3: 4 of 8 bytes"):
        next(blocks)


def test_tokens_are_whole_numbers_of_the_vocabulary() -> None:
    blocks = blocks_of(io.BytesIO(b"3\n0\n"), "text", Expected(None, 4), 5)
    assert next(blocks).tolist() == [3, 0]
    for word in ("4", "-1", "1.5"):
        with pytest.raises(RunError, match=rf"line 1: {word} is no token, a whole number in 0\.\.3"):
            next(blocks_of(io.BytesIO(word.encode()), "text", Expected(None, 4), 5))


def test_a_state_of_something_else_is_refused(
    signals: Path, classes: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    state = tmp_path / "state"
    feed(monkeypatch, "0.5\n")
    output(capsys, signals, "--state", state, "--rate", 8000)
    assert "is the state of another decoder or of other coefficients" in refused(capsys, classes, "--state", state)
    told = refused(capsys, signals, "--state", state, "--rate", 16000)
    assert "of a stream of 8000 samples a second, the input has 16000" in told
    feed(monkeypatch, "")
    told = refused(capsys, signals, "--state", state, "--from-start")
    assert "the state has seen 1 samples, the input has 0" in told
    model: Any = load_model(signals)[0]
    Stream(model.decoder(), batch_size=1).save(state)
    assert "does not tell how many samples it has seen" in refused(capsys, signals, "--state", state)
    state.write_bytes(b"broken")
    assert "is damaged, or no state of a stream" in refused(capsys, signals, "--state", state)


def test_a_sound_of_the_wrong_kind_is_refused(signals: Path, tmp_path: Path, capsys) -> None:
    wavfile.write(tmp_path / "stereo.wav", 8000, np.zeros((4, 2), np.int16))
    assert "has 2 channels, this run takes 1" in refused(capsys, signals, "--input", tmp_path / "stereo.wav")
    (tmp_path / "no.wav").write_bytes(b"no sound")
    assert "cannot be read as a WAV file" in refused(capsys, signals, "--input", tmp_path / "no.wav")
    with pytest.raises(RunError, match="takes tokens, not sound"):
        read_sound(tmp_path / "stereo.wav", Expected(None, 4))


def test_a_sound_that_is_cut_or_not_finite_is_refused(signals: Path, tmp_path: Path, capsys) -> None:
    sound = tmp_path / "sound.wav"
    values = noise(9)
    values[6] = np.nan
    wavfile.write(sound, 8000, values)
    assert f"{sound}, sample 7: nan is not finite" in refused(capsys, signals, "--input", sound)
    wavfile.write(sound, 8000, np.array([0.0, 1e300]))
    assert f"{sound}, sample 2: 1e+300 is not finite" in refused(capsys, signals, "--input", sound)
    for size in (6, 25, 42):  # in the middle of a number of the header
        cut = tmp_path / f"{size}.wav"
        cut.write_bytes(sound.read_bytes()[:size])
        assert f"{cut} cannot be read as a WAV file" in refused(capsys, signals, "--input", cut)


def test_a_sound_that_ends_early_is_taken_and_told_in_a_line(signals: Path, tmp_path: Path, capsys) -> None:
    sound = tmp_path / "sound.wav"
    wavfile.write(sound, 8000, noise(50))
    sound.write_bytes(sound.read_bytes()[:-40])
    assert main(["stream", str(signals), "--input", str(sound)]) == 0
    screen = capsys.readouterr()
    assert len(screen.out.splitlines()) == 40
    assert screen.err == f"{sound} is cut: its header tells more samples than the 40 that are there\n"
    wavfile.write(sound, 8000, noise(0))
    assert f"{sound} holds no samples" in refused(capsys, signals, "--input", sound)


def test_options_that_would_be_left_aside_are_refused(signals: Path, tmp_path: Path, capsys) -> None:
    sound = tmp_path / "sound.wav"
    wavfile.write(sound, 8000, noise(4))
    assert len(output(capsys, signals, "--input", sound, "--rate", 8000)) == 4
    told = refused(capsys, signals, "--input", sound, "--rate", 16000)
    assert f"--rate is 16000 samples a second, {sound} has 8000" in told
    assert "--from-start about standard input" in refused(capsys, signals, "--input", sound, "--from-start")
    assert "--format about standard input" in refused(capsys, signals, "--input", sound, "--format", "text")
    assert "leave out --input and --state" in refused(
        capsys, signals, "--benchmark", "--input", sound, "--state", tmp_path / "state"
    )


def test_a_state_that_cannot_be_written_is_refused_in_a_line(
    signals: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    feed(monkeypatch, "0.5\n")
    assert "there is no folder" in refused(capsys, signals, "--state", tmp_path / "missing" / "s.pt")
    assert sys.stdin.readline() == "0.5\n"  # nothing was read
    (tmp_path / "s.pt.part").mkdir()
    feed(monkeypatch, "0.5\n")
    assert "the state cannot be written to" in refused(capsys, signals, "--state", tmp_path / "s.pt")


@pytest.mark.filterwarnings("ignore")  # that the filter grows is warned of too
@pytest.mark.parametrize("block", [1, 8])
def test_past_the_horizon_and_past_all_numbers_there_is_a_line(
    signals: Path, block: int, tmp_path: Path, monkeypatch, capsys
) -> None:
    _, config = load_model(signals)
    torch.manual_seed(0)

    def use(mixer: SequenceMixer) -> None:
        model = Classifier(Backbone(4, 1, lambda: mixer, inputs=1), 1).eval()
        monkeypatch.setattr("transferfn.cli.stream.load_model", lambda folder: (model, config))

    use(Hyena(4, filter=lambda: ImplicitFilter(4, horizon=32, features=3, width=4)))
    feed(monkeypatch, as_text(noise(40)))
    told = refused(capsys, signals, "--block", block)
    assert "after 32 samples: a sequence has " in told
    assert f"transferfn distill {signals}" in told
    monkeypatch.setattr("transferfn.cli.latency.STREAMS", (2,))
    monkeypatch.setattr("transferfn.cli.latency.MOST", 40)
    assert len(output(capsys, signals, "--benchmark", "--block", block)) == 2
    assert "takes in 32 samples at most" in refused(capsys, signals, "--benchmark", "--block", 33)

    grown = RTF(4, 2, horizon=16, init="zeros", constraint=None)
    with torch.no_grad():
        grown.denominator[:, 0] = -1e4
    use(grown)
    feed(monkeypatch, as_text(noise(40)))
    assert "samples: the state is no longer finite" in refused(capsys, signals, "--block", block)


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [("--block", 0, "--block is a number of samples"), ("--rate", -1, "--rate is in samples a second"),
     ("--threads", 0, "--threads is a number of threads")],
)  # fmt: skip
def test_options_are_checked(tmp_path: Path, option: str, value: int, told: str, capsys) -> None:
    assert told in refused(capsys, tmp_path, option, value)
