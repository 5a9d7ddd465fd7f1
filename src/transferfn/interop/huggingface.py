"""Language models as transformers knows them: configuration, saving and loading, ``generate``, ``Trainer``, pipelines.

Importing this module registers them, so that ``AutoModelForCausalLM.from_pretrained`` loads what was saved here; after
``import transferfn`` that happens by itself as soon as transformers needs it (:mod:`transferfn.interop.registration`).
"""

from __future__ import annotations

from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transferfn.models import LanguageModel
from transferfn.models.language_model import IGNORED
from transferfn.models.substitutes import Substitute, put_substitutes, substitutes_in
from transferfn.nn.mixer import values_are_hidden

try:
    from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel
    from transformers.modeling_outputs import CausalLMOutputWithPast
    from transformers.utils.generic import can_return_tuple

    from transferfn.interop.huggingface_config import TransferFnConfig as TransferFnConfig
    from transferfn.interop.state_cache import StateCache, recurrent_twin
except ImportError as error:
    raise ImportError(
        f"models for transformers need transformers 5.24 or later: pip install 'transferfn[lm]' ({error})"
    ) from error


class TransferFnForCausalLM(PreTrainedModel, GenerationMixin):
    """A :class:`transferfn.models.LanguageModel` with the interface of transformers.

    A prompt is taken in by one parallel pass, from which the exact state remains; each further token is a step, whose
    cost does not depend on what came before (with attention and implicit filters it does). An attention mask tells
    padding: the state is cleared before the first real token, and stays that of the last one. Coefficients of filters,
    and states, are kept in float32 under any dtype.

    Args:
        config: What the model is made of.
        model: The weights, taken over as they are, of a distilled model, too; None draws new ones from torch's global
            generator.

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
        self.model = _built(config) if model is None else model
        if model is not None:
            with torch.device("meta"):
                original = LanguageModel.from_config(config.language_model())
            found = substitutes_in(model, original)
            config.substitutes = {name: asdict(one) for name, one in found.items()} or None
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


def _built(config: TransferFnConfig) -> LanguageModel:
    model = LanguageModel.from_config(config.language_model())
    put_substitutes(model, {name: Substitute(**values) for name, values in (config.substitutes or {}).items()})
    return model


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


AutoModelForCausalLM.register(TransferFnConfig, TransferFnForCausalLM)
