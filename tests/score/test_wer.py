import math
import random
import subprocess
import sys

import jiwer
import numpy as np
import pytest

import asr
from asr.errors import InputError
from asr.score.bootstrap import wer_spread
from asr.score.wer import Counts, align, count_symbols, count_words, kaldi_characters, score, total


def edit_distance(ref, hyp):
    """The textbook's table, row by row."""
    row = list(range(len(hyp) + 1))
    for i, left in enumerate(ref, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(hyp, 1):
            best = min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
            diagonal, row[j] = row[j], best
    return row[-1]


def random_texts(generator, n):
    words = ["a", "b", "ab", "ba", "c"]
    return [" ".join(generator.choices(words, k=generator.randint(0, 6))) for _ in range(n)]


@pytest.fixture
def pairs():
    generator = random.Random(1)
    return random_texts(generator, 500), random_texts(generator, 500)


def test_one_word_of_eight_is_missing():
    result = score("the cat sat on the mat all day", "the cat sat on the mat day")
    assert result.words == Counts(correct=7, substitutions=0, insertions=0, deletions=1)
    assert result.wer == 0.125
    assert result.ser == 1.0


def test_rates_are_sums_over_the_corpus_not_means():
    result = score(["a b c d e f g h i", "j"], ["a b c d e f g h i", "x"])
    assert result.wer == 1 / 10  # the mean of the utterances would be 1 / 2
    assert result.ser == 1 / 2


def test_counts_equal_the_edit_distance_of_every_pair(pairs):
    refs, hyps = pairs
    for cut, counts in ((str.split, count_words(refs, hyps)), (list, count_symbols(refs, hyps))):
        for ref, hyp, (correct, sub, ins, dele) in zip(refs, hyps, counts, strict=True):
            assert sub + ins + dele == edit_distance(cut(ref), cut(hyp))
            assert correct + sub + dele == len(cut(ref))
            assert correct + sub + ins == len(cut(hyp))


def test_totals_equal_jiwers(pairs):
    result = score(*pairs)
    words, characters = jiwer.process_words(*pairs), jiwer.process_characters(*pairs)
    for ours, theirs in ((result.words, words), (result.characters, characters)):
        assert ours == Counts(
            theirs.hits, theirs.substitutions, theirs.insertions, theirs.deletions
        )
    assert result.wer == pytest.approx(words.wer)
    assert result.cer == pytest.approx(characters.cer)


def test_words_inserted_into_an_empty_reference_count():
    result = score(["", "a b", ""], ["x y", "a b", ""])
    assert result.words == Counts(correct=2, substitutions=0, insertions=2, deletions=0)
    assert (result.wer, result.ser) == (1.0, 1 / 3)


def test_nothing_to_recognise():
    assert score("", "").wer == 0.0
    assert score("", "a").wer == math.inf
    assert score("", "a").interval == (math.inf, math.inf)


def test_the_two_conventions_of_cer():
    result = score("AB C", "ABC")
    assert result.cer == 1 / 4
    assert total(result.no_space_counts).rate == 0 / 3
    assert result.wer == 1.0


def test_kaldi_keeps_tags_whole():
    assert kaldi_characters("AB C") == ["A", "B", "C"]
    assert kaldi_characters("AB [NOISE] <unk> C") == ["A", "B", "[NOISE]", "<unk>", "C"]
    assert kaldi_characters("AB[NOISE] C") == ["AB[NOISE]", "C"]


def test_alignment_shows_gaps():
    result = score("the cat sat down", "the bat sat right here down")
    assert result.align(0) == (
        ("the", "the"),
        ("cat", "bat"),
        ("sat", "sat"),
        (None, "right"),
        (None, "here"),
        ("down", "down"),
    )


def test_texts_are_aligned_in_blocks_as_at_once(pairs, monkeypatch):
    at_once = list(align(*pairs))
    monkeypatch.setattr("asr.score.wer._BLOCK", 7)
    assert list(align(*pairs)) == at_once


def test_worst_come_first_and_right_ones_never():
    result = score(["a", "b c d", "e", "f g"], ["a", "x y d", "z", "x y"])
    assert result.worst(9) == [3, 1, 2]
    assert result.worst(1) == [3]
    assert result.worst(0) == []


REFS = {"u1": "a b", "u2": "c", "u3": "d"}


def test_missing_hypotheses_are_deleted_left_out_or_refused():
    hyps = {"u3": "d", "u1": "a b"}
    assert score(REFS, hyps).words == Counts(3, 0, 0, 1)
    assert score(REFS, hyps).missing == ("u2",)
    assert score(REFS, hyps, mode="present").words == Counts(3, 0, 0, 0)
    assert score(REFS, hyps, mode="present").ids == ("u1", "u3")
    with pytest.raises(InputError, match=r"1 utterance \(u2\) without a hypothesis"):
        score(REFS, hyps, mode="strict")
    with pytest.raises(InputError, match=r"3 utterances \(u1, u2, u3\) without a hypothesis"):
        score(REFS, {}, mode="present")


def test_unknown_hypotheses_are_reported_and_not_scored():
    result = score(REFS, {**REFS, "u4": "e"})
    assert (result.wer, result.unknown) == (0.0, ("u4",))
    with pytest.raises(InputError, match="found for example v1, expected u1; check"):
        score(REFS, {"v1": "a b"})


def test_ids_of_lists_sort_in_their_order():
    assert score(["a"] * 10, ["a"] * 10).ids[:2] == ("01", "02")


@pytest.mark.parametrize(
    ("refs", "hyps", "options", "message"),
    [
        (["a", "b"], ["a"], {}, "2 references and 1 hypotheses"),
        ({"u": "a"}, ["a"], {}, "one side has utterance ids"),
        ([], [], {}, "nothing to score"),
        ("a", "a", {"mode": "some"}, "strict, present, all"),
        ("a", "a", {"normalizer": "some"}, "none, librispeech"),
    ],
)
def test_what_cannot_be_scored_is_refused(refs, hyps, options, message):
    with pytest.raises(InputError, match=message):
        score(refs, hyps, **options)


def test_the_normalizer_is_applied_to_both_sides_and_named():
    assert score("Well, well!", "WELL well").wer == 1.0
    result = score("Well, well!", "WELL well", normalizer="librispeech")
    assert result.wer == 0.0
    assert "normalizer librispeech" in str(result)


def test_spacing_is_no_error():
    assert score(" a  b\tc ", "a b\u3000c").cer == 0.0


def test_bootstrap_equals_drawing_utterances():
    generator = np.random.default_rng(5)
    words = generator.integers(0, 12, 60)
    errors = generator.integers(0, words + 2)
    draws = generator.integers(0, 60, (10_000, 60))
    rates = errors[draws].sum(axis=1) / words[draws].sum(axis=1)
    mean, half = wer_spread(errors, words)
    assert mean == pytest.approx(rates.mean(), rel=0.01)
    assert half == pytest.approx(1.96 * rates.std(), rel=0.05)


def test_replicates_without_words_have_no_rate():
    """Every fourth replicate draws the utterance without words twice."""
    assert all(map(math.isfinite, wer_spread(np.array([1, 0]), np.array([0, 4]))))


def test_no_interval_begins_below_0():
    assert score(["a b"] * 9 + ["a"], ["a b"] * 9 + ["x"]).interval[0] == 0.0


def test_the_interval_is_reproducible_and_holds_the_rate(pairs):
    result = score(*pairs)
    low, high = result.interval
    assert low < result.wer < high
    assert score(*pairs).interval == (low, high)


def test_equal_utterances_have_an_interval_of_width_0():
    low, high = score(["a b"] * 50, ["a x"] * 50).interval
    assert low == pytest.approx(0.5) and high == pytest.approx(0.5)


def test_the_package_can_be_called_like_the_function():
    assert asr.score("a", "a").wer == 0.0
    assert asr.score("a", "b").wer == 1.0  # asr.score is the package by now
    assert asr.score.wer.score is score


def test_scoring_needs_no_torch():
    code = (
        "import asr.commands.score, asr.score.kaldi, asr.score.readers, asr.score.report, sys\n"
        "asr.score('a', 'b').interval\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("ref", "hyp", "errors"),
    [("turn on", "TURN ON", 0), ("k\u0131z", "kiz", 1), ("Masse", "Ma\u00dfe", 1)],
)
def test_ignoring_case_makes_no_two_words_one(ref, hyp, errors):
    assert score(ref, hyp, ignore_case=True).words.errors == errors
