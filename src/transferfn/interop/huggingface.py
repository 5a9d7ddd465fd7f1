"""Language models as transformers knows them: configuration, saving and loading, ``generate``, ``Trainer``, pipelines.

Importing this module registers them, so that ``AutoModelForCausalLM.from_pretrained`` loads what was saved here.
"""

from __future__ import annotations

from typing import Any, ClassVar, no_type_check

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transferfn.models import LanguageModel, LanguageModelConfig
from transferfn.models.language_model import IGNORED
from transferfn.nn.mixer import values_are_hidden

try:
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import CausalLMOutputWithPast
    from transformers.utils.generic import can_return_tuple

    from transferfn.interop.state_cache import StateCache, recurrent_twin
except ImportError as error:
    raise ImportError(
        f"models for transformers need transformers 5.24 or later: pip install 'transferfn[lm]' ({error})"
    ) from error

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
        mixer: "hyena-rtf", "hyena", "hyena-s4d", "rtf", "s4d" or "attention".
        order: Order of RTF filters, or number of states of S4D.
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


class TransferFnForCausalLM(PreTrainedModel, GenerationMixin):
    """A :class:`transferfn.models.LanguageModel` with the interface of transformers.

    A prompt is taken in by one parallel pass, from which the exact state remains; each further token is a step, whose
    cost does not depend on what came before (with attention and implicit filters it does). An attention mask tells
    padding: the state is cleared before the first real token, and stays that of the last one. Coefficients of filters,
    and states, are kept in float32 under any dtype.

    Args:
        config: What the model is made of.
        model: The weights, taken over as they are; None draws new ones from torch's global generator.

    Example:
        >>> config = TransferFnConfig(
        ...     vocab_size=16, hidden_size=8, num_hidden_layers=1, intermediate_size=8, order=4, horizon=32, rank=None,
        ...     init="comb", constraint="none",
        ... )
        >>> model = TransferFnForCausalLM(config).eval()
        >>> model.generate(torch.tensor([[3, 1, 4]]), max_new_tokens=5, do_sample=False).shape
        torch.Size([1, 8])
    """

    config_class = TransferFnConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True
    _is_stateful = True  # no assisted generation: tokens once taken in cannot be taken back
    _no_split_modules = ["Block"]  # noqa: RUF012 (transformers adds lists)

    def __init__(self, config: TransferFnConfig, model: LanguageModel | None = None) -> None:
        super().__init__(config)
        self.model = LanguageModel.from_config(config.language_model()) if model is None else model
        parts = list(self.model.named_modules(prefix="model"))
        wide = {f"{name}." for name, part in parts if type(part)._apply is not nn.Module._apply}
        self._keep_in_fp32_modules_strict = wide
        if not self.model.embedding.weight.is_meta:
            for _, part in parts:
                part._is_hf_initialized = True  # pyright: ignore[reportArgumentType]
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: StateCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        skip_logits: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> CausalLMOutputWithPast:
        """Score the next token after each token.

        Args:
            input_ids: Tokens, (B, L); with a cache only those that it has not seen.
            attention_mask: 1 for tokens, 0 for padding at the left or right of each row, (B, L) or longer: the last L
                columns count.
            cache: State after the tokens before, changed to the one after these.
            labels: Tokens to predict, (B, L), usually `input_ids`: they are shifted here. -100 is not scored.
            use_cache: Whether a cache is returned; None means `config.use_cache`, but not in training.
            logits_to_keep: How many last tokens have their logits computed; 0 means all.
            skip_logits: Whether only the loss is computed, which needs far less memory; None means in training with
                `labels`.
            num_items_in_batch: What the sum of losses is divided by; None means the number of scored labels.

        Returns:
            `loss` if there are labels, `logits` (B, L, vocab_size) and `cache`, each None where it was not asked for.

        Raises:
            ValueError: if the mask has padding between tokens.
            TypeError: if the cache is of another model.
        """
        lengths, resets = boundaries(attention_mask, input_ids.shape[1])
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        if cache is None and use_cache:
            cache = self.new_cache()
        if labels is None:
            skip_logits = False
        elif cache is not None:
            raise ValueError(
                "labels and a cache do not go together: pass use_cache=False, or compute the loss yourself"
            )
        elif skip_logits is None:
            skip_logits = self.training
        loss, logits = None, None
        if skip_logits and labels is not None:
            losses = self.model.losses(input_ids, _shifted(labels), lengths=lengths, resets=resets)
            loss = _mean(losses, labels, num_items_in_batch)
        else:
            features = self._features(input_ids, cache, lengths, resets)
            logits = self.model.logits(features[:, -logits_to_keep:] if logits_to_keep else features)
        if logits is not None and labels is not None:
            scores = self.model.logits(features) if logits_to_keep else logits
            scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
            losses = F.cross_entropy(scores.flatten(0, 1), _shifted(labels).flatten(), reduction="none")
            loss = _mean(losses, labels, num_items_in_batch)
        return CausalLMOutputWithPast(loss=loss, logits=logits, cache=cache)  # pyright: ignore[reportArgumentType]

    def new_cache(self) -> StateCache:
        """Return a cache that has seen no token, with the coefficients of the recurrences as they are now.

        While gradients are recorded, or in training mode, the layers themselves run instead.
        """
        plain = self.training or torch.is_grad_enabled()
        return StateCache(len(self.model.backbone.blocks), None if plain else recurrent_twin(self.model))

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the embedding, which also is the head."""
        return self.model.embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the embedding, which also is the head.

        Args:
            value: The new one.
        """
        self.model.backbone.encoder.embedding = value

    def get_output_embeddings(self) -> None:
        """Return None: the head has no weights of its own."""
        return

    def _features(
        self, tokens: Tensor, cache: StateCache | None, lengths: Tensor | None, resets: Tensor | None
    ) -> Tensor:
        if cache is None:
            return self.model.backbone(tokens, lengths=lengths, resets=resets)
        if not isinstance(cache, StateCache) or len(cache.layers) != len(self.model.backbone.blocks):
            raise TypeError(
                f"this model keeps its states in a StateCache of {len(self.model.backbone.blocks)} layers, got "
                f"{type(cache).__name__}. Begin with model.new_cache(), or pass no cache."
            )
        backbone = (cache.decoder or self.model).backbone
        state, count = cache.state, tokens.shape[1]
        if state is not None and count == 1 and lengths is None and resets is None:
            features, state = backbone.step(tokens[:, 0], state)
            features = features[:, None]
        else:
            features, state = backbone.extend(tokens, state, lengths=lengths, resets=resets)
        cache.store(state, count)
        return features

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # the first forward pass makes the cache

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw what a checkpoint lacks; transformers asks for each module that it has not marked as initialised."""
        if all(getattr(p, "_is_hf_initialized", False) for p in module.parameters(recurse=False)):
            return
        if isinstance(module, (nn.Linear, nn.Embedding)):
            super()._init_weights(module)
        else:
            module.reset_parameters()  # pyright: ignore[reportCallIssue]


def boundaries(mask: Tensor | None, length: int) -> tuple[Tensor | None, Tensor | None]:
    """What an attention mask means to layers with a state: where rows end, and where they begin anew.

    Args:
        mask: 1 for tokens, 0 for padding at the left or right of each row, (B, L') with L' at least L; the last L
            columns are those of the tokens at hand. None means no padding.
        length: Number of tokens L.

    Returns:
        Lengths (B,), or None if no row has padding at its right; and resets (B, L), or None if none has at its left.

    Raises:
        ValueError: if the mask has another shape, or padding between tokens.

    Example:
        >>> boundaries(torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]]), 4)
        (tensor([4, 3]), tensor([[False, False,  True, False],
                [False, False, False, False]]))
    """
    if mask is None:
        return None, None
    if mask.dim() != 2 or mask.shape[1] < length:
        raise ValueError(
            f"expected an attention mask of shape (batch, length), at least {length} long, got {tuple(mask.shape)}"
        )
    real = mask[:, mask.shape[1] - length :] != 0
    if not length or (not values_are_hidden() and bool(real.all())):
        return None, None
    begins = real & ~torch.cat((torch.ones_like(real[:, :1]), real[:, :-1]), 1)
    place = torch.arange(1, length + 1, device=real.device)
    lengths = torch.where(real, place, 0).amax(1)
    first = torch.where(real, place, length + 1).amin(1)
    if not values_are_hidden() and bool((real.sum(1) < lengths - first + 1).any()):
        raise ValueError(
            "the attention mask has padding between tokens, which has no meaning for a state: pad at the left or right"
        )
    ends = None if not values_are_hidden() and bool((lengths == length).all()) else lengths
    return ends, begins if values_are_hidden() or bool(begins.any()) else None


def _shifted(labels: Tensor) -> Tensor:
    """The label of each token's successor."""
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED)


def _mean(losses: Tensor, labels: Tensor, count: Tensor | int | None) -> Tensor:
    return losses.sum() / ((labels[:, 1:] != IGNORED).sum() if count is None else count)


AutoConfig.register("transferfn", TransferFnConfig)
AutoModelForCausalLM.register(TransferFnConfig, TransferFnForCausalLM)
