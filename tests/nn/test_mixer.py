"""The contract's base class, for those who write a mixer of their own. What callers pass is tested with RTF."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from transferfn.nn import NotCausalError, SequenceMixer


class Mean(SequenceMixer):
    """Looks at everything, so it has no recurrence."""

    is_causal = False

    def forward(self, u: Tensor, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Tensor:
        return u.mean(1, keepdim=True).expand_as(u)


def test_a_mixer_needs_a_forward() -> None:
    with pytest.raises(TypeError, match=r"abstract method '?forward'?"):
        type("Nothing", (SequenceMixer,), {})()


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [("extend", (torch.zeros(1, 2, 3),)), ("step", (torch.zeros(1, 3), None)), ("init_state", (1,))],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_the_other_verbs_are_refused_by_name(verb: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(NotCausalError, match=rf"^Mean\.{verb}\(\) needs a causal layer.*Call forward\(\)"):
        getattr(Mean(), verb)(*arguments)


def test_works_in_sequential() -> None:
    u = torch.randn(2, 5, 3)
    assert nn.Sequential(nn.Linear(3, 4), Mean())(u).shape == (2, 5, 4)


def test_mixers_are_causal_unless_they_say_otherwise() -> None:
    assert SequenceMixer.is_causal
    assert not Mean().is_causal
