"""What mixers that keep every sample remember, against lists of lists."""

from __future__ import annotations

import torch

from laws.runs import reset_mask
from transferfn.nn.cache import beginnings, grown, remember

PAST, COUNTS = [[0, 0, 1], [4, 5, 6], [0, 0, 0]], [1, 3, 0]
NEW = [[11, 12, 13, 14], [21, 22, 23, 24], [31, 32, 33, 34]]


def as_memory(rows: list[list[int]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)[..., None]


def by_lists(lengths: list[int] | None, cuts: list[list[int]] | None) -> list[list[int]]:
    """What each row remembers, oldest first."""
    found = []
    for row, (past, count, new) in enumerate(zip(PAST, COUNTS, NEW, strict=True)):
        kept = past[len(past) - count :]
        for t, sample in enumerate(new[: 4 if lengths is None else lengths[row]]):
            kept = [sample] if cuts is not None and t in cuts[row] else [*kept, sample]
        found.append(kept)
    return found


def test_what_is_remembered() -> None:
    for lengths in (None, [4, 2, 0], [0, 0, 0], [1, 4, 3]):
        for cuts in (None, [[], [1], []], [[0, 3], [2], [0]], [[3], [3], [3]]):
            (memory, other), counts = remember(
                (as_memory(PAST), -as_memory(PAST)[:, None]),
                torch.tensor(COUNTS),
                (as_memory(NEW), -as_memory(NEW)[:, None]),
                None if lengths is None else torch.tensor(lengths),
                None if cuts is None else reset_mask(cuts, 4),
            )
            expected = by_lists(lengths, cuts)
            assert counts.tolist() == [len(row) for row in expected]
            size = memory.shape[1]
            assert size == (7 if lengths is None and cuts is None else max(map(len, expected)))
            assert memory[..., 0].tolist() == [[0] * (size - len(row)) + row for row in expected]
            assert torch.equal(other[:, 0], -memory)


def test_nothing_outlives_a_reset() -> None:
    dirty = torch.full_like(as_memory(PAST), torch.nan)
    (memory,), _ = remember((dirty,), torch.tensor([3, 3, 3]), (as_memory(NEW),), None, reset_mask([[0]] * 3, 4))
    assert memory[..., 0].tolist() == NEW
    (memory,), _ = remember((dirty,), torch.tensor([3, 3, 3]), (as_memory(NEW),), None, reset_mask([[0], [], [2]], 4))
    assert memory.isnan().sum((1, 2)).tolist() == [0, 3, 0]


def test_beginnings() -> None:
    resets = reset_mask([[], [0], [1, 3]], 4)
    assert beginnings(torch.tensor([0, 5, 2]), 4, resets).tolist() == [[0] * 4, [0] * 4, [-2, 1, 1, 3]]
    assert beginnings(torch.tensor([0, 5]), 2, None).tolist() == [[0, 0], [-5, -5]]


def test_grown() -> None:
    assert grown(as_memory(NEW), 6)[0, :, 0].tolist() == [0, 0, *NEW[0]]
    assert torch.equal(grown(as_memory(NEW), 4), as_memory(NEW))
