"""The contract's base class, for those who write a mixer of their own. What callers pass is tested with RTF."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from transferfn.nn import Attention, Block, NotCausalError, SequenceMixer, ShortConvolution


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


class Gain(SequenceMixer):
    """A filter of one tap, and a bias that is none."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(3))

    def filter_parameters(self) -> tuple[nn.Parameter]:
        return (self.gain,)

    def forward(self, u: Tensor, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Tensor:
        return self.gain * u + self.bias


def test_what_a_mixer_calls_its_filters_has_the_rates_in_all_that_is_built_of_it() -> None:
    mixer = Gain()
    block = Block(3, mixer, norm=None)
    for module in (mixer, block):
        filters, rest = module.param_groups(lr=0.1, weight_decay=0.0)
        assert (filters["params"], filters["lr"], filters["weight_decay"]) == ([mixer.gain], 0.1, 0.0)
        assert rest.keys() == {"params"}
        assert [len(module.param_groups()), len(list(module.parameters()))] == [1, 1 + len(rest["params"])]


@pytest.mark.parametrize("mixer", [Attention(4, 2), ShortConvolution(4, 3)], ids=lambda mixer: type(mixer).__name__)
def test_what_is_no_filter_has_the_rates_of_the_rest(mixer: SequenceMixer) -> None:
    (rest,) = mixer.param_groups(lr=0.1)
    assert rest == {"params": list(mixer.parameters())}
