"""Language models as transformers knows them: configuration, saving and loading, ``generate``, ``Trainer``, pipelines.

Importing this module registers them, so that ``AutoModelForCausalLM.from_pretrained`` loads what was saved here; after
``import transferfn`` that happens by itself as soon as transformers needs it (:mod:`transferfn.interop.registration`).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transferfn.interop.boundaries import boundaries, restarts
from transferfn.models import LanguageModel
from transferfn.models.language_model import IGNORED
from transferfn.models.substitutes import Substitute, put_substitutes, substitutes_in

try:
    from transformers import AutoModelForCausalLM, GenerationConfig, GenerationMixin, PreTrainedModel
    from transformers.modeling_outputs import CausalLMOutputWithPast
    from transformers.modeling_utils import slice_logits_to_keep
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
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: StateCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        skip_logits: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: StateCache | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> CausalLMOutputWithPast:
        """Score the next token after each token.

        Args:
            input_ids: Tokens, (B, L); with a cache only those that it has not seen.
            attention_mask: 1 for tokens, 0 for padding at the left or right of each row, (B, L) or longer: the last L
                columns count.
            cache: State after the tokens before, changed to the one after these.
            labels: Tokens to predict, (B, L), usually `input_ids`: they are shifted here. -100 is not scored.
            use_cache: Whether a cache is returned; None means `config.use_cache`, but neither in training nor with
                `labels`.
            logits_to_keep: How many last tokens have their logits computed, 0 meaning all; or which, as for
                :func:`transformers.modeling_utils.slice_logits_to_keep`.
            skip_logits: Whether only the loss is computed, which needs far less memory; None means in training with
                `labels` and `num_items_in_batch`, as ``Trainer`` passes them.
            num_items_in_batch: What the sum of losses is divided by; None means the number of scored labels.
            inputs_embeds: Vectors in the place of `input_ids`, (B, L, hidden_size).
            position_ids: Place of each token in its text, (B, L): the state is cleared where it is 0, so that texts may
                be packed into a row. None means that each row is one text.
            past_key_values: Another name of `cache`.
            output_hidden_states: Whether features are returned; None means `config.output_hidden_states`.
            output_attentions: False or None: there are no such weights.

        Returns:
            `loss` if there are labels, 0 if none of them is scored; `logits`, (B, L, vocab_size); `cache`; and
            `hidden_states`, what goes into each block and what comes out of the last norm, (B, L, hidden_size). Each is
            None where it was not asked for.

        Raises:
            ValueError: if the mask has padding between tokens, positions jump, or arguments exclude each other.
            TypeError: if the cache is of another model.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass either input_ids or inputs_embeds")
        if cache is not None and past_key_values is not None:
            raise ValueError("cache and past_key_values are two names of one thing: pass cache alone")
        if output_attentions:
            raise ValueError("a state has no attention weights to return: leave output_attentions out")
        inputs: Tensor = input_ids if inputs_embeds is None else inputs_embeds  # pyright: ignore[reportAssignmentType]
        rows, length = inputs.shape[:2]
        lengths, resets = boundaries(attention_mask, length)
        begins = restarts(position_ids, rows, length, attention_mask)
        resets = begins if resets is None else resets if begins is None else resets | begins
        cache = past_key_values if cache is None else cache
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training and labels is None
        if cache is None and use_cache:
            cache = self.new_cache()
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if skip_logits is None:
            skip_logits = self.training and num_items_in_batch is not None

        hidden: list[Tensor] | None = [] if output_hidden_states else None
        features = self._features(inputs, cache, lengths, resets, hidden)
        lean = skip_logits and labels is not None
        logits = None if lean else self.model.logits(slice_logits_to_keep(features, logits_to_keep))
        loss = None
        if labels is not None:
            if logits is None or isinstance(logits_to_keep, Tensor) or logits_to_keep:
                losses = self.model.losses_of(features, _shifted(labels))
            else:
                scores = logits.to(torch.promote_types(logits.dtype, torch.float32))
                losses = F.cross_entropy(scores.flatten(0, 1), _shifted(labels).flatten(), reduction="none")
            loss = _mean(losses, labels, num_items_in_batch)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            cache=cache,
            hidden_states=None if hidden is None else (*hidden, features),
        )

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
        self,
        inputs: Tensor,
        cache: StateCache | None,
        lengths: Tensor | None,
        resets: Tensor | None,
        hidden: list[Tensor] | None,
    ) -> Tensor:
        if cache is None:
            return self.model.backbone(inputs, lengths=lengths, resets=resets, hidden=hidden)
        if not isinstance(cache, StateCache) or len(cache.layers) != len(self.model.backbone.blocks):
            raise TypeError(
                f"this model keeps its states in a StateCache of {len(self.model.backbone.blocks)} layers, got "
                f"{type(cache).__name__}. Begin with model.new_cache(), or pass no cache."
            )
        backbone = (cache.decoder or self.model).backbone
        state, count = cache.state, inputs.shape[1]
        if state is not None and count == 1 and lengths is None and resets is None:
            steps: list[Tensor] = []
            features, state = backbone.step(inputs[:, 0], state, hidden=steps)
            features = features[:, None]
            if hidden is not None:
                hidden += [one[:, None] for one in steps]
        else:
            features, state = backbone.extend(inputs, state, lengths=lengths, resets=resets, hidden=hidden)
        cache.store(state, count)
        return features

    def _prefill(
        self,
        input_ids: Tensor,
        generation_config: GenerationConfig,
        model_kwargs: dict[str, Any],
        is_first_iteration: bool = True,
    ) -> CausalLMOutputWithPast:
        """Take in the prompt, after a look at it: what cannot be continued would be, silently, by nonsense."""
        embeds, mask = model_kwargs.get("inputs_embeds"), model_kwargs.get("attention_mask")
        prompt = input_ids if embeds is None else embeds
        if not prompt.shape[1]:
            raise ValueError("the prompt is empty: begin with at least one token, the one that texts begin with say")
        if mask is not None and not bool(mask[:, -1].all()):
            row = int((mask[:, -1] == 0).nonzero()[0])
            if not bool(mask[row].any()):
                raise ValueError(f"row {row} of the prompts is padding alone: leave it out, or give it a first token")
            raise ValueError(
                f"row {row} of the prompts is padded at the right, where new tokens are to go: pad at the left "
                '(tokenizer.padding_side = "left")'
            )
        cache, known = model_kwargs.get("cache"), getattr(generation_config, "_mask_length", -1)
        seen = 0 if cache is None else cache.get_seq_length()
        if seen >= prompt.shape[1] == (known if mask is None else mask.shape[1]):
            raise ValueError(
                f"the cache has seen {seen} tokens, the prompt has {prompt.shape[1]}: pass the whole text, what the "
                "cache has seen and at least one token more"
            )
        return super()._prefill(  # pyright: ignore[reportAttributeAccessIssue]
            input_ids, generation_config, model_kwargs, is_first_iteration
        )

    def _prepare_position_ids_for_generation(self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]) -> None:
        """Make none: the mask and the state say all; a user's own, of packed texts, are passed on."""
        return

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


def _shifted(labels: Tensor) -> Tensor:
    """The label of each token's successor."""
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED)


def _mean(losses: Tensor, labels: Tensor, count: Tensor | int | None) -> Tensor:
    """The sum of losses by their number; 0 where nothing is scored, which would make a NaN of all weights."""
    if count is None:
        count = (labels[:, 1:] != IGNORED).sum()
    return losses.sum() / (count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1))


AutoModelForCausalLM.register(TransferFnConfig, TransferFnForCausalLM)
