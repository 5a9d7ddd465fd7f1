from __future__ import annotations

import numpy as np
import pytest
import torch

from transferfn.analysis.records import as_records

NAN = float("nan")


def test_records_of_all_kinds() -> None:
    expected = as_records(torch.arange(6.0).view(3, 2), torch.tensor([1.0, NAN, 3.0]))
    for u, y in (
        (np.arange(6).reshape(3, 2), np.array([1.0, NAN, 3.0])),
        ([np.arange(6.0).reshape(3, 2)], [np.array([[1.0], [NAN], [3.0]])]),
    ):
        found = as_records(u, y)
        torch.testing.assert_close(found.u, expected.u)
        torch.testing.assert_close(found.y, torch.tensor([[1.0, 0.0, 3.0]], dtype=torch.float64))
        assert found.known.tolist() == [[True, False, True]]


def test_records_of_different_lengths_are_padded() -> None:
    found = as_records([torch.ones(2), torch.ones(4)], [torch.ones(2), torch.ones(4)])
    assert found.u.shape == (2, 4, 1)
    assert found.known.sum(1).tolist() == [2, 4]
    assert found.u[0, :, 0].tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("u", "y", "error", "message"),
    [
        ([1.0, NAN], [1.0, 1.0], ValueError, "only outputs may be missing"),
        ([1.0, 2.0], [1.0, float("inf")], ValueError, "mark what is missing by NaN"),
        ([1.0, 2.0], [NAN, NAN], ValueError, "every sample of y is missing"),
        ([1.0, 2.0], [1.0], ValueError, "2 samples of u and 1 of y"),
        ([[1.0, 2.0], [1.0]], [[1.0, 2.0]], ValueError, "as many records, got 2 and 1"),
        (np.ones((3, 2, 2)), np.ones(3), ValueError, r"\(samples\) or \(samples, inputs\)"),
        (np.ones((3, 2)), np.ones((3, 2)), ValueError, "fit one model an output"),
        (np.array(["a", "b"]), np.ones(2), TypeError, "real numbers"),
        (np.ones(2), 1j * np.ones(2), TypeError, "real numbers"),
        ([np.ones((2, 1)), np.ones((2, 2))], [np.ones(2), np.ones(2)], ValueError, "as many inputs"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_named(u, y, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_records(u, y)
