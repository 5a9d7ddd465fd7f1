from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import transferfn.cli.demo as demo_module
from processes import begin
from processes import command as foreground
from processes import status as ended_with
from tasks.digit_files import write_idx
from training.stub import tiny
from transferfn.cli import commands, main, usage
from transferfn.training import RECIPES, ModelConfig, OptimizerConfig, RunError, RunOptions, TrainConfig, fit
from transferfn.training.recipes import recipe_line, recipe_name
from transferfn.training.run import RunFolder, begin_run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idx(tmp_path_factory.mktemp("digits"))


def small(data: Path, out: Path, *more: str) -> list[str]:
    """A run of the real model that takes a second or two."""
    options = {
        "--data.path": data,
        "--data.side": 7,
        "--model.width": 8,
        "--model.layers": 1,
        "--model.order": 2,
        "--epochs": 2,
        "--batch-size": 30,
        "--accelerator": "cpu",
        "--out": out,
    }
    return ["train", "smnist", *(str(part) for pair in options.items() for part in pair), "--data.no-published", *more]


def error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a wrong command gets, with exit status 2."""
    capsys.readouterr()
    assert main(arguments) == 2
    screen = capsys.readouterr()
    assert screen.err.startswith("transferfn: ")
    assert screen.err.count("\n") == 1
    return screen.err


def process(*arguments: str, code: str = "from transferfn.cli import main; sys.exit(main(sys.argv[1:]))") -> list[str]:
    return [sys.executable, "-c", f"import sys; {code}", *arguments]


ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


# ---------------------------------------------------------------------------------------------------- help


def test_list_shows_each_recipe_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for recipe, line in zip(RECIPES, lines, strict=False):
        assert line.split()[0] == recipe_name(recipe)
        assert line.endswith(recipe_line(recipe))


@pytest.mark.parametrize("arguments", [[], ["--help"], ["train", "--help"], ["demo", "--help"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    assert "usage: transferfn" in capsys.readouterr().out


@pytest.mark.parametrize("recipe", RECIPES, ids=recipe_name)
def test_help_of_a_recipe_shows_every_option_with_its_own_default(recipe, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", recipe_name(recipe), "--help"])
    screen = " ".join(capsys.readouterr().out.replace("│", " ").split())
    config = recipe()
    for name, value in (
        ("--epochs", config.epochs),
        ("--batch-size", config.batch_size),
        ("--model.width", config.model.width),
        ("--model.constraint", config.model.constraint),
        ("--optimizer.lr", config.optimizer.lr),
        ("--out", f"runs/{recipe_name(recipe)}"),
    ):
        found = screen[screen.index(f"{name} ", screen.index("options")) :]
        assert found[found.index("(default: ") :].startswith(f"(default: {value})"), name


def test_help_and_list_do_not_load_the_training_framework() -> None:
    code = "from transferfn.cli import main; main(['list']); assert not {'lightning', 'matplotlib'} & set(sys.modules)"
    done = subprocess.run(process(code=code), env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["lisst"],
            "lisst; available subcommands: list, train, eval, report, sweep, experiment, data, generate, distill, ",
        ),
        (
            ["sweep", "nosuch", "--out", "s"],
            "transferfn: Unrecognized options: nosuch, --out, s; available subcommands: ",
        ),
        (["sweep", "digits", "--trials", "0"], "transferfn: trials must be at least 1, got 0"),
        (["train"], "Expected one of {smnist, smnist-full, lra-listops, "),
        (["train", "mnist"], "mnist; available subcommands: smnist, smnist-full, lra-listops, "),
        (
            ["train", "smnist", "--model.widht", "3"],
            "--model.widht, 3; did you mean --model.width or --model.init? (see tra",
        ),
        (["train", "smnist", "--optimizer.lr", "fast"], "--optimizer.lr: could not convert string to float: 'fast'"),
        (
            ["train", "smnist", "--model.init", "best"],
            "invalid choice 'best' for argument '--model.init'. Expected one",
        ),
        (["train", "smnist", "--mixer", "s4", "--out", "lm", "--epochs", "0"], "epochs must be at least 1, got 0"),
        (["experiment", "mixers-smnist", "--minutes", "-5"], "minutes must be more than 0 and finite, got -5"),
        (["train", "smnist", "--epochs"], "Missing value for argument '--epochs'"),
        (["train", "smnist", "--epochs", "0"], "epochs must be at least 1, got 0"),
        (["train", "smnist", "--data.side", "5"], "data.side must divide 28, one of 1, 2, 4, 7, 14, 28; got 5"),
        (["train", "smnist", "--optimizer.lr", "-1"], "optimizer.lr must be a finite number, 0 or more; got -1.0"),
        (["train", "smnist", "--optimizer.filter-lr", "nan"], "optimizer.filter_lr must be a finite number, 0 or more"),
        (["train", "smnist", "--optimizer.weight-decay", "-1"], "optimizer.weight_decay must be a finite number"),
        (["train", "smnist", "--optimizer.betas", "2", "3"], "optimizer.betas must be at least 0 and less than 1"),
        (["train", "smnist", "--optimizer.clip", "-1"], "optimizer.clip is the largest norm of the gradient"),
        (["train", "digits", "--data.seed", "-1"], "data.seed must lie in 0..2^63 - 1, got -1"),
        (["train", "smnist", "--data.seed", "-1"], "data.seed must lie in 0..2^63 - 1, got -1"),
        (["train", "smnist", "--seed", "99999999999999999999"], ": seed must lie in 0..2^63 - 1, got 99999999"),
        (["demo", "--fast"], "--fast (see transferfn demo --help)"),
    ],
)
def test_a_wrong_command_gets_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told in error(capsys, *arguments)


@pytest.mark.parametrize(("recipe", "mixer"), [("smnist", "s4"), ("smnist", "lru"), ("lm", "hyena-s4d"), ("lm", "s5")])
def test_a_mixer_need_not_come_in_every_recipe(recipe: str, mixer: str) -> None:
    assert commands.parse(["train", recipe, "--mixer", mixer]).run.config.model.mixer == mixer


def test_options_of_a_layer_are_chosen_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Over what is published with it; those of another layer are refused."""
    arguments = ["train", "lra-path-x", "--mixer", "s4d", "--model.s4d.init", "inv", "--model.s4d.dt-max", "0.01"]
    options = commands.parse(arguments).run.config.model.s4d
    assert (options.init, options.dt_min, options.dt_max) == ("inv", 1e-4, 0.01)
    assert "would do nothing with --mixer rtf" in error(capsys, "train", "smnist", "--model.s4d.init", "inv")


@pytest.mark.parametrize(
    ("mixer", "options", "named"),
    [
        ("s4d", ["--model.constraint", "l1", "--model.init", "xavier"], "model.init"),
        ("attention", ["--optimizer.filter-lr", "0.5"], "optimizer.filter_lr"),
        ("attention", ["--order", "8"], "model.order"),
        ("s4", ["--model.heads", "2"], "model.heads"),
        ("s5", ["--model.denominator-groups", "2"], "model.denominator_groups"),
    ],
)
@pytest.mark.parametrize("recipe", ["delay", "lm"])
def test_options_that_do_nothing_with_a_mixer_are_refused(
    recipe: str, mixer: str, options: list[str], named: str
) -> None:
    assert commands.parse(["train", recipe, "--mixer", mixer])  # what recipes hold for other mixers does no harm
    for command in ("train", "sweep"):
        with pytest.raises(commands.UsageError, match=f"{named} does nothing with --mixer {mixer}, got "):
            commands.parse([command, recipe, "--mixer", mixer, *options])


def test_of_two_mixers_the_last_one_is_trained_at_its_own_rates() -> None:
    config = commands.parse(["train", "delay", "--model.mixer", "rtf", "--mixer", "s4"]).run.config
    assert config == commands.parse(["train", "delay", "--mixer", "s4"]).run.config
    run = commands.parse(["train", "delay", "--size", "full", "--size=small"]).run
    assert (run.size, run.config.data.lag) == ("small", 100)


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "inspect", "smnist", "--data.side", "1", "--out"],
        ["sweep", "smnist", "--search", "optimizer.lr=1e-3", "--trials", "1", "--out"],
    ],
)
def test_places_that_cannot_be_written_are_named(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    told = error(capsys, *arguments, str(tmp_path / "file" / "below.png"))
    assert f"{tmp_path / 'file'}" in told
    assert "cannot be read or written" in told


@pytest.mark.parametrize("argument", ["list", "--help"])
def test_a_reader_that_has_gone_is_no_error(argument: str) -> None:
    with subprocess.Popen(
        process(argument), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        told = running.stderr.read()
    assert (running.returncode, told) == (141, "")


def test_commands_without_out_do_not_speak_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = error(capsys, "eval", str(tmp_path / "nowhere"))
    assert "is missing: train first, or name the folder of another run" in told
    assert "--out" not in told


def test_places_to_compute_that_are_not_there_are_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "batch-size must be at least 1, got 0" in error(capsys, "eval", str(tmp_path), "--batch-size", "0")
    for device in ("nowhere", *(() if torch.cuda.is_available() else ("cuda",))):
        told = error(capsys, "eval", str(tmp_path), "--device", device)
        assert f"--device {device} cannot be used here (" in told
    told = error(capsys, *small(data, tmp_path / "run", "--accelerator", "tpu"))
    assert "this machine cannot train so" in told


def test_a_run_without_a_best_epoch_is_called_unfinished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin_run(RunFolder(path=tmp_path), TrainConfig())
    told = error(capsys, "eval", str(tmp_path))
    assert f"{tmp_path} holds a run that is not finished" in told
    assert "the command that began it goes on with it" in told


def test_missing_corpora_are_told_with_their_addresses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "wikitext-103"
    told = error(capsys, "train", "wikitext", "--data.path", str(folder))
    assert f"{folder} is no folder with WikiText-103" in told
    assert "https://huggingface.co/datasets/Salesforce/wikitext" in told
    folder.mkdir()
    for part in ("train", "valid", "test"):
        (folder / f"wiki.{part}.raw").write_text(" = A = \n\n words \n")
    words = ["train", "wikitext", "--data.path", str(folder), "--data.tokenizer-file", str(tmp_path / "tokenizer.json")]
    assert "https://huggingface.co/openai-community/gpt2" in error(capsys, *words)


def test_missing_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = error(capsys, *small(tmp_path / "nowhere", tmp_path / "run"))
    assert f"{tmp_path / 'nowhere'} is missing" in told
    assert not (tmp_path / "run").exists()


def test_a_model_that_cannot_be(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = error(capsys, *small(data, tmp_path, "--model.denominator-groups", "3"))
    assert "no model can be built from these options" in told
    told = error(capsys, *small(data, tmp_path, "--devices", "4"))
    assert "must be a multiple of their number, got 30 samples for 4 devices" in told
    assert not list(tmp_path.iterdir())


def test_a_run_that_diverges_says_what_to_do(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hot = ["--optimizer.lr", "1e30", "--optimizer.warmup", "0", "--log-every", "1", "--no-progress"]
    told = error(capsys, *small(data, tmp_path, *hot))
    assert "the loss is nan after" in told
    assert "lower optimizer.lr" in told


@pytest.mark.parametrize("package", ["lightning", "matplotlib"])
def test_without_the_extra_it_is_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setattr(usage, "find_spec", lambda name: None if name == package else name)
    told = f"this command needs the package {package}: pip install 'transferfn[train]'"
    assert told in error(capsys, *small(data, tmp_path))
    assert told in error(capsys, "demo")


@pytest.mark.parametrize("words", [["report", "runs"], ["analyze", "run"], ["data", "inspect", "digits"]])
def test_what_only_draws_asks_for_no_more(words: list[str], capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "find_spec", lambda name: None)
    assert "needs the package matplotlib: pip install 'transferfn[plots]'" in error(capsys, *words)


def test_without_the_extra_the_library_names_it(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    with pytest.raises(RunError, match=r"needs the package lightning\.pytorch: pip install"):
        fit(tiny(data), RunOptions(out=tmp_path))


# ---------------------------------------------------------------------------------------------------- runs


def test_train_resumes_refuses_and_reports(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(small(data, out)) == 0
    screen = capsys.readouterr()
    assert "test accuracy" in screen.out
    assert screen.err == ""
    assert len(list((out / "pictures").glob("*.png"))) == 5
    assert main(small(data, out)) == 0  # finished: the result is told again
    assert capsys.readouterr().out.splitlines() == screen.out.splitlines()[-2:]
    assert "model.order 3 (there 2)" in error(capsys, *small(data, out, "--model.order", "3"))
    (out / "result.json").unlink()
    assert main(small(data, out)) == 0  # only the test was left
    assert capsys.readouterr().out.splitlines()[-2] == screen.out.splitlines()[-2]
    (out / "result.json").unlink()
    (out / "checkpoints" / "last.ckpt").write_bytes(b"broken")
    assert "last.ckpt is broken" in error(capsys, *small(data, out))
    assert main(small(data, out, "--overwrite")) == 0


def test_a_bidirectional_model_trains(data: Path, tmp_path: Path) -> None:
    assert main(small(data, tmp_path, "--model.bidirectional", "--no-progress")) == 0
    drawn = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert drawn == ["learning_curve.png", "radii.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT")
@pytest.mark.parametrize(
    ("number", "status", "how"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_interrupting_tells_how_to_continue(data: Path, tmp_path: Path, number: int, status: int, how: str) -> None:
    out = tmp_path / "a run"
    arguments = small(data, out, "--epochs", "2000", "--checkpoint-every", "3", "--workers", "1")
    said = tmp_path / "said"
    running = begin(foreground, *arguments, told=said)
    last = out / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 200
    while not last.exists() and running.is_alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    assert running.pid is not None
    os.kill(running.pid, number)
    ended = ended_with(running)
    told = said.read_text()
    assert ended == status, told
    assert told.strip().count("\n") == 0
    assert f"{how}; to continue: transferfn train smnist --data.path {data}" in told
    assert f"--out '{out}'" in told
    assert torch.load(last, weights_only=True)["global_step"] > 0
    assert not (out / "result.json").exists()


def test_the_demo(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pil = pytest.importorskip("PIL.Image")
    model = ModelConfig(width=8, layers=2, order=4, head="mean")
    config = replace(tiny(data, epochs=4), model=model, optimizer=OptimizerConfig(lr=1e-2))
    monkeypatch.setattr(demo_module, "demo_config", lambda: config)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 0
    screen = capsys.readouterr()
    assert screen.err == ""
    assert "test accuracy" in screen.out
    assert float(screen.out.split("any logit ")[1].split()[0]) < 1e-4
    for name in ("learning_curve", "kernels", "poles", "bode"):
        path = out / "pictures" / f"{name}.png"
        assert str(path) in screen.out
        with pil.open(path) as picture:
            assert min(picture.size) > 400


# ------------------------------------------------------------------------------------------------------------- bench


def test_bench_measures_what_it_is_asked_for(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr("transferfn.bench.calibrate.report", lambda **options: seen.append(options))
    assert main(["bench", "calibrate", "--seconds", "0.5", "--no-save"]) == 0
    assert seen == [{"seconds": 0.5, "save": False}]


def test_bench_names_what_is_missing(capsys, monkeypatch) -> None:
    monkeypatch.setattr(usage, "find_spec", lambda package: None)
    assert "needs the package mpmath: pip install 'transferfn[dev]'" in error(capsys, "bench", "numerics")
    assert "see transferfn bench --help" in error(capsys, "bench", "speed")
    assert "see transferfn bench layer --help" in error(capsys, "bench", "layer", "--fast")
