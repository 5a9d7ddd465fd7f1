"""Parameters that mean something relative to a number of samples, which a saved layer must tell."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RelativeToHorizon(nn.Module):
    """A layer whose state dict holds its horizon, and that refuses parameters relative to another one.

    Their shape would fit, but they would be other filters.
    """

    horizon: int
    relative: str  # the parameter that is relative to it, if the layer has it

    def get_extra_state(self) -> Tensor:
        """The horizon, int64."""
        return torch.tensor(self.horizon, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Do nothing: a layer keeps its horizon, and has refused parameters relative to another one before.

        Args:
            state: What ``get_extra_state`` returned.
        """

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors) -> None:
        horizon = int(state_dict.get(prefix + "_extra_state", self.horizon))
        if horizon != self.horizon and prefix + self.relative in state_dict:
            errors.append(
                f"the parameter {prefix + self.relative!r} is relative to a horizon of {horizon} samples, that of this "
                f"layer to {self.horizon}: load it into a layer of that horizon"
                + (f", then call with_horizon({self.horizon})." if hasattr(self, "with_horizon") else ".")
            )
            return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)
