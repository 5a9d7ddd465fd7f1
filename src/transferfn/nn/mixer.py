"""The contract of every layer that mixes a sequence along time, and the checks on what callers pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from transferfn.ops.boundaries import check_boundaries as check_boundaries
from transferfn.ops.boundaries import check_tensor as check_tensor
from transferfn.ops.boundaries import valid_samples as valid_samples
from transferfn.ops.boundaries import values_are_hidden as values_are_hidden
from transferfn.typing import State


class SequenceMixer(nn.Module, ABC):
    """A map from sequences to sequences that runs in parallel, in chunks and sample by sample.

    All verbs compute the same numbers: ``forward(u)`` equals ``extend(u)[0]``, which equals ``extend`` over any
    split of ``u`` into chunks, which equals ``step`` repeated.

    A state is a pytree of tensors, batch first. It is returned, never changed in place, and gradients flow
    through it. A mixer that is not causal (``is_causal`` is false) has ``forward`` only.

    Conventions shared by all verbs:

    * ``lengths`` (B,) says how many samples of each row count. Outputs past them are zero, the returned state is
      the one at the length, and whatever the padding holds, NaN included, changes nothing.
    * ``resets`` (B, L) is true where the state is cleared before the sample. Left padding is a reset at the first
      real sample.
    * Rows and chunks of length zero return the state they were given.
    * A filter's state is finite: if it is not after ``extend`` or ``step``, be it that the filter is unstable or that
      the input was not finite, :class:`StateOverflowError` says which. What remembers samples as they are (attention,
      short and long convolutions with free taps) keeps whatever they hold until they leave it or a reset.
    * A filter's state has a constant size. What must remember every sample keeps them along the axis before the last,
      newest last, and their number; zeros in front count for nothing, so that rows of different age fit together.
    """

    is_causal: bool = True

    takes_dt: bool = False
    """Whether ``forward``, ``extend`` and ``step`` take ``dt``, factors on the step sizes of single samples."""

    @abstractmethod
    def forward(self, u: Tensor, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Tensor:
        """Map a whole sequence, starting from rest.

        Args:
            u: Input, (B, L, D).
            lengths: Number of valid samples of each row, (B,), integers; None means all.
            resets: True where the state is cleared before the sample, (B, L); None means nowhere.

        Returns:
            Output, (B, L, D); zero past ``lengths``.
        """

    def extend(
        self, u: Tensor, state: State = None, *, lengths: Tensor | None = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map the next chunk of a sequence and return the state after it: prefill, streaming, truncated BPTT.

        Args:
            u: Next samples, (B, L, D); L may be zero.
            state: State before the chunk; None means rest.
            lengths: Number of valid samples of each row, (B,), integers; None means all.
            resets: True where the state is cleared before the sample, (B, L); None means nowhere.

        Returns:
            Output, (B, L, D), and the state after each row's last valid sample.

        Raises:
            NotCausalError: if the mixer looks ahead.
        """
        raise NotCausalError(type(self).__name__, "extend")

    def step(self, u_t: Tensor, state: State) -> tuple[Tensor, State]:
        """Map one sample.

        Args:
            u_t: Sample, (B, D).
            state: State before the sample.

        Returns:
            Output sample, (B, D), and the state after it.

        Raises:
            NotCausalError: if the mixer looks ahead.
        """
        raise NotCausalError(type(self).__name__, "step")

    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """Return the state at rest.

        Args:
            batch_size: Number of rows B.
            device: Where the state lives; None means where the parameters are.
            dtype: Type of the signals to come; None means that of the parameters. States are kept in float32 or wider.

        Raises:
            NotCausalError: if the mixer looks ahead.
        """
        raise NotCausalError(type(self).__name__, "init_state")

    def init_stream(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """Return the state at rest in the form that a stream keeps: ``extend`` and ``step`` may change that in place.

        Args:
            batch_size: Number of rows B.
            device: Where the state lives; None means where the parameters are.
            dtype: Type of the signals to come; None means that of the parameters.

        Raises:
            NotCausalError: if the mixer looks ahead.
        """
        return self.init_state(batch_size, device=device, dtype=dtype)

    def filter_parameters(self) -> Iterable[nn.Parameter]:
        """Which of the layer's own parameters are those of filters, and usually want rates of their own."""
        return ()

    def param_groups(self, *, lr: float | None = None, weight_decay: float | None = None) -> list[dict[str, Any]]:
        """Optimizer groups: the filters' parameters with rates of their own, then the others without, each once.

        The filters' are what :meth:`filter_parameters` names, here and in the mixers that this one is built of. They
        are usually trained slowly and without decay.

        Args:
            lr: Learning rate of the filters; None leaves the optimizer's.
            weight_decay: Weight decay of the filters; None leaves the optimizer's.

        Returns:
            Groups as every torch optimizer takes them, none of them empty; the optimizer's rates hold where a group
            has none.

        Example:
            >>> from transferfn.nn import RTF, Hyena
            >>> layer = Hyena(4, filter=lambda: RTF(4, 2, horizon=8))
            >>> [(len(group["params"]), group.get("lr")) for group in layer.param_groups(lr=1e-3)]
            [(3, 0.001), (6, None)]
            >>> optimizer = torch.optim.AdamW(layer.param_groups(lr=1e-3, weight_decay=0.0), lr=1e-2)
        """
        rates = {name: rate for name, rate in (("lr", lr), ("weight_decay", weight_decay)) if rate is not None}
        own = {"params": list(self.filter_parameters()), **rates}
        inner = [group for mixer in _inside(self) for group in mixer.param_groups(**rates)]
        groups = merged([own, *inner, {"params": list(self.parameters())}])
        return sorted(groups, key=lambda group: len(group) == 1)  # what has no rates comes last

    def _require_causal(self, verb: str) -> None:
        if not self.is_causal:
            raise NotCausalError(type(self).__name__, verb)


class NotCausalError(RuntimeError):
    """Raised when a recurrent verb is asked of a layer that looks ahead."""

    def __init__(self, layer: str, verb: str) -> None:
        super().__init__(
            f"{layer}.{verb}() needs a causal layer, but this one is bidirectional: its output depends on future "
            f"samples, so it has no state. Call forward() on the whole sequence, or build it with bidirectional=False."
        )


def step_factors(mixer: SequenceMixer, dt: Tensor | None) -> dict[str, Tensor]:
    """The keyword by which a mixer is told the step sizes of single samples.

    Args:
        mixer: The mixer.
        dt: Factors on its step sizes; None means 1.

    Returns:
        Nothing if they are 1, otherwise them.

    Raises:
        TypeError: if the mixer has no step sizes that could vary.
    """
    if dt is None:
        return {}
    if not mixer.takes_dt:
        raise TypeError(
            f"dt is a factor on the step size of each sample, but {type(mixer).__name__} has no step sizes that vary: "
            f"build the model of S5, which has, or leave dt out and resample the signal. What decoder() and realize() "
            f"return has steps of one size, too; with dt, the model itself decodes."
        )
    return {"dt": dt}


def merged(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join optimizer groups of equal options, and leave each parameter to the first group that has it.

    Args:
        groups: Groups with ``params`` and, if they have any, options.

    Returns:
        Those that are not empty, in the order of their first parameters.
    """
    found: dict[tuple[tuple[str, Any], ...], dict[str, Any]] = {}
    taken: set[int] = set()
    for group in groups:
        options = {name: value for name, value in group.items() if name != "params"}
        if fresh := [p for p in group["params"] if id(p) not in taken]:
            found.setdefault(tuple(sorted(options.items())), {"params": [], **options})["params"].extend(fresh)
            taken.update(map(id, fresh))
    return list(found.values())


def _inside(module: nn.Module) -> Iterator[SequenceMixer]:
    """The mixers that a module is built of, but not those that they are built of themselves."""
    for child in module.children():
        if isinstance(child, SequenceMixer):
            yield child
        else:
            yield from _inside(child)


def check_signal(u: Tensor, channels: int) -> None:
    """Raise unless ``u`` is a real floating-point (B, L, channels) tensor.

    Args:
        u: What the caller passed.
        channels: Number of channels D the layer was built for.

    Raises:
        TypeError: if it is no tensor, or not of a real floating-point type.
        ValueError: if its shape is another.
    """
    check_tensor("u", u)
    if u.dim() != 3 or u.shape[-1] != channels:
        raise ValueError(
            f"expected a signal of shape (batch, length, channels={channels}), got {tuple(u.shape)}. "
            f"Channels come last; a single sequence needs u.unsqueeze(0), one sample goes through step()."
        )
    _check_real(u)


def check_sample(u_t: Tensor, channels: int) -> None:
    """Raise unless ``u_t`` is a real floating-point (B, channels) tensor.

    Args:
        u_t: What the caller passed.
        channels: Number of channels D the layer was built for.

    Raises:
        TypeError: if it is no tensor, or not of a real floating-point type.
        ValueError: if its shape is another.
    """
    check_tensor("u_t", u_t)
    if u_t.dim() != 2 or u_t.shape[-1] != channels:
        raise ValueError(
            f"expected one sample of shape (batch, channels={channels}), got {tuple(u_t.shape)}. "
            f"A block of several samples goes through extend()."
        )
    _check_real(u_t)


def check_state(state: object, expected: tuple[int, ...], axes: str) -> None:
    """Raise unless a state is a real tensor of the shape that a layer keeps.

    Args:
        state: What the caller passed.
        expected: Its shape, batch first.
        axes: What the axes are.

    Raises:
        TypeError: if it is not of a real floating-point type.
        ValueError: if it is no tensor, or its shape is another.
    """
    found = tuple(state.shape) if isinstance(state, Tensor) else type(state).__name__
    if found != expected or not isinstance(state, Tensor):
        raise ValueError(
            f"expected a state of shape ({axes}) = {expected}, got {found}. Begin with init_state({expected[0]}), and "
            f"use the state of the same layer, in the same form, and of the same batch."
        )
    if not state.is_floating_point():
        raise TypeError(f"expected a real floating-point state, got {state.dtype}")


def _check_real(u: Tensor) -> None:
    if not u.is_floating_point():
        raise TypeError(f"expected a real floating-point signal, got {u.dtype}. Convert it, e.g. with u.float().")
