"""What holds for every kind of attention, and for the interface that all of them keep."""

from dataclasses import replace
from pkgutil import resolve_name

import numpy as np
import pytest
import torch

from asr.config import AttentionConfig, DecodeConfig, DecoderConfig, EncoderConfig, ModelConfig
from asr.config.kinds import ATTENTIONS
from asr.model.attention import Alignment, make_attention
from asr.model.fast import native
from asr.model.las import LAS
from asr.model.runtime import TorchModel
from asr.search.beam import search

MEL, VOCAB, STEPS = 6, 7, torch.tensor([9, 5, 2])
HARD = [kind for kind, path in ATTENTIONS.items() if resolve_name(path).has_hard_form]
EVERY_KIND = pytest.mark.parametrize(
    "kind", [*ATTENTIONS, *(f"soft {k}" for k in HARD), *(f"2 heads {k}" for k in ATTENTIONS)]
)


def settings(kind):
    """Small ones, of a kind or of two heads of it."""
    heads, kind = 2 if kind.startswith("2 heads") else 1, kind.split()[-1]
    small = {"filters": 2, "filter_width": 3, "window": 2, "components": 2, "chunk": 2}
    return AttentionConfig(kind=kind, units=4, heads=heads, **small)


def make_attention_of(kind):
    return make_attention(6, 8, settings(kind)).eval()


def make_model(kind, cell="gru"):
    """A model without dropout, whose weights are large enough to prefer some characters."""
    config = ModelConfig(
        encoder=EncoderConfig(units=4, pyramid=(2,), dropout=0.0),
        attention=settings(kind),
        decoder=DecoderConfig(cell=cell, units=6, embedding=3, dropout=0.0),
    )
    model = LAS(config, MEL, VOCAB).eval()
    model.decoder.hard = not kind.startswith("soft")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def encoded(model, rows=slice(None)):
    frames = 2 * STEPS[rows]
    features = torch.randn(3, 18, MEL, generator=torch.Generator().manual_seed(1))[rows]
    return model.encode(features[:, : int(frames.max())], frames)


def searched(model, config, rows=slice(None)):
    runtime = TorchModel(model)
    return search(runtime, runtime.encoded(encoded(model, rows)), config)


def three_steps(kind, attention, memory, queries):
    """Weights (3, N, S) of three characters; queries (3, N, H)."""
    hard = not kind.startswith("soft")
    keys = attention.precompute(memory, STEPS[: len(memory)], hard=hard)
    state, found = attention.start(keys, queries.shape[1]), []
    for query in queries:
        alignment, state = attention.step(query, keys, state)
        found.append(alignment.over(memory.shape[1]))
    return torch.stack(found)


@EVERY_KIND
def test_weights_obey_the_law_of_their_kind_and_are_zero_on_padding(kind):
    attention = make_attention_of(kind)
    weights = three_steps(kind, attention, torch.randn(3, 9, 8), torch.randn(3, 6, 6))
    total = weights.sum(-1)
    if attention.sums_to_one:
        torch.testing.assert_close(total, torch.ones(3, 6))
    assert (weights >= 0).all() and (total <= 1 + 1e-6).all()
    assert (weights[:, 2:4, 5:] == 0).all() and (weights[:, 4:, 2:] == 0).all()


@EVERY_KIND
def test_rows_of_an_utterance_do_not_see_each_other(kind):
    attention = make_attention_of(kind)
    memory, queries = torch.randn(1, 9, 8), torch.randn(3, 2, 6)
    together = three_steps(kind, attention, memory, queries)
    for row in range(2):
        alone = three_steps(kind, attention, memory, queries[:, row : row + 1])
        torch.testing.assert_close(together[:, row : row + 1], alone)


@EVERY_KIND
def test_an_utterance_is_the_same_alone_and_in_a_batch(kind):
    model = make_model(kind)
    tokens, lengths = torch.randint(1, VOCAB - 1, (3, 4)), torch.tensor([4, 4, 4])
    logits, weights = model.decoder(tokens, lengths, encoded(model))
    for row, steps in enumerate(STEPS.tolist()):
        one = slice(row, row + 1)
        alone, alone_weights = model.decoder(tokens[one], lengths[one], encoded(model, one))
        torch.testing.assert_close(alone[0], logits[row])
        torch.testing.assert_close(alone_weights[0], weights[row, :, :steps])


@EVERY_KIND
@pytest.mark.parametrize(("fast", "cell"), [(True, "gru"), (False, "gru"), (True, "lstm")])
def test_steps_of_a_search_equal_the_loop(kind, fast, cell, monkeypatch):
    if not fast:
        monkeypatch.setattr(native, "usable", lambda *_: False)
    model = make_model(kind, cell)
    memory, tokens = encoded(model), torch.randint(1, VOCAB - 1, (3, 4))
    logits, weights = model.decoder(tokens, torch.tensor([4, 4, 4]), memory)
    session, rows = model.decoder.session(memory), torch.arange(3, dtype=torch.int32)
    state = session.start()
    for u in range(4):
        log_probs, alignment, state = session.step(tokens[:, u].int(), state, rows)
        torch.testing.assert_close(log_probs, logits[:, u].log_softmax(-1))
        torch.testing.assert_close(alignment.over(9), weights[:, u])


@EVERY_KIND
def test_gradients_are_those_of_small_differences(kind):
    model = make_model(kind).double().train()
    states = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    steps, tokens = torch.tensor([5, 3]), torch.tensor([[6, 1, 2], [6, 3, 3]])
    names, parameters = zip(*model.decoder.named_parameters(), strict=True)

    def loss(states, *parameters):
        def run():
            torch.manual_seed(1)  # noise
            memory = model.decoder.precompute(states, steps)
            logits, weights = model.decoder(tokens, torch.tensor([3, 2]), memory)
            return logits[0], logits[1, :2], weights

        with torch.nn.utils.stateless._reparametrize_module(
            model.decoder, dict(zip(names, parameters, strict=True))
        ):
            return run()

    assert torch.autograd.gradcheck(loss, (states, *parameters), fast_mode=True)


@EVERY_KIND
def test_a_beam_of_one_is_greedy(kind):
    """Each character is the best one after those before, by teacher forcing."""
    model = make_model(kind)
    with torch.no_grad():
        for row, (best,) in enumerate(searched(model, DecodeConfig(beam=1, ctc_weight=0.0))):
            read = torch.tensor([[VOCAB - 1, *best.tokens]])
            lengths, memory = torch.tensor([read.shape[1]]), encoded(model, slice(row, row + 1))
            logits, weights = model.decoder(read, lengths, memory)
            found = logits[0, :, 1:].argmax(-1) + 1  # without <blank>
            assert found.tolist()[: len(best.tokens)] == list(best.tokens)
            assert not best.ended or found[-1] == VOCAB - 1
            count = len(best.attention)
            np.testing.assert_allclose(best.attention, weights[0, :count].numpy(), atol=1e-5)


@EVERY_KIND
def test_a_hypothesis_scores_what_it_scores_alone(kind):
    """The beams of other utterances, and other hypotheses, leave it alone."""
    model, config = make_model(kind), DecodeConfig(beam=3, nbest=3, ctc_weight=0.0)
    together = searched(model, replace(config, coverage_weight=0.1))
    for row in range(3):
        one = slice(row, row + 1)
        (alone,) = searched(model, replace(config, coverage_weight=0.1), one)
        assert [h.tokens for h in alone] == [h.tokens for h in together[row]]
        for a, b in zip(alone, together[row], strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-4)


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_heads_have_the_forms_of_their_kind(kind):
    whole, one = make_attention_of(f"2 heads {kind}"), make_attention_of(kind)
    assert (whole.has_hard_form, whole.sums_to_one) == (one.has_hard_form, one.sums_to_one)


def test_heads_are_summed_over_their_own_values_and_shown_as_their_mean():
    values = torch.tensor([[[[1.0], [10.0]], [[100.0], [1000.0]]]])  # (1, M = 2, S = 2, 1)
    alignment = Alignment(torch.tensor([[[0.5, 0.5], [1.0, 0.0]]]))
    assert alignment.mix(values).tolist() == [[5.5 + 100.0]]
    assert alignment.over(2).tolist() == [[0.75, 0.25]]


def test_a_window_equals_the_whole_with_zeros_around_it():
    values = torch.randn(2, 3, 7, 4)
    window = Alignment(torch.rand(4, 3, 2), first=torch.tensor([0, 5, 3, 1]))
    whole = Alignment(window.heads_over(7))
    torch.testing.assert_close(window.mix(values), whole.mix(values))
    assert window.over(7)[1].nonzero().flatten().tolist() == [5, 6]
