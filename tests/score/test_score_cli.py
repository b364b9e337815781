import json
from pathlib import Path

import pytest

from asr.cli import main
from asr.errors import InputError
from asr.score.readers import open_source, read_pair, read_sentences
from asr.score.report import side_by_side


@pytest.fixture
def write(tmp_path):
    def write_file(name, *lines):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return str(path)

    return write_file


def run_json(capsys, *args):
    assert main(["score", *args, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("kind", "ref", "hyp"),
    [
        ("text", ["s-1 one two", "s-2 three"], ["s-2 three", "s-1 one too"]),
        ("trn", ["one two (s-1)", "three (s-2)"], ["three (s-2)", "one too (s-1)"]),
        ("plain", ["one two", "three"], ["one too", "there it is"]),
    ],
)
def test_formats_are_distinguished(write, kind, ref, hyp):
    pair = read_pair(open_source(write("ref", *ref)), open_source(write("hyp", *hyp)))
    assert [side.format for side in pair] == [kind, kind]
    assert "one two" in (pair[0].texts if kind == "plain" else pair[0].texts.values())


def test_trn_and_text_can_be_compared(write, capsys):
    ref, hyp = write("ref.trn", "one two (a)", "three (b)"), write("hyp.txt", "a one two", "b")
    summary = run_json(capsys, ref, hyp)
    assert summary["words"]["deletions"] == 1
    assert summary["wer"] == pytest.approx(1 / 3)


def test_ids_that_could_be_words_must_be_explained(write):
    ref = open_source(write("ref", "hello world", "good day"))
    hyp = open_source(write("hyp", "hello word", "good day"))
    with pytest.raises(InputError, match=r"give --format text or --format plain"):
        read_pair(ref, hyp)
    assert read_pair(ref, hyp, "plain")[0].texts == ["hello world", "good day"]
    assert read_pair(ref, hyp, "text")[0].texts == {"hello": "world", "good": "day"}


@pytest.mark.parametrize("lines", [["1 2 3", "4 5 6"], ["3 people came home"]])
def test_numbers_that_could_be_words_must_be_explained(write, lines):
    ref, hyp = (open_source(write(name, *lines)) for name in ("ref", "hyp"))
    with pytest.raises(InputError, match=r"which may be an utterance id or the first word"):
        read_pair(ref, hyp)
    assert read_pair(ref, hyp, "plain")[0].texts == lines
    texts = [open_source(write(name, "1 one two", "2 three")) for name in ("ref", "hyp")]
    assert read_pair(*texts)[0].texts == {"1": "one two", "2": "three"}


def test_references_without_words_are_reported(write, capsys):
    assert main(["score", write("ref", "", " "), write("hyp", "", "")]) == 0
    assert "no reference has a word" in capsys.readouterr().err


def test_plain_files_need_as_many_lines(write, capsys):
    assert main(["score", write("ref", "one", "two"), write("hyp", "one")]) == 2
    assert "ref has 2 lines" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ref", "hyp", "message"),
    [
        (["s-1 a", "s-2 b"], ["s-1 a", "s-1 b"], "hyp:2: utterance s-1 is already on line 1"),
        (["s-1 a", "", "s-2 b"], ["s-1 a"], "ref:2: empty line"),
    ],
)
def test_errors_name_file_and_line(write, capsys, ref, hyp, message):
    assert main(["score", write("ref", *ref), write("hyp", *hyp)]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_text_is_bad_input(tmp_path, capsys):
    assert main(["score", str(tmp_path), str(tmp_path)]) == 2
    assert "without the file text" in capsys.readouterr().err


@pytest.fixture
def folders(write, tmp_path):
    write("test_mini/text", "s1-1 THE CAT SAT", "s1-2 HELLO", "s2-1 A B C D")
    write("test_mini/utt2spk", "s1-1 s1", "s1-2 s1", "s2-1 s2")
    write("decode/text", "s1-1 THE BAT SAT DOWN", "s1-2 HELLO", "s3-1 A")
    return str(tmp_path / "test_mini"), str(tmp_path / "decode")


def test_the_report(folders, capsys):
    assert main(["score", *folders]) == 0
    captured = capsys.readouterr()
    lines = [line.rstrip() for line in captured.out.splitlines()]
    assert lines[0] == "test_mini: 3 sentences, 8 words"
    rows = {line[:20].strip(): line[20:].split() for line in lines[2:7]}
    assert rows["WER"][0] == "75.00" and rows["WER"][-5:] == ["8", "3", "1", "4", "1"]
    assert rows["CER (spaces counted)"][:2] == ["56.52", "23"]
    assert rows["CER (no spaces)"][:2] == ["50.00", "18"]
    assert rows["SER"] == ["66.67", "3", "1"]
    assert "s2-1: 4 errors, 4 words (no hypothesis)" in lines
    at = lines.index("s1-1: 2 errors, 3 words")
    assert lines[at + 1 : at + 4] == [
        "  REF  THE CAT SAT ***",
        "  HYP  THE BAT SAT DOWN",
        "           S       I",
    ]
    assert "no hypothesis for 1 utterance (s2-1); mode all" in captured.err
    assert "not scored: 1 utterance (s3-1)" in captured.err


def test_out_writes_kaldis_files_with_the_speakers_of_the_data_directory(folders, capsys):
    assert main(["score", *folders, "--out", folders[1], "--worst", "0"]) == 0
    scoring = Path(folders[1]) / "scoring_kaldi"
    assert (scoring / "best_wer").read_text() == (
        f"%WER 75.00 [ 6 / 8, 1 ins, 4 del, 1 sub ] [PARTIAL] {folders[1]}/wer_0_0.0\n"
    )
    per_spk = (scoring / "wer_details" / "per_spk").read_text()
    assert [line.split()[0] for line in per_spk.splitlines()[1::2]] == ["s1", "s2", "SUM"]
    assert "Most word errors" not in capsys.readouterr().out


def test_an_interrupted_decoding_is_named(folders, capsys):
    """Its text is that of an earlier one."""
    (Path(folders[1]) / "partial.jsonl").write_text("")
    assert main(["score", *folders]) == 0
    assert f"{folders[1]}: results of an earlier decoding" in capsys.readouterr().err


def test_mode_present_and_strict(folders, capsys):
    assert run_json(capsys, *folders, "--mode", "present")["wer"] == pytest.approx(2 / 4)
    assert main(["score", *folders, "--mode", "strict"]) == 2
    assert "without a hypothesis" in capsys.readouterr().err


def test_json_has_every_rate(folders, capsys):
    summary = run_json(capsys, *folders, "--worst", "1")
    assert summary["set"] == "test_mini"
    assert summary["cer_spaces_counted"] == pytest.approx(13 / 23)
    assert summary["cer_no_spaces"] == pytest.approx(9 / 18)
    assert summary["ser"] == pytest.approx(2 / 3)
    low, high = summary["wer_interval_95"]
    assert low < summary["wer"] < high
    assert summary["worst"][0]["alignment"] == [["A", None], ["B", None], ["C", None], ["D", None]]


def test_json_knows_no_infinity(write, capsys):
    ref, hyp = write("ref", "s-1", "s-2"), write("hyp", "s-1 a", "s-2")
    summary = run_json(capsys, ref, hyp)
    assert summary["wer"] is None and summary["words"]["insertions"] == 1


def test_long_utterances_are_folded_and_wide_characters_line_up():
    pairs = (("大阪", "大"), ("B", "B"), ("CCC", None))
    assert [line.plain for line in side_by_side(pairs, width=7)] == [
        "  REF  大阪 B",
        "  HYP  大   B",
        "       S",
        "  REF  CCC",
        "  HYP  ***",
        "       D",
    ]


def test_errors_are_coloured_by_kind():
    pairs = (("A", "A"), ("B", "X"), ("C", None), (None, "D"))
    ref, hyp, _ = side_by_side(pairs, width=40)
    for line, words in ((ref, ["B", "C", "***"]), (hyp, ["X", "***", "D"])):
        coloured = [(line.plain[s.start : s.end], s.style) for s in line.spans]
        assert coloured == list(zip(words, ["yellow", "red", "green"], strict=True))


def test_control_characters_do_not_reach_the_terminal(write, capsys):
    ref, hyp = write("ref", "s-1 a", "s-2 b"), write("hyp", "s-1 \x1b[2J", "s-2 b")
    assert main(["score", ref, hyp]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_seen_and_unseen_sentences_have_their_own_rates(write, capsys):
    ref = write("ref/text", "u-1 one two", "u-2 three four", "u-3 five six")
    hyp = write("hyp/text", "u-1 one two", "u-2 three for", "u-3 five too")
    train = write("train/text", "t-1 Three, FOUR!", "t-2 one two", "t-3 seven")
    summary = run_json(capsys, ref, hyp, "--seen", train)
    groups = {g["name"]: g for g in summary["groups"]["By training"]}
    assert (groups["seen"]["sentences"], groups["seen"]["wer"]) == (2, 0.25)
    assert (groups["unseen"]["sentences"], groups["unseen"]["wer"]) == (1, 0.5)
    assert main(["score", ref, hyp, "--seen", train, "--no-color"]) == 0
    out = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["seen", "25.00", "4", "3", "1", "0", "0", "2"] in out
    assert ["unseen", "50.00", "2", "1", "1", "0", "0", "1"] in out


def test_several_trainings_in_other_formats(write, capsys):
    ref, hyp = write("ref", "one", "two", "three"), write("hyp", "one", "two", "four")
    plain, trn = write("train.txt", "one"), write("train.trn", "TWO (t-1)")
    summary = run_json(capsys, ref, hyp, "--seen", plain, "--seen", trn, "--format", "plain")
    assert [(g["name"], g["sentences"]) for g in summary["groups"]["By training"]] == [
        ("seen", 2),
        ("unseen", 1),
    ]


def test_the_words_of_a_ctm_are_a_sentence(write):
    ctm = write("train.ctm", "t 1 0 1 one", "t 1 1 1 two", "u 1 0 1 six")
    assert read_sentences(ctm) == (["one two", "six"], "ctm")


def test_composed_letters_are_equal_and_other_apostrophes_are_reported(tmp_path, capsys):
    (tmp_path / "ref").write_text("u-1 CAF\u00c9\nu-2 DON'T\n", encoding="utf-8")
    (tmp_path / "hyp").write_text("u-1 CAFE\u0301\u200b\nu-2 DON\u2019T\n", encoding="utf-8")
    files = [str(tmp_path / name) for name in ("ref", "hyp")]
    assert main(["score", *files, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["words"]["substitutions"] == 1
    assert "U+0027 (APOSTROPHE) in the references and U+2019" in captured.err
    assert main(["score", *files, "--json", "--normalize", "librispeech"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["wer"] == 0 and captured.err == ""


@pytest.mark.parametrize(("hyp", "told"), [("one two", True), ("ONE Two", False)])
def test_words_in_another_case_are_reported(write, capsys, hyp, told):
    ref, hyp = write("ref/text", "u-1 ONE TWO"), write("hyp/text", f"u-1 {hyp}")
    for option in ([], ["--ignore-case"]):
        assert main(["score", ref, hyp, "--json", *option]) == 0
        assert ("upper case" in capsys.readouterr().err) == (told and not option)


def test_missing_hypotheses_of_the_other_system_are_reported(write, capsys):
    ref = write("ref/text", "u-1 one", "u-2 two")
    other = write("other/text", "u-1 one", "u-3 two")
    assert main(["score", ref, ref, "--json", "--against", other]) == 0
    err = capsys.readouterr().err
    assert f"{other}: no hypothesis for 1 utterance (u-2)" in err
    assert f"{other}: not in {ref}, not scored: 1 utterance (u-3)" in err


def test_references_without_segments_are_refused(write, capsys):
    ref, hyp = write("ref.stm", ";; nothing"), write("hyp.ctm", "t 1 0 1 one")
    assert main(["score", ref, hyp]) == 2
    assert "ref.stm: no segments" in capsys.readouterr().err


def test_two_ctms_are_compared_in_words_and_times(write, capsys):
    ref = write("ref.ctm", "u 1 0.0 0.5 ONE", "u 1 0.5 0.5 TWO", "u 1 1.0 0.5 SIX")
    hyp = write("hyp.ctm", "u 1 0.02 0.5 ONE", "u 1 0.62 0.5 TWO", "u 1 1.12 0.4 SEX")
    summary = run_json(capsys, ref, hyp)
    assert summary["formats"] == ["ctm", "ctm"] and summary["words"]["substitutions"] == 1
    assert summary["times"]["both_ends_within_100_ms"] == pytest.approx(1 / 3)
    assert summary["times"]["start_median_s"] == pytest.approx(0.07)
    assert main(["score", ref, hyp]) == 0
    assert "Times: 2 words compared, 1 not found" in capsys.readouterr().out
    text = write("ref", "u ONE TWO SIX")
    assert run_json(capsys, text, hyp)["times"] is None
    lower = write("lower.ctm", "u 1 0.0 0.5 one", "u 1 0.5 0.5 two", "u 1 1.0 0.5 six")
    assert run_json(capsys, lower, ref)["times"]["words"] == 0
    assert run_json(capsys, lower, ref, "--ignore-case")["times"]["words"] == 3
