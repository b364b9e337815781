"""Alignments by hand, and what they say."""

import pytest
import torch

from asr.search.diagnose import alignment_quality, flags, loops, places
from asr.search.scorer import Hypothesis

DIAGONAL = torch.eye(10)


def hypothesis(weights, tokens=None, ended=True):
    tokens = tuple(range(2, 2 + len(weights))) if tokens is None else tokens
    return Hypothesis(tokens, 0.0, 0.0, 0.0, 0.0, weights, ended)


def test_places_are_means():
    assert places(torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.0, 1.0]])).tolist() == [1.0, 2.0]


def test_a_diagonal_is_perfect():
    assert alignment_quality(DIAGONAL) == pytest.approx(1.0)
    assert flags(hypothesis(DIAGONAL)) == ()


def test_uniform_weights_are_no_alignment():
    assert alignment_quality(torch.full((10, 10), 0.1)) == pytest.approx(0.0, abs=1e-4)


def test_running_backwards_is_no_alignment():
    assert alignment_quality(DIAGONAL.flip(0)) == 0.0


def test_an_end_that_was_never_looked_at():
    assert flags(hypothesis(DIAGONAL[:6])) == ("cut-off",)


def test_hypotheses_without_end():
    assert flags(hypothesis(DIAGONAL, ended=False)) == ("no-end",)


def test_a_loop_repeats_while_attention_stands_still():
    stuck = torch.zeros(12, 12)
    stuck[:, 5] = 1.0
    assert loops((1, 2, 3, 4) * 3, stuck)
    assert not loops((1, 2, 3, 4) * 2 + (5, 6, 7, 8), stuck)


def test_what_was_said_three_times_is_no_loop():
    assert not loops((1, 2, 3, 4) * 3, torch.eye(12))
