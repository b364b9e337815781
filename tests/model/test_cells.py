"""Properties of every cell, and equality with torch's cells."""

import pytest
import torch

from asr.config import AttentionConfig, DecoderConfig
from asr.config.kinds import CELLS
from asr.model.cells import make_cell
from asr.model.decoder import AttentionDecoder

STEPS, VOCAB = torch.tensor([9, 5, 2]), 7
EVERY_CELL = pytest.mark.parametrize("kind", CELLS)


def make_decoder(kind):
    attention = AttentionConfig(units=5, filters=2, filter_width=3)
    config = DecoderConfig(cell=kind, units=6, embedding=3, dropout=0.0)
    decoder = AttentionDecoder(VOCAB, 8, config, attention).eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return decoder


def remembered(decoder):
    padding = torch.arange(9) >= STEPS.unsqueeze(1)
    return decoder.precompute(torch.randn(3, 9, 8).masked_fill(padding[..., None], 0.0), STEPS)


@EVERY_CELL
def test_several_inputs_equal_one_wide_input(kind):
    torch.manual_seed(1)
    two = make_cell(kind, (3, 4), 5, "after")
    torch.manual_seed(1)
    one = make_cell(kind, (7,), 5, "after")
    x, y = torch.randn(2, 3), torch.randn(2, 4)
    together = one.gates(torch.cat([x, y], dim=-1))
    torch.testing.assert_close(two.gates(x, 0) + two.gates(y, 1), together)
    assert together.shape == (2, two.gate_width)


@EVERY_CELL
def test_steps_of_a_search_equal_the_loop(kind):
    decoder = make_decoder(kind)
    memory, tokens = remembered(decoder), torch.randint(1, VOCAB - 1, (3, 4))
    logits, weights = decoder(tokens, torch.tensor([4, 4, 4]), memory)
    session = decoder.session(memory, width=2)
    state, rows = session.start(), torch.arange(6, dtype=torch.int32)
    for u in range(4):
        both = tokens[:, u].repeat_interleave(2).int()
        log_probs, alignment, state = session.step(both, state, rows)
        torch.testing.assert_close(log_probs[::2], logits[:, u].log_softmax(-1))
        torch.testing.assert_close(log_probs[1::2], log_probs[::2])
        torch.testing.assert_close(alignment.over(9)[::2], weights[:, u])


@EVERY_CELL
def test_an_utterance_is_the_same_alone_and_in_a_batch(kind):
    decoder = make_decoder(kind)
    states = torch.randn(3, 9, 8).masked_fill(torch.arange(9)[:, None] >= STEPS[:, None, None], 0.0)
    tokens, lengths = torch.randint(1, VOCAB - 1, (3, 4)), torch.tensor([4, 2, 3])

    def run(row, steps, length):
        memory = decoder.precompute(states[row, :steps], STEPS[row])
        return decoder(tokens[row, :length], lengths[row], memory)[0]

    together = run(slice(0, 3), 9, 4)
    for row, (steps, length) in enumerate(zip(STEPS.tolist(), lengths.tolist(), strict=True)):
        alone = run(slice(row, row + 1), steps, length)
        torch.testing.assert_close(alone[0], together[row, :length])


def values_and_gradients(step, inputs, parameters):
    """Two steps, and gradients of a fixed direction in their outputs."""
    outputs = step(inputs)
    direction = torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).view_as(outputs)
    return outputs, torch.autograd.grad((outputs * direction).sum(), parameters)


def assert_equal(by_ours, by_theirs, x, ours, theirs):
    """Outputs and gradients of our cell and of torch's, whose weights are transposed."""
    found, gradients = values_and_gradients(by_ours, x, [ours.W_0, ours.U, ours.b])
    wanted, expected = values_and_gradients(
        by_theirs, x, [theirs.weight_ih, theirs.weight_hh, theirs.bias_ih]
    )
    torch.testing.assert_close(found, wanted)
    for ours_, theirs_ in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours_.t() if ours_.ndim > 1 else ours_, theirs_)


def test_gru_equals_torchs_cell():
    ours, theirs = make_cell("gru", (3,), 5, "after").double(), torch.nn.GRUCell(3, 5).double()
    with torch.no_grad():
        theirs.weight_ih.copy_(ours.W_0.t())
        theirs.weight_hh.copy_(ours.U.t())
        ours.b.normal_(), ours.c.normal_()
        theirs.bias_ih.copy_(ours.b)
        theirs.bias_hh.zero_()[-5:] = ours.c
    x = torch.randn(2, 4, 3, dtype=torch.float64)

    def by_ours(x):
        state = ours.start(4)
        for each in x:
            state = ours.step(ours.gates(each), state)
        return state[0]

    def by_theirs(x):
        state = x.new_zeros(4, 5)
        for each in x:
            state = theirs(each, state)
        return state

    assert_equal(by_ours, by_theirs, x, ours, theirs)


def test_lstm_equals_torchs_cell():
    ours, theirs = make_cell("lstm", (3,), 5, "after").double(), torch.nn.LSTMCell(3, 5).double()
    with torch.no_grad():
        theirs.weight_ih.copy_(ours.W_0.t())
        theirs.weight_hh.copy_(ours.U.t())
        theirs.bias_ih.copy_(ours.b)
        theirs.bias_hh.zero_()
    x = torch.randn(2, 4, 3, dtype=torch.float64)

    def by_ours(x):
        state = ours.start(4)
        for each in x:
            state = ours.step(ours.gates(each), state)
        return torch.cat(state)

    def by_theirs(x):
        state = x.new_zeros(4, 5), x.new_zeros(4, 5)
        for each in x:
            state = theirs(each, state)
        return torch.cat(state)

    assert_equal(by_ours, by_theirs, x, ours, theirs)
