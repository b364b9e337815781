"""Monotonic kinds: the expectation is that of all paths; the hard form is hard and linear."""

from itertools import combinations_with_replacement
from pkgutil import resolve_name

import numpy as np
import pytest
import torch

from asr.config import AttentionConfig
from asr.config.kinds import ATTENTIONS
from asr.model.attention import make_attention
from asr.model.attention.monotonic import BLOCK, scan

D, H = 4, 6
KINDS = [kind for kind, path in ATTENTIONS.items() if resolve_name(path).has_hard_form]
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def make(kind, **settings):
    config = AttentionConfig(kind=kind, **{"units": 5, "window": 3, "chunk": 2, **settings})
    attention = make_attention(H, D, config).double().eval()
    for name, parameter in attention.named_parameters():
        torch.nn.init.constant_(parameter, 4.0) if name == "g" else torch.nn.init.normal_(parameter)
    return attention


def run(attention, h, states, hard):
    """Weights (N, U, S) and states after each character, of one utterance (S, D)."""
    keys = attention.precompute(h[None], torch.tensor([len(h)]), hard=hard)
    state, weights, after = attention.start(keys, states.shape[0]), [], []
    for query in states.unbind(1):
        alignment, state = attention.step(query, keys, state)
        weights.append(alignment.heads_over(len(h))[:, 0])
        after.append(state)
    return torch.stack(weights, 1), after


def energies(attention, h, states):
    """(N, U, S)."""
    return attention.energies(states, attention.project(h[None]).expand(len(states), -1, -1))


def draw(S=4, U=3, N=1):
    chance = torch.Generator().manual_seed(2)
    numbers = torch.randn(S + N * U, max(D, H), generator=chance, dtype=torch.float64)
    return numbers[:S, :D], numbers[S:, :H].view(N, U, H)


@torch.no_grad()
def test_expected_alignment_is_the_sum_over_all_paths():
    attention, (h, states) = make("hard_monotonic"), draw()
    (p,) = energies(attention, h, states).sigmoid().numpy()
    expected, total = np.zeros((3, 4)), 0.0
    for path in combinations_with_replacement(range(5), 3):  # 4: it did not stop
        chance, before = 1.0, 0
        for i, stop in enumerate(path):
            chance *= np.prod(1 - p[i, before:stop]) * (p[i, stop] if stop < 4 else 1)
            before = stop
        total += chance
        for i, stop in enumerate(path):
            if stop < 4:
                expected[i, stop] += chance
    assert total == pytest.approx(1)
    found, _ = run(attention, h, states, hard=False)
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_stepwise_alignment_of_one_step_is_the_papers():
    """alpha_i(t) = alpha_{i-1}(t) p(t) + alpha_{i-1}(t - 1) (1 - p(t - 1)); p = 1 at the end."""
    attention, (h, states) = make("stepwise_monotonic", window=1), draw(U=5)
    (stop,) = energies(attention, h, states).sigmoid().numpy()
    stop[:, -1] = 1.0
    alpha = np.eye(4)[0]
    for p, found in zip(stop, run(attention, h, states, hard=False)[0][0], strict=True):
        alpha = alpha * p + np.append(0, (alpha * (1 - p))[:-1])
        np.testing.assert_allclose(found.numpy(), alpha, rtol=0, atol=1e-12)


def picks(kind, e, window):
    """Where each character stops, in plain words: (U, S) energies to U steps, S: nowhere."""
    t, S, found = 0, e.shape[1], []
    for energy in e:
        end, left = min(t + window, S - 1) if kind == "stepwise_monotonic" else S, 1.0
        while t < end and (left := left * (1 - float(energy[t].sigmoid()))) > 0.4:
            t += 1
        found.append(t)
    return found


@torch.no_grad()
@EVERY_KIND
def test_hard_picks_follow_their_definition(kind):
    attention, (h, states) = make(kind), draw(S=60, U=12, N=4)
    attention.r.fill_(-2.5)
    weights, after = run(attention, h, states, hard=True)
    assert torch.equal(weights, run(attention, h, states, hard=True)[0])
    shares, moves = torch.zeros_like(weights), set()
    content = None
    if kind in ("mocha", "milk"):
        keys = attention.content.project(h[None])
        content = attention.content.energies(states.flatten(0, 1)[None], keys, None).view_as(
            weights
        )
    for n, e in enumerate(energies(attention, h, states)):
        expected = picks(kind, e, attention.window if kind == "stepwise_monotonic" else 0)
        assert [int(state.step[n]) for state in after] == expected
        moves |= set(np.diff([0, *expected]).tolist())
        for i, t in enumerate(expected):
            if t < 60:
                first = {"mocha": max(0, t - 1), "milk": 0}.get(kind, t)
                window = slice(first, t + 1)
                shares[n, i, window] = 1.0 if content is None else content[n, i, window].softmax(0)
    torch.testing.assert_close(weights, shares)
    assert len(moves) > 3 and (kind == "stepwise_monotonic" or max(moves) > BLOCK)


@torch.no_grad()
@EVERY_KIND
def test_a_character_reads_no_step_behind_its_own(kind):
    attention, (h, states) = make(kind), draw(S=12, U=4)
    weights, after = run(attention, h, states, hard=True)
    for i, state in enumerate(after):
        poisoned = h.clone()
        poisoned[int(state.step[0]) + 1 :] = torch.nan
        found, _ = run(attention, poisoned, states[:, : i + 1], hard=True)
        torch.testing.assert_close(found, weights[:, : i + 1])


@torch.no_grad()
@EVERY_KIND
def test_hard_steps_look_at_each_step_once_and_at_a_block_a_character(kind, monkeypatch):
    attention, looked = make(kind), []
    plain = attention.energies
    monkeypatch.setattr(
        attention, "energies", lambda q, k: looked.append(k.shape[0] * k.shape[1]) or plain(q, k)
    )
    for S in (50, 100, 200):
        h, states = draw(S, U=S // 5)
        looked.clear()
        run(attention, h, states, hard=True)
        assert sum(looked) <= S + BLOCK * (S // 5)


@torch.no_grad()
@EVERY_KIND
def test_sure_energies_make_the_soft_form_hard(kind):
    attention, (h, states) = make(kind), draw(S=30, U=6, N=3)
    attention.g.fill_(1e5)
    soft, hard = (run(attention, h, states, hard=hard)[0] for hard in (False, True))
    torch.testing.assert_close(soft, hard)


@EVERY_KIND
def test_sure_energies_have_finite_gradients_in_single_precision(kind):
    attention, (h, states) = make(kind).float(), draw(S=300, U=5)
    attention.g.data.fill_(300.0)
    weights, _ = run(attention, h.float(), states.float(), hard=False)
    assert weights.isfinite().all() and weights.sum(2).max() <= 1 + 1e-5
    weights.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in attention.parameters())


@torch.no_grad()
@EVERY_KIND
def test_noise_is_of_training_alone_and_follows_from_the_seed(kind):
    attention, (h, states) = make(kind), draw()

    def weights(training, seed):
        torch.manual_seed(seed)
        return run(attention.train(training), h, states, hard=False)[0]

    assert torch.equal(weights(False, 1), weights(False, 2))
    assert torch.equal(weights(True, 1), weights(True, 1))
    assert not torch.allclose(weights(True, 1), weights(True, 2))


def test_scan_equals_the_loop():
    factor, added = torch.rand(2, 3, 21), torch.rand(2, 3, 21)
    x, expected = torch.zeros(3), []
    for t in range(21):
        x = factor[..., t] * x + added[..., t]
        expected.append(x)
    torch.testing.assert_close(scan(factor, added), torch.stack(expected, -1))
