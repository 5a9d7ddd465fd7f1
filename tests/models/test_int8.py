from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from models.test_generate import PROMPT, loud
from transferfn.models.generate import generate
from transferfn.models.int8 import Int8Decoder, Int8Linear
from transferfn.models.language_model import LanguageMixer
from transferfn.nn import Stream


def test_weights_are_rounded_to_a_byte_each_row_by_its_scale(generator: torch.Generator) -> None:
    layer = nn.Linear(64, 32)
    with torch.no_grad():
        layer.weight.mul_(10.0 ** torch.linspace(-3, 3, 32)[:, None])
        layer.weight[5] = 0
    narrow = Int8Linear(layer.weight, layer.bias)
    rounded = narrow.bytes.double() * narrow.scale.double()[:, None]
    assert (rounded - layer.weight).abs().amax(1).le(layer.weight.abs().amax(1) / 253).all()
    for rows in ((1,), (2, 4), (3, 5), (0, 2)):  # by bytes as they are, and widened
        x = torch.randn(*rows, 64, generator=generator)
        expected = x.double() @ rounded.mT + layer.bias.double()
        assert narrow(x).shape == expected.shape
        torch.testing.assert_close(narrow(x).double(), expected, rtol=1e-5, atol=1e-4)
    assert narrow(x.double()).dtype == torch.float64


@pytest.mark.parametrize("mixer", get_args(LanguageMixer))
@torch.no_grad()
def test_chunks_and_steps_agree_and_are_near_the_model(mixer: LanguageMixer, generator: torch.Generator) -> None:
    model = loud(mixer).eval()
    decoder = Int8Decoder(model)
    assert not [part for part in decoder.modules() if type(part) is nn.Linear]
    assert decoder.decoder() is decoder
    tokens = torch.randint(model.vocabulary, (1, 20), generator=generator)
    stream = Stream(decoder, 1)
    stream(tokens[:, :12])
    for t in range(12, 19):
        stream(tokens[:, t])
    found, expected = stream(tokens[:, 19]), model(tokens)[:, -1]
    assert (found - expected).norm() / expected.norm() < 0.1


def test_what_is_not_on_the_cpu_is_refused() -> None:
    with pytest.raises(ValueError, match=r'on the CPU, got some on meta.*model\.to\("cpu"\)'):
        Int8Decoder(loud("hyena-rtf").to("meta"))
    with pytest.raises(ValueError, match="on the CPU, got some on meta"):
        Int8Linear(torch.ones(2, 3, device="meta"), None)


def test_generation_takes_narrow_weights_and_leaves_the_model_alone() -> None:
    model = loud("hyena-rtf")
    before = {name: x.clone() for name, x in model.state_dict().items()}
    assert len(list(generate(model, PROMPT, 9, temperature=0.0, int8=True))) == 9
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
