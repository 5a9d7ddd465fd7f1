"""Models of transformers beyond generation: loss, ``Trainer``, pipelines, saving and loading, registration."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from interop.language_models import MIXERS, PAD, every, make, prompts
from transferfn.interop.huggingface import TransferFnConfig, TransferFnForCausalLM
from transferfn.models import LanguageModel, LanguageModelConfig
from transferfn.models.language_model import LanguageMixer, tiny


@every
def test_the_loss_is_that_of_shifted_labels(mixer: LanguageMixer) -> None:
    model = make(mixer).double()
    tokens, mask, _ = prompts()
    labels = torch.where(mask.bool(), tokens, -100)
    logits = model(tokens, attention_mask=mask).logits
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    full = model(tokens, attention_mask=mask, labels=labels, use_cache=False)
    assert_close(full.loss, expected)
    assert_close(full.logits, logits)
    lean = model(tokens, attention_mask=mask, labels=labels, use_cache=False, skip_logits=True)
    assert lean.logits is None
    assert_close(lean.loss, expected)
    kept = model(tokens, attention_mask=mask, labels=labels, use_cache=False, logits_to_keep=2)
    assert_close(kept.logits, logits[:, -2:])
    assert_close(kept.loss, full.loss)
    scored = int((labels[:, 1:] != -100).sum())
    halved = model(tokens, attention_mask=mask, labels=labels, use_cache=False, num_items_in_batch=2 * scored)
    assert_close(2 * halved.loss, full.loss)
    assert isinstance(model(tokens, return_dict=False), tuple)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_trainer(tmp_path: Path, checkpointing: bool) -> None:
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    model = make("hyena-rtf", dropout=0.1)
    text = torch.arange(9) % 3 + 5
    data = [{"input_ids": text, "labels": text} for _ in range(8)]
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=4,
        learning_rate=0.01,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        logging_steps=1,
        activation_checkpointing=checkpointing,
        dataloader_pin_memory=False,
    )
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = Trainer(model=model, args=arguments, train_dataset=data)
    trainer.train()
    assert model.model.backbone.gradient_checkpointing == checkpointing
    first, second = (row["loss"] for row in trainer.state.log_history if "loss" in row)
    assert second < first
    assert all(not torch.equal(p.detach(), before[name]) for name, p in model.named_parameters())
    evaluated = trainer.evaluate(data)
    assert evaluated["eval_loss"] < first


def test_pipeline() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, pipeline

    vocabulary = {c: i for i, c in enumerate(["<pad>", *"abcdefghijklmnop"])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    raw.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", padding_side="left")
    model = make("hyena-rtf")
    generate = pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu", batch_size=2)
    found = generate(["abc", "ecogad"], max_new_tokens=6, do_sample=False)
    for prompt, (answer,) in zip(["abc", "ecogad"], found, strict=True):
        expected = model.generate(
            **tokenizer(prompt, return_tensors="pt", return_token_type_ids=False), max_new_tokens=6, do_sample=False
        )
        assert answer["generated_text"] == tokenizer.decode(expected[0], skip_special_tokens=True)
        assert answer["generated_text"].startswith(prompt)


# ------------------------------------------------------------------------------------------------ saving, loading

LOAD = """
import pathlib, sys, torch
{imports}
assert "transferfn.interop.huggingface" in sys.modules
for folder in map(pathlib.Path, sys.argv[1:]):
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokens = torch.load(folder / "tokens.pt")
    found = model.generate(tokens, max_new_tokens=8, do_sample=False, pad_token_id=0)
    torch.save((type(model).__name__, model(tokens).logits.detach(), found), folder / "found.pt")
"""


# The configuration is there without the models, loaders are Python's own again, and nothing waits any longer.
TRACELESS = """
import transferfn
from transferfn.interop.registration import FOLLOWED_BY, Registration
def waiting(): return sum(isinstance(finder, Registration) for finder in sys.meta_path)
assert waiting() == 1
from transformers import AutoConfig
assert AutoConfig.for_model("transferfn").hidden_size == 768
assert "transferfn.interop.huggingface" not in sys.modules and waiting() == 1
from transformers import AutoModelForCausalLM
assert "transferfn.interop.huggingface" in sys.modules and waiting() == 0
for name in FOLLOWED_BY:
    module = sys.modules[name]
    assert type(module.__loader__).__name__ == type(module.__spec__.loader).__name__ == "SourceFileLoader"
"""
IMPORTS = (TRACELESS, "from transformers import AutoModelForCausalLM; import transferfn")


@pytest.mark.parametrize("imports", IMPORTS, ids=["first-without-a-trace", "second"])
def test_saved_here_loaded_elsewhere(tmp_path: Path, imports: str) -> None:
    from safetensors.torch import load_file

    models, (tokens, _, _) = {mixer: make(mixer) for mixer in MIXERS}, prompts()
    for mixer, model in models.items():
        model.save_pretrained(tmp_path / mixer)
        saved = load_file(tmp_path / mixer / "model.safetensors")
        assert set(saved) == set(model.state_dict())
        assert [name for name, x in saved.items() if 17 in x.shape] == ["model.backbone.encoder.embedding.weight"]
        torch.save(tokens, tmp_path / mixer / "tokens.pt")
    folders = [str(tmp_path / mixer) for mixer in MIXERS]
    subprocess.run([sys.executable, "-c", LOAD.format(imports=imports), *folders], check=True, capture_output=True)
    for mixer, model in models.items():
        name, logits, found = torch.load(tmp_path / mixer / "found.pt")
        assert name == "TransferFnForCausalLM"
        assert torch.equal(logits, model(tokens).logits.detach())
        assert torch.equal(found, model.generate(tokens, max_new_tokens=8, do_sample=False, pad_token_id=0))


@every
def test_coefficients_stay_wide(tmp_path: Path, mixer: LanguageMixer) -> None:
    model = make(mixer)
    model.save_pretrained(tmp_path)
    loaded = TransferFnForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    assert {name: p.dtype for name, p in loaded.named_parameters()} == {
        name: p.dtype for name, p in copy.deepcopy(model).bfloat16().named_parameters()
    }
    assert loaded.model.embedding.weight.dtype == torch.bfloat16
    for name, p in loaded.named_parameters():
        if p.dtype == torch.float32:
            assert torch.equal(p, model.get_parameter(name)), name
    if mixer != "attention":
        assert any(p.dtype == torch.float32 for p in loaded.parameters())
    tokens, mask, _ = prompts()
    assert loaded.generate(tokens, attention_mask=mask, max_new_tokens=4, pad_token_id=PAD).shape == (3, 11)


@every
def test_what_a_checkpoint_lacks_is_drawn(tmp_path: Path, mixer: LanguageMixer) -> None:
    model = make(mixer)
    lacking = {name for name, _ in model.named_parameters() if "blocks.1." in name or "embedding" in name}
    model.save_pretrained(tmp_path, state_dict={k: x for k, x in model.state_dict().items() if k not in lacking})
    loaded, report = TransferFnForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["missing_keys"]) == lacking
    for name, p in loaded.named_parameters():
        assert p.isfinite().all()
        if name not in lacking:
            assert torch.equal(p, model.get_parameter(name))
        elif name.endswith(("mlp.0.weight", "embedding.weight")):
            assert 0.01 < float(p.detach().std()) < 0.04


def test_embeddings_can_be_resized() -> None:
    model = make()
    tokens, _, _ = prompts()
    before = model(tokens).logits
    model.resize_token_embeddings(20)
    after = model(tokens).logits
    assert after.shape[-1] == model.config.vocab_size == 20
    assert_close(after[..., :17], before)


def test_configurations_convert() -> None:
    mine = tiny(mixer="hyena-s4d")
    theirs = TransferFnConfig.from_language_model(mine)
    assert theirs.language_model() == mine
    assert TransferFnConfig().language_model() == LanguageModelConfig()
    assert TransferFnConfig.from_dict(theirs.to_dict()).language_model() == mine


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new process."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


def test_importing_the_package_does_not_import_transformers() -> None:
    python("import sys, transferfn, transferfn.models; sys.exit('transformers' in sys.modules)")


def test_a_transformers_that_is_too_old_still_works(tmp_path: Path) -> None:
    """What cannot be registered does not stand in the way of others; an import of it says what is missing."""
    auto = tmp_path / "transformers" / "models" / "auto"
    auto.mkdir(parents=True)
    for folder in (auto, auto.parent, auto.parent.parent):
        (folder / "__init__.py").write_text("")
    (auto / "modeling_auto.py").write_text("AutoModelForCausalLM = 'old'\n")
    python(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import transferfn\n"
        "from transformers.models.auto.modeling_auto import AutoModelForCausalLM\n"
        "assert AutoModelForCausalLM == 'old'\n"
        "try:\n"
        "    import transferfn.interop.huggingface\n"
        "except ImportError as error:\n"
        "    assert 'transformers 5.24 or later' in str(error)\n"
        "else:\n"
        "    raise AssertionError\n"
    )


@torch.no_grad()
def test_a_distilled_model_is_saved_with_what_stands_in_it(tmp_path: Path) -> None:
    """One filter learned, one fixed and in float64; the configuration still says that both are implicit."""
    from transferfn.analysis import distill_model
    from transferfn.nn import RTF, Realization

    original = make("hyena")
    model, found = distill_model(original.model, 4, steps=0)
    assert isinstance(model, LanguageModel)
    first, second = found
    model.set_submodule(second, Realization(found[second].system))
    distilled = TransferFnForCausalLM(copy.deepcopy(original.config), model).eval()
    assert original.config.substitutes is None
    assert set(distilled.config.substitutes) == set(found)
    distilled.save_pretrained(tmp_path)
    loaded = TransferFnForCausalLM.from_pretrained(tmp_path)
    assert isinstance(loaded.model.get_submodule(first), RTF)
    assert loaded.model.get_submodule(second).b.dtype == torch.float64
    tokens, mask, _ = prompts()
    assert torch.equal(loaded(tokens).logits, distilled(tokens).logits)
    options = {"attention_mask": mask, "max_new_tokens": 70, "do_sample": False, "pad_token_id": PAD}
    assert torch.equal(loaded.generate(tokens, **options), distilled.generate(tokens, **options))
