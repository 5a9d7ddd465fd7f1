"""A backbone that reads two sequences alike, and a readout that compares them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transferfn.models.backbone import Backbone
from transferfn.models.head import MeanPool
from transferfn.models.parameters import WithParamGroups


class PairClassifier(WithParamGroups):
    """Class scores of pairs of sequences, such as whether one document cites the other.

    Both are read by the same backbone and averaged over their true lengths to x and y; what is classified is
    (x, y, x * y, x - y), through one hidden layer.

    Args:
        backbone: What computes the features.
        classes: Number of classes.

    Source:
        Tay et al. 2021, Long Range Arena, arXiv:2011.04006, document retrieval; the readout is that of S4.

    Example:
        >>> from transferfn.nn import RTF
        >>> model = PairClassifier(Backbone(8, 2, lambda: RTF(8, 4, horizon=32), vocabulary=30), 2).eval()
        >>> model(torch.randint(30, (3, 2, 32)), lengths=torch.tensor([[32, 7], [5, 5], [0, 1]])).shape
        torch.Size([3, 2])
    """

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.pool = MeanPool()
        self.hidden = nn.Linear(4 * backbone.channels, backbone.channels)
        self.readout = nn.Linear(backbone.channels, classes)

    def forward(self, u: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Score whole pairs.

        Args:
            u: Tokens, (B, 2, L), or samples, (B, 2, L, inputs).
            lengths: Number of valid samples of each sequence, (B, 2), integers; None means all.

        Returns:
            Logits, (B, classes).

        Raises:
            ValueError: if `u` holds no pairs, or `lengths` does not fit it.
        """
        if u.dim() < 3 or u.shape[1] != 2:
            raise ValueError(
                f"expected pairs of sequences, (batch, 2, length) or (batch, 2, length, inputs), got {tuple(u.shape)}."
            )
        if lengths is not None:
            if lengths.shape != u.shape[:2]:
                raise ValueError(
                    f"expected lengths of shape (batch, 2) = {tuple(u.shape[:2])}, got {tuple(lengths.shape)}."
                )
            lengths = lengths.flatten()
        features = self.backbone(u.flatten(0, 1), lengths=lengths)
        rest = self.pool.init_state(len(features), features.shape[2], device=features.device, dtype=features.dtype)
        pooled, _ = self.pool.extend(features, rest, lengths=lengths, resets=None)
        x, y = pooled.unflatten(0, (-1, 2)).unbind(1)
        return self.readout(F.relu(self.hidden(torch.cat([x, y, x * y, x - y], dim=-1))))
