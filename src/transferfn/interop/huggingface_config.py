"""What a language model is made of, as transformers keeps it; importing this module registers it there."""

from __future__ import annotations

from typing import Any, ClassVar, no_type_check

from transformers import AutoConfig, PreTrainedConfig

from transferfn.models import LanguageModelConfig

# Names of transformers, and what they are called in LanguageModelConfig.
_NAMES = {
    "vocab_size": "vocabulary",
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "intermediate_size": "mlp",
    "num_attention_heads": "heads",
}


@no_type_check  # transformers makes it a dataclass that takes more than its fields
class TransferFnConfig(PreTrainedConfig):
    """What a language model is made of, as transformers keeps it; the defaults are the paper's 125M parameters.

    Args:
        vocab_size: Number of distinct tokens.
        hidden_size: Channels of every block.
        num_hidden_layers: Number of blocks.
        intermediate_size: Width of the map that ends each block.
        num_attention_heads: Heads of attention.
        mixer: "hyena-rtf", "hyena", "hyena-s4d", "rtf", "s4", "s4d", "s5", "lru" or "attention".
        order: Order of RTF filters, or number of real states of state-space layers.
        horizon: Samples the filters refer to.
        denominator_groups: Distinct denominators of a layer of RTF; None gives every channel its own.
        init: Where the filters of RTF start.
        constraint: What keeps them stable.
        rank: Channels of the low-rank mixer that ends Hyena; None takes a linear map.
        short_width: Taps of Hyena's short convolution.
        dropout: Dropout of the embedding, of each block, and of the inputs of Hyena's filters.
        use_cache: Whether the state is returned unless the caller says otherwise.
        tie_word_embeddings: True; the head always is the embedding.
        pad_token_id: Token that fills up shorter texts, if there is one.
        bos_token_id: Token that a text begins with, if there is one.
        eos_token_id: Token or tokens that end a text, if there are any.
        substitutes: Filters in the place of those that the rest describes, after distillation say, by name.

    Raises:
        ValueError: if a value makes no sense.

    Example:
        >>> config = TransferFnConfig(vocab_size=256, hidden_size=64, num_hidden_layers=2, order=16)
        >>> config.language_model().width
        64
    """

    model_type = "transferfn"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["cache"]

    vocab_size: int = 50264
    hidden_size: int = 768
    num_hidden_layers: int = 12
    intermediate_size: int = 3072
    num_attention_heads: int = 12
    mixer: str = "hyena-rtf"
    order: int = 64
    horizon: int = 1024
    denominator_groups: int | None = None
    init: str = "xavier"
    constraint: str = "l1"
    rank: int | None = 384
    short_width: int = 3
    dropout: float = 0.25
    use_cache: bool = True
    tie_word_embeddings: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    substitutes: dict[str, dict[str, Any]] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if not self.tie_word_embeddings:
            raise ValueError("the head of this model is its embedding: tie_word_embeddings cannot be False")
        self.language_model()

    def language_model(self) -> LanguageModelConfig:
        """Return the same in the words of this package."""
        fields = LanguageModelConfig.__dataclass_fields__
        theirs = {ours: name for name, ours in _NAMES.items()}
        return LanguageModelConfig(**{ours: getattr(self, theirs.get(ours, ours)) for ours in fields})

    @classmethod
    def from_language_model(cls, config: LanguageModelConfig) -> TransferFnConfig:
        """Return the configuration for transformers of what one of this package describes.

        Args:
            config: What the model is made of.
        """
        theirs = {ours: name for name, ours in _NAMES.items()}
        return cls(**{theirs.get(ours, ours): getattr(config, ours) for ours in config.__dataclass_fields__})


AutoConfig.register(TransferFnConfig.model_type, TransferFnConfig)
