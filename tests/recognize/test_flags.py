"""Flags of alignments made by hand."""

from dataclasses import replace

import numpy as np
import pytest

from asr.recognize.flags import (
    cut_off,
    flags,
    loops,
    mean_log_prob,
    skips,
    stalls,
)
from asr.recognize.metrics import alignment_quality, mean_positions
from asr.recognize.plausibility import PlausibilityModel, Vocabulary, plausibility
from asr.search.alignment import ctc_align
from asr.search.hypothesis import Hypothesis

DIAGONAL = np.eye(10, dtype=np.float32)


def hypothesis(weights, tokens=None, ended=True):
    tokens = tuple(range(2, 2 + len(weights))) if tokens is None else tokens
    return Hypothesis(tokens, 0.0, {}, weights, ended)


def test_positions_are_means():
    assert mean_positions(np.array([[0.5, 0.0, 0.5], [0.0, 0.0, 1.0]])).tolist() == [1.0, 2.0]
    assert mean_positions(np.array([[0.0, 0.0, 0.5], [0.0, 0.0, 0.0]])).tolist() == [2.0, 0.0]


def test_a_diagonal_is_perfect():
    assert alignment_quality(DIAGONAL) == pytest.approx(1.0)
    assert flags(hypothesis(DIAGONAL)) == ()


def test_uniform_weights_are_no_alignment():
    assert alignment_quality(np.full((10, 10), 0.1)) == pytest.approx(0.0, abs=1e-4)


def test_running_backwards_is_no_alignment():
    assert alignment_quality(DIAGONAL[::-1]) == 0.0


def test_an_unattended_end_is_flagged():
    assert flags(hypothesis(DIAGONAL[:6])) == ("cut-off",)


def test_an_unattended_end_in_silence_is_not_flagged():
    seen, text = DIAGONAL[:2], (2, 3)
    assert cut_off(seen) and not cut_off(DIAGONAL)
    assert not cut_off(seen, ctc_align(spikes([2, 3, *[0] * 8]), text))
    assert cut_off(seen, ctc_align(spikes([2, 3, *[0] * 6, 4, 0]), text))
    assert not cut_off(seen, ctc_align(spikes([2, *[0] * 7, 3, 0]), text))  # attention was early


def test_hypotheses_without_end():
    assert flags(hypothesis(DIAGONAL, ended=False)) == ("no-end",)


def test_a_loop_repeats_while_attention_stands_still():
    stuck = np.zeros((12, 12))
    stuck[:, 5] = 1.0
    assert loops((1, 2, 3, 4) * 3, stuck)
    assert not loops((1, 2, 3, 4) * 2 + (5, 6, 7, 8), stuck)


def test_spoken_repetitions_are_not_a_loop():
    assert not loops((1, 2, 3, 4) * 3, np.eye(12))


def test_a_stall_writes_many_characters_in_one_place():
    along = np.eye(30)
    assert not stalls(along)
    stuck = along.copy()
    stuck[10:] = 0.0
    stuck[10:, 10] = 1.0
    assert stalls(stuck) and not stalls(stuck[:18])  # 20 characters there, and 8
    assert "stall" in flags(hypothesis(stuck))


def spikes(symbols, sure=0.9):
    """CTC log-probabilities with a probable symbol at each step."""
    probs = np.full((len(symbols), 9), (1 - sure) / 8)
    probs[np.arange(len(symbols)), symbols] = sure
    return np.log(probs)


def test_confident_ctc_characters_missing_from_the_text():
    heard = [0, 2, 0, 4, 4, 5, 0, 6, 0, 3, 0]
    assert skips(ctc_align(spikes(heard), (2, 3)))
    assert not skips(ctc_align(spikes(heard), (2, 5, 3)))  # one here and one there
    assert not skips(ctc_align(spikes(heard, sure=0.3), (2, 3)))
    assert not skips(ctc_align(spikes([2, 4, 4, 4, 4, 3]), (2, 3)))  # that is one, and long
    assert "skipped" in flags(hypothesis(DIAGONAL[:2], (2, 3)), ctc_align(spikes(heard), (2, 3)))


def test_an_improbable_text_is_doubtful():
    text, elsewhere = (2, 3), spikes([0, 4, 0, 5, 0])
    for said, alignment, expected in (
        ((-0.1, -0.1, -0.1), ctc_align(spikes([0, 2, 0, 3, 0]), text), -0.1),
        ((-0.1, -1.6, -0.1), None, -0.6),  # one character in doubt: a matter for its word
        ((-0.5, -2.0, -0.8), None, -1.1),
        ((-0.1, -0.1, -0.1), ctc_align(elsewhere, text), -0.1 - 2 * np.log(0.9 * 80) / 3),
    ):
        found = replace(hypothesis(DIAGONAL, text), log_probs=said)
        assert mean_log_prob(found, alignment) == pytest.approx(expected)
        assert ("doubtful" in flags(found, alignment)) == (expected < -1)


def test_plausibility_corrects_the_flags():
    """Four characters, the end and an extra length of four: -18 / 9."""
    text = Hypothesis((3, 4, 3, 4), 0.0, {"decoder": -10.0, "ctc": -8.0}, np.zeros((5, 9)), True)
    assert plausibility(text) == -2.0
    vocabulary = Vocabulary(frozenset({"A", "B"}), oov_rate=np.exp(-9))
    for words, least, before, expected in (
        ("A B", -2.0, ("loop", "stall", "doubtful"), ("loop",)),
        ("A B", -1.9, ("loop", "stall", "doubtful"), ("loop", "stall", "doubtful")),
        ("A B", -1.9, ("loop",), ("loop",)),  # doubted by its own model alone
        ("A C", -3.0, ("doubtful",), ()),  # (-18 - 9) / 9
        ("A C", -2.9, ("stall", "doubtful"), ("stall", "doubtful")),
        ("A C", -2.9, ("stall",), ("stall", "doubtful")),  # and by an unknown word
    ):
        assert PlausibilityModel(least, vocabulary).apply(before, text, words) == expected
    more = PlausibilityModel(-2.0, vocabulary).with_words(frozenset({"C"}))
    assert more.apply(("doubtful",), text, "A C") == ()


def test_unknown_words_have_the_probability_of_the_dev_set():
    words = frozenset({"A", "B"})
    found = Vocabulary.from_texts(words, ["A B A", "B C"])
    assert found.oov_rate == pytest.approx((1 + 1) / (5 + 2))
    assert found.log_prob("A  C D") == pytest.approx(2 * np.log(2 / 7))
    assert found.log_prob("B A") == found.log_prob("") == 0
    assert Vocabulary.from_texts(None, ["A"]).log_prob("X Y") == 0  # an old model: all are known


def test_an_empty_text_is_doubtful_only_if_ctc_is_not_blank():
    nothing = replace(hypothesis(DIAGONAL[:0], ()), log_probs=(-9.0,))
    assert flags(nothing, ctc_align(spikes([0] * 10), ())) == ()
    assert flags(nothing, ctc_align(spikes([0, 2] * 5), ())) == ("skipped", "doubtful")
