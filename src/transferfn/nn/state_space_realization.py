"""Banks of state-space systems with fixed coefficients: what trained layers become for decoding."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from transferfn.core.checks import check_length
from transferfn.core.dense import DenseSystem
from transferfn.core.dplr import DiscreteDPLR
from transferfn.core.dplr_blocks import ParallelDPLR
from transferfn.core.modal import ModalSystem
from transferfn.nn.guard import warn_of_growth
from transferfn.nn.mixer import check_signal, values_are_hidden
from transferfn.nn.precision import widest
from transferfn.nn.state_space import ADVICE, StateSpaceMixer
from transferfn.ops.filter import signal_dtype, without_autocast
from transferfn.ops.state_space import Recurrence
from transferfn.typing import Kernel, Signal


class _Fixed(StateSpaceMixer):
    """A bank without parameters: complex coefficients are kept as pairs of real buffers."""

    def __init__(self, coefficients: dict[str, Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        self._complex = tuple(name for name, x in coefficients.items() if x.is_complex())
        for name, x in coefficients.items():
            given = x.detach()
            given = torch.view_as_real(given.resolve_conj()) if given.is_complex() else given
            self.register_buffer(name, given.to(dtype, copy=True))

    def _held(self, *, wide: bool) -> dict[str, Tensor]:
        """The coefficients by name, in float64 if they are to be."""
        held = {}
        for name, x in self._buffers.items():
            assert x is not None
            x = widest(x) if wide else x
            held[name] = torch.view_as_complex(x) if name in self._complex else x
        return held

    def _coefficients(self) -> Tensor:
        found = self._buffers["D"]
        assert found is not None
        return found

    def extra_repr(self) -> str:
        """Sizes, for ``print``."""
        return f"channels={self.channels}, state={self._state_shape()}, dtype={self._coefficients().dtype}"


class ModalRealization(_Fixed):
    """The recurrence of given diagonal systems, as a module without parameters.

    The coefficients are exact and computed once; nothing is recomputed or cached later. Its four verbs are those of
    the layer it came from, and a step costs O(N).

    Args:
        system: D systems.
        dtype: Real type the coefficients are rounded to, float32 or wider.

    Example:
        >>> half = torch.tensor([[0.5]])
        >>> layer = ModalRealization(ModalSystem(half, half, 2 * half, torch.zeros(1)), dtype=torch.float32)
        >>> y, state = layer.extend(torch.ones(1, 2, 1))
        >>> layer.step(torch.ones(1, 1), state)[0]
        tensor([[0.8750]])
    """

    def __init__(self, system: ModalSystem, *, dtype: torch.dtype) -> None:
        super().__init__({"A": system.A, "B": system.B, "C": system.C, "D": system.D}, signal_dtype(dtype))
        self.channels, self.dt = system.channels, system.dt

    def state_space(self) -> ModalSystem:
        """The systems, in float64 where the device has it."""
        return self._system(wide=True)

    def _recurrence(self) -> Recurrence:
        return self._system(wide=False)

    def _system(self, *, wide: bool) -> ModalSystem:
        held = self._held(wide=wide)
        return ModalSystem(held["A"], held["B"], held["C"], held["D"], self.dt)

    def _warn_if_unstable(self, *, stacklevel: int = 3) -> None:
        if not (values_are_hidden() or self._coefficients().is_meta):
            warn_of_growth(self._largest_pole(), ADVICE, stacklevel=stacklevel + 1)


class DPLRRealization(_Fixed):
    """The recurrence of given diagonal plus low rank systems, as a module without parameters.

    The coefficients are exact and computed once; nothing is cached later. A step costs O(N); so does a sample of long
    chunks in ``forward`` and ``extend``, which run by blocks.

    Args:
        system: D systems.
        dtype: Real type the coefficients are rounded to, float32 or wider.

    Example:
        >>> from transferfn.core.dplr import DPLR
        >>> one = torch.ones(1, 1, dtype=torch.complex64)
        >>> system = DPLR(-one, one[None], one, torch.ones(1)).bilinear(one, torch.zeros(1))
        >>> DPLRRealization(system, dtype=torch.float32)(torch.ones(1, 3, 1)).flatten()
        tensor([0.8000, 0.6400, 0.6720])
    """

    def __init__(self, system: DiscreteDPLR, *, dtype: torch.dtype) -> None:
        names = ("a", "g", "h", "B", "C", "D")
        super().__init__({name: getattr(system, name) for name in names}, signal_dtype(dtype))
        self.channels = system.a.shape[0]

    def state_space(self) -> DenseSystem:
        """The systems with full real state matrices, in float64 where the device has it."""
        return DiscreteDPLR(**self._held(wide=True)).dense()

    @override
    def extend(
        self,
        u: Signal,
        state: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Signal, Tensor]:
        is_short = u.dim() == 3 and 0 < u.shape[1] <= 2 * self._state_shape()[1]
        if not is_short or lengths is not None or resets is not None or values_are_hidden():
            return super().extend(u, state, lengths=lengths, resets=resets)
        check_signal(u, self.channels)
        state = self.init_state(u.shape[0], device=u.device, dtype=u.dtype) if state is None else state
        samples = []
        for u_t in u.unbind(1):
            y_t, state = self.step(u_t, state)
            samples.append(y_t)
        return torch.stack(samples, 1), state

    @override
    def kernel(self, length: int, dtype: torch.dtype = torch.float64) -> Kernel:
        check_length(length)
        with without_autocast(self._coefficients()):
            return self._parallel().kernel(length, dtype)

    def _recurrence(self) -> Recurrence:
        return DiscreteDPLR(**self._held(wide=False))

    def _parallel(self) -> ParallelDPLR:
        return ParallelDPLR(DiscreteDPLR(**self._held(wide=True)))

    def _state_shape(self) -> tuple[int, ...]:
        found = self._buffers["a"]
        assert found is not None
        return tuple(found.shape)
