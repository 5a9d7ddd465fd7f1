"""`transferfn stream RUN`: a trained model fed from a pipe or a sound file in blocks, with a state that is kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from transferfn.cli.forms import in_form
from transferfn.cli.samples import Block, Expected, Kind, blocks_of, read_sound
from transferfn.cli.sound import Encoder, Numbers, Writer, Written, sound_file, whole_so_far
from transferfn.nn import StateOverflowError, Stream
from transferfn.nn.mixer import NotCausalError
from transferfn.nn.realize import FormOption
from transferfn.tasks import Signature, SpeechCommandsConfig
from transferfn.training import RunError, TrainConfig, load_model
from transferfn.training.run import RunFolder
from transferfn.training.tokens import run_signature


@dataclass(frozen=True, kw_only=True, slots=True)
class Streaming:
    """Feed a run's best model with samples as they come and write what it makes of them, block by block.

    Lines of text, or, of a model that makes a sample of each sample, sound: a WAV file or raw numbers.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""

    input: Path | None = None
    """A WAV file; None reads standard input."""

    format: Kind | None = None
    """What standard input holds: a sample a line, channels parted by commas or blanks; or raw little-endian numbers;
    None means text."""

    output: Path | None = None
    """A WAV file for the samples that the model makes, put there when it is whole, and gone on with when --state is;
    None writes to standard output."""

    output_format: Kind | None = None
    """What is written: lines of text, or raw little-endian numbers, of samples alone, where int16 holds -1..1; None
    means text, and int16 for a WAV file."""

    block: int = 1
    """Samples that are taken in together: more are faster, and their results come together."""

    state: Path | None = None
    """File that keeps the state after each block; one that is there is continued. After a kill a WAV file, or a file as
    standard input with --from-start, goes on without a loss; a pipe has read ahead, and its sender must send again from
    the sample that is told when the state is continued."""

    from_start: bool = False
    """Whether standard input begins with the first sample of all, so that what the state has seen is skipped."""

    rate: float | None = None
    """Samples a second: kept with the state, and compared when it is continued; that of a WAV file must agree."""

    threads: int = 1
    """Threads that compute: one is steadiest, more are faster for long blocks or many streams."""

    form: FormOption | None = None
    """Form that filters decode in, for all layers; auto takes for each the one whose measured error is least. The
    errors of what was measured are told on standard error. None takes the direct form, unmeasured."""

    narrow: bool = False
    """Whether filters keep their states in bfloat16 between blocks, half the memory; with --form, which counts it."""

    benchmark: bool = False
    """Whether to measure latency and real-time factor of 1, 64 and 1,024 streams side by side instead."""


def stream_run(command: Streaming) -> None:
    """Read, compute, write, keep the state.

    Args:
        command: Which run, and how.

    Raises:
        RunError: if the run cannot be streamed, a sample is wrong or the state is of something else.
    """
    if command.block < 1:
        raise RunError(f"--block is a number of samples, at least 1; got {command.block}")
    if command.rate is not None and not 0 < command.rate < float("inf"):
        raise RunError(f"--rate is in samples a second, a positive number; got {command.rate:g}")
    if command.threads < 1:
        raise RunError(f"--threads is a number of threads, at least 1; got {command.threads}")
    if command.narrow and command.form is None:
        raise RunError("--narrow goes with --form, which measures what it costs: add --form auto")
    _check_together(command)
    threads = torch.get_num_threads()
    torch.set_num_threads(command.threads)
    try:
        _stream(command)
    finally:
        torch.set_num_threads(threads)


def _stream(command: Streaming) -> None:
    model, config = load_model(command.run)
    decoder = _decoder(model, command)
    signature = run_signature(RunFolder(path=command.run), config)
    if command.benchmark:
        from transferfn.cli.latency import measure_streams

        rate = command.rate or _rate_of(config)
        with _as_run_error(model, command.run):
            print("\n".join(measure_streams(decoder, signature, block=command.block, rate=rate)))
        return
    stream = Stream(decoder, batch_size=1)
    _check_sound_out(command, signature)
    expected = Expected(signature.channels, signature.vocabulary)
    sound = None if command.input is None else read_sound(command.input, expected)
    rate = command.rate if sound is None else float(sound[0])
    if command.rate not in (None, rate):
        raise RunError(f"--rate is {command.rate:g} samples a second, {command.input} has {rate:g}: leave --rate out")
    trained_at = _rate_of(config)
    if rate is not None and trained_at is not None and rate != trained_at:
        raise RunError(f"this run was trained on {trained_at:g} samples a second, the input has {rate:g}: resample it")
    seen, written = 0, None
    if command.state is not None and command.state.exists():
        seen, rate, written = _continued(stream, command.state, rate)
        begin = command.input is not None or command.from_start
        told = "" if begin else f": the first that is read now must be sample {seen + 1:,}"
        print(f"continuing after {seen:,} samples{told}", file=sys.stderr)
        if command.output is not None:
            written = whole_so_far(
                command.output, channels=signature.outputs, kind=_numbers_of(command), written=written
            )
    # A sound that has been begun elsewhere is not gone on with here.
    written = None if command.output is None else written or Written()
    try:
        with _sound_out(command, rate, signature, written) as write:
            for block in _blocks(command, expected, sound, skip=seen):
                with _as_run_error(model, command.run, seen):
                    y = _take_in(stream, block, block_size=command.block)
                seen += len(block)
                if write is None:
                    sys.stdout.write("".join(f"{line}\n" for line in results(y, signature.target, seen)))
                    sys.stdout.flush()
                else:
                    write(y.reshape(len(block), signature.outputs).numpy())
                if command.state is not None:
                    # After the results: killed in between, a block of a file is taken in again, and nothing is lost.
                    # What was read ahead from a pipe is gone with the process: we say where its sender begins again.
                    _keep(stream, command.state, seen, rate, written)
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def results(y: Tensor, target: str, seen: int) -> Iterator[str]:
    """Write what a model made of a block, a line each.

    Args:
        y: Outputs of one row: (outputs) about everything so far, or one for each sample, (L, outputs).
        target: What the task asks for.
        seen: Samples up to the end of the block.

    Returns:
        Values parted by commas where signals are asked for; else the number of samples so far, the class and its
        probability.

    Example:
        >>> list(results(torch.tensor([[0.0, 100.0], [0.0, 0.0]]), "class-per-sample", 8))
        ['7,1,1.000000', '8,0,0.500000']
    """
    rows = y if y.dim() == 2 else y[None]
    if target == "signal":
        for row in rows.tolist():
            yield ",".join(f"{value:.9g}" for value in row)  # nine digits tell any two numbers of float32 apart
        return
    likely, classes = rows.double().softmax(-1).max(-1)
    first = seen - len(rows) + 1
    for place, (share, chosen) in enumerate(zip(likely.tolist(), classes.tolist(), strict=True)):
        yield f"{first + place},{chosen},{share:.6f}"


def _continued(stream: Stream, file: Path, rate: float | None) -> tuple[int, float | None, Written | None]:
    """Put a stream where a file says that it was; return the samples it has seen, those of a second, and its sound."""
    try:
        note = stream.load(file)
    except (OSError, ValueError) as error:
        raise RunError(f"--state {file} cannot be continued: {error}") from None
    if not {"samples", "rate"} <= set(note):
        raise RunError(f"--state {file} does not tell how many samples it has seen: it is not of transferfn stream")
    if None not in (rate, note["rate"]) and rate != note["rate"]:
        raise RunError(f"{file} is the state of a stream of {note['rate']:g} samples a second, the input has {rate:g}")
    sound = note.get("sound")
    return note["samples"], rate or note["rate"], None if sound is None else Written(**sound)


def _keep(stream: Stream, file: Path, seen: int, rate: float | None, written: Written | None) -> None:
    sound = None if written is None else asdict(written)
    try:
        stream.save(file, note={"samples": seen, "rate": rate, "sound": sound})
    except OSError as error:
        raise RunError(f"the state cannot be written to {file} ({error}): name another file with --state") from None


def _check_together(command: Streaming) -> None:
    """Refuse options that would be left aside, and a state that there is no folder for, before anything is read."""
    reading = {
        "--input": command.input is not None,
        "--format": command.format is not None,
        "--from-start": command.from_start,
        "--state": command.state is not None,
        "--output": command.output is not None,
        "--output-format": command.output_format is not None,
    }
    given = [name for name, there in reading.items() if there]
    if command.benchmark and given:
        raise RunError(f"--benchmark reads nothing and keeps nothing: leave out {' and '.join(given)}")
    of_pipes = [name for name in ("--format", "--from-start") if reading[name]]
    if command.input is not None and of_pipes:
        raise RunError(f"--input is a WAV file, {' and '.join(of_pipes)} about standard input: leave out either")
    for name, file in (("--state", command.state), ("--output", command.output)):
        if file is not None and not file.parent.is_dir():
            raise RunError(f"{name} {file}: there is no folder {file.parent}, make it first")


@contextmanager
def _as_run_error(model: torch.nn.Module, run: Path, seen: int | None = None) -> Iterator[None]:
    """Tell in a line what a model cannot take in: more samples than its kernels are known for, or a growing state."""
    from transferfn.bench.growth import longest

    where = "" if seen is None else f"after {seen:,} samples: "
    try:
        yield
    except StateOverflowError as error:
        raise RunError(f"{where}{error}") from error
    except ValueError as error:
        if longest(model) is None:
            raise
        raise RunError(f"{where}{error} Or distil its filters, which then go on: transferfn distill {run}") from error


def _check_sound_out(command: Streaming, signature: Signature) -> None:
    """Refuse what cannot be a sound before anything is read."""
    if command.output is None and command.output_format in (None, "text"):
        return
    if command.output is not None and command.output_format == "text":
        raise RunError(f"--output {command.output} is a WAV file, of int16 or float32: leave --output-format text out")
    if signature.target != "signal":
        raise RunError(
            f"{command.run} tells one of {signature.outputs} classes, which is no sound: leave --output and "
            "--output-format out, and each line of text tells a class and its probability"
        )


@contextmanager
def _sound_out(
    command: Streaming, rate: float | None, signature: Signature, written: Written | None
) -> Iterator[Writer | None]:
    """What takes the samples that come out as numbers; None where lines of text are asked for."""
    kind = _numbers_of(command)
    if command.output is not None and written is not None:
        if rate is None or not rate.is_integer():
            found = "is not known" if rate is None else f"is {rate:g}"
            raise RunError(f"a WAV file has a whole number of samples a second, which {found}: tell it with --rate")
        with sound_file(
            command.output,
            rate=int(rate),
            channels=signature.outputs,
            kind=kind,
            written=written,
            durable=command.state is not None,
        ) as write:
            yield write
    elif command.output_format in (None, "text"):
        yield None
    else:
        encoder = Encoder(kind)

        def write_raw(values: Any) -> None:
            sys.stdout.buffer.write(encoder(values))
            sys.stdout.buffer.flush()

        try:
            yield write_raw
        finally:
            encoder.tell()


def _numbers_of(command: Streaming) -> Numbers:
    return "float32" if command.output_format == "float32" else "int16"


def _take_in(stream: Stream, block: Block, *, block_size: int) -> Tensor:
    u = torch.from_numpy(block)
    # A block of one sample goes the way of single samples, which is faster, but not the last one of longer blocks.
    y = stream(u[:1].reshape(1, *u.shape[1:])) if block_size == 1 else stream(u[None])
    return y[0]


def _blocks(command: Streaming, expected: Expected, sound: tuple[int, Any] | None, *, skip: int) -> Iterator[Block]:
    if sound is None:
        source: Any = sys.stdin.buffer
        skip = skip if command.from_start else 0
        yield from blocks_of(source, command.format or "text", expected, command.block, skip=skip)
        return
    values = sound[1]
    if skip > len(values):
        raise RunError(f"the state has seen {skip:,} samples, {command.input} has {len(values):,}: it is another sound")
    for start in range(skip, len(values), command.block):
        yield values[start : start + command.block].copy()


def _decoder(model: Any, command: Streaming) -> Any:
    if not hasattr(model, "decoder"):
        raise RunError(f"{command.run} compares whole sequences and cannot be streamed")
    try:
        if command.form is None:
            return model.decoder()
        return in_form(model, command.form, command.run, narrow=command.narrow).decoder
    except NotCausalError:
        raise RunError(f"{command.run} looks ahead (model.bidirectional) and cannot be streamed") from None


def _rate_of(config: TrainConfig) -> float | None:
    """Samples a second of the data a run was trained on, where that is known."""
    return 16_000.0 if isinstance(config.data, SpeechCommandsConfig) else None
