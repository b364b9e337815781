"""Names and channels that are spelled in two ways are matched, or reported with counts."""

import json

import pytest

from asr.cli import main
from asr.errors import InputError
from asr.score.names import match_names, match_tracks
from asr.score.readers import open_source, read_pair

STM = "Talk1 A ann 0 5 hello there\nTalk1 B bob 0 5 good bye\n"


@pytest.fixture
def score(tmp_path, capsys):
    def run(ref, hyp, ref_name="ref.txt", hyp_name="hyp.txt"):
        (tmp_path / ref_name).write_text(ref)
        (tmp_path / hyp_name).write_text(hyp)
        code = main(["score", str(tmp_path / ref_name), str(tmp_path / hyp_name), "--json"])
        captured = capsys.readouterr()
        return code, json.loads(captured.out or "{}"), captured.err

    return run


def test_the_closest_spelling_is_matched_where_it_is_the_only_one():
    assert match_names(["a", "A", "Talk"], ["A", "d/talk.WAV"]) == {"A": "A", "d/talk.WAV": "Talk"}
    assert match_names(["talk"], ["d/talk.wav", "e/talk.wav"]) == {}
    assert match_names(["talk.wav", "talk.flac"], ["talk"]) == {}
    assert match_names(["a"], ["a", "A"]) == {"a": "a"}
    assert match_names(["u.1"], ["u.2"]) == {}
    same = {"a/t.wav": "a/t", "b/t.wav": "b/t"}  # the folders tell them apart
    assert match_names(["a/t", "b/t"], ["a/t.wav", "b/t.wav"]) == same


def test_channels_one_and_two_are_a_and_b():
    assert match_tracks([("t", "A"), ("t", "B")], [("T", "1"), ("t", "2")]) == {
        ("T", "1"): ("t", "A"),
        ("t", "2"): ("t", "B"),
    }
    assert match_tracks([("t", "A")], [("t", "2")]) == {}


def test_channels_zero_and_one_are_a_and_b_where_both_are_there():
    refs = [("t", "A"), ("t", "B"), ("u", "A")]
    assert match_tracks(refs, [("t", "0"), ("t", "1"), ("u", "1")]) == {
        ("t", "0"): ("t", "A"),
        ("t", "1"): ("t", "B"),
        ("u", "1"): ("u", "A"),
    }


@pytest.mark.parametrize("first", ["Talk1 A", "Talk1 1", "talk1 a", "audio/TALK1.wav 1"])
def test_a_ctm_with_other_names_scores_the_same(score, first):
    ctm = f"{first} 0.5 0.4 hello\n{first} 1.0 0.4 there\nTalk1 2 1.0 0.4 good\n"
    code, summary, err = score(STM, ctm, "ref.stm", "hyp.ctm")
    assert code == 0 and summary["words"]["deletions"] == 1
    assert "as Talk1" in err


def test_a_ctm_of_other_channels_is_refused(score):
    code, _, err = score(STM, "Talk1 0 0.5 0.4 hello\n", "ref.stm", "hyp.ctm")
    assert code == 2
    assert "Talk1 channel 0, expected Talk1 channel A, Talk1 channel B" in err


def test_a_channel_without_words_is_reported(score):
    code, summary, err = score(STM, "Talk1 A 0.5 0.4 hello\n", "ref.stm", "hyp.ctm")
    assert code == 0 and summary["words"]["deletions"] == 3
    assert "no words for 1 segment, counted as deleted: Talk1 channel B" in err


def test_ignored_segments_without_words_are_not_reported(score):
    stm = "t A ann 0 5 hello\nu A ann 0 5 IGNORE_TIME_SEGMENT_IN_SCORING\n"
    _, _, err = score(stm, "t A 0.5 0.4 hello\n", "ref.stm", "hyp.ctm")
    assert "no words for" not in err


def test_channels_that_the_references_do_not_distinguish_are_reported(score):
    ctm = "u-1 A 0.5 0.4 hello\nu-1 B 0.6 0.4 there\n"
    _, _, err = score("u-1 hello there\n", ctm, "ref.txt", "hyp.ctm")
    assert "several channels in 1 file, for example u-1" in err


@pytest.mark.parametrize("hyp", ["UTT-1 one\nUTT-2 two\n", "utt-1.wav one\nutt-2.wav two\n"])
def test_ids_in_another_spelling_are_matched(score, hyp):
    code, summary, err = score("utt-1 one\nutt-2 two\n", hyp)
    assert (code, summary["wer"]) == (0, 0.0)
    assert "matched 2 ids that the references spell differently" in err


def test_words_of_ids_in_another_spelling_have_the_ids_of_the_references(tmp_path):
    (tmp_path / "ref.txt").write_text("utt-1 one\nutt-2 two\n")
    (tmp_path / "hyp.ctm").write_text("UTT-1 A 0 1 one 0.9\nUTT-2 A 0 1 two 0.8\n")
    _, hyp = read_pair(open_source(tmp_path / "ref.txt"), open_source(tmp_path / "hyp.ctm"))
    assert list(hyp.words) == ["utt-1", "utt-2"]


def test_some_ids_in_another_case_do_not_count_as_missing(score):
    _, summary, _ = score("utt-1 one\nutt-2 two\n", "utt-1 one\nUTT-2 two\n")
    assert (summary["missing"], summary["wer"]) == ([], 0.0)


def test_other_ids_are_not_scored_as_words(tmp_path):
    ref, hyp = tmp_path / "ref.txt", tmp_path / "hyp.txt"
    ref.write_text("utt-1 one\nutt-2 two\n")
    hyp.write_text("rec-1 one\nrec-2 two\n")
    with pytest.raises(InputError, match="all 2 lines seem to start with an utterance id"):
        read_pair(open_source(ref), open_source(hyp))
    assert read_pair(open_source(ref), open_source(hyp), "plain")[0].format == "plain"


def test_ids_on_one_side_alone_are_not_scored_as_words(tmp_path):
    ref, hyp = tmp_path / "ref.txt", tmp_path / "hyp.txt"
    ref.write_text("utt-1 one\nutt-2 two\n")
    hyp.write_text("one\ntwo\n")
    with pytest.raises(InputError, match='for example "utt-1", but none of the ids is in'):
        read_pair(open_source(ref), open_source(hyp))
