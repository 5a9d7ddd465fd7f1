"""A run's language model and tokeniser as transformers keeps them: `transferfn export RUN --format huggingface`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from transferfn.models import LanguageModel
from transferfn.tasks import DataError, TextCorpusConfig
from transferfn.tasks.tokenizer import END, Tokenizer
from transferfn.training import RunError, load_model
from transferfn.training.run import RunFolder
from transferfn.training.tokens import read_tokens


@torch.no_grad()
def export_huggingface(run: Path, out: Path) -> float:
    """Write a folder that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load after ``import transferfn``.

    Texts come out as by ``transferfn generate``: the token between texts begins each prompt, ends what is generated,
    and pads at the left.

    Args:
        run: Folder of the run.
        out: The folder; files of such a model in it are replaced.

    Returns:
        The largest difference of its logits from those of the run's model, relative to the largest, on noise.

    Raises:
        RunError: if there is no such run, the folder holds a run, transformers is missing, or a file cannot be written.
    """
    if RunFolder(path=out).checkpoints.exists():
        raise RunError(f"{out} holds a run, whose config.json would be lost: choose another folder with --out")
    try:
        from transformers.utils.logging import disable_progress_bar

        from transferfn.interop.huggingface import TransferFnConfig, TransferFnForCausalLM
    except ImportError as error:
        raise RunError(f"--format huggingface needs transformers: pip install 'transferfn[lm]' ({error})") from None
    disable_progress_bar()  # it is done in a moment
    model, config = load_model(run)
    if not isinstance(model, LanguageModel) or not isinstance(config.data, TextCorpusConfig):
        raise RunError(f"{run} is no language model: --format pt2 and onnx are for all models")
    tokenizer = read_tokens(RunFolder(path=run), config.data)
    if model.vocabulary < tokenizer.vocabulary:
        raise RunError(
            f"{run} knows {model.vocabulary} tokens, its tokeniser {tokenizer.vocabulary}: one is of another run"
        )
    theirs = TransferFnConfig.from_language_model(config.model)  # pyright: ignore[reportArgumentType]
    theirs.bos_token_id = theirs.eos_token_id = theirs.pad_token_id = tokenizer.end
    try:
        TransferFnForCausalLM(theirs, model).eval().save_pretrained(out)
        _transformers_tokenizer(tokenizer).save_pretrained(out)
        loaded = TransferFnForCausalLM.from_pretrained(out).eval()
    except (OSError, DataError) as error:
        raise RunError(f"{run} cannot be exported to {out}: {error}") from error
    tokens = torch.randint(tokenizer.vocabulary, (1, 64), generator=torch.Generator().manual_seed(0))
    expected = model(tokens)
    return float((loaded(tokens).logits - expected).abs().max() / expected.abs().max())


def _transformers_tokenizer(tokenizer: Tokenizer) -> Any:
    from tokenizers import Tokenizer as Raw
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    raw: Any = Raw.from_str(tokenizer.to_json())
    raw.post_processor = TemplateProcessing(
        single=f"{END} $A", pair=f"{END} $A {END} $B", special_tokens=[(END, tokenizer.end)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
