"""Language models: a backbone of tokens whose embedding is its head, with any mixer; that of the paper is Hyena-RTF."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from transferfn.models.backbone import Backbone
from transferfn.models.encoder import TokenEncoder
from transferfn.models.language_config import LanguageMixer as LanguageMixer
from transferfn.models.language_config import LanguageModelConfig as LanguageModelConfig
from transferfn.models.language_config import small as small
from transferfn.models.language_config import tiny as tiny
from transferfn.models.parameters import WithParamGroups
from transferfn.nn import LRU, RTF, S4, S4D, S5, Attention, Hyena, ImplicitFilter
from transferfn.nn.mixer import NotCausalError, SequenceMixer, valid_samples
from transferfn.typing import State

IGNORED = -100
"""The target of a token that is not scored, as in `torch.nn.functional.cross_entropy`."""

INIT_STD = 0.02
"""Standard deviation of initial weights, as in GPT-2 and in the official code of the paper."""


class LanguageModel(WithParamGroups):
    """Scores of the next token: a backbone, and its embedding once more as the head.

    It has the verbs of a mixer, from tokens (B, L) to logits (B, L, vocabulary). There are no positions but those that
    attention turns its keys by, so that filters decode texts of any length.

    Args:
        backbone: What computes the features, built with a `vocabulary`.

    Raises:
        ValueError: if the backbone takes no tokens.
        NotCausalError: if it looks ahead.

    Source:
        Parnichkun et al. 2024, arXiv:2405.06147, and its official implementation.

    Example:
        >>> model = LanguageModel.from_config(tiny(mixer="hyena-rtf")).eval()
        >>> tokens = torch.randint(256, (2, 9))
        >>> logits, state = model.extend(tokens[:, :8])
        >>> last, state = model.step(tokens[:, 8], state)
        >>> torch.allclose(last, model(tokens)[:, 8], atol=1e-5)
        True
    """

    is_causal = True

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        if not isinstance(backbone.encoder, TokenEncoder):
            raise ValueError(
                "a language model needs a backbone of tokens: build it with vocabulary=..., not inputs=..."
            )
        if not backbone.is_causal:
            raise NotCausalError("Backbone", "LanguageModel")
        self.backbone = backbone

    @classmethod
    def from_config(cls, config: LanguageModelConfig) -> LanguageModel:
        """Build the model of a configuration, its weights from torch's global generator.

        Linear maps and the embedding start normal with standard deviation 0.02, those that end on the residual
        connection smaller by sqrt(2 layers), biases zero, and filters as they do by themselves.

        Args:
            config: What the model is made of.

        Raises:
            ValueError: if the values do not fit together.
        """
        gated = not config.mixer.startswith("hyena") and config.mixer != "attention"
        backbone = Backbone(
            config.width,
            config.layers,
            lambda: build_mixer(config),
            vocabulary=config.vocabulary,
            norm="layer",
            gelu=gated,
            glu=gated,
            mlp=config.mlp,
            dropout=config.dropout,
            input_dropout=config.dropout,
        )
        _initialize(backbone)
        return cls(backbone)

    @property
    def vocabulary(self) -> int:
        """Number of distinct tokens."""
        return self.embedding.num_embeddings

    @property
    def embedding(self) -> nn.Embedding:
        """The vectors of the tokens, (vocabulary, D), which also are the weights of the head."""
        return self.backbone.encoder.embedding  # pyright: ignore[reportReturnType]

    def forward(self, u: Tensor, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Tensor:
        """Score the next token after each token of whole texts.

        Args:
            u: Tokens, (B, L), integers.
            lengths: Number of valid tokens of each row, (B,), integers; None means all.
            resets: True where a text begins, (B, L); None means at the first token only.

        Returns:
            Logits, (B, L, vocabulary); zero past `lengths`.
        """
        return self.logits(self.backbone(u, lengths=lengths, resets=resets))

    def extend(
        self, u: Tensor, state: State = None, *, lengths: Tensor | None = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Take in the next tokens, a prompt say.

        Args:
            u: Next tokens, (B, L); L may be zero.
            state: State before them, a tuple with an entry a block; None means rest.
            lengths: Number of valid tokens of each row, (B,), integers; None means all.
            resets: True where a text begins, (B, L); None means nowhere.

        Returns:
            Logits, (B, L, vocabulary), and the state after each row's last valid token.
        """
        features, state = self.backbone.extend(u, state, lengths=lengths, resets=resets)
        return self.logits(features), state

    def step(self, u_t: Tensor, state: State) -> tuple[Tensor, State]:
        """Take in one token.

        Args:
            u_t: Token, (B,).
            state: State before the token.

        Returns:
            Logits, (B, vocabulary), and the state after the token.
        """
        features, state = self.backbone.step(u_t, state)
        return self.logits(features), state

    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """Return the state at rest, a tuple with an entry a block.

        Args:
            batch_size: Number of rows B.
            device: Where the state lives; None means where the parameters are.
            dtype: Type of the features inside the model; None means that of the parameters.
        """
        return self.backbone.init_state(batch_size, device=device, dtype=dtype)

    def init_stream(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """Return the state at rest in the form that a stream keeps: ``extend`` and ``step`` may change it in place.

        Args:
            batch_size: Number of rows B.
            device: Where the state lives; None means where the parameters are.
            dtype: Type of the features inside the model; None means that of the parameters.
        """
        return self.backbone.init_stream(batch_size, device=device, dtype=dtype)

    def decoder(self) -> LanguageModel:
        """Return a copy for decoding: in eval mode, without gradients, its mixers realized where they can be."""
        return LanguageModel(self.backbone.decoder()).eval()

    def logits(self, features: Tensor) -> Tensor:
        """Score tokens by features.

        Args:
            features: What the backbone returns, (..., D).

        Returns:
            Logits, (..., vocabulary), in the dtype of the features.
        """
        return F.linear(features, self.embedding.weight).to(features.dtype)  # autocast narrows linear maps

    def losses(
        self,
        u: Tensor,
        targets: Tensor,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        chunk: int = 1024,
    ) -> Tensor:
        """Negative log-likelihood of each next token, in nats, without ever holding the logits of all tokens.

        Logits are computed for `chunk` tokens at a time and again in the backward pass, so that memory grows with
        chunk * vocabulary instead of B * L * vocabulary.

        Args:
            u: Tokens, (B, L), integers, or vectors in their place, (B, L, D).
            targets: The tokens that follow, (B, L), integers; -100 where none is to be scored.
            lengths: Number of valid tokens of each row, (B,), integers; None means all.
            resets: True where a text begins, (B, L); None means at the first token only.
            chunk: Number of tokens whose logits are held at a time.

        Returns:
            Losses, (B, L), in float32 or wider; zero where the target is -100 or past `lengths`.

        Raises:
            ValueError: if targets are not as many as tokens, or `chunk` is less than 1.
        """
        if targets.shape != u.shape[:2]:
            raise ValueError(f"expected as many targets as tokens, {tuple(u.shape[:2])}, got {tuple(targets.shape)}")
        features = self.backbone(u, lengths=lengths, resets=resets)
        if lengths is not None:
            targets = torch.where(valid_samples(lengths, u.shape[1]), targets, IGNORED)
        return self.losses_of(features, targets, chunk=chunk)

    def losses_of(self, features: Tensor, targets: Tensor, *, chunk: int = 1024) -> Tensor:
        """Negative log-likelihood of tokens by features, as :meth:`losses` says.

        Args:
            features: What the backbone returns, (B, L, D).
            targets: The tokens that follow, (B, L), integers; -100 where none is to be scored.
            chunk: Number of tokens whose logits are held at a time.

        Returns:
            Losses, (B, L), in float32 or wider; zero where the target is -100.

        Raises:
            ValueError: if `chunk` is less than 1.
        """
        if chunk < 1:
            raise ValueError(f"chunk is a number of tokens, at least 1; got {chunk}")
        if not targets.numel():
            return features.new_zeros(targets.shape)
        weight = self.embedding.weight
        parts = zip(features.flatten(0, 1).split(chunk), targets.long().flatten().split(chunk), strict=True)
        losses = [checkpoint(_losses, x, weight, target, use_reentrant=False) for x, target in parts]
        return torch.cat(losses).view(targets.shape)


def build_mixer(config: LanguageModelConfig) -> SequenceMixer:
    """Build what mixes the tokens of a block along time.

    Args:
        config: What the model is made of.

    Raises:
        ValueError: if the values do not fit together.
    """
    width = config.width

    def rtf() -> RTF:
        return RTF(
            width,
            config.order,
            horizon=config.horizon,
            denominator_groups=config.denominator_groups,
            init=config.init,
            constraint=None if config.constraint == "none" else config.constraint,
        )

    filters: dict[str, Callable[[], SequenceMixer]] = {
        "rtf": rtf,
        "hyena-rtf": rtf,
        "s4": lambda: S4(width, config.order, horizon=config.horizon),
        "s4d": lambda: S4D(width, config.order),
        "s5": lambda: S5(width, config.order),
        "lru": lambda: LRU(width, config.order // 2),
        "hyena-s4d": lambda: S4D(width, config.order),
        "hyena": lambda: ImplicitFilter(width, horizon=config.horizon),
    }
    if config.mixer == "attention":
        return Attention(width, config.heads)
    build = filters[config.mixer]
    if not config.mixer.startswith("hyena"):
        return build()
    return Hyena(width, filter=build, short_width=config.short_width, rank=config.rank, dropout=config.dropout)


def _losses(features: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    logits = F.linear(features, weight)
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets, reduction="none")


@torch.no_grad()
def _initialize(backbone: Backbone) -> None:
    std = INIT_STD / (2 * len(backbone.blocks)) ** 0.5  # of what adds to the residual connection
    nn.init.normal_(backbone.get_parameter("encoder.embedding.weight"), std=INIT_STD)
    for block in backbone.blocks:
        mixer = block.get_submodule("mixer")
        if isinstance(mixer, (Hyena, Attention)):
            _draw(mixer.input, INIT_STD)
            _draw(mixer.output, std)
        if isinstance(block.output, nn.Linear):
            _draw(block.output, std)
        _draw(block.get_submodule("mlp"), std)


def _draw(layers: nn.Module, std: float) -> None:
    """Draw a linear map, or several in series of which the last has its own standard deviation."""
    *inner, last = (layer for layer in layers.modules() if isinstance(layer, nn.Linear))
    for layer in (*inner, last):
        nn.init.normal_(layer.weight, std=std if layer is last else INIT_STD)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
