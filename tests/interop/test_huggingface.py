"""Generation by transformers with the state as its cache: everything equals full recomputation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from interop.language_models import PAD, config, every, make, prompts
from transferfn.interop.boundaries import boundaries
from transferfn.models.language_model import LanguageMixer

MODES: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "top_k": 8, "temperature": 0.7},
    "beams": {"do_sample": False, "num_beams": 3},
    "sampled-beams": {"do_sample": True, "num_beams": 3, "num_return_sequences": 2},
}


@every
@pytest.mark.parametrize("mode", MODES)
def test_generation_with_the_state_is_full_recomputation(mixer: LanguageMixer, mode: str) -> None:
    model = make(mixer)
    tokens, mask, _ = prompts()
    found = []
    for use_cache in (True, False):
        torch.manual_seed(3)
        found.append(
            model.generate(
                tokens,
                attention_mask=mask,
                max_new_tokens=15,
                use_cache=use_cache,
                pad_token_id=PAD,
                return_dict_in_generate=True,
                output_scores=True,
                **MODES[mode],
            )
        )
    assert torch.equal(found[0].sequences, found[1].sequences)
    for score, other in zip(found[0].scores, found[1].scores, strict=True):
        assert_close(score, other, rtol=1e-3, atol=1e-3)
    if MODES[mode]["do_sample"]:
        assert len(set(found[0].sequences[:, 7:].flatten().tolist())) > 3  # it says something


@every
def test_padding_changes_no_token(mixer: LanguageMixer) -> None:
    """A row of a padded batch, each prompt alone, and one token at a time by hand."""
    model = make(mixer)
    tokens, mask, lengths = prompts()
    batch = model.generate(tokens, attention_mask=mask, max_new_tokens=9, do_sample=False, pad_token_id=PAD)
    for row, length in enumerate(lengths):
        prompt = tokens[row : row + 1, 7 - length :]
        alone = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=9, do_sample=False, pad_token_id=PAD
        )
        assert torch.equal(batch[row, 7 - length :], alone[0])
        text = prompt
        for _ in range(9):
            text = torch.cat((text, model.model(text)[:, -1:].argmax(-1)), 1)
        assert torch.equal(text, alone)


@every
def test_padding_changes_no_logit(mixer: LanguageMixer) -> None:
    """At the left, at the right, and where a row is nothing but padding; the state goes on from the last token."""
    model = make(mixer).double()
    tokens, _, _ = prompts()
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0, 0], [0] * 7])
    more = torch.randint(1, 16, (3, 2), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        first = model(tokens, attention_mask=mask, use_cache=True)
        mask = torch.cat((mask, torch.ones(3, 2, dtype=torch.long)), 1)
        second = model(more, attention_mask=mask, cache=first.cache).logits
        for row in range(3):
            real = mask[row, :7].bool()
            text = torch.cat((tokens[row][real], more[row]))[None]
            expected = model.model(text)
            assert_close(first.logits[row][real], expected[0, :-2])
            assert_close(second[row], expected[0, -2:])


@every
def test_a_cache_takes_any_chunks(mixer: LanguageMixer) -> None:
    model = make(mixer).double()
    tokens, _, _ = prompts()
    with torch.no_grad():
        expected, cache = model(tokens, use_cache=False), model.new_cache()
        assert expected.cache is None
        found = [model(part, cache=cache).logits for part in tokens.split([3, 1, 1, 2], 1)]
    assert_close(torch.cat(found, 1), expected.logits)
    assert cache.get_seq_length() == 7
    chunked = {"prefill_chunk_size": 3, "max_new_tokens": 5, "do_sample": False, "pad_token_id": PAD}
    plain = model.generate(tokens, max_new_tokens=5, do_sample=False, pad_token_id=PAD)
    assert torch.equal(model.generate(tokens, cache=model.new_cache(), **chunked), plain)


@torch.no_grad()
def test_copies_of_a_cache_begin_several_texts() -> None:
    model = make("hyena-rtf")
    tokens = torch.randint(1, 16, (2, 7))  # without padding, which generate() would see
    cache = model(tokens[:, :5], use_cache=True).cache
    for tail in (tokens[:, 5:], tokens[:, :2]):
        other = copy.deepcopy(cache)
        assert other.decoder is cache.decoder
        text = torch.cat((tokens[:, :5], tail), 1)
        options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": PAD}
        assert torch.equal(model.generate(text, cache=other, **options), model.generate(text, **options))
    assert cache.get_seq_length() == 5


@torch.no_grad()
def test_what_a_cache_holds() -> None:
    """Constant memory for filters, in float32, and transformers' own names for it."""
    tokens, _, _ = prompts()
    for mixer, grows in (("hyena-rtf", False), ("s4d", False), ("attention", True)):
        model = make(mixer).bfloat16()
        sizes = []
        for length in (1, 4, 7):
            cache = model(tokens[:, :length], use_cache=True).cache
            sizes.append(cache.nbytes)
        assert (sizes[0] < sizes[1] < sizes[2]) == grows
        assert (sizes[0] == sizes[2]) != grows
        states = [cache.get_recurrent_state(1, k) for k in range(cache.layers[1].number_of_states)]
        assert all(x.dtype == torch.float32 for x in states if x.is_floating_point())
        rows = torch.tensor([2, 0, 0])
        for change in (cache.reorder_cache, cache.batch_select_indices):
            before = [x.clone() for x in states]
            change(rows)
            states = [cache.get_recurrent_state(1, k) for k in range(len(states))]
            assert all(torch.equal(x, y[rows]) for x, y in zip(states, before, strict=True))
        cache.batch_repeat_interleave(2)
        assert all(len(cache.get_recurrent_state(1, k)) == 6 for k in range(len(states)))
        cache.reset()
        assert cache.get_seq_length() == 0
        assert cache.state is None


def test_the_decoder_of_a_cache_shares_all_but_the_filters() -> None:
    model = make("hyena-rtf")
    with torch.no_grad():
        decoder = model.new_cache().decoder
    names = {name for name, _ in model.model.named_parameters()}
    shared = dict(decoder.named_parameters())
    assert names - set(shared) == {name for name in names if "filters" in name}
    assert all(p is shared[name] for name, p in model.model.named_parameters() if name in shared)
    assert all(part.training for part in model.train().modules())
    assert not any(part.training for part in decoder.modules())
    assert model.new_cache().decoder is None  # gradients flow


@every
def test_gradients_flow_through_a_cache(mixer: LanguageMixer) -> None:
    model = make(mixer).double()
    tokens, _, _ = prompts()

    def gradients(logits: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(logits.square().sum(), model.parameters(), allow_unused=True))

    cache = model.new_cache()
    parts = [model(part, cache=cache).logits for part in tokens.split([4, 1, 2], 1)]
    for found, expected in zip(gradients(torch.cat(parts, 1)), gradients(model(tokens).logits), strict=True):
        assert_close(found, expected)


def test_assisted_generation_is_refused() -> None:
    model = make()
    tokens, _, _ = prompts()
    with pytest.raises(ValueError, match="assisted generation is not supported with stateful models"):
        model.generate(tokens[:1], prompt_lookup_num_tokens=2, max_new_tokens=3)
    with pytest.raises(ValueError, match="assisted generation is not supported"):
        model.generate(tokens[:1], assistant_model=model, max_new_tokens=3)
    cache = model.new_cache()
    with pytest.raises(NotImplementedError, match="cannot forget single tokens"):
        cache.crop(-1)


def test_wrong_arguments_are_refused() -> None:
    from transformers import DynamicCache

    model, other = make(), make(num_hidden_layers=1)
    tokens, _, _ = prompts()
    with pytest.raises(TypeError, match=r"StateCache of 2 layers, got StateCache.*new_cache"):
        model(tokens, cache=other.new_cache())
    with pytest.raises(ValueError, match="padding between tokens"):
        model(tokens, attention_mask=torch.tensor([[1, 0, 1, 1, 1, 1, 1]] * 3))
    with pytest.raises(ValueError, match=r"at least 7 long, got \(3, 5\)"):
        model(tokens, attention_mask=torch.ones(3, 5))
    with pytest.raises(ValueError, match="tie_word_embeddings cannot be False"):
        config(tie_word_embeddings=False)
    with pytest.raises(Exception, match="StateCache"):
        model(tokens, cache=DynamicCache())


def test_masks_are_read_at_their_end() -> None:
    mask = torch.tensor([[0, 0, 0, 1, 1], [0, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    lengths, resets = boundaries(mask, 3)
    assert lengths is not None
    assert resets is not None
    assert lengths.tolist() == [3, 3, 1, 0]
    assert resets.nonzero().tolist() == [[0, 1]]
    assert boundaries(mask[:2], 2) == (None, None)
    assert boundaries(None, 3) == (None, None)
    assert boundaries(mask, 0) == (None, None)
