"""What of a stream is not yet part of its model: records that wait for more samples."""

from __future__ import annotations

import torch

from transferfn.analysis.records import Pair

SHORTEST = 20  # times as many samples as its unknown initial state has numbers, from which on a record is taken in
TIMES = 5  # time constants of the slowest mode, which it should hold, too
LONGEST = 4096  # samples that wait, whatever the model remembers


class Waiting:
    """Records of a stream, the last of which the next block may continue.

    An initial state is found anew for each record that is taken in. Blocks that continue each other are joined, so that
    it costs little beside what a record tells: until the record is long beside the memory of the model. So many samples
    wait and no more; then the inputs that still act, because of the delay, are all that is kept.

    Args:
        states: Numbers in an initial state.
        delay: Samples by which the inputs act late.

    Example:
        >>> waiting = Waiting(states=1, delay=0)
        >>> for _ in range(30):
        ...     waiting.add([(torch.ones(1, 1), torch.ones(1))], continues=True)
        >>> [len(y) for _, y in waiting.take(memory=2.0)], waiting.count
        ([30], 0)
    """

    def __init__(self, *, states: int, delay: int) -> None:
        self.states = states
        self.delay = delay
        self._closed: list[Pair] = []
        self._open: Pair | None = None

    @property
    def count(self) -> int:
        """Number of known samples that wait."""
        return sum(map(self._known, self._all()))

    @property
    def telling(self) -> list[Pair]:
        """Records that wait and have more known samples than an initial state has numbers."""
        return [pair for pair in self._all() if self._known(pair) > self.states]

    @property
    def surplus(self) -> int:
        """Known samples beyond those that initial states take."""
        return sum(self._known(pair) - self.states for pair in self.telling)

    def add(self, pairs: list[Pair], *, continues: bool) -> None:
        """Take a block.

        Args:
            pairs: Its records.
            continues: Whether the first goes on with the last of the block before, and the last may be gone on with.

        Raises:
            ValueError: if nothing goes on, and each record is too short to tell anything.
        """
        most = max(map(self._known, pairs))
        if not continues and most <= self.states:
            late = f" after the delay of {self.delay}" if self.delay else ""
            raise ValueError(
                f"a block of {most} known samples{late} tells nothing beside its own initial state of {self.states} "
                f"numbers: give blocks of more than {self.states}, better {SHORTEST * self.states}, or continues=True "
                "if each goes on where the last one ended"
            )
        if continues and self._open is not None:
            (before_u, before_y), (u, y) = self._open, pairs[0]
            pairs = [(torch.cat((before_u, u)), torch.cat((before_y, y))), *pairs[1:]]
        elif self._open is not None:
            self._closed.append(self._open)
        self._open = None
        if continues:
            *pairs, self._open = pairs
        self._closed += pairs

    def take(self, *, memory: float | None = None) -> list[Pair]:
        """Give out the records that are complete, or long enough, and tell something.

        Args:
            memory: Time constant of the model's slowest mode, in samples; None takes all that waits.
        """
        records, self._closed = self._closed, []
        if self._open is not None and (memory is None or self._is_long(self._open, memory)):
            records = [*records, self._open]
            u, y = self._open
            begin = len(y) - self.delay
            self._open = (u[begin:], y[begin:]) if begin > 0 else self._open
        return [pair for pair in records if self._known(pair) > self.states]

    def _all(self) -> list[Pair]:
        return self._closed if self._open is None else [*self._closed, self._open]

    def _known(self, pair: Pair) -> int:
        """Known samples that inputs are known for."""
        return int((~pair[1][self.delay :].isnan()).sum())

    def _is_long(self, pair: Pair, memory: float) -> bool:
        length, least = len(pair[1]) - self.delay, SHORTEST * self.states
        return length >= LONGEST or (length >= TIMES * memory and self._known(pair) >= least)
