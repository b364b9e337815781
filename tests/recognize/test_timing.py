"""Times of words by hand: steps of 40 ms, frames of 10 ms."""

import numpy as np
import pytest

from asr.config import FeatureConfig
from asr.recognize.timing import loud_frames, time_words, word_spans

STEP_S, SHIFT_S = 0.04, 0.01


def timed(text, places, sound):
    found = time_words(text, np.array(places, float), STEP_S, np.array(sound), SHIFT_S)
    return [(w.text, round(w.start_s, 3), round(w.end_s, 3)) for w in found]


def test_spans_of_words():
    assert word_spans("AB C") == [(0, 2), (3, 4)]
    assert word_spans("  A  B ") == [(2, 3), (5, 6)]
    assert word_spans("") == word_spans(" ") == []


def test_words_meet_at_the_space_and_end_with_the_sound():
    sound = [False] * 10 + [True] * 75 + [False] * 15
    # spikes at 140, 300, 500, 700 ms; the space at 500
    assert timed("AB C", [3, 7, 12, 17], sound) == [("AB", 0.1, 0.5), ("C", 0.5, 0.85)]


def test_in_a_pause_words_end_and_begin_with_the_sound():
    sound = [True] * 35 + [False] * 30 + [True] * 35
    assert timed("A B", [6, 12, 18], sound) == [("A", 0.16, 0.35), ("B", 0.65, 0.94)]
    short = [True] * 45 + [False] * 10 + [True] * 45  # the closure of a plosive
    assert timed("A B", [6, 12, 18], short) == [("A", 0.16, 0.5), ("B", 0.5, 0.94)]


def test_sound_far_from_the_words_is_left_out():
    sound = np.ones(300, bool)
    ((_, start, end),) = timed("AB", [30, 32], sound)
    assert start == pytest.approx(1.22 - 0.1) and end == pytest.approx(1.3 + 0.2)


def test_characters_share_the_word():
    (word,) = time_words("ABC", np.array([3.0, 5.0, 9.0]), STEP_S, np.ones(50, bool), SHIFT_S)
    names, starts, ends = zip(*word.characters, strict=True)
    assert names == ("A", "B", "C")
    assert starts == pytest.approx((word.start_s, 0.18, 0.30))
    assert ends == pytest.approx((0.18, 0.30, word.end_s))


def test_times_of_characters_count_from_the_start_of_the_segment():
    places, sound = np.array([3.0, 5.0, 9.0]), np.ones(50, bool)
    (here,) = time_words("ABC", places, STEP_S, sound, SHIFT_S)
    (later,) = time_words("ABC", places, STEP_S, sound, SHIFT_S, start_s=20.0)
    starts = [20.0 + start for _, start, _ in here.characters]
    assert [start for _, start, _ in later.characters] == pytest.approx(starts)


@pytest.mark.parametrize("places", [[0, 0, 0, 0, 0], [9, 9, 9, 9, 9], [-1, -1, 0, 9, 9]])
def test_times_are_in_order_and_no_word_is_empty(places):
    for sound in (np.ones(40, bool), np.zeros(40, bool)):
        words = time_words("A B C", np.array(places, float), STEP_S, sound, SHIFT_S)
        edges = [edge for w in words for edge in (w.start_s, w.end_s)]
        assert edges == sorted(edges) and edges[0] >= 0 and edges[-1] <= 0.4
        assert all(w.end_s - w.start_s > SHIFT_S / 2 for w in words)


def test_texts_without_words():
    assert timed("", [], [True] * 5) == timed(" ", [2], [True] * 5) == []


def test_loud_frames():
    features = np.array([[0.0, 0.0]] * 10 + [[5.0, 9.0]] * 10)
    assert loud_frames(features, FeatureConfig(mel_bins=2)).tolist() == [False] * 10 + [True] * 10
    first = loud_frames(features * [1, -1], FeatureConfig(kind="mfcc", ceps=2))
    assert first.tolist() == [False] * 10 + [True] * 10
    assert not loud_frames(np.zeros((4, 2)), FeatureConfig(mel_bins=2)).any()
