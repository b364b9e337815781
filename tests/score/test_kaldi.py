import pytest

from asr.errors import InputError
from asr.score.kaldi import utterance_lines, write_scores
from asr.score.wer import score

REFS = {"a-1": "ONE TWO THREE FOUR", "a-2": "FIVE", "b-1": "ONE TWO THREE"}
HYPS = {"a-1": "ONE TOO THREE", "a-2": "FIVE", "b-1": "ONE TWO AND THREE"}
SPEAKERS = {"a-1": "a", "a-2": "a", "b-1": "b"}


@pytest.fixture
def decode(tmp_path):
    write_scores(score(REFS, HYPS), tmp_path, utt2spk=SPEAKERS)
    return tmp_path


def details(folder, name):
    return (folder / "scoring_kaldi" / "wer_details" / name).read_text()


def test_compute_wer(decode):
    assert (decode / "wer_0_0.0").read_text() == (
        "%WER 37.50 [ 3 / 8, 1 ins, 1 del, 1 sub ]\n"
        "%SER 66.67 [ 2 / 3 ]\n"
        "Scored 3 sentences, 0 not present in hyp.\n"
    )
    assert (decode / "cer_0_0.0").read_text() == (
        "%WER 26.67 [ 8 / 30, 3 ins, 4 del, 1 sub ]\n"
        "%SER 66.67 [ 2 / 3 ]\n"
        "Scored 3 sentences, 0 not present in hyp.\n"
    )


def test_missing_hypotheses_make_it_partial(tmp_path):
    hyps = {"a-1": REFS["a-1"], "b-1": REFS["b-1"]}
    assert write_scores(score(REFS, hyps), tmp_path).read_text() == (
        "%WER 12.50 [ 1 / 8, 0 ins, 1 del, 0 sub ] [PARTIAL]\n"
        "%SER 33.33 [ 1 / 3 ]\n"
        "Scored 3 sentences, 1 not present in hyp.\n"
    )
    assert write_scores(score(REFS, hyps, mode="present"), tmp_path).read_text() == (
        "%WER 0.00 [ 0 / 7, 0 ins, 0 del, 0 sub ] [PARTIAL]\n"
        "%SER 0.00 [ 0 / 2 ]\n"
        "Scored 2 sentences, 1 not present in hyp.\n"
    )


def test_per_utt(decode):
    assert details(decode, "per_utt") == (
        "a-1 ref  ONE  TWO  THREE  FOUR\n"
        "a-1 hyp  ONE  TOO  THREE   ***\n"
        "a-1 op    C    S     C      D \n"
        "a-1 #csid 2 1 0 1\n"
        "a-2 ref  FIVE\n"
        "a-2 hyp  FIVE\n"
        "a-2 op     C \n"
        "a-2 #csid 1 0 0 0\n"
        "b-1 ref  ONE  TWO  ***  THREE\n"
        "b-1 hyp  ONE  TWO  AND  THREE\n"
        "b-1 op    C    C    I     C  \n"
        "b-1 #csid 3 0 1 0\n"
    )


def test_per_utt_of_nothing():
    assert list(utterance_lines("u", ())) == ["u ref  ", "u hyp  ", "u op   ", "u #csid 0 0 0 0"]


def test_per_spk(decode):
    columns = ("#SENT", "#WORD", "Corr", "Sub", "Ins", "Del", "Err", "S.Err")
    lines = details(decode, "per_spk").splitlines()
    assert lines[0] == "SPEAKER         id  " + " ".join(f"{c:>10}" for c in columns)
    assert lines[1] == (
        "a               raw          2          5          3          1          0"
        "          1          2          1"
    )
    assert lines[2] == (
        "a               sys          2          5      60.00      20.00       0.00"
        "      20.00      40.00      50.00"
    )
    assert " ".join(lines[-2].split()) == "SUM raw 3 8 6 1 1 1 3 2"
    assert " ".join(lines[-1].split()) == "SUM sys 3 8 75.00 12.50 12.50 12.50 37.50 66.67"


def test_columns_of_speakers_with_long_names_are_aligned(tmp_path):
    write_scores(score({"a": "ONE"}, {"a": "ONE"}), tmp_path, utt2spk={"a": "s" * 20})
    lines = details(tmp_path, "per_spk").splitlines()
    assert {line[20:25] for line in lines} == {" id  ", " raw ", " sys "}


def test_a_speaker_without_words_has_no_percentages(tmp_path):
    write_scores(score({"a": "ONE", "b": ""}, {"a": "ONE", "b": ""}), tmp_path)
    rows = [line.split()[:2] for line in details(tmp_path, "per_spk").splitlines()[1:-2]]
    assert rows == [["a", "raw"], ["a", "sys"], ["b", "raw"]]


def test_details_are_sorted_by_utterance_and_speaker(tmp_path):
    write_scores(score({"b": "ONE", "a": "TWO"}, {"b": "ONE", "a": "TOO"}), tmp_path)
    utterances, speakers = (
        [line.split()[0] for line in details(tmp_path, name).splitlines()]
        for name in ("per_utt", "per_spk")
    )
    assert utterances == ["a"] * 4 + ["b"] * 4
    assert speakers == ["SPEAKER", "a", "a", "b", "b", "SUM", "SUM"]


def test_ops_most_frequent_first(decode):
    assert details(decode, "ops") == (
        "correct         ONE      ONE    2\n"
        "correct       THREE    THREE    2\n"
        "correct        FIVE     FIVE    1\n"
        "correct         TWO      TWO    1\n"
        "deletion       FOUR      ***    1\n"
        "insertion       ***      AND    1\n"
        "substitution    TWO      TOO    1\n"
    )


def test_bootstrap_line_of_equal_utterances(tmp_path):
    write_scores(score(["A B"] * 9, ["A X"] * 9), tmp_path)
    assert details(tmp_path, "wer_bootci") == (
        "Set1: %WER 50.00 95% Conf Interval [ 50.00, 50.00 ]\n"
    )


def test_best_tag_keeps_the_details(tmp_path):
    write_scores(score(REFS, REFS), tmp_path, "9_0.5")
    write_scores(score(REFS, HYPS), tmp_path, "10_0.0")
    best = (tmp_path / "scoring_kaldi" / "best_wer").read_text()
    assert best == f"%WER 0.00 [ 0 / 8, 0 ins, 0 del, 0 sub ] {tmp_path}/wer_9_0.5\n"
    assert (details(tmp_path, "lmwt"), details(tmp_path, "wip")) == ("9\n", "0.5\n")
    assert "a-1 #csid 4 0 0 0" in details(tmp_path, "per_utt")
    best = (tmp_path / "scoring_kaldi" / "best_cer").read_text()
    assert best.endswith(f" {tmp_path}/cer_9_0.5\n")


def test_details_of_a_tag_that_is_no_longer_the_best_are_removed(tmp_path, capsys):
    write_scores(score(REFS, REFS), tmp_path, "1_0.0")
    write_scores(score(REFS, HYPS), tmp_path, "2_0.0")
    write_scores(score(REFS, dict.fromkeys(REFS, "X")), tmp_path, "1_0.0")
    assert (tmp_path / "scoring_kaldi" / "best_wer").read_text().endswith("/wer_2_0.0\n")
    assert not (tmp_path / "scoring_kaldi" / "wer_details").exists()
    assert "wer_2_0.0 is the best now; score that decoding again" in capsys.readouterr().err


def test_only_files_of_scores_are_compared(tmp_path):
    (tmp_path / "wer_1_0").mkdir()
    (tmp_path / "wer_of_ann").write_text("mine")
    write_scores(score(REFS, REFS), tmp_path)
    (tmp_path / "wer_10_0.log").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"wer_10_0\.log:1: expected .*; remove the file"):
        write_scores(score(REFS, REFS), tmp_path)


@pytest.mark.parametrize("tag", ["", "7", "7_", "_0.0", "7_0_0", "../7_0", "7 _0"])
def test_a_tag_of_another_form_is_refused(tmp_path, tag):
    with pytest.raises(InputError, match="expected <lm-weight>_<penalty>"):
        write_scores(score(REFS, HYPS), tmp_path, tag)
    assert list(tmp_path.iterdir()) == []


def test_an_utterance_without_a_speaker_is_refused(tmp_path):
    with pytest.raises(InputError, match="utterance b-1 has no speaker"):
        write_scores(score(REFS, HYPS), tmp_path, utt2spk={"a-1": "a", "a-2": "a"})
