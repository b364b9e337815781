"""Times of words that the sound of the characters refines, on sounds made by hand."""

import numpy as np
import pytest

from asr.errors import InputError
from asr.recognize.refine import OTHER, CharacterGaussians, InitialAlignment, best_edges
from asr.recognize.transcript import Word
from asr.search.alignment import best_states

SHIFT_S = 0.01
CHANCE = np.random.default_rng(3)
SOUNDS = dict(zip(" ABCDE", CHANCE.normal(0, 2, (6, 8)), strict=True))  # a space is a pause


def speak(text):
    """Features of a text, and the start and the end of each character in frames."""
    lengths = [20, *CHANCE.integers(5, 15, len(text)).tolist(), 20]
    lengths = [25 if c == " " else n for c, n in zip(f" {text} ", lengths, strict=True)]
    frames = np.concatenate(
        [np.tile(SOUNDS[c], (n, 1)) for c, n in zip(f" {text} ", lengths, strict=True)]
    )
    ends = np.cumsum(lengths)
    edges = list(zip(ends[:-2].tolist(), ends[1:-1].tolist(), strict=True))
    return frames + CHANCE.normal(0, 0.7, frames.shape), edges


def words(text, edges, late=0):
    """The words of a text; each boundary moves by up to ``late`` frames."""
    found, at = [], 0
    cuts = [(a + CHANCE.integers(-late, late + 1), b) for a, b in edges]
    for word in text.split():
        own = cuts[at : at + len(word)]
        inner = [a * SHIFT_S for a, _ in own] + [own[-1][1] * SHIFT_S]
        spelled = tuple(zip(word, inner, inner[1:], strict=False))
        found.append(Word(word, inner[0], inner[-1], characters=spelled))
        at += len(word) + 1
    return tuple(found)


def errors(found, truth):
    ours, theirs = ([word for words in each for word in words] for each in (found, truth))
    pairs = zip(ours, theirs, strict=True)
    return np.array([(a.start_s - b.start_s, a.end_s - b.end_s) for a, b in pairs])


@pytest.fixture
def spoken():
    texts = ["AB CDE", "ABBA", "C DAB EE", "BED CAB", "ACE", "DEAD BEE", "CC A", "EBB CDA"] * 2
    made = [speak(text) for text in texts]
    features = [each.astype(np.float32) for each, _ in made]
    edges = [each for _, each in made]
    truth = [words(*each) for each in zip(texts, edges, strict=True)]
    return features, [words(t, e, late=4) for t, e in zip(texts, edges, strict=True)], truth


def refine(utterances, shift_s):
    """Words with better times, by their own sounds."""
    sounds = CharacterGaussians.estimate(utterances, shift_s)
    return [sounds.refine(features, words, shift_s) for features, words in utterances]


def test_times_come_nearer_to_the_sound(spoken):
    features, drafts, truth = spoken
    found = refine(list(zip(features, drafts, strict=True)), SHIFT_S)
    before, after = errors(drafts, truth), errors(found, truth)
    assert np.abs(before).max() > 0.03 and np.abs(after).max() <= 0.02
    assert np.median(np.abs(after)) < 0.005


def test_words_keep_all_but_their_times(spoken):
    features, drafts, _ = spoken
    found = refine(list(zip(features, drafts, strict=True)), SHIFT_S)
    for frames, ours, first in zip(features, found, drafts, strict=True):
        assert [w.text for w in ours] == [w.text for w in first]
        edges = [edge for w in ours for edge in (w.start_s, w.end_s)]
        assert edges == sorted(edges) and edges[0] >= 0 and edges[-1] <= len(frames) * SHIFT_S
        for word in ours:
            assert "".join(c for c, _, _ in word.characters) == word.text
            cuts = [word.start_s, *(end for _, _, end in word.characters)]
            assert cuts == sorted(cuts) and cuts[-1] == word.end_s
            assert word.characters[0][1] == word.start_s


def test_an_offset_of_the_features_changes_no_times(spoken):
    features, drafts, _ = spoken
    plain = refine(list(zip(features, drafts, strict=True)), SHIFT_S)
    moved = refine(list(zip([f + 5.0 for f in features], drafts, strict=True)), SHIFT_S)
    assert np.abs(errors(plain, moved)).max() <= 0.011


def test_what_cannot_be_aligned_keeps_its_times():
    short = np.zeros((2, 8), np.float32)
    crowded = (Word("ABC", 0.0, 0.02, characters=(("A", 0, 0), ("B", 0, 0), ("C", 0, 0.02))),)
    unknown = (Word("A", 0.0, 0.02),)
    utterances = [(short, crowded), (short, unknown), (short, ())]
    assert CharacterGaussians.estimate(utterances, SHIFT_S) is None
    assert CharacterGaussians.estimate([], SHIFT_S) is None
    features, edges = speak("ABC")
    sounds = CharacterGaussians.estimate(
        [(features.astype(np.float32), words("ABC", edges))], SHIFT_S
    )
    found = [sounds.refine(*each, SHIFT_S) for each in utterances]
    assert found == [crowded, unknown, ()]


def test_words_without_a_pause_meet():
    features, edges = speak("AB CD")
    apart = words("AB CD", edges)
    (found,) = refine([(features.astype(np.float32), apart)], SHIFT_S)
    assert found[1].start_s - found[0].end_s == pytest.approx(0.25, abs=0.03)
    features, edges = speak("ABCD")
    together = words("AB CD", [*edges[:2], (edges[2][0], edges[2][0]), *edges[2:]])
    (found,) = refine([(features.astype(np.float32), together)], SHIFT_S)
    assert found[1].start_s == found[0].end_s == pytest.approx(edges[2][0] * SHIFT_S, abs=0.02)


def test_words_with_a_short_gap_meet_in_its_middle():
    one, two = (Word(c, 0.0, 0.0, characters=((c, 0.0, 0.0),)) for c in "AB")
    initial = InitialAlignment([one, two], np.zeros((60, 1)), np.array([2, 3]), np.zeros((2, 2)))
    for gap, ends in ((14, (0.17, 0.17)), (16, (0.10, 0.26))):
        a, b = initial.refined(np.array([[0, 10], [10 + gap, 40]]), SHIFT_S, 0.0)
        assert (a.end_s, b.start_s) == pytest.approx(ends)


def test_edges_are_rounded_to_the_nearest_frame():
    initial = InitialAlignment([], np.zeros((3, 1)), np.array([2, 3]), np.zeros((2, 2)))
    edges = np.array([[0.0, 1.9999999], [1.9999999, 3.0]])
    assert initial.labels(edges).tolist() == [2, 2, 3]


def test_edges_equal_those_of_the_step_by_step_search():
    for _ in range(20):
        frames, U = int(CHANCE.integers(4, 30)), int(CHANCE.integers(1, 5))
        gains = CHANCE.normal(0, 1, (U, frames))
        scores = np.zeros((frames, 2 * U + 1))
        scores[:, 1::2] = gains.T
        states = np.where(np.arange(2 * U + 1) % 2, np.arange(2 * U + 1), 0)
        path = best_states(scores, states)
        expected = [(path == 2 * u + 1).nonzero()[0][[0, -1]] + (0, 1) for u in range(U)]
        assert best_edges(gains).tolist() == np.array(expected).tolist()


def test_a_model_keeps_the_sounds(spoken):
    features, drafts, truth = spoken
    sounds = CharacterGaussians.estimate(list(zip(features, drafts, strict=True)), SHIFT_S)
    again = CharacterGaussians.from_info({"sounds": sounds.to_info()}, 8, "x")
    assert again.characters == "ABCDE" == sounds.characters
    assert again.weights == pytest.approx(sounds.weights, rel=1e-3)
    found = [again.refine(f, w, SHIFT_S) for f, w in zip(features, drafts, strict=True)]
    assert np.median(np.abs(errors(found, truth))) < 0.005
    late = [Word("AB", 7.2, 7.4, characters=(("A", 7.2, 7.3), ("B", 7.3, 7.4)))]
    early = [Word("AB", 0.2, 0.4, characters=(("A", 0.2, 0.3), ("B", 0.3, 0.4)))]
    ((first,), (second,)) = (
        again.refine(features[0], words, SHIFT_S, start_s)
        for words, start_s in ((early, 0.0), (late, 7.0))
    )
    assert second.start_s == pytest.approx(first.start_s + 7)
    assert CharacterGaussians.from_info({}, 8, "x") is None
    assert CharacterGaussians.estimate([(features[0], ())], SHIFT_S) is None


def test_an_unknown_character_sounds_like_the_mean_of_all(spoken):
    features, drafts, _ = spoken
    sounds = CharacterGaussians.estimate(list(zip(features, drafts, strict=True)), SHIFT_S)
    (word,) = sounds.refine(features[0], [Word("Z", 0.3, 0.4, characters=(("Z", 0.3, 0.4),))], 0.01)
    assert 0 <= word.start_s < word.end_s <= len(features[0]) * SHIFT_S


def test_characters_without_a_gaussian_are_no_silence():
    sounds = CharacterGaussians("AB", np.zeros((25, 4)))
    word = Word("Z", 0.0, 0.3, characters=(("Z", 0.0, 0.3),))
    assert sounds._initial(np.zeros((30, 8)), [word], SHIFT_S).symbols.tolist() == [OTHER]


@pytest.mark.parametrize(
    "sounds", ["x", {}, {"characters": "A", "weights": "AAAA"}, {"characters": "A", "weights": 1}]
)
def test_damaged_sounds(sounds):
    with pytest.raises(InputError, match="run `asr calibrate` again"):
        CharacterGaussians.from_info({"sounds": sounds}, 8, "model")
