"""What is learned of a model: how many numbers, and in which groups an optimizer has them."""

from __future__ import annotations

from typing import Any

from torch import nn

from transferfn.nn.block import Block
from transferfn.nn.mixer import merged


def count_parameters(model: nn.Module) -> int:
    """Return how many numbers of a model are learned.

    Args:
        model: The model.
    """
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


class WithParamGroups(nn.Module):
    """A model built of blocks that tells an optimizer what to do with its parameters."""

    def param_groups(
        self,
        *,
        lr: float,
        weight_decay: float,
        filter_lr: float | None = None,
        filter_weight_decay: float | None = None,
    ) -> list[dict[str, Any]]:
        """Split the parameters into optimizer groups, each parameter in exactly one.

        Matrices decay; vectors (biases, norms) do not; the filters of the model's blocks, see
        :meth:`transferfn.nn.mixer.SequenceMixer.param_groups`, have their own rates, unless they set others themselves.
        Their groups are merged where they have equal options.

        Args:
            lr: Learning rate.
            weight_decay: Weight decay of matrices.
            filter_lr: Learning rate of the filters' own parameters; None means `lr`.
            filter_weight_decay: Weight decay of the filters' own parameters; None means `weight_decay`.

        Returns:
            Groups with `params`, `lr` and `weight_decay`, as every torch optimizer takes them.
        """
        rates = {
            "lr": lr if filter_lr is None else filter_lr,
            "weight_decay": weight_decay if filter_weight_decay is None else filter_weight_decay,
        }
        blocks = [block for block in self.modules() if isinstance(block, Block)]
        groups = [group for block in blocks for group in block.param_groups(**rates)]
        # A group without rates, though all are given, is of no filters.
        filters = merged(rates | group for group in groups if group.keys() != {"params"})
        taken = {id(p) for group in filters for p in group["params"]}
        others = [p for p in self.parameters() if id(p) not in taken]
        matrices = {"params": [p for p in others if p.dim() >= 2], "lr": lr, "weight_decay": weight_decay}
        vectors = {"params": [p for p in others if p.dim() < 2], "lr": lr, "weight_decay": 0.0}
        return [group for group in (matrices, vectors, *filters) if group["params"]]
