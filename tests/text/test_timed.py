"""STM and CTM: fields of the lines, and which words belong to which segment."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from asr.cli import main
from asr.errors import InputError
from asr.score.readers import open_source, read_pair
from asr.text.timed import parse_ctm, parse_stm

STM = """\
;; a comment
a 1 s1 1.0 2.0 <o,f0,male> the cat sat
a 1 s1 4.0 5.0 dog bark
a 1 s2 5.0 6.0 ignore_time_segment_in_scoring
a 1 s2 7.0 8.0 hello there
b A s3 0.0 8.0 what
"""
CTM = """\
a 1 0.1 0.2 early 0.3
a 1 1.1 0.2 the 0.9
a 1 1.3 0.2 cat 0.8
a 1 1.9 0.3 over
a 1 2.9 0.2 between NA
a 1 3.9 0.1 before
a 1 4.1 0.2 dog
a 1 5.5 0.2 ignored
a 1 6.8 0.3 nearly
a 1 7.1 0.2 hello
a 1 9.9 0.2 late
"""
SEGMENTS = {
    "a-1-0000100": ("the cat sat", "early the cat"),
    "a-1-0000400": ("dog bark", "over between before dog"),
    "a-1-0000700": ("hello there", "nearly hello late"),
    "b-A-0000000": ("what", ""),
}


@pytest.fixture
def files(tmp_path):
    def write(stm=STM, ctm=CTM):
        (tmp_path / "ref.stm").write_text(stm)
        (tmp_path / "hyp.ctm").write_text(ctm)
        return tmp_path / "ref.stm", tmp_path / "hyp.ctm"

    return write


def test_words_belong_to_the_first_segment_that_has_not_ended(files):
    ref, hyp = read_pair(*map(open_source, files()))
    assert (ref.format, hyp.format) == ("stm", "ctm")
    assert {name: (ref.texts[name], hyp.texts[name]) for name in ref.texts} == SEGMENTS
    assert ref.speakers["a-1-0000100"] == "s1"
    assert [word.confidence for word in hyp.words["a-1-0000100"]] == [0.3, 0.9, 0.8]


def test_words_of_a_segment_are_in_the_order_of_their_middles(files):
    ctm = "a 1 1.1 0.8 late\na 1 1.2 0.2 early\n"
    _, hyp = read_pair(*map(open_source, files(ctm=ctm)))
    assert hyp.texts["a-1-0000100"] == "early late"


def test_scores_of_timed_files(files, capsys):
    assert main(["score", *map(str, files()), "--tables", "--worst", "0"]) == 0
    out = capsys.readouterr().out
    assert "ref: 4 sentences, 8 words" in out
    assert "s3          100.00      1     0    0    1    0" in out


def test_words_of_other_files_are_reported(files, capsys):
    ref, hyp = files(ctm=CTM + "c 1 0.5 0.2 elsewhere\n")
    assert main(["score", str(ref), str(hyp)]) == 0
    assert "not scored: 1 word of tracks that are not in" in capsys.readouterr().err


def test_a_ctm_can_be_scored_against_texts(tmp_path):
    (tmp_path / "text").write_text("a one two\nb three\n")
    (tmp_path / "hyp.ctm").write_text("a 1 0.5 0.1 two\na 1 0.1 0.1 one\nb 1 0 1 tree\n")
    hyp = read_pair(open_source(tmp_path / "text"), open_source(tmp_path / "hyp.ctm"))[1]
    assert hyp.texts == {"a": "one two", "b": "tree"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a 1 s1 0.0", r"ref.stm:1: 4 fields, expected \"<file> <channel> <speaker>"),
        ("a 1 s1 0.0 2.0 a { b / c }", r"ref.stm:1: alternatives { a / b } are not scored"),
        ("a 1 s1 0.0 2.0 a {b/c}", r"ref.stm:1: alternatives { a / b } are not scored"),
        ("a 1 s1 zero 2.0 x", r'ref.stm:1: start "zero", expected seconds'),
        ("a 1 s1 nan 2.0 x", r'start "nan"'),
        ("a 1 s1 1e308 1e308 x", r'start "1e308", expected seconds, 0 to 1e\+09; fix'),
        ("a 1 s1 3.0 2.0 x", r"end 2 s before start 3 s; fix"),
    ],
)
def test_invalid_stm_lines(line, message):
    with pytest.raises(InputError, match=message):
        parse_stm([line], Path("ref.stm"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a 1 0.0 0.1", r"hyp.ctm:1: 4 fields"),
        ("a 1 0.0 -0.1 x", r'duration "-0.1"'),
        ("a 1 0.0 0.1 x sure", r'confidence "sure", expected a number, or NA'),
        ("a 1 * * <ALT_BEGIN>", r"alternatives are not scored"),
    ],
)
def test_invalid_ctm_lines(line, message):
    with pytest.raises(InputError, match=message):
        parse_ctm([line], Path("hyp.ctm"))


def test_confidences_that_are_no_probabilities_are_left_out(capsys):
    lines = ["a 1 0.0 0.1 x -6.75", "a 1 0.1 0.1 y 0.5"]
    words = parse_ctm(lines, Path("hyp.ctm"))
    assert [(w.word, w.confidence) for w in words] == [("x", None), ("y", None)]
    assert "hyp.ctm: its confidences are not from 0 to 1" in capsys.readouterr().err
    assert parse_ctm(lines[1:], Path("hyp.ctm"))[0].confidence == 0.5


def test_two_segments_cannot_begin_together(files):
    with pytest.raises(InputError, match=r"two segments of b, channel A, begin at 0 s"):
        read_pair(*map(open_source, files(stm=STM + "b A s4 0.0 9.0 why\n")))


def test_segments_as_hypotheses_are_refused(files):
    ref, hyp = files()
    for wrong in ((ref, ref), (hyp, ref)):
        with pytest.raises(InputError, match=r"expected hypotheses in a \.ctm"):
            read_pair(*map(open_source, wrong))


@pytest.mark.skipif(not shutil.which("sctk"), reason="NIST's SCTK is not installed")
def test_sclite_counts_the_same(files, capsys):
    ref, hyp = files()
    command = ["sctk", "sclite", "-r", ref, "stm", "-h", hyp, "ctm", "-o", "rsum", "stdout"]
    theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    total = next(line for line in theirs.splitlines() if "| Sum" in line)
    sentences, words = map(int, total.split("|")[2].split())
    errors, wrong = map(int, total.split("|")[3].split()[-2:])
    read = read_pair(open_source(ref), open_source(hyp))
    from asr.score.wer import score

    ours = score(read[0].texts, read[1].texts)
    assert (len(ours.ids), ours.words.total) == (sentences, words)
    assert (ours.words.errors, ours.wrong_sentences) == (errors, wrong)


def test_two_ctms_with_channels_are_compared_by_channel(tmp_path, capsys):
    """B speaks between the words of A, whose times are 0.4 s later in the second file."""
    both = "".join(f"f B {t}.2 0.1 {word}\n" for t, word in enumerate("xyz"))
    for name, channel, late in (("ref", "A", 0), ("hyp", "1", 4)):
        other = both if channel == "A" else both.replace("B", "2")
        lines = (f"f {channel} {t}.{late} 0.1 {word}\n" for t, word in enumerate("abc"))
        (tmp_path / f"{name}.ctm").write_text("".join(lines) + other)
    ref, hyp = (open_source(tmp_path / name) for name in ("ref.ctm", "hyp.ctm"))
    references, hypotheses = read_pair(ref, hyp)
    assert references.texts == hypotheses.texts == {"f-A": "a b c", "f-B": "x y z"}
    assert main(["score", str(ref.path), str(hyp.path)]) == 0
    assert "channels" not in capsys.readouterr().err


def test_a_ctm_without_channels_is_compared_with_joined_ones(tmp_path):
    """Channels of a file count apart only where both sides have several of them."""
    lines = "f A 0.0 0.1 a\nf B 0.2 0.1 b\ng 1 0.0 0.1 c\n"
    (tmp_path / "ref.ctm").write_text(lines)
    (tmp_path / "hyp.ctm").write_text(lines.replace("f A", "f 1").replace("f B", "f 1"))
    for pair in (("ref.ctm", "hyp.ctm"), ("hyp.ctm", "ref.ctm")):
        ref, hyp = (open_source(tmp_path / name) for name in pair)
        references, hypotheses = read_pair(ref, hyp)
        assert references.texts == hypotheses.texts == {"f": "a b", "g": "c"}


def test_words_that_may_be_left_out_are_reported(files, capsys):
    stm = "f A s 0 5 <o> (%HESITATION) so (uh) we go\n"
    ctm = "f A 1 0.1 so\nf A 2 0.1 we\nf A 3 0.1 go\n"
    ref, hyp = files(stm=stm, ctm=ctm)
    assert main(["score", str(ref), str(hyp), "--json"]) == 0
    assert "2 words in parentheses, for example (%HESITATION)" in capsys.readouterr().err
    glm = ref.with_name("map")
    glm.write_text("(%hesitation) =>\n(uh) =>\n")
    assert main(["score", str(ref), str(hyp), "--json", "--ignore-case", "--map", str(glm)]) == 0
    assert json.loads(capsys.readouterr().out)["wer"] == 0
