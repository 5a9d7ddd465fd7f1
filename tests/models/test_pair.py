from __future__ import annotations

import pytest
import torch

from transferfn.models import Backbone, PairClassifier
from transferfn.nn import RTF


def model(**options) -> PairClassifier:
    torch.manual_seed(0)
    return PairClassifier(Backbone(6, 1, lambda: RTF(6, 2, horizon=12), **options), 3).eval()


def test_a_pair_is_compared_by_its_means() -> None:
    pairs = model(vocabulary=9)
    u, lengths = torch.randint(9, (4, 2, 12)), torch.tensor([[12, 3], [1, 1], [5, 12], [7, 0]])
    x, y = (
        torch.stack(
            [
                pairs.backbone(u[row, side, : lengths[row, side]][None])[0].mean(0)
                if lengths[row, side]
                else torch.zeros(6)
                for row in range(4)
            ]
        )
        for side in range(2)
    )
    wanted = pairs.readout(torch.relu(pairs.hidden(torch.cat([x, y, x * y, x - y], 1))))
    torch.testing.assert_close(pairs(u, lengths=lengths), wanted)


def test_padding_changes_nothing() -> None:
    pairs = model(inputs=2)
    u, lengths = torch.randn(3, 2, 12, 2), torch.tensor([[12, 3], [1, 4], [5, 12]])
    padded = u.clone()
    for row in range(3):
        for side in range(2):
            padded[row, side, lengths[row, side] :] = torch.nan
    torch.testing.assert_close(pairs(padded, lengths=lengths), pairs(u, lengths=lengths))


def test_each_parameter_is_trained_once() -> None:
    pairs = model(vocabulary=9)
    groups = pairs.param_groups(lr=1e-3, weight_decay=0.1, filter_lr=1e-4)
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for parameter in pairs.parameters())


def test_wrong_shapes_are_named() -> None:
    pairs = model(vocabulary=9)
    with pytest.raises(ValueError, match=r"pairs of sequences.*got \(4, 12\)"):
        pairs(torch.zeros(4, 12, dtype=torch.long))
    with pytest.raises(ValueError, match=r"lengths of shape \(batch, 2\) = \(4, 2\), got \(4,\)"):
        pairs(torch.zeros(4, 2, 12, dtype=torch.long), lengths=torch.ones(4, dtype=torch.long))
