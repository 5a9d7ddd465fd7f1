"""From text to tokens and back: bytes as they are, or byte-level BPE by the tokenizers library."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from transferfn.tasks.dataset import DataError

END = "<|endoftext|>"
"""How the token is written that stands before each text and ends it."""


@runtime_checkable
class Tokenizer(Protocol):
    """Texts to tokens 0..vocabulary - 1 and back."""

    @property
    def vocabulary(self) -> int:
        """Number of distinct tokens, the one between texts included."""
        ...

    @property
    def end(self) -> int:
        """The token that stands before each text and ends it."""
        ...

    def encode(self, text: bytes) -> NDArray[np.integer]:
        """Return the tokens of a text.

        Args:
            text: The text; what is written in it never becomes the token between texts.
        """
        ...

    def decode(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes of tokens, those of one after those of the other, so that a text may be decoded piecewise.

        A character may span tokens. The token between texts, and numbers that are none, have no bytes.

        Args:
            tokens: The tokens.
        """
        ...

    def to_json(self) -> str:
        """Return the same as the JSON of the tokenizers library, for ``PreTrainedTokenizerFast`` say."""
        ...


class ByteTokenizer:
    """Each byte is its own token; 256 is the token between texts.

    Example:
        >>> tokens = ByteTokenizer().encode("né".encode())
        >>> tokens.tolist(), ByteTokenizer().decode([256, *tokens.tolist()]).decode()
        ([110, 195, 169], 'né')
    """

    vocabulary = 257
    end = 256

    def encode(self, text: bytes) -> NDArray[np.integer]:
        """Return the bytes of a text.

        Args:
            text: The text.
        """
        return np.frombuffer(text, np.uint8)

    def decode(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes of tokens; 256 has none, as other numbers that a larger model may know.

        Args:
            tokens: The tokens.
        """
        return bytes(token for token in tokens if token < self.end)

    def to_json(self) -> str:
        """Return a BPE without merges whose tokens are these; this takes no library."""
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        vocabulary = {char: byte for byte, char in enumerate(_byte_characters())}
        written = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": self.end, "content": END, **flags, "special": True}],
            "normalizer": None,
            "pre_tokenizer": byte_level,
            "post_processor": None,
            "decoder": byte_level,
            "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
        }
        return json.dumps(written)


class BpeTokenizer:
    """Pairs of frequent neighbours as tokens: byte-level byte pair encoding, so that every text can be written.

    Text that is not UTF-8 is read with replacement characters.

    Args:
        raw: A tokenizer of the tokenizers library.

    Raises:
        DataError: if it has no token between texts, or its tokens do not stand for bytes.

    Example:
        >>> tokenizer = BpeTokenizer.train([b"aha aha aha"] * 3, vocabulary=260)
        >>> tokens = tokenizer.encode(b"aha!")
        >>> len(tokens), tokenizer.decode(tokens.tolist())
        (2, b'aha!')
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        raw.encode_special_tokens = True  # "<|endoftext|>" in a text is text
        end = raw.token_to_id(END)
        if end is None:
            raise DataError(f"the tokenizer has no token {END}, which stands between texts: add it as a special token")
        if b'"ByteLevel"' not in (raw.decoder.__getstate__() if raw.decoder is not None else b""):
            raise DataError("the tokenizer is not byte-level, as that of GPT-2 is: its tokens do not stand for bytes")
        self.end: int = end
        self.vocabulary: int = raw.get_vocab_size()
        self._as_written = frozenset(raw.get_added_tokens_decoder())

    @classmethod
    def train(cls, texts: Iterable[bytes], vocabulary: int) -> BpeTokenizer:
        """Learn merges.

        Args:
            texts: What to learn from, the training part of a corpus.
            vocabulary: Number of distinct tokens, at least 257; fewer are learned where texts have no more pairs.

        Raises:
            ValueError: if the vocabulary is too small for all bytes.
            DataError: if the tokenizers library is missing.
        """
        if vocabulary < 257:
            raise ValueError(f"vocabulary must be at least 257, all bytes and {END}; got {vocabulary}")
        library = _tokenizers()
        raw = _byte_level({}, [])
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[END],
            initial_alphabet=_byte_characters(),
            show_progress=False,
        )
        raw.train_from_iterator((text.decode("utf-8", "replace") for text in texts), trainer)
        return cls(raw)

    @classmethod
    def read(cls, path: Path) -> BpeTokenizer:
        """Read a file of the tokenizers library, such as the ``tokenizer.json`` of GPT-2.

        Args:
            path: The file.

        Raises:
            DataError: if it is missing or no such file.
        """
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(
                f"the tokenizer {path} cannot be read: {error.strerror}; GPT-2's tokenizer.json is at "
                "https://huggingface.co/openai-community/gpt2"
            ) from None
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        except Exception as error:  # noqa: BLE001 (the library raises nothing narrower)
            raise DataError(f"{path} is no file of the tokenizers library: {error}") from None

    @classmethod
    def from_json(cls, text: str) -> BpeTokenizer:
        """Return what ``to_json`` wrote.

        Args:
            text: JSON.
        """
        return cls(_tokenizers().Tokenizer.from_str(text))

    def encode(self, text: bytes) -> NDArray[np.integer]:
        """Return the tokens of a text.

        Args:
            text: The text, UTF-8.
        """
        ids = self._raw.encode(text.decode("utf-8", "replace"), add_special_tokens=False).ids
        return np.asarray(ids, np.uint32)

    def decode(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes of tokens, those of one after those of the other: a character may span tokens.

        Args:
            tokens: The tokens; that between texts, and numbers that are none, have no bytes.
        """
        return b"".join(map(self._bytes, tokens))

    def to_json(self) -> str:
        """Return all of it as JSON of the tokenizers library."""
        return self._raw.to_str()

    def _bytes(self, token: int) -> bytes:
        written = self._raw.id_to_token(token)
        if token == self.end or written is None:  # a model may know more tokens than texts have
            return b""
        return written.encode() if token in self._as_written else bytes(map(_BYTES.__getitem__, written))


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise DataError("byte pair encoding needs the tokenizers library: pip install 'transferfn[lm]'") from None
    return tokenizers


def _byte_level(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    library = _tokenizers()
    raw = library.Tokenizer(library.models.BPE(vocab=vocabulary, merges=merges))
    raw.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = library.decoders.ByteLevel()
    return raw


def _byte_characters() -> list[str]:
    """The printable character that byte-level BPE writes for each byte, as GPT-2 chose them."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = iter(range(256, 512))
    return [chr(byte) if byte in kept else chr(next(moved)) for byte in range(256)]


_BYTES = {char: byte for byte, char in enumerate(_byte_characters())}
