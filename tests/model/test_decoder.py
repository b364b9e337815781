"""The decoder's fast loop equals the plain one, for every attention and cell; so does a search."""

import pytest
import torch
from compilers import needs_compiler

from asr.config import AttentionConfig, DecoderConfig
from asr.config.kinds import ATTENTIONS
from asr.model.attention.dot import Dot
from asr.model.decoder import AttentionDecoder
from asr.model.fast import lookup, native
from asr.model.fast.kinds import EARLIER_WEIGHTS
from asr.model.session import DecoderSession

STEPS, LENGTHS = torch.tensor([9, 5, 3]), torch.tensor([4, 6, 1])
VOCAB, WIDTH = 7, 10
EVERY_KIND = pytest.mark.parametrize("kind", ATTENTIONS)
FAST_KINDS = pytest.mark.parametrize("kind", EARLIER_WEIGHTS)
EVERY_CELL = pytest.mark.parametrize("cell", ["after", "before", "lstm"])  # a GRU by its reset

pytestmark = needs_compiler


def make(kind, cell, units):
    gru = cell != "lstm"
    decoder = AttentionDecoder(
        VOCAB,
        WIDTH,
        DecoderConfig(cell="gru" if gru else "lstm", units=units, embedding=6, dropout=0.0),
        AttentionConfig(kind=kind, units=units + 1, filters=3, filter_width=5),
        cell if gru else "after",
    )
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    padding = torch.arange(9) >= STEPS.unsqueeze(1)
    states = torch.randn(3, 9, WIDTH).masked_fill(padding.unsqueeze(-1), 0.0).requires_grad_()
    return decoder, states, torch.randint(1, VOCAB, (3, 6))


def outputs_and_gradients(decoder, states, tokens, threads=1):
    """Logits, weights, and the gradients of a random direction in both."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        memory = decoder.precompute(states, STEPS)
        logits, weights = decoder(tokens, LENGTHS, memory)
        chance = torch.Generator().manual_seed(1)
        real = (torch.arange(6) < LENGTHS.unsqueeze(1)).unsqueeze(-1)
        loss = (logits * real * torch.randn(logits.shape, generator=chance)).sum()
        loss = loss + (weights * real * torch.randn(weights.shape, generator=chance)).sum()
        # the paper's form has no c
        loss = loss + 0.0 * sum(parameter.sum() for parameter in decoder.parameters())
        gradients = torch.autograd.grad(loss, [states, *decoder.parameters()])
    finally:
        torch.set_num_threads(before)
    return logits * real, weights, gradients


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("units", [4, 37, 64])
@EVERY_CELL
@FAST_KINDS
def test_native_loop_equals_the_plain_one(kind, cell, units, threads, monkeypatch):
    case = make(kind, cell, units)
    assert lookup.decoder(case[0].attention, case[0].cell, case[1]) is not None
    logits, weights, gradients = outputs_and_gradients(*case, threads=threads)
    monkeypatch.setattr(native, "usable", lambda *_: False)
    plain_logits, plain_weights, plain_gradients = outputs_and_gradients(*case)
    torch.testing.assert_close(logits, plain_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(weights, plain_weights, atol=1e-6, rtol=1e-4)
    names = ["states", *(name for name, _ in case[0].named_parameters())]
    for name, a, b in zip(names, gradients, plain_gradients, strict=True):
        scale = float(b.abs().max()) + 1e-6
        torch.testing.assert_close(a / scale, b / scale, atol=5e-5, rtol=0, msg=name)


@pytest.mark.parametrize("units", [16, 37])  # read where they lie, and packed
@EVERY_CELL
@FAST_KINDS
def test_a_step_for_many_rows_equals_plain_torch(kind, cell, units, monkeypatch):
    """Two rows look at each utterance, and go on from any row of the step before."""
    decoder, states, _ = make(kind, cell, units)
    decoder.eval()
    memory = decoder.precompute(states.detach(), STEPS)
    session = decoder.session(memory, width=2)
    with monkeypatch.context() as patch:
        patch.setattr(native, "usable", lambda *_: False)
        plain_session = decoder.session(memory, width=2)
    state = session.start()
    for _ in range(3):
        tokens = torch.randint(1, VOCAB, (6,), dtype=torch.int32)
        rows = torch.tensor([1, 0, 2, 2, 4, 5], dtype=torch.int32)
        log_probs, alignment, new = session.step(tokens, state, rows)
        plain, plain_alignment, plain_new = plain_session.step(tokens, state, rows)
        torch.testing.assert_close(log_probs, plain, atol=1e-5, rtol=1e-5)
        for ours, right in zip(new.cell, plain_new.cell, strict=True):
            torch.testing.assert_close(ours, right, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alignment.weights, plain_alignment.weights, atol=1e-6, rtol=1e-4)
        state = new


class Unknown(Dot):
    """A kind that asr.model.fast does not know."""


def test_a_kind_without_a_fast_form_runs_the_plain_loop():
    decoder, states, tokens = make("dot", "after", 8)
    memory = decoder.precompute(states, STEPS)
    expected, weights = decoder(tokens, LENGTHS, memory)
    decoder.attention.__class__ = Unknown
    assert lookup.decoder(decoder.attention, decoder.cell, states) is None
    found, same = decoder(tokens, LENGTHS, memory)
    real = (torch.arange(6) < LENGTHS.unsqueeze(1)).unsqueeze(-1)
    torch.testing.assert_close(found * real, expected * real)
    torch.testing.assert_close(same, weights)
    assert type(decoder.eval().session(decoder.precompute(states, STEPS))) is DecoderSession


@EVERY_KIND
def test_nan_is_not_hidden(kind):
    decoder, states, tokens = make(kind, "after", 8)
    with torch.no_grad():
        states[1, 2, 3] = torch.nan
        memory = decoder.precompute(states, STEPS)
        logits, _ = decoder(tokens, LENGTHS, memory)
    assert logits[1].isnan().any() and not logits[0].isnan().any()
