"""The ways to run a mixer, and what comes of each: values, final state and every gradient."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from transferfn.nn.cache import grown
from transferfn.nn.mixer import valid_samples

Run = Callable[[Any, Tensor, Any], tuple[Tensor, Any]]
"""From a mixer, an input and a state to an output and a state (None where the run has none to give)."""


def outcome(mixer: Any, run: Run, u: Tensor, state: Any = None) -> dict[str, Tensor]:
    """Output and final state of a run, and the gradients of a random combination of both."""
    mixer.zero_grad(set_to_none=True)
    u = leaf(u)
    state = tree_map(leaf, state) if state is not None else None
    y, after = run(mixer, u, state)
    found = {"output": y} | {f"state {k}": x for k, x in enumerate(leaves(after))}
    loss = sum((x * cotangent(x)).sum() for x in found.values())
    assert isinstance(loss, Tensor)
    if loss.requires_grad:  # not so if every row is empty
        loss.backward()
    inputs = {"input": u} | {f"initial state {k}": x for k, x in enumerate(leaves(state))}
    inputs = {k: x for k, x in inputs.items() if x.is_floating_point()} | dict(mixer.named_parameters())
    gradients = {f"gradient of {k}": torch.zeros_like(x) if x.grad is None else x.grad for k, x in inputs.items()}
    return {k: x.detach() for k, x in (found | gradients).items()}


def leaf(x: Tensor) -> Tensor:
    """A copy that gathers a gradient, unless it holds tokens or counts."""
    return x.detach().clone().requires_grad_(x.is_floating_point())


def leaves(state: Any) -> list[Tensor]:
    return [x for x in tree_leaves(state) if isinstance(x, Tensor)]


def cotangent(x: Tensor) -> Tensor:
    """Weights that depend on the shape only."""
    generator = torch.Generator().manual_seed(x.numel())
    return torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)


def signal(batch: int, length: int, channels: int, dtype: torch.dtype = torch.float64, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, channels, generator=generator, dtype=torch.float64).to(dtype)


def a_state(module: Any, u: Tensor) -> Any:
    """A state such as one meets: that after a few samples."""
    with torch.no_grad():
        return module.extend(u)[1]


def at_rest(mixer: Any, u: Tensor) -> Any:
    return mixer.init_state(u.shape[0], dtype=u.dtype if u.is_floating_point() else None)


# ------------------------------------------------------------------------------------------------------- the runs


def forward(mixer: Any, u: Tensor, state: Any) -> tuple[Tensor, Any]:
    assert state is None
    return mixer(u), None


def extend(mixer: Any, u: Tensor, state: Any) -> tuple[Tensor, Any]:
    return mixer.extend(u, state)


def extend_from_rest(mixer: Any, u: Tensor, state: Any) -> tuple[Tensor, Any]:
    assert state is None
    return mixer.extend(u, at_rest(mixer, u))


def steps(mixer: Any, u: Tensor, state: Any) -> tuple[Tensor, Any]:
    if state is None:
        state = at_rest(mixer, u)
    ys = []
    for u_t in u.unbind(1):
        y_t, state = mixer.step(u_t, state)
        ys.append(y_t)
    return (ys[-1] if is_pooled(mixer) else torch.stack(ys, 1)), state


def chunks(*sizes: int) -> Run:
    """Chunks of these sizes, and one with whatever remains."""

    def run(mixer: Any, u: Tensor, state: Any) -> tuple[Tensor, Any]:
        ys, begin = [], 0
        for size in (*sizes, u.shape[1] - sum(sizes)):
            y, state = mixer.extend(u[:, begin : begin + size], state)
            ys.append(y)
            begin += size
        return joined(ys), state

    return run


def bounded(lengths: Sequence[int] | None, cuts: Sequence[Sequence[int]] | None, *, filling: float = torch.nan) -> Run:
    """All rows at once, cut by ``lengths`` and ``resets``, with what does the most harm in the padding."""

    def run(mixer: Any, u: Tensor, state: Any) -> tuple[Tensor, Any]:
        options: dict[str, Tensor] = {}
        if lengths is not None:
            options["lengths"] = torch.tensor(lengths, device=u.device)
            u = fill(u, options["lengths"], filling)
        if cuts is not None:
            options["resets"] = reset_mask(cuts, u.shape[1]).to(u.device)
        if not mixer.is_causal:
            return mixer(u, **options), None
        return mixer.extend(u, state, **options)

    return run


def alone(lengths: Sequence[int] | None, cuts: Sequence[Sequence[int]] | None) -> Run:
    """The definition: each row by itself, each piece between resets from rest, nothing but zeros after its length."""

    def run(mixer: Any, u: Tensor, state: Any) -> tuple[Tensor, Any]:
        ys, states = [], []
        with torch.no_grad():
            nothing = torch.zeros_like(mixer(u[:1]))
        for row in range(u.shape[0]):
            one = slice(row, row + 1)
            after = None if state is None else rows_of(state, one)
            length = u.shape[1] if lengths is None else lengths[row]
            begins = [] if cuts is None else [t for t in cuts[row] if t < length]
            pieces = []
            for begin, end in itertools.pairwise(sorted({0, *begins, length}) if length else (0, 0)):
                piece = u[one, begin:end]
                if mixer.is_causal:
                    y, after = mixer.extend(piece, None if begin in begins else after)
                else:
                    y = mixer(piece)
                pieces.append(y)
            ys.append(joined(pieces if is_pooled(mixer) else [*pieces, nothing[:, length:]]))
            states.append(after)
        return torch.cat(ys), tree_map(lambda *x: torch.cat(in_step(x)), *states) if mixer.is_causal else None

    return run


def in_step(memories: Sequence[Tensor]) -> list[Tensor]:
    """The same parts of several states, those that remember fewer samples filled up with zeros in front."""
    if memories[0].dim() < 3:
        return list(memories)
    return [grown(x, max(y.shape[-2] for y in memories)) for x in memories]


def is_pooled(mixer: Any) -> bool:
    """Whether there is one output for everything seen so far, not one a sample."""
    return getattr(mixer, "head", "per_step") != "per_step"


def joined(ys: Sequence[Tensor]) -> Tensor:
    """Outputs of chunks one after the other; of a model with one output for everything seen so far, the last."""
    return torch.cat(list(ys), 1) if ys[0].dim() == 3 else ys[-1]


def fill(u: Tensor, lengths: Tensor, filling: float) -> Tensor:
    """Fill the padding with a value, that of tokens with one that does not exist."""
    valid = valid_samples(lengths, u.shape[1])
    return torch.where(valid[..., None], u, filling) if u.is_floating_point() else torch.where(valid, u, -100)


def output_of(run: Run) -> Run:
    return lambda mixer, u, state: (run(mixer, u, state)[0], None)


def rows_of(state: Any, which: Any) -> Any:
    return tree_map(lambda x: x[which], state)


def reset_mask(cuts: Sequence[Sequence[int]], length: int) -> Tensor:
    mask = torch.zeros(len(cuts), length, dtype=torch.bool)
    for row, samples in enumerate(cuts):
        mask[row, list(samples)] = True
    return mask


def with_method(mixer: nn.Module, method: str) -> Any:
    """A copy that filters in another way."""
    other = copy.deepcopy(mixer)
    for child in other.modules():
        if hasattr(child, "method"):
            child.method = method
    return other
