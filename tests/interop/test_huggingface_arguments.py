"""The usual arguments of models of transformers: labels, vectors for tokens, hidden states, packed rows, and names."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from interop.language_models import PAD, make, prompts
from transferfn.interop.boundaries import restarts
from transferfn.models.language_model import LanguageMixer

SOME = pytest.mark.parametrize("mixer", ["hyena-rtf", "attention", "s5"])
GREEDY = {"do_sample": False, "pad_token_id": PAD}


# ------------------------------------------------------------------------------------------------------------ labels


@torch.no_grad()
def test_labels_need_no_other_argument() -> None:
    """In eval mode, where a cache is made unless labels come; with one, too, if it is asked for."""
    model = make().double()
    tokens = torch.randint(1, 16, (3, 7), generator=torch.Generator().manual_seed(1))
    found = model(tokens, labels=tokens)
    scores = found.logits[:, :-1].log_softmax(-1)
    expected = -torch.stack([scores[b, t, tokens[b, t + 1]] for b in range(3) for t in range(6)]).mean()
    assert_close(found.loss, expected)
    assert found.cache is None
    cached = model(tokens, labels=tokens, use_cache=True)
    assert_close(cached.loss, expected)
    assert cached.cache.get_seq_length() == 7
    more = model(tokens[:, :1], cache=cached.cache).logits
    assert_close(more[:, 0], model.model(torch.cat((tokens, tokens[:, :1]), 1))[:, -1])


def test_where_no_label_is_scored_the_loss_is_zero() -> None:
    """A mean over nothing is NaN, which one optimiser step would put in every weight."""
    model = make().train()
    tokens, _, _ = prompts()
    nothing = torch.full_like(tokens, -100)
    for arguments in (
        {"input_ids": tokens, "labels": nothing},
        {"input_ids": tokens, "labels": nothing, "num_items_in_batch": torch.tensor(0)},
        {"input_ids": tokens, "labels": nothing, "num_items_in_batch": 0},
        {"input_ids": tokens[:, :1], "labels": tokens[:, :1]},
    ):
        loss = model(**arguments).loss
        assert float(loss.detach()) == 0
        model.zero_grad()
        loss.backward()
        assert all(p.grad is None or bool((p.grad == 0).all()) for p in model.parameters())


def test_logits_are_left_out_only_where_a_trainer_trains() -> None:
    model = make().train()
    tokens, _, _ = prompts()
    assert model(tokens, labels=tokens).logits is not None
    assert model(tokens, labels=tokens, num_items_in_batch=18).logits is None
    assert model(tokens, labels=tokens, num_items_in_batch=18, skip_logits=False).logits is not None
    model.eval()
    assert model(tokens, labels=tokens, num_items_in_batch=18).logits is not None
    assert model(tokens, labels=tokens, skip_logits=True).logits is None


# ---------------------------------------------------------------------------------------------- vectors, hidden states


@SOME
def test_vectors_in_the_place_of_tokens(mixer: LanguageMixer) -> None:
    model = make(mixer)
    tokens, mask, _ = prompts()
    vectors = model.get_input_embeddings()(tokens).detach().requires_grad_()
    assert_close(model(inputs_embeds=vectors, attention_mask=mask).logits, model(tokens, attention_mask=mask).logits)
    expected = model.generate(tokens, attention_mask=mask, max_new_tokens=8, **GREEDY)[:, 7:]
    found = model.generate(inputs_embeds=vectors.detach(), attention_mask=mask, max_new_tokens=8, **GREEDY)
    assert torch.equal(found, expected)
    model.train()
    loss = model(inputs_embeds=vectors, labels=tokens, num_items_in_batch=18).loss
    assert_close(loss, model(tokens, labels=tokens, num_items_in_batch=18).loss)
    assert float(torch.autograd.grad(loss, vectors)[0].abs().max()) > 0  # soft prompts can be trained
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model(tokens, inputs_embeds=vectors)
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model()


@SOME
@torch.no_grad()
def test_hidden_states(mixer: LanguageMixer) -> None:
    """As of other models: the embedding, what comes out of each block, the last one after the last norm."""
    model = make(mixer).double()
    tokens, _, _ = prompts()
    whole = model(tokens, output_hidden_states=True, use_cache=False)
    assert len(whole.hidden_states) == 3
    assert_close(whole.hidden_states[0], model.get_input_embeddings()(tokens))
    assert_close(whole.hidden_states[1], model.model.backbone.blocks[0](whole.hidden_states[0]))
    assert_close(model.model.logits(whole.hidden_states[2]), whole.logits)
    cache = model.new_cache()
    parts = [model(part, cache=cache, output_hidden_states=True).hidden_states for part in tokens.split([5, 1, 1], 1)]
    for layer in range(3):
        assert_close(torch.cat([part[layer] for part in parts], 1), whole.hidden_states[layer])
    assert model(tokens).hidden_states is None
    model.config.output_hidden_states = True
    assert len(model(tokens).hidden_states) == 3


# --------------------------------------------------------------------------------------------------------- packed rows


@SOME
def test_packed_texts_are_as_rows_of_their_own(mixer: LanguageMixer) -> None:
    from transformers import DataCollatorWithFlattening

    model = make(mixer).double()
    texts = [torch.randint(1, 16, (length,)) for length in (3, 1, 5)]
    batch = DataCollatorWithFlattening()([{"input_ids": text.tolist()} for text in texts])
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 0, 1, 2, 3, 4]]
    packed = model(**batch)
    alone = [model(text[None], use_cache=False).logits[0] for text in texts]
    assert_close(packed.logits[0], torch.cat(alone))
    losses = [F.cross_entropy(x[:-1], text[1:], reduction="sum") for x, text in zip(alone, texts, strict=True)]
    assert_close(packed.loss, sum(losses) / (2 + 0 + 4))


def test_positions_are_places_or_refused() -> None:
    model = make()
    tokens, mask, _ = prompts()
    places = torch.arange(7)[None]
    assert torch.equal(model(tokens, position_ids=places).logits, model(tokens).logits)
    padded = (mask.cumsum(1) - 1).clamp(min=0)  # as generate() of other models counts
    expected = model(tokens, attention_mask=mask).logits
    for fill in (0, 1):
        positions = padded.masked_fill(mask == 0, fill)
        assert torch.equal(model(tokens, attention_mask=mask, position_ids=positions).logits, expected)
    assert restarts(torch.tensor([[5, 6, 7]]), 2, 3) is None  # goes on from a state
    for wrong in (torch.tensor([[0, 1, 3, 4, 5, 6, 7]]), places.flip(1), torch.full((3, 7), 2)):
        with pytest.raises(ValueError, match="must count on by 1 or begin again at 0"):
            model(tokens, position_ids=wrong)
    with pytest.raises(ValueError, match=r"position_ids of shape \(3, 7\), got \(2, 7\)"):
        model(tokens, position_ids=places.expand(2, 7))


@torch.no_grad()
def test_a_packed_prompt_is_continued_from_its_last_text() -> None:
    model = make()
    first, second = torch.randint(1, 16, (1, 4)), torch.randint(1, 16, (1, 3))
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2]])
    found = model.generate(torch.cat((first, second), 1), position_ids=positions, max_new_tokens=9, **GREEDY)
    assert torch.equal(found[:, 4:], model.generate(second, max_new_tokens=9, **GREEDY))


# --------------------------------------------------------------------------------------------------------------- names


@torch.no_grad()
def test_the_arguments_that_adapters_pass() -> None:
    """PEFT names all of these, whatever the model."""
    model = make()
    tokens, mask, _ = prompts()
    found = model(
        input_ids=tokens,
        attention_mask=mask,
        inputs_embeds=None,
        labels=tokens,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
    )
    assert torch.equal(found.logits, model(tokens, attention_mask=mask).logits)
    assert model(tokens, output_attentions=False).logits is not None
    with pytest.raises(ValueError, match="no attention weights"):
        model(tokens, output_attentions=True)


@torch.no_grad()
def test_the_usual_name_of_the_cache() -> None:
    model = make()
    tokens, _, _ = prompts()
    cache = model(tokens[:, :4], use_cache=True).cache
    found = model(tokens[:, 4:], past_key_values=cache)
    assert found.cache is cache
    assert_close(found.logits, model(tokens).logits[:, 4:], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="two names of one thing"):
        model(tokens, cache=cache, past_key_values=cache)


@torch.no_grad()
def test_which_logits_are_kept() -> None:
    model = make()
    tokens, _, _ = prompts()
    whole = model(tokens, labels=tokens)
    for keep, expected in (
        (3, whole.logits[:, -3:]),
        (torch.tensor([6, 1]), whole.logits[:, [6, 1]]),
        (torch.arange(6, -1, -1), whole.logits.flip(1)),
        (torch.tensor([[0, 1], [2, 3], [4, 6]]), whole.logits[torch.arange(3)[:, None], [[0, 1], [2, 3], [4, 6]]]),
    ):
        found = model(tokens, labels=tokens, logits_to_keep=keep)
        assert_close(found.logits, expected)
        assert_close(found.loss, whole.loss)


# ---------------------------------------------------------------------------------------------- prompts to go on from


@pytest.mark.parametrize("use_cache", [True, False])
def test_prompts_that_cannot_be_continued_are_refused(use_cache: bool) -> None:
    model = make()
    options = {"max_new_tokens": 3, "use_cache": use_cache, **GREEDY}
    right = torch.tensor([[1, 2, 3, 4], [5, 6, PAD, PAD]])
    with pytest.raises(ValueError, match=r"row 1 of the prompts is padded at the right.*pad at the left"):
        model.generate(right, attention_mask=(right != PAD).long(), **options)
    with pytest.raises(ValueError, match=r"row 1 of the prompts is padded at the right.*pad at the left"):
        model.generate(right, **options)  # transformers tells padding by its token
    alone = torch.tensor([[PAD, PAD, PAD], [1, 2, 3]])
    with pytest.raises(ValueError, match="row 0 of the prompts is padding alone"):
        model.generate(alone, attention_mask=(alone != PAD).long(), **options)
    with pytest.raises(ValueError, match="the prompt is empty"):
        model.generate(torch.empty(1, 0, dtype=torch.long), **options)


@torch.no_grad()
def test_a_prompt_is_longer_than_what_its_cache_has_seen() -> None:
    model = make()
    tokens = torch.randint(1, 16, (2, 6))
    for length in (6, 4):
        for mask in (None, torch.ones(2, length, dtype=torch.long)):
            cache = model(tokens, use_cache=True).cache
            with pytest.raises(ValueError, match=rf"has seen 6 tokens, the prompt has {length}: pass the whole text"):
                model.generate(tokens[:, :length], attention_mask=mask, cache=cache, max_new_tokens=3, **GREEDY)
