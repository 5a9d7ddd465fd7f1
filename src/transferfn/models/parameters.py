"""Optimizer groups: filters apart from the rest, every parameter exactly once."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import nn

from transferfn.nn.block import Block


@runtime_checkable
class HasFilterParameters(Protocol):
    """A mixer that knows which of its parameters are those of filters; groups without rates are of none."""

    def param_groups(self, *, lr: float | None, weight_decay: float | None) -> list[dict[str, Any]]:
        """Return optimizer groups of the filter parameters.

        Args:
            lr: Their learning rate.
            weight_decay: Their weight decay.
        """
        ...


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

        Matrices decay; vectors (biases, norms) do not; what the mixers of the model's blocks declare through their own
        `param_groups` has its own rates, unless the mixer sets others itself. Groups with equal options are merged.

        Args:
            lr: Learning rate.
            weight_decay: Weight decay of matrices.
            filter_lr: Learning rate of the filters' own parameters; None means `lr`.
            filter_weight_decay: Weight decay of the filters' own parameters; None means `weight_decay`.

        Returns:
            Groups with `params`, `lr` and `weight_decay`, as every torch optimizer takes them.
        """
        filter_rates = {
            "lr": lr if filter_lr is None else filter_lr,
            "weight_decay": weight_decay if filter_weight_decay is None else filter_weight_decay,
        }
        filters: dict[tuple[tuple[str, Any], ...], dict[str, Any]] = {}
        taken: set[int] = set()
        for block in self.modules():
            if not isinstance(block, Block) or not isinstance(block.mixer, HasFilterParameters):
                continue
            for group in block.mixer.param_groups(**filter_rates):
                if group.keys() == {"params"}:  # without rates, though all are given: no filters, say projections
                    continue
                options = filter_rates | {name: value for name, value in group.items() if name != "params"}
                merged = filters.setdefault(tuple(sorted(options.items())), {"params": [], **options})
                fresh = [p for p in group["params"] if id(p) not in taken]
                merged["params"].extend(fresh)
                taken.update(id(p) for p in fresh)
        others = [p for p in self.parameters() if id(p) not in taken]
        groups = [
            {"params": [p for p in others if p.dim() >= 2], "lr": lr, "weight_decay": weight_decay},
            {"params": [p for p in others if p.dim() < 2], "lr": lr, "weight_decay": 0.0},
            *filters.values(),
        ]
        return [group for group in groups if group["params"]]
