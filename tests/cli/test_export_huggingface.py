"""A trained run taken to transformers: loaded in a new process it says what `transferfn generate` says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from transferfn.cli import main
from transferfn.tasks import TextCorpusConfig
from transferfn.training import load_model
from transferfn.training.run import RunFolder
from transferfn.training.tokens import read_tokens

PROMPTS = ["def é", "x"]
COUNT = 25


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of a hundred steps: enough for filters and maps to be no longer as they were drawn."""
    return {tokenizer: trained(tmp_path_factory.mktemp("texts"), tokenizer) for tokenizer in ("bytes", "bpe")}


def trained(folder: Path, tokenizer: str) -> Path:
    for number in range(30):
        lines = "".join(f"def f{k}(é):\n    return {k * number} + é\n\n\n" for k in range(20))
        (folder / f"{number}.txt").write_text(lines)
    words = ["train", "lm", "--size", "small", "--data.source", "files", "--data.path", str(folder)]
    words += ["--data.length", "64", "--data.validation", "0.1", "--data.test", "0.1"]
    words += ["--width", "16", "--layers", "2", "--order", "4", "--model.mlp", "16", "--batch-size", "8"]
    words += ["--epochs", "1", "--epoch-steps", "120", "--optimizer.lr", "0.03", "--accelerator", "cpu"]
    words += ["--data.tokenizer", tokenizer, "--data.vocabulary", "280", "--model.vocabulary", "288"]
    assert main([*words, "--out", str(folder / "run")]) == 0
    assert main(["export", str(folder / "run"), "--format", "huggingface"]) == 0
    return folder / "run"


@pytest.fixture(params=["bytes", "bpe"])
def run(request: pytest.FixtureRequest, runs: dict[str, Path]) -> Path:
    return runs[request.param]


LOAD = """
import json, sys
import transferfn
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

prompts, count, *folders = *json.loads(sys.argv[1]), *sys.argv[2:]
greedy = {"max_new_tokens": count, "do_sample": False}

def say(folder):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    alone = [model.generate(**tokenizer(prompt, return_tensors="pt"), **greedy)[0].tolist() for prompt in prompts]
    ask = pipeline("text-generation", folder, batch_size=2)
    return {
        "names": sorted(batch),
        "ids": [tokenizer(prompt)["input_ids"] for prompt in prompts],
        "mask": batch["attention_mask"].tolist(),
        "special": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
        "config": [model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id],
        "generation": [getattr(model.generation_config, f"{name}_token_id") for name in ("bos", "eos", "pad")],
        "alone": alone,
        "batch": model.generate(**batch, **greedy).tolist(),
        "texts": [tokenizer.decode(ids, skip_special_tokens=True) for ids in alone],
        "asked": [found[0]["generated_text"] for found in ask(prompts, **greedy)],
    }

print(json.dumps({folder: say(folder) for folder in folders}))
"""


@pytest.fixture(scope="module")
def said(runs: dict[str, Path]) -> dict[str, Any]:
    """What a new process says of each run."""
    words = [json.dumps([PROMPTS, COUNT]), *(str(run / "huggingface") for run in runs.values())]
    done = subprocess.run([sys.executable, "-c", LOAD, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_new_process_says_the_same(run: Path, said: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    found = said[str(run / "huggingface")]
    model, config = load_model(run)
    assert isinstance(config.data, TextCorpusConfig)
    tokenizer = read_tokens(RunFolder(path=run), config.data)
    end = tokenizer.end
    assert found["names"] == ["attention_mask", "input_ids"]
    assert found["special"] == found["config"] == found["generation"] == [end] * 3
    expected = [[end, *tokenizer.encode(prompt.encode()).tolist()] for prompt in PROMPTS]
    assert found["ids"] == expected
    longest = max(map(len, expected))
    assert found["mask"] == [[0] * (longest - len(ids)) + [1] * len(ids) for ids in expected]

    for row, ids in enumerate(expected):  # full recomputation by the run's own model
        text = torch.tensor([ids])
        with torch.no_grad():
            for _ in range(COUNT):
                text = torch.cat((text, model(text)[:, -1:].argmax(-1)), 1)
        assert found["alone"][row] == text[0].tolist()
        assert found["batch"][row] == [end] * (longest - len(ids)) + text[0].tolist()
        assert end not in text[0, 1:]  # else what follows it would not have been compared
        assert len(set(text[0, len(ids) :].tolist())) > 2  # it says something
    for row, prompt in enumerate(PROMPTS):
        capsys.readouterr()
        assert main(["generate", str(run), "--prompt", prompt, "--count", str(COUNT), "--temperature", "0"]) == 0
        assert capsys.readouterr().out == found["texts"][row] + "\n" == found["asked"][row] + "\n"


def test_what_cannot_be_exported_is_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "config.json").read_text()
    assert main(["export", str(run), "--format", "huggingface", "--out", str(run)]) == 2
    assert "holds a run, whose config.json would be lost" in capsys.readouterr().err
    assert (run / "config.json").read_text() == before
    assert main(["export", str(run), "--format", "huggingface", "--dynamic"]) == 2
    assert "--format huggingface has no option --dynamic" in capsys.readouterr().err
    assert main(["export", str(run), "--format", "huggingface", "--layer", "2"]) == 2
    assert "--format huggingface has no option --layer" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["export", str(run), "--format", "huggingface", "--out", str(tmp_path / "file")]) == 2
    assert "cannot be exported" in capsys.readouterr().err
