"""The tokens of a run of a language model: kept beside its weights, which mean nothing in any others."""

from __future__ import annotations

from transferfn.files import write_text
from transferfn.tasks import DataError, Signature, Splits, TextCorpusConfig
from transferfn.tasks.tokenizer import BpeTokenizer, ByteTokenizer, Tokenizer
from transferfn.training.config import TrainConfig
from transferfn.training.run import RunError, RunFolder


def write_tokens(folder: RunFolder, config: TrainConfig, tokenizer: Tokenizer | None = None) -> None:
    """Write the tokeniser into the folder of a run; nothing if it is no run of texts.

    Args:
        folder: The run.
        config: Its configuration.
        tokenizer: The tokeniser; None takes that of the data.

    Raises:
        RunError: if the folder cannot be written.
    """
    if not isinstance(config.data, TextCorpusConfig):
        return
    try:
        write_text(folder.tokenizer, (tokenizer or config.data.read().tokenizer).to_json())
    except OSError as error:
        raise RunError(f"{folder.tokenizer} cannot be written ({error}): choose another folder with --out") from None


def read_tokens(folder: RunFolder, data: TextCorpusConfig) -> Tokenizer:
    """Return the tokeniser that a run was trained with, wherever its texts are by now.

    Args:
        folder: The run.
        data: Its texts, which are asked only if the run is older than this file.

    Raises:
        RunError: if the file cannot be read.
        DataError: if there is none, and the texts cannot be read.
    """
    if data.tokenizer == "bytes":
        return ByteTokenizer()
    if not folder.tokenizer.exists():
        return data.read().tokenizer
    try:
        return BpeTokenizer.read(folder.tokenizer)
    except DataError as error:
        raise RunError(f"the run's tokens are unknown: {error}") from None


def run_signature(folder: RunFolder, config: TrainConfig) -> Signature:
    """Return what a run's task gives and asks for, without its texts.

    Args:
        folder: The run.
        config: Its configuration.

    Raises:
        RunError: if its tokeniser cannot be read.
    """
    data = config.data
    return data.signature_in(read_tokens(folder, data)) if isinstance(data, TextCorpusConfig) else data.signature


def load_splits(folder: RunFolder, config: TrainConfig) -> Splits:
    """Return the data of a run, to judge its model on or to go on training.

    Args:
        folder: The run.
        config: Its configuration.

    Raises:
        RunError: if the texts are no longer written in the tokens that the run was trained with.
        DataError: if the data cannot be read.
    """
    data = config.data
    if isinstance(data, TextCorpusConfig) and read_tokens(folder, data).to_json() != data.read().tokenizer.to_json():
        source = data.path or "Python's library" if data.tokenizer_file is None else data.tokenizer_file
        raise RunError(
            f"{folder.path} was trained with other tokens than {source} gives now, so that no score would mean "
            "anything: bring that back as it was, or train anew"
        )
    return data.load()
