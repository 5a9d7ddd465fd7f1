from __future__ import annotations

import numpy as np
import torch

from transferfn.tasks.sequences import PairSequences, TokenSequences, write_sequences

SEQUENCES = [[5, 6], [7, 8, 9, 10], [3], [4, 4, 4]]


def sequences(**options) -> TokenSequences:
    tokens = np.concatenate(SEQUENCES).astype(np.uint16)
    starts = np.cumsum([0, *map(len, SEQUENCES)])
    return TokenSequences(tokens, starts, np.array([1, 0, 1, 2]), **options)


def test_some_of_the_sequences_make_a_set() -> None:
    part = sequences(rows=np.array([3, 0]))
    assert len(part) == 2
    batch = part.gather([1, 0, 1])
    assert batch.inputs.tolist() == [[5, 6, 0], [4, 4, 4], [5, 6, 0]]
    assert batch.targets.tolist() == [1, 2, 1]
    assert batch.index.tolist() == [1, 0, 1]
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [2, 3, 2]


def test_pairs_share_one_length_and_keep_their_own() -> None:
    pairs = PairSequences(sequences(limit=3), np.array([[0, 1], [2, 2], [3, 0]]), np.array([1, 0, 1]))
    assert len(pairs) == 3
    batch = pairs.gather([2, 0])
    assert batch.inputs.tolist() == [[[4, 4, 4], [5, 6, 0]], [[5, 6, 0], [7, 8, 9]]]
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [[3, 2], [2, 3]]
    assert batch.targets.tolist() == [1, 1]
    assert batch.index.tolist() == [2, 0]
    short = pairs.gather([1])
    assert short.inputs.tolist() == [[[3], [3]]]
    assert short.inputs.dtype == torch.int64


def test_what_is_written_is_what_is_read(tmp_path) -> None:
    write_sequences(tmp_path, "all", ((np.array(one), row) for row, one in enumerate(SEQUENCES)), dtype=np.uint8)
    data = TokenSequences(*(np.load(tmp_path / f"all-{name}.npy") for name in ("tokens", "starts", "labels")))
    assert data.tokens.dtype == np.uint8
    assert [data.gather([row]).inputs[0].tolist() for row in range(4)] == SEQUENCES
    assert data.gather(range(4)).targets.tolist() == [0, 1, 2, 3]
