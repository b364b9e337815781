"""Rates by speaker and length, right words by confidence, and what counts as equal."""

import numpy as np
import pytest

from asr.errors import InputError
from asr.score.calibration import ConfidenceBin, calibration_error, confidence_bins
from asr.score.groups import by_confidence, by_length, by_speaker
from asr.score.readers import read_utt2spk
from asr.score.times import compare_times
from asr.score.wer import Counts, score
from asr.text.timed import CtmWord

REFS = {"u1": "a b c d", "u2": "e", "u3": "", "u4": "f g"}
HYPS = {"u1": "a x c d", "u2": "e", "u3": "h", "u4": ""}


def test_by_speaker_the_worst_first():
    groups = by_speaker(score(REFS, HYPS), {"u1": "s1", "u2": "s1", "u4": "s2"})
    assert [(g.name, g.sentences, g.words) for g in groups] == [
        ("(unknown)", 1, Counts(0, 0, 1, 0)),  # insertions and no words: infinite
        ("s2", 1, Counts(0, 0, 0, 2)),
        ("s1", 2, Counts(4, 1, 0, 0)),
    ]


def test_a_line_of_utt2spk_with_three_fields_is_refused(tmp_path):
    (tmp_path / "utt2spk").write_text("u1 ann\nu2 bob jones\n")
    with pytest.raises(InputError, match="utt2spk:2: 3 fields, expected"):
        read_utt2spk(tmp_path / "utt2spk")


def test_by_length_the_shortest_first():
    groups = by_length(score(REFS, HYPS))
    assert [(g.name, g.words.total) for g in groups] == [
        ("0 words", 0),
        ("1 word", 1),
        ("2 to 3 words", 2),
        ("4 to 6 words", 4),
    ]
    assert by_length(score(["a " * 50], ["a"]))[0].name == "41 words and more"


def word(text, confidence):
    return CtmWord("f", "1", 0.0, 0.1, text, confidence)


def test_by_confidence():
    result = score({"u1": "a b c", "u2": "d"}, {"u1": "a x c", "u2": "d"})
    said = {
        "u1": [word("a", 1.0), word("x", 0.25), word("c", 0.95)],
        "u2": [word("d", 0.21)],
    }
    assert by_confidence(result, said) == [
        ConfidenceBin(0.2, 0.3, count=2, right=1, mean=pytest.approx(0.23)),
        ConfidenceBin(0.9, 1.0, count=2, right=2, mean=pytest.approx(0.975)),
    ]
    # |2 * 0.23 - 1| + |2 * 0.975 - 2| words, of four
    assert calibration_error(by_confidence(result, said)) == pytest.approx((0.54 + 0.05) / 4)


def test_calibration_error_by_hand():
    confidences, right = np.array([0.92, 0.98, 0.31, 0.39, 1.0]), np.array([1, 0, 0, 0, 1])
    bins = confidence_bins(confidences, right)
    assert [(b.mean, b.share, b.count) for b in bins] == [
        (pytest.approx(0.35), 0.0, 2),
        (pytest.approx(2.9 / 3), pytest.approx(2 / 3), 3),
    ]
    assert calibration_error(bins) == pytest.approx((0.35 * 2 + 0.3 * 3) / 5)
    assert calibration_error(confidence_bins(np.array([0.5, 0.5]), np.array([0, 1]))) == 0


def test_words_without_confidence_or_with_another_count_are_left_out():
    result = score({"u1": "a b", "u2": "c"}, {"u1": "a b", "u2": "c"})
    said = {"u1": [word("ab", 0.5)], "u2": [word("c", None)]}
    assert by_confidence(result, said) == []
    assert calibration_error([]) == 0.0


def test_case_and_mapped_words_count_as_equal():
    refs, hyps = ["Mr Smith is gonna go"], ["mister smith is going to go"]
    assert score(refs, hyps).words.errors == 4
    assert score(refs, hyps, ignore_case=True).words.errors == 3
    mapping = {("mr",): ("mister",), ("gonna",): ("going", "to")}
    result = score(refs, hyps, ignore_case=True, mapping=mapping)
    assert result.words == Counts(6, 0, 0, 0)


def test_a_map_is_normalised_as_the_texts_are():
    mapping = {("okay",): ("ok",)}
    assert score(["Okay, go"], ["ok go"], "librispeech").words.errors == 1
    assert score(["Okay, go"], ["ok go"], "librispeech", mapping=mapping).words.errors == 0


def test_times_of_words_that_a_normalizer_deletes_are_compared():
    words = {"u": [word("uh", None), word("yes", None)]}
    found = compare_times(words, words, lambda text: text.replace("uh", ""))
    assert (len(found.starts_s), found.missing) == (2, 0)


def test_whispers_normalizer_is_an_option(monkeypatch):
    pytest.importorskip("whisper_normalizer")
    assert score(["It's twenty dollars"], ["it is $20"], "whisper").wer == 0.0


def test_whispers_normalizer_says_what_is_missing(monkeypatch):
    import sys

    from asr.text import normalize

    normalize._whisper.cache_clear()
    monkeypatch.setitem(sys.modules, "whisper_normalizer.english", None)
    with pytest.raises(InputError, match="pip install 'whisper-normalizer"):
        score(["a"], ["a"], "whisper")
    normalize._whisper.cache_clear()
