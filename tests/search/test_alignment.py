"""Forced alignments by hand and compared with torchaudio's."""

import numpy as np
import pytest
import torch
import torchaudio

from asr.search.alignment import attention_positions, ctc_align

A, B = 2, 3


def spikes(symbols, vocab=5, sure=0.9):
    """Return CTC log-probabilities with one likely symbol at each step."""
    probs = np.full((len(symbols), vocab), (1 - sure) / (vocab - 1))
    probs[np.arange(len(symbols)), symbols] = sure
    return np.log(probs)


def test_characters_are_at_their_ctc_spikes():
    found = ctc_align(spikes([0, A, A, 0, 0, B, 0]), (A, B))
    assert found.path.tolist() == [0, A, A, 0, 0, B, 0]
    assert found.positions.tolist() == [1.5, 5.0]
    assert found.log_probs == pytest.approx(np.log([0.9, 0.9]))
    assert found.confident.tolist() == found.path.tolist()
    assert found.score_gap == pytest.approx(0.0)


def test_a_character_has_the_log_probability_of_its_best_step():
    log_probs = spikes([A, A, 0])
    log_probs[1] = np.log([0.1, 0.1, 0.6, 0.1, 0.1])
    assert ctc_align(log_probs, (A,)).log_probs == pytest.approx(np.log([0.9]))


def test_symbols_of_which_ctc_is_confident():
    log_probs = spikes([A, 0, 4, 0, B, 0])
    log_probs[0] = np.log(0.2)
    assert ctc_align(log_probs, (A, B)).confident.tolist() == [0, 0, 4, 0, B, 0]


def test_equal_neighbours_have_a_blank_between_them():
    assert ctc_align(spikes([A, 0, A]), (A, A)).positions.tolist() == [0.0, 2.0]
    assert ctc_align(spikes([A, A]), (A, A)) is None
    assert ctc_align(spikes([A]), (A, B)) is None


def test_a_text_without_characters_is_all_blank():
    found = ctc_align(spikes([0, A, 0]), ())
    assert found.path.tolist() == [0, 0, 0] and found.positions.size == 0
    assert found.score_gap == pytest.approx(
        np.log(0.025 / 0.9)
    )  # the path has no A where CTC has one


def test_a_text_that_ctc_excludes_has_finite_positions():
    log_probs = spikes([0, A, 0, B])
    log_probs[:, A] = -np.inf
    found = ctc_align(log_probs, (A, B))
    assert found.positions.tolist() == [0.0, 0.0] and found.log_probs[0] == -np.inf


def test_the_path_equals_torchaudios():
    for seed in range(20):
        torch.manual_seed(seed)
        log_probs = torch.randn(30, 6).mul(2).log_softmax(-1)
        tokens = torch.randint(1, 6, (1 + seed // 2,))
        expected, scores = torchaudio.functional.forced_align(log_probs[None], tokens[None].int())
        found = ctc_align(log_probs.numpy(), tuple(tokens.tolist()))
        score = log_probs.gather(1, torch.from_numpy(found.path)[:, None]).sum()
        assert float(score) == pytest.approx(float(scores.sum()), abs=1e-4)
        assert found.score_gap == pytest.approx(float(score - log_probs.amax(1).sum()), abs=1e-4)
        assert found.path.tolist() == expected[0].tolist()


def test_attention_positions_never_fall():
    weights = np.array([[0.6, 0.4, 0.0, 0.0], [0.7, 0.0, 0.3, 0.0], [0.0, 0.1, 0.2, 0.7]])
    assert attention_positions(weights).tolist() == [0, 0, 3]
    weights[1] = [0.2, 0.0, 0.8, 0.0]
    assert attention_positions(weights).tolist() == [0, 2, 3]
    weights[2] = [0.9, 0.0, 0.1, 0.0]  # 0.8 * 0.1 is less than 0.2 * 0.9
    assert attention_positions(weights).tolist() == [0, 0, 0]
    assert attention_positions(np.zeros((0, 4))).tolist() == []
