"""The decoder's fast loop equals the plain one; a search's step equals both."""

import pytest
import torch

from asr.config import AttentionConfig, DecoderConfig
from asr.model.decoder import AttentionDecoder
from asr.model.fast import native

STEPS, LENGTHS = torch.tensor([9, 5, 3]), torch.tensor([4, 6, 1])
VOCAB, WIDTH = 7, 10

pytestmark = pytest.mark.skipif(native.library() is None, reason="no C++ compiler")


def make(reset, units):
    decoder = AttentionDecoder(
        VOCAB,
        WIDTH,
        DecoderConfig(units=units, embedding=6, dropout=0.0),
        AttentionConfig(units=units + 1, filters=3, filter_width=5),
        reset,
    )
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    padding = torch.arange(9) >= STEPS.unsqueeze(1)
    states = torch.randn(3, 9, WIDTH).masked_fill(padding.unsqueeze(-1), 0.0).requires_grad_()
    return decoder, states, padding, torch.randint(1, VOCAB, (3, 6))


def outputs_and_gradients(decoder, states, padding, tokens, threads=1):
    """Logits, weights, and the gradients of a random direction in both."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        memory = decoder.precompute(states, STEPS, padding)
        logits, weights = decoder(tokens, LENGTHS, memory)
        chance = torch.Generator().manual_seed(1)
        real = (torch.arange(6) < LENGTHS.unsqueeze(1)).unsqueeze(-1)
        loss = (logits * real * torch.randn(logits.shape, generator=chance)).sum()
        loss = loss + (weights * real * torch.randn(weights.shape, generator=chance)).sum()
        # the paper's form has no c
        loss = loss + 0.0 * decoder.cell.c.sum()
        gradients = torch.autograd.grad(loss, [states, *decoder.parameters()])
    finally:
        torch.set_num_threads(before)
    return logits * real, weights, gradients


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("units", [4, 37, 64])
@pytest.mark.parametrize("reset", ["after", "before"])
def test_native_loop_equals_the_plain_one(reset, units, threads, monkeypatch):
    case = make(reset, units)
    logits, weights, gradients = outputs_and_gradients(*case, threads=threads)
    monkeypatch.setattr(native, "usable", lambda *_: False)
    plain_logits, plain_weights, plain_gradients = outputs_and_gradients(*case)
    torch.testing.assert_close(logits, plain_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(weights, plain_weights, atol=1e-6, rtol=1e-4)
    names = ["states", *(name for name, _ in case[0].named_parameters())]
    for name, a, b in zip(names, gradients, plain_gradients, strict=True):
        scale = float(b.abs().max()) + 1e-6
        torch.testing.assert_close(a / scale, b / scale, atol=2e-5, rtol=0, msg=name)


@pytest.mark.parametrize("units", [16, 37])  # read where they lie, and packed
@pytest.mark.parametrize("reset", ["after", "before"])
def test_a_step_for_many_rows_equals_plain_torch(reset, units, monkeypatch):
    """Two rows look at each utterance, and go on from any row of the step before."""
    decoder, states, padding, _ = make(reset, units)
    decoder.eval()
    memory = decoder.precompute(states.detach(), STEPS, padding)
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
        torch.testing.assert_close(new.cell[0], plain_new.cell[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alignment.weights, plain_alignment.weights, atol=1e-6, rtol=1e-4)
        state = new


def test_a_number_that_is_none_is_not_hidden():
    decoder, states, padding, tokens = make("after", 8)
    with torch.no_grad():
        states[1, 2, 3] = torch.nan
        memory = decoder.precompute(states, STEPS, padding)
        logits, _ = decoder(tokens, LENGTHS, memory)
    assert logits[1].isnan().any() and not logits[0].isnan().any()
