"""Samples that are made when they are asked for, fresh ones in every epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transferfn.tasks.dataset import Batch, Splits

Make = Callable[[int, Sequence[int]], Batch]
"""Makes the samples of a split, 0, 1 or 2, with these indices; a pure function that worker processes can be given."""


class OnDemand:
    """Samples of one split.

    Args:
        make: Makes them.
        split: Which split.
        samples: How many an epoch.
        fresh: Whether each epoch has its own.
    """

    def __init__(self, make: Make, split: int, samples: int, *, fresh: bool) -> None:
        self.make = make
        self.split = split
        self.samples = samples
        self.fresh = fresh

    def __len__(self) -> int:
        return self.samples

    def gather(self, indices: Sequence[int]) -> Batch:
        """Make samples.

        Args:
            indices: Which ones.
        """
        return self.make(self.split, indices)


def on_demand_splits(make: Make, *, samples: int, held_out: int) -> Splits:
    """Return training samples that are fresh in every epoch, and the same to validate and to test on every time.

    Args:
        make: Makes them.
        samples: Training samples of an epoch.
        held_out: Samples of validation, and of test.
    """
    return Splits(
        train=OnDemand(make, 0, samples, fresh=True),
        validation=OnDemand(make, 1, held_out, fresh=False),
        test=OnDemand(make, 2, held_out, fresh=False),
    )
