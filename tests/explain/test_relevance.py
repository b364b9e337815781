"""Occlusion, with a model whose dependencies are known."""

import numpy as np
import pytest

from asr.config import ExplainConfig
from asr.explain.curves import CHANCE, SHARES, Curve, curves, mean_curves
from asr.explain.explanation import WordEvidence, alternatives, overlap
from asr.explain.relevance import Occluder, relevance, smoothed, stretches
from asr.recognize.transcript import Candidate, Segment, Word
from asr.search.protocol import Forced
from asr.text.tokenizer import CharTokenizer

FRAMES, SPAN = 60, 10  # character i is heard in frames SPAN * i to SPAN * (i + 1)
TOKENIZER = CharTokenizer.from_texts(["ABCD"])
TEXT = TOKENIZER.encode("ABC")


class Heard:
    """Loudness of the frames of each character, (B, 3)."""

    def __init__(self, heard):
        self.heard, self.steps = heard, [FRAMES] * len(heard)

    def select(self, rows):
        return Heard(self.heard[rows])


class KnownModel:
    """Hears character i in its own frames; a C is surer after the right character."""

    eos = TOKENIZER.eos_id

    def encode(self, features):
        return Heard(np.array([each[:30, 0].reshape(3, SPAN).mean(1) for each in features]))

    def teacher_force(self, encoded, texts):
        return [
            Forced(self.log_probs(heard, text), np.zeros((len(text) + 1, FRAMES)))
            for heard, text in zip(encoded.heard, texts, strict=True)
        ]

    def log_probs(self, heard, text):
        return [*(heard - 1.0).tolist()[:2], heard[2] - 1.0 - (text[1] != TEXT[1]), -0.5]


@pytest.fixture
def occluder():
    features = np.zeros((FRAMES, 2), np.float32)
    features[:30] = 1.0
    return Occluder(KnownModel(), features, TEXT)


def test_stretches_cover_every_frame_alike():
    hidden = stretches(100, 25, 16)
    assert hidden.shape == (25, 100)
    assert set(hidden.sum(0)[8:-8]) == {4} and set(hidden.sum(1)[2:-2]) == {16}


@pytest.mark.parametrize(("frames", "count", "length"), [(1, 500, 16), (7, 2, 1), (30, 500, 0.2)])
def test_stretches_leave_no_gap(frames, count, length):
    assert stretches(frames, count, length).any(0).all()


def test_relevance_is_where_the_model_listens(occluder):
    found = relevance(occluder, ExplainConfig(masks=60, stretch_s=0.03), 0.01)
    assert found.sound.shape == (4, FRAMES)
    for i in range(3):
        inside = slice(SPAN * i + 2, SPAN * (i + 1) - 2)
        # three of ten frames are replaced by the average, 0.5
        np.testing.assert_allclose(found.sound[i, inside], 0.15, atol=1e-6)
        assert np.allclose(np.delete(found.sound[i], np.r_[SPAN * i - 3 : SPAN * i + 13]), 0)
    np.testing.assert_allclose(found.sound[3], 0)  # the end depends on nothing
    np.testing.assert_allclose(found.without_sound, [-0.5, -0.5, -0.5, -0.5])


def test_history_is_the_character_before_alone(occluder):
    found = relevance(occluder, ExplainConfig(masks=2), 0.01)
    expected = np.zeros((4, 3))
    expected[2, 1] = 1.0
    np.testing.assert_allclose(found.history, expected, atol=1e-6)


def test_overlap_of_equal_and_of_disjoint_maps():
    maps = np.eye(4).repeat(5, axis=1)  # (4, 20)
    assert overlap(maps, maps) == pytest.approx((1.0, 0.25))
    assert overlap(maps, maps[::-1]) == pytest.approx((0.0, 0.25))
    assert overlap(maps, -maps).share == 0.0


def test_chance_is_weighted_by_the_relevance_of_each_character():
    """Attention to one frame of four, and to all four: (3 x 1/4 + 1 x 1) / 4."""
    attention = np.array([[10.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    relevance = np.array([[3.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    assert overlap(attention, relevance) == (1.0, 0.4375)


def test_smoothing_keeps_the_place():
    maps = np.zeros((1, 50))
    maps[0, 20] = 1.0
    spread = smoothed(maps, 50, 5)[0]
    assert spread.argmax() == 20 and not spread[:15].any() and not spread[26:].any()


def test_words_of_the_beam():
    texts = {"GO HOME NOW": -1.0, "GO ROME": -2.0, "NO HOME RIGHT NOW": -3.0}
    nbest = tuple(Candidate(text, score, {}) for text, score in texts.items())
    segment = Segment(0, 1, "GO HOME NOW", -1.0, {}, (), (), nbest)
    go, home, now = alternatives(segment)
    total = sum(np.exp(list(texts.values())))
    assert [each.text for each in go] == ["NO"]
    assert {each.text for each in home} == {"ROME", "HOME RIGHT"}
    assert now == (("", pytest.approx(np.exp(-2.0) / total)),)


def test_the_most_probable_reading_is_first():
    scores = {"A": -1.0, "B": -3.0, "C": -2.0}
    nbest = tuple(Candidate(text, score, {}) for text, score in scores.items())
    ((first, second),) = alternatives(Segment(0, 1, "A", -1.0, {}, (), (), nbest))
    assert (first.text, second.text) == ("C", "B")


def test_the_shares_of_equal_readings_are_added():
    scores = {"A B": -1.0, "C B": -2.0, "C D": -2.0}
    nbest = tuple(Candidate(text, score, {}) for text, score in scores.items())
    ((found,), _) = alternatives(Segment(0, 1, "A B", -1.0, {}, (), (), nbest))
    assert found == ("C", pytest.approx(2 * np.exp(-2) / (np.exp(-1) + 2 * np.exp(-2))))


@pytest.mark.parametrize(
    ("probability", "without_sound", "share"), [(0.9, 0.09, 0.5), (0.9, 0.9, 0.0), (0.9, 1e-3, 1.0)]
)
def test_share_of_the_sound(probability, without_sound, share):
    word = WordEvidence(Word("A", 0, 1), 0, 1, probability, without_sound, 0.009, ())
    assert word.sound_share == pytest.approx(share)


def test_areas_and_size():
    falls = Curve(1.0 - SHARES, SHARES)
    assert falls.deletion_area == pytest.approx(0.5) and falls.size == 0.5
    early = Curve(np.where(SHARES > 0.1, 0.0, 1.0), np.where(SHARES < 0.1, 0.0, 1.0))
    assert early.deletion_area < 0.2 and early.kept_area > 0.8
    assert early.size == pytest.approx(0.1)
    assert Curve(0 * SHARES, 0 * SHARES).size == 1.0
    mean = mean_curves([{"a": falls}, {"a": early}])["a"]
    assert mean.deletion_area == pytest.approx((falls.deletion_area + early.deletion_area) / 2)


def test_the_size_keeps_half_of_what_all_the_audio_gives():
    assert Curve(0.4 * (1.0 - SHARES), 0.4 * SHARES).size == 0.5  # 0.2 of 0.4


def recognize(encoded):
    """Write the words whose frames are louder than the average."""
    return [" ".join(np.array(["A", "B", "C"])[heard > 0.6]) for heard in encoded.heard]


def test_the_right_order_loses_the_words_first(occluder):
    important = np.where(np.arange(FRAMES) < 30, 1.0, 0.0)
    found = curves(occluder, recognize, "A B C", {"right": important, "wrong": -important}, 5)
    assert list(found) == ["right", "wrong", CHANCE]
    assert all(each.deletion[0] == 1 and each.kept[-1] == 1 for each in found.values())
    areas = [found[name].deletion_area for name in ("right", CHANCE, "wrong")]
    assert areas == sorted(areas) and areas[0] < areas[2]


def test_the_right_order_keeps_the_words_longest(occluder):
    important = np.where(np.arange(FRAMES) < 30, 1.0, 0.0)
    found = curves(occluder, recognize, "A B C", {"right": important, "wrong": -important}, 5)
    assert found["right"].kept_area > found[CHANCE].kept_area > found["wrong"].kept_area
