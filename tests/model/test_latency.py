"""The cost of latency, against a plain loop written from its paper, in double precision."""

import numpy as np
import pytest
import torch

from asr.config import AttentionConfig, LossConfig, ModelConfig, TrainConfig
from asr.config.field import ConflictError
from asr.model.attention import make_attention
from asr.model.batch import Batch
from asr.model.las import LAS
from asr.model.loss import latency_loss

KINDS = ["hard_monotonic", "stepwise_monotonic", "mocha", "milk"]
STEPS, LENGTHS = torch.tensor([9, 5]), torch.tensor([3, 2])


def average_lagging(g, S):
    """Sum of the lags of one utterance: delays g of U characters in S steps."""
    gamma, before, total = len(g) / S, None, 0.0
    for i, delay in enumerate(g):
        before = delay if before is None else max(delay, before + 1 / gamma)
        total += before - i / gamma
    return total


def expected_delay(alpha, S):
    """Steps that are read before one character stops; all of them if it does not stop."""
    return sum((t + 1) * a for t, a in enumerate(alpha)) + S * (1 - sum(alpha))


def test_the_loss_equals_the_loop():
    delays = torch.rand(2, 2, 4, dtype=torch.float64) * 9
    expected = sum(
        average_lagging(head[: LENGTHS[row] + 1].tolist(), int(STEPS[row])) / 2
        for row in range(2)
        for head in delays[row]
    )
    assert float(latency_loss(delays, STEPS, LENGTHS).sum()) == pytest.approx(expected, abs=1e-9)


def test_by_hand():
    """Four characters in eight steps: an even pace of two, read at once, and in a hurry."""
    S, U = torch.tensor([8]), torch.tensor([3])
    even, late = torch.tensor([[[2.0, 4, 6, 8]]]), torch.full((1, 1, 4), 8.0)
    assert latency_loss(even, S, U) == 4 * 2
    assert latency_loss(late, S, U) == 4 * 8
    assert latency_loss(torch.ones(1, 1, 4), S, U) == 4 * 1


@pytest.mark.parametrize("kind", [*KINDS, "2 heads milk"])
def test_delays_and_their_gradient(kind):
    heads = 2 if " " in kind else 1
    config = AttentionConfig(kind=kind.split()[-1], units=4, window=2, chunk=2, heads=heads)
    attention = make_attention(6, 8, config).double().eval()
    memory = torch.randn(2, 9, 8, dtype=torch.float64, requires_grad=True)
    queries = torch.randn(4, 2, 6, dtype=torch.float64)

    def states_of(memory):
        keys = attention.precompute(memory, STEPS)
        state, found = attention.start(keys, 2), []
        for query in queries:
            state = attention.step(query, keys, state)[1]
            found.append(state)
        return keys, found

    keys, states = states_of(memory)
    delays = attention.delays(keys, states)  # (B, M, L)
    assert delays.shape == (2, heads, 4)
    for row, S in enumerate(STEPS.tolist()):
        for head in range(heads):
            each = [state[head] if heads > 1 else state for state in states]
            expected = [expected_delay(state.alpha[row].tolist(), S) for state in each]
            np.testing.assert_allclose(delays[row, head].tolist(), expected, atol=1e-9)

    def loss(memory):
        return latency_loss(attention.delays(*states_of(memory)), STEPS, LENGTHS)

    assert torch.autograd.gradcheck(loss, (memory,), fast_mode=True)


def test_training_with_it_writes_earlier():
    torch.manual_seed(0)
    config = ModelConfig(attention=AttentionConfig(kind="milk", units=8, noise=0.0))
    model, weights = LAS(config, 6, 7).train(), LossConfig(ctc_weight=0.0, latency=1.0)
    features, tokens = torch.randn(2, 72, 6), torch.tensor([[1, 2, 3], [2, 1, 0]])
    batch = Batch(features, torch.tensor([72, 40]), tokens, LENGTHS)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    costs = []
    for _ in range(8):
        with_it, without = (
            model(batch, each, batch.count) for each in (weights, LossConfig(ctc_weight=0.0))
        )
        costs.append((with_it.total - with_it.attention).item())
        assert torch.equal(without.total, without.attention)
        optimizer.zero_grad()
        with_it.total.backward()
        optimizer.step()
    assert costs[-1] < costs[0]


def test_a_kind_that_does_not_stop_is_refused():
    loss = LossConfig(latency=0.1)
    with pytest.raises(ConflictError, match="milk"):
        TrainConfig(loss=loss)
    TrainConfig(loss=loss, model=ModelConfig(attention=AttentionConfig(kind="milk")))
