"""The model: padding never leaks, steps equal whole transcripts, four utterances are learnt."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from asr.config import EncoderConfig, LossConfig
from asr.config.layers import Convolutions, Recurrent
from asr.model import loss as losses
from asr.model.attention.energy import uniform
from asr.model.batch import Batch, Count
from asr.model.encoder import stack_neighbours
from asr.model.las import LAS
from asr.model.loss import (
    IGNORE,
    consistency_loss,
    guided_attention_loss,
    inputs_and_targets,
)

MEL, VOCAB = 6, 7


PYRAMID = (Recurrent(reduction=2, units=8), Recurrent(reduction=2, units=8))


@pytest.fixture(params=["pyramid", "convolutions"])
def model(request, tiny_config):
    front = (Convolutions(channels=3),) if request.param == "convolutions" else ()
    encoder = EncoderConfig(layers=(*front, *PYRAMID), dropout=0.0)
    return LAS(replace(tiny_config, encoder=encoder), MEL, VOCAB).eval()


def batch():
    features, frames = torch.randn(3, 41, MEL), torch.tensor([41, 26, 9])
    tokens, lengths = torch.randint(1, VOCAB - 1, (3, 5)), torch.tensor([5, 3, 1])
    return features, frames, tokens, lengths


def loss_of(model, features, frames, tokens, lengths, config):
    given = Batch(features, frames, tokens, lengths)
    return model(given, config, given.count)


def whole(inputs):
    return torch.full((len(inputs),), inputs.shape[1])


def test_neighbours_are_concatenated():
    x = torch.arange(6.0).reshape(1, 3, 2)
    assert stack_neighbours(x, 2).tolist() == [[[0, 1, 2, 3], [4, 5, 0, 0]]]


def test_steps_are_rounded_up():
    assert EncoderConfig(pyramid=(2, 2)).output_steps(9) == 3
    assert EncoderConfig(layers=(Convolutions(), Recurrent())).output_steps(9) == 3


def test_an_utterance_scores_the_same_alone_and_in_a_batch(model):
    features, frames, tokens, _lengths = batch()
    features[1, 26:] = 99.0  # what stands in the padding must not matter
    together = model.encode(features, frames)
    inputs = torch.cat([torch.full((3, 1), model.eos), tokens], dim=1)
    logits, weights = model.decoder(inputs, whole(inputs), together)
    for row in range(3):
        one = slice(row, row + 1)
        alone = model.encode(features[one, : frames[row]], frames[one])
        steps = int(alone.steps)
        assert steps == together.steps[row]
        torch.testing.assert_close(alone.states[0], together.states[row, :steps])
        logits_alone, weights_alone = model.decoder(inputs[one], whole(inputs[one]), alone)
        torch.testing.assert_close(logits_alone[0], logits[row])
        torch.testing.assert_close(weights_alone[0], weights[row, :, :steps])


def test_loss_of_a_batch_is_the_mean_over_characters(model):
    features, frames, tokens, lengths = batch()
    config = LossConfig(ctc_weight=0.0)
    together = loss_of(model, features, frames, tokens, lengths, config).attention
    parts = []
    for row in range(3):
        one = slice(row, row + 1)
        loss = loss_of(
            model, features[one], frames[one], tokens[one, : lengths[row]], lengths[one], config
        )
        parts.append(loss.attention * (lengths[row] + 1))  # <eos> counts
    torch.testing.assert_close(together, sum(parts) / (lengths + 1).sum())


def test_losses_of_parts_add_up_to_that_of_the_whole(model):
    """As on several machines, each with some utterances; padding to the longest costs nothing."""
    features, frames, tokens, lengths = batch()
    weights = LossConfig(guide=0.5)
    model.train()
    whole_batch = Batch(features, frames, tokens, lengths)
    expected = model(whole_batch, weights, whole_batch.count)
    parts = [
        model(
            Batch(features[s], frames[s], tokens[s], lengths[s]), weights, Count(lengths.sum(), 3)
        )
        for s in (slice(0, 2), slice(2, 3))
    ]
    for name in ("total", "attention", "ctc", "accuracy"):
        found = sum(getattr(part, name) for part in parts)
        torch.testing.assert_close(found, getattr(expected, name))


def test_ctc_equals_the_sum_over_all_paths(model):
    """Two characters over few steps: every path that collapses to them, added up."""
    count = 12 if len(model.encoder.layers) == 2 else 48  # three encoder steps
    features, frames = torch.randn(1, count, MEL), torch.tensor([count])
    tokens, lengths = torch.tensor([[2, 3]]), torch.tensor([2])
    log_probs = model.ctc_log_probs(model.encode(features, frames).states)[0].detach()
    total = 0.0
    for path in itertools.product((0, 2, 3), repeat=3):
        collapsed = [c for i, c in enumerate(path) if c and (i == 0 or path[i - 1] != c)]
        if collapsed == [2, 3]:
            total += float(log_probs[range(len(path)), path].sum().exp())
    loss = loss_of(model, features, frames, tokens, lengths, LossConfig(ctc_weight=0.5)).ctc
    assert loss.item() == pytest.approx(-torch.tensor(total).log().item() / 2, rel=1e-4)


def test_consistency_loss_by_hand():
    """One step, two characters: p = (1/2, 1/2), q = (1/4, 3/4); the padded step is left out."""
    log_probs = torch.tensor([[[0.5, 0.5], [0.9, 0.1]], [[0.25, 0.75], [0.2, 0.8]]]).log()
    padding = torch.tensor([[False, True], [False, True]])
    p_to_q = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    q_to_p = 0.25 * math.log(1 / 2) + 0.75 * math.log(3 / 2)
    assert float(consistency_loss(log_probs, padding)) == pytest.approx(p_to_q + q_to_p)


def test_the_other_copy_is_a_constant_of_the_consistency_loss():
    log_probs = torch.randn(2, 1, 3).log_softmax(-1).requires_grad_()
    consistency_loss(log_probs, torch.zeros(2, 1, dtype=torch.bool)).backward()
    assert log_probs.grad.allclose(-log_probs.detach().exp().roll(1, 0))


def test_consistency_adds_nothing_for_equal_copies(model):
    features, frames, tokens, lengths = (torch.cat([v, v]) for v in batch())
    model.train()
    plain = loss_of(model, features, frames, tokens, lengths, LossConfig())
    same = loss_of(model, features, frames, tokens, lengths, LossConfig(consistency=0.2))
    assert float(same.consistency.detach()) == pytest.approx(0.0, abs=1e-6)
    torch.testing.assert_close(same.total, plain.total)
    features[3:, :5] = 0.0  # another mask
    masked = loss_of(model, features, frames, tokens, lengths, LossConfig(consistency=0.2))
    assert float(masked.consistency.detach()) > 0.0
    expected = 0.7 * masked.attention + 0.3 * (masked.ctc + 0.2 * masked.consistency)
    torch.testing.assert_close(masked.total, expected)


def test_every_part_of_the_loss_is_the_sum_over_utterances(model):
    """Two copies of three utterances."""
    features, frames, tokens, lengths = (torch.cat([v, v]) for v in batch())
    features[3:, :5] = 0.0
    model.train()
    weights = LossConfig(consistency=0.2, guide=0.3)
    whole_batch = Batch(features, frames, tokens, lengths)
    count = whole_batch.count
    assert count == Count(int(lengths.sum()), 6)
    found = model(whole_batch, weights, count)
    alone = []
    for row in range(3):
        rows = [row, row + 3]
        one = Batch(features[rows], frames[rows], tokens[rows, : lengths[row]], lengths[rows])
        alone.append(model(one, weights, count))
    for name in ("total", "attention", "ctc", "consistency", "accuracy"):
        parts = torch.stack([getattr(each, name) for each in alone])
        torch.testing.assert_close(getattr(found, name), parts.sum(), msg=name)


def test_stepping_equals_teacher_forcing(model):
    features, frames, tokens, _ = batch()
    memory = model.encode(features, frames)
    inputs = torch.cat([torch.full((3, 1), model.eos), tokens], dim=1)
    logits, weights = model.decoder(inputs, whole(inputs), memory)
    session = model.decoder.session(memory)
    state, rows = session.start(), torch.arange(3, dtype=torch.int32)
    for u in range(inputs.shape[1]):
        log_probs, alignment, state = session.step(inputs[:, u].int(), state, rows)
        torch.testing.assert_close(log_probs, logits[:, u].log_softmax(-1))
        torch.testing.assert_close(alignment.weights[:, 0], weights[:, u])


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_dropout_changes_the_output_in_training_alone(tiny_config, part):
    """Embeddings are 0 with and without dropout, so that what is left is before the readout."""
    config = replace(tiny_config, **{part: replace(getattr(tiny_config, part), dropout=0.5)})
    model, (features, frames, tokens, lengths) = LAS(config, MEL, VOCAB), batch()
    torch.nn.init.zeros_(model.decoder.embedding.weight)
    for training in (True, False):
        model.train(training)
        one, other = (
            model.decoder(tokens, lengths, model.encode(features, frames))[0][0] for _ in range(2)
        )
        assert one.equal(other) != training


def test_weights_sum_to_one_and_are_zero_on_padding(model):
    features, frames, tokens, _ = batch()
    memory = model.encode(features, frames)
    _, weights = model.decoder(tokens, whole(tokens), memory)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 5))
    assert weights.masked_select(memory.padding.unsqueeze(1)).eq(0).all()
    torch.testing.assert_close(uniform(memory.keys).sum(-1), torch.ones(3))


def test_straight_attention_costs_nothing_and_crossed_attention_much():
    """By hand; a shorter utterance in the batch has its own diagonal, and padding costs nothing."""
    straight = torch.eye(4).unsqueeze(0)
    steps, lengths = torch.tensor([4]), torch.tensor([3])
    assert guided_attention_loss(straight, steps, lengths) == 0
    crossed = straight.flip(2)  # distances 3/4, 1/4, 1/4, 3/4 of the utterance
    far, near = (1 - math.exp(-(d**2) / (2 * 0.2**2)) for d in (0.75, 0.25))
    assert float(guided_attention_loss(crossed, steps, lengths)) == pytest.approx(2 * (far + near))
    padded = torch.zeros(2, 4, 4)
    padded[0], padded[1, :2, :2] = crossed[0], torch.eye(2)
    both = guided_attention_loss(padded, torch.tensor([4, 2]), torch.tensor([3, 1]))
    assert float(both) == pytest.approx(2 * far + 2 * near)


def test_guided_attention_moves_to_the_diagonal(model):
    features, frames, tokens, lengths = batch()
    model.train()
    config = LossConfig(ctc_weight=0.0, guide=10.0)

    def stray():
        memory = model.encode(features, frames)
        inputs, _ = inputs_and_targets(tokens, lengths, model.eos)
        weights = model.decoder(inputs, lengths + 1, memory)[1].detach()
        return float(guided_attention_loss(weights, memory.steps, lengths))

    before = stray()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        loss_of(model, features, frames, tokens, lengths, config).total.backward()
        optimizer.step()
    assert stray() < 0.8 * before


def test_memory_select_picks_repeats_and_cuts(model):
    features, frames, *_ = batch()
    memory = model.encode(features, frames)
    picked = memory.select([2, 1, 1])
    assert picked.states.shape[:2] == (3, int(memory.steps[1]))
    assert torch.equal(picked.states[0], memory.states[2, : picked.states.shape[1]])


def test_no_frame_is_an_error(model):
    with pytest.raises(ValueError, match="no frame"):
        model.encode(torch.zeros(1, 4, MEL), torch.tensor([0]))


def test_four_utterances_can_be_learnt(tiny_config):
    torch.manual_seed(1)
    model = LAS(tiny_config, MEL, VOCAB)
    features, frames = torch.randn(4, 32, MEL), torch.full((4,), 32)
    tokens, lengths = torch.randint(1, VOCAB - 1, (4, 3)), torch.full((4,), 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        loss = loss_of(model, features, frames, tokens, lengths, LossConfig(label_smoothing=0.0))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert loss.accuracy == 1.0 and loss.attention < 0.1


def test_label_smoothing_is_that_of_torch():
    logits = torch.randn(2, 3, 5)
    targets = torch.tensor([[1, 4, 2], [3, IGNORE, IGNORE]])
    log_probs = logits.log_softmax(-1)
    for smoothing in (0.0, 0.1):
        expected = cross_entropy(
            logits.flatten(0, 1),
            targets.flatten(),
            label_smoothing=smoothing,
            reduction="sum",
            ignore_index=IGNORE,
        )
        found = losses.cross_entropy(log_probs, targets, smoothing, 4)
        assert float(found) == pytest.approx(float(expected) / 4, rel=1e-6)


def test_labels_are_smoothed_in_training_alone(model):
    inputs = batch()
    for training in (True, False):
        model.train(training)
        plain, smooth = (
            loss_of(model, *inputs, LossConfig(label_smoothing=s)).attention for s in (0.0, 0.5)
        )
        assert plain.equal(smooth) != training
