"""Alignments by hand, and what they say."""

import pytest
import torch

from asr.search.diagnose import alignment_quality, flags, measure, repeats
from asr.search.scorer import Hypothesis

DIAGONAL = torch.eye(10)


def hypothesis(weights, tokens=None, ended=True):
    tokens = tuple(range(2, 2 + len(weights))) if tokens is None else tokens
    return Hypothesis(tokens, 0.0, 0.0, 0.0, weights, ended)


def test_a_diagonal_is_perfect():
    metrics = measure(DIAGONAL)
    assert (metrics.monotonicity, metrics.coverage) == (1.0, 1.0)
    assert metrics.entropy == pytest.approx(0.0, abs=1e-6)
    assert flags(hypothesis(DIAGONAL)) == ()
    assert alignment_quality(DIAGONAL) == pytest.approx(1.0)


def test_uniform_weights_are_no_alignment():
    assert alignment_quality(torch.full((10, 10), 0.1)) == pytest.approx(0.0, abs=1e-4)


def test_running_backwards_is_no_alignment():
    assert alignment_quality(DIAGONAL.flip(0)) == 0.0


def test_jumping_back_is_seen():
    zigzag = DIAGONAL[[0, 5, 1, 6, 2, 7, 3, 8, 4, 9]]
    assert measure(zigzag).monotonicity == pytest.approx(5 / 9)
    assert "jump" in flags(hypothesis(zigzag))


def test_an_end_that_was_never_looked_at():
    assert flags(hypothesis(DIAGONAL[:6])) == ("cut-off",)


def test_hypotheses_without_end():
    assert flags(hypothesis(DIAGONAL, ended=False)) == ("no-end",)


def test_loops():
    assert repeats((1, 2, 3, 4) * 3)
    assert not repeats((1, 2, 3, 4) * 2 + (5, 6, 7, 8))
    assert not repeats((1, 2) * 5)  # "NO NO NO" is speech
