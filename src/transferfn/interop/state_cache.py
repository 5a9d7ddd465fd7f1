"""The states of a model's blocks as the cache that transformers' generation passes around."""

from __future__ import annotations

from copy import copy
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten
from transformers.cache_utils import Cache, CacheLayerMixin, LinearAttentionCacheLayerMixin
from typing_extensions import override

from transferfn.models import LanguageModel
from transferfn.nn.block import Realizable
from transferfn.typing import State


class StateLayer(LinearAttentionCacheLayerMixin, CacheLayerMixin):
    """The state of one block: its tensors are the recurrent states of transformers' interface.

    Unlike transformers' own recurrent layer it takes over new states instead of copying them into old ones, so that
    they may grow, as those of attention do, and no state is ever changed in place; and it knows how many tokens it has
    seen.
    """

    is_compileable = False  # pyright: ignore[reportAssignmentType]
    is_croppable = False  # pyright: ignore[reportAssignmentType]

    def __init__(self) -> None:
        super().__init__(number_of_states=0)
        self.keys = self.values = None
        self.is_initialized = False
        self.seen = 0
        self._structure: TreeSpec | None = None

    @property
    def state(self) -> State:
        """The block's state as its verbs know it, or None before the first token."""
        return None if self._structure is None else tree_unflatten(self._tensors(), self._structure)

    def store(self, state: State, tokens: int) -> None:
        """Take over the state after more tokens.

        Args:
            state: What a block returned.
            tokens: How many tokens it has taken in since.
        """
        leaves, self._structure = tree_flatten(state)
        self.number_of_states = len(leaves)
        for index, leaf in enumerate(leaves):
            self.update_recurrent_state(leaf, index)
        self.seen += tokens

    def update_recurrent_state(self, recurrent_states: Tensor, state_idx: int = 0) -> Tensor:
        """Take over a tensor of the state.

        Args:
            recurrent_states: The tensor, batch first.
            state_idx: Which one it is.
        """
        self.device, self.dtype = recurrent_states.device, recurrent_states.dtype
        self.recurrent_states[state_idx] = recurrent_states
        self.is_conv_states_initialized[state_idx] = False
        self.is_recurrent_states_initialized[state_idx] = self.has_previous_state[state_idx] = True
        return recurrent_states

    def get_seq_length(self) -> int:
        """Return the number of tokens seen."""
        return self.seen

    @override
    def reset(self) -> None:
        self.recurrent_states.clear()
        self.seen, self.number_of_states, self._structure = 0, 0, None

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row.

        Args:
            repeats: How often.
        """
        for index, tensor in enumerate(self._tensors()):
            self.recurrent_states[index] = tensor.repeat_interleave(repeats, dim=0)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows.

        Args:
            indices: Which ones.
        """
        for index, tensor in enumerate(self._tensors()):
            self.recurrent_states[index] = tensor[indices]

    @override
    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove:
            raise NotImplementedError(
                "a recurrent state cannot forget single tokens, so that this model can neither be nor have an "
                "assistant: call generate() without assistant_model and prompt_lookup_num_tokens"
            )

    def lazy_initialization(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise: there are no keys, values or convolutions here.

        Args:
            *args: Ignored.
            **kwargs: Ignored.
        """
        self._refuse()

    def update(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise: there are no keys and values here.

        Args:
            *args: Ignored.
            **kwargs: Ignored.
        """
        self._refuse()

    def update_conv_state(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise: short convolutions are a part of a block's state.

        Args:
            *args: Ignored.
            **kwargs: Ignored.
        """
        self._refuse()

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the number of tokens after the next ones, and that none is forgotten.

        Args:
            query_length: Number of the next tokens.
        """
        return self.seen + query_length, 0

    def _tensors(self) -> list[Tensor]:
        return [self.recurrent_states[index] for index in range(self.number_of_states)]  # pyright: ignore[reportReturnType]

    def _refuse(self) -> NoReturn:
        raise NotImplementedError("a StateLayer holds whole states of blocks, nothing of keys, values or convolutions")


class StateCache(Cache):
    """What generation keeps between two tokens: the state of each block, and the filters as recurrences.

    The coefficients of the recurrences are computed when the cache is made, and are valid for the weights of that
    moment; all other weights are the model's own. With `decoder` None the model's layers run themselves, so that
    gradients flow.

    Args:
        layers: Number of blocks.
        decoder: What takes in tokens, made by :func:`recurrent_twin`.
    """

    layers: list[StateLayer]

    def __init__(self, layers: int, decoder: LanguageModel | None = None) -> None:
        super().__init__(layers=[StateLayer() for _ in range(layers)])
        self.decoder = decoder

    @property
    def state(self) -> State:
        """The model's state as its verbs know it, or None before the first token."""
        states = tuple(layer.state for layer in self.layers)
        return None if self.layers[0].seen == 0 else states

    def store(self, state: State, tokens: int) -> None:
        """Take over the state after more tokens.

        Args:
            state: What the model returned.
            tokens: How many tokens it has taken in since.
        """
        for layer, block_state in zip(self.layers, state, strict=True):
            layer.store(block_state, tokens)

    @property
    def nbytes(self) -> int:
        """Memory of all states in bytes."""
        return sum(tensor.nbytes for layer in self.layers for tensor in layer._tensors())

    def __deepcopy__(self, memo: dict[int, Any]) -> StateCache:
        """A copy of the states, say of a prompt that several texts begin with; the weights are shared."""
        other = StateCache(len(self.layers), self.decoder)
        if self.state is not None:
            leaves, structure = tree_flatten(self.state)
            other.store(tree_unflatten([leaf.clone() for leaf in leaves], structure), self.layers[0].seen)
        return other


def recurrent_twin(model: nn.Module) -> Any:
    """A copy whose filters are recurrences, their coefficients computed now; all other weights are shared.

    Args:
        model: A model or a part of one.

    Returns:
        The copy, in eval mode.
    """
    parts = [part for part in model.modules() if isinstance(part, Realizable)]
    if parts == [model]:
        with torch.no_grad():
            return model.realize().eval().requires_grad_(False)  # pyright: ignore[reportCallIssue]
    twin = copy(model)
    twin._modules = {name: None if part is None else recurrent_twin(part) for name, part in model._modules.items()}
    twin.training = False
    return twin
