"""What layers that learn a bank of state-space systems share beside their verbs: becoming a fixed one."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, TypeVar

import torch

from transferfn.nn.options import check_dtype
from transferfn.nn.state_space import StateSpaceMixer

Fixed = TypeVar("Fixed", bound=StateSpaceMixer)


class StateSpaceLayer(StateSpaceMixer, Generic[Fixed]):
    """A bank of state-space systems that is learned."""

    def realize(self, dtype: torch.dtype | None = None) -> Fixed:
        """An immutable recurrence with the exact coefficients, computed now and once.

        Args:
            dtype: Type the coefficients are rounded to, float32 or wider; None means that of the parameters.

        Raises:
            NotCausalError: if the layer is bidirectional.
        """
        self._require_causal("realize")
        dtype = dtype or self._coefficients().dtype
        check_dtype(dtype)
        with torch.no_grad():
            return self._realized(dtype)

    @abstractmethod
    def _realized(self, dtype: torch.dtype) -> Fixed:
        """The systems as they are now, with coefficients of a type."""
