from __future__ import annotations

import numpy as np
import pytest

from transferfn.tasks import DataError
from transferfn.tasks.splits import check_seed, check_share, hold_out, split_by_class

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [30, 20, 10]))


def test_as_many_of_each_class_are_held_out() -> None:
    kept, held = split_by_class(LABELS, 7, seed=3, of="images")
    assert np.bincount(LABELS[held]).tolist() == [7, 7, 7]
    assert sorted([*kept, *held]) == list(range(60))
    assert kept.tolist() == sorted(kept)
    assert held.tolist() == sorted(held)


def test_the_draw_is_a_function_of_the_seed_alone() -> None:
    one, two, other = (split_by_class(LABELS, 7, seed=seed, of="images")[1].tolist() for seed in (3, 3, 4))
    assert one == two != other
    # Part of every task that is split so: a change would make results incomparable.
    assert one[:6] == [1, 6, 8, 9, 11, 13]


@pytest.mark.parametrize(("share", "per_class"), [(0.05, 1), (0.1, 2), (0.24, 5)])
def test_a_share_is_rounded_to_a_number_of_each_class(share: float, per_class: int) -> None:
    kept, held = hold_out(LABELS, share, classes=3, seed=0, of="images")
    assert held is not None
    expected = split_by_class(LABELS, per_class, seed=0, of="images")
    assert (kept.tolist(), held.tolist()) == (expected[0].tolist(), expected[1].tolist())


def test_nothing_is_held_out_only_if_nothing_was_asked_for() -> None:
    kept, held = hold_out(LABELS, 0.0, classes=3, seed=0, of="images")
    assert kept.tolist() == list(range(60))
    assert held is None
    with pytest.raises(DataError, match=r"0\.02 of 60 images leaves none of each of the 3 classes for validation"):
        hold_out(LABELS, 0.02, classes=3, seed=0, of="images")


def test_errors_name_what_is_held_out() -> None:
    with pytest.raises(DataError, match="class 2 has 1 reviews, too few to hold out 2"):
        split_by_class(np.array([0, 0, 0, 2]), 2, seed=0, of="reviews")


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_are_64_bits(seed: int) -> None:
    check_seed(0)
    check_seed(2**63 - 1)
    with pytest.raises(ValueError, match=rf"^data\.seed must lie in 0\.\.2\^63 - 1, got {seed}$"):
        check_seed(seed)


@pytest.mark.parametrize("share", [-0.1, 0.6, float("nan")])
def test_shares_are_at_most_a_half(share: float) -> None:
    check_share(0.0, "images")
    check_share(0.5, "images")
    with pytest.raises(
        ValueError, match=rf"^data\.validation must lie in 0\.\.0\.5, .* of images held out; got {share}$"
    ):
        check_share(share, "images")
