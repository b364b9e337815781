"""Only the words of files with times are scored."""

import json
from pathlib import Path

import pytest

from asr.cli import main
from asr.commands.chars import gather
from asr.errors import InputError
from asr.lm.texts import read_texts
from asr.recognize.transcript import Segment, Transcript, Word
from asr.recognize.writers import FORMATS, render
from asr.score.readers import open_source, read_pair, read_sentences
from asr.text.subtitles import plain_lines, subtitle_lines

SRT = """\
1
00:00:00,100 --> 00:00:02,000
<i>turn on</i> {\\an8}the light

2
0:00:03,000 --> 0:00:04,000 X1:1
- call 42

people &amp; david

3
00:00:05,000 --> 00:00:06,000
7
"""
VTT = """\
WEBVTT - a title

NOTE 1 note
of two lines

STYLE
::cue { color: red }

first cue
00:00.100 --> 00:02.000 align:start
<v Bob>turn <c.loud>on</c> the <00:00:01.500>light</v>

00:03.000 --> 00:04.000
call 42
people &amp; david

99
00:05.000 --> 00:06.000
7
"""
TSV = "start\tend\ttext\n100\t2000\tturn on the light\n3000\t4000\t call 42 people & david 7\n"
JSON = json.dumps({"text": " turn on the light call 42 people & david 7", "segments": []})
LIST = json.dumps([{"start": 0, "text": "turn on the light"}, {"text": "call 42 people & david 7"}])
LABELS = "0.1\t2.0\tturn on the light\n\\\t100\t200\n3.0\t4.0\tcall 42 people & david 7\n"
NEGATIVE = LABELS.replace("0.1\t", "-1.0e-02\t", 1)
YOUTUBE = """\
WEBVTT
Kind: captions

00:00:00.160 --> 00:00:01.990 align:start position:0%
\x20
turn<00:00:00.480><c> on</c><00:00:00.900><c> the light</c>

00:00:01.990 --> 00:00:02.000 align:start position:0%
turn on the light
\x20

00:00:02.000 --> 00:00:04.000 align:start position:0%
turn on the light
call<00:00:02.480><c> 42 people &amp; david</c><00:00:03.480><c> 7</c>

00:00:04.000 --> 00:00:04.010 align:start position:0%
call 42 people &amp; david 7
\x20
"""
PRINTED = """\
Detected language: English
[00:00.000 --> 00:02.000]  turn on the light
[00:03.000 --> 00:06.000]  call 42 people & david 7
"""
SECONDS = "[0.00s -> 2.00s] turn on the light\n[3.0s -> 6.0s] call 42 people & david 7\n"
WHISPER_CPP = json.dumps({"transcription": json.loads(LIST)})
FILES = {
    "a.srt": SRT,
    "a.vtt": VTT,
    "a.tsv": TSV,
    "a.json": JSON,
    "list.json": LIST,
    "a.labels.txt": LABELS,
    "negative.txt": NEGATIVE,
    "youtube.vtt": YOUTUBE,
    "printed.txt": PRINTED,
    "seconds.txt": SECONDS,
    "cpp.json": WHISPER_CPP,
    "mac.srt": SRT.replace("\n", "\r"),
    "before.srt": SRT.replace("00:00:00,100", "-00:00:00,100"),
    "unnumbered.srt": SRT.removeprefix("1\n"),
    "dash.srt": SRT.replace("- call", "-call"),
    "srt.txt": "\ufeff" + SRT.replace("\n", "\r\n"),
    "vtt.txt": VTT,
    "tsv.txt": TSV,
    "json.txt": JSON,
}
WORDS = "turn on the light call 42 people & david 7"


def text_of(path):
    reference = path.parent / "reference.txt"
    reference.write_text("turn on the light\ncall 42 people & david 7\n")
    ref, hyp = read_pair(open_source(reference), open_source(path))
    assert ref.texts == [WORDS]
    return hyp.texts[0]


@pytest.mark.parametrize("name", FILES)
def test_subtitles_are_their_words(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name].encode())
    assert text_of(path) == WORDS


def test_subtitles_without_numbers_or_empty_lines(tmp_path):
    path = tmp_path / "a.srt"
    path.write_text("00:00:01,000 --> 00:00:02,000\none\n2\n\n00:00:03,000 --> 00:00:04,000\ntwo\n")
    assert text_of(path) == "one 2 two"
    path.write_text("1\n00:00:01,000 --> 00:00:02,000\none\n2\n00:00:03,000 --> 00:00:04,000\ntwo")
    assert text_of(path) == "one two"


@pytest.mark.parametrize("kind", sorted(FORMATS.keys() - {"txt", "ctm", "stm", "trn"}))
def test_what_is_written_here_is_read_as_it_was_meant(tmp_path, kind):
    words = tuple(Word(word, i, i + 0.5) for i, word in enumerate(["7", "x", "&amp;"]))
    segment = Segment(0.0, 4.0, "7 x &amp;", 0.0, {"decoder": 0.0}, (), (), words=words)
    path = tmp_path / f"a{FORMATS[kind][0]}"
    path.write_text(render(Transcript(4.0, (segment,)), kind))
    assert text_of(path).replace("&amp;", "&") == "7 x &"


@pytest.mark.parametrize("name", ["a.srt", "a.vtt"])
def test_subtitles_without_words_are_reported(tmp_path, name, capsys):
    (tmp_path / "ref.txt").write_text("one two\n")
    (tmp_path / name).write_text("")
    assert main(["score", str(tmp_path / "ref.txt"), str(tmp_path / name)]) == 0
    assert f"{name}: no words in it" in capsys.readouterr().err


def test_half_a_surrogate_becomes_a_replacement_character(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"text": "one \\ud83d two \\ud83d\\ude00"}')
    assert text_of(path) == "one \ufffd two \U0001f600"


def test_insertions_are_counted_and_the_format_is_reported(tmp_path, capsys):
    (tmp_path / "ref.srt").write_text(SRT)
    (tmp_path / "hyp.vtt").write_text(VTT.replace("call", "call the"))
    files = [str(tmp_path / "ref.srt"), str(tmp_path / "hyp.vtt")]
    assert main(["score", *files, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["words"]["total"], summary["words"]["insertions"]) == (10, 1)
    assert summary["formats"] == ["srt", "vtt"]
    assert main(["score", *files]) == 0
    assert "hyp.vtt (vtt)" in " ".join(capsys.readouterr().out.split())


def test_one_utterance_with_an_id_can_be_compared(tmp_path):
    (tmp_path / "text").write_text("talk one two\n")
    (tmp_path / "hyp.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\none two\n")
    ref, hyp = read_pair(open_source(tmp_path / "text"), open_source(tmp_path / "hyp.srt"))
    assert ref.texts == hyp.texts == ["one two"]
    (tmp_path / "text").write_text("talk one two\nmore words\n")
    (tmp_path / "ref.txt").write_text("talk-1 one two\ntalk-2 words\n")
    for name in ("text", "ref.txt"):
        with pytest.raises(InputError, match="has 2 utterances"):
            read_pair(open_source(tmp_path / name), open_source(tmp_path / "hyp.srt"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.srt", "one two\n", "no line with times"),
        ("a.ass", "[Script Info]\nTitle: x\n", "ffmpeg -i a.ass a.srt"),
        ("a.sbv", "0:00:01.000,0:00:02.000\none\n", "SubViewer"),
        ("a.lrc", "[00:12.00]one\n", "LRC"),
        ("a.ttml", '<?xml version="1.0"?>\n<tt>', "TTML"),
        ("a.json", '{"text": 7}', 'expected one JSON object with "text"'),
        ("a.json", '{"text"', "expected one JSON object"),
        ("a.json", "[" * 100_000, "expected one JSON object"),
        ("a.jsonl", '{"text": "a"}\n{"text": "b"}\n', "expected one JSON object"),
        ("a.json", "true", "expected one JSON object"),
        ("a.tsv", "start\tend\ttext\n1\t2\n", "a.tsv:2: 2 fields, expected 3"),
        ("a.tsv", "id\ttext\n1\tone\n", "is the header of a table"),
        ("a.csv", "audio,text\na.wav,one\n", "asr data import"),
        ("a.TextGrid", 'name = "phones"\nname = "tones"\n', "tiers phones, tones"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        text_of(tmp_path / name)


def test_labels_of_a_textgrid_may_have_several_lines(tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text('name = "words"\ntext = "say ""hello\nworld"""\ntext = ""\ntext = "a "b" c"\n')
    assert text_of(path) == 'say "hello world" a "b" c'


def test_a_ctm_needs_references_with_names(tmp_path):
    (tmp_path / "ref.txt").write_text(SRT)
    (tmp_path / "hyp.ctm").write_text("talk 1 0 1 one\n")
    with pytest.raises(InputError, match=r"references in a \.stm"):
        read_pair(open_source(tmp_path / "ref.txt"), open_source(tmp_path / "hyp.ctm"))


def test_other_readers_of_plain_text_leave_times_out_too(tmp_path):
    path = tmp_path / "a.srt"
    path.write_text(SRT)
    lines = ["turn on the light", "call 42", "people & david", "7"]
    assert plain_lines(path) == lines
    assert list(gather([str(path)], "auto").values()) == lines
    assert read_texts(str(path), plain=True) == lines
    assert read_sentences(path) == (lines, "srt")


def test_repeated_lines_are_kept_if_words_have_no_times(tmp_path):
    (tmp_path / "a.vtt").write_text(
        "WEBVTT\n\n00:00.0 --> 00:01.0\nyes\n\n00:01.0 --> 00:02.0\nyes\n"
    )
    assert plain_lines(tmp_path / "a.vtt") == ["yes", "yes"]


def test_a_rolling_line_is_left_out_after_an_empty_cue(tmp_path):
    (tmp_path / "a.vtt").write_text(
        "WEBVTT\n\n00:00.0 --> 00:01.0\none<00:00:00.500> two\n\n00:01.0 --> 00:02.0\n\n\n"
        "00:02.0 --> 00:03.0\none two\nthree<00:00:02.500> four\n"
    )
    assert plain_lines(tmp_path / "a.vtt") == ["one two", "three four"]


def test_a_minus_before_a_number_is_no_mark_of_a_speaker(tmp_path):
    (tmp_path / "a.srt").write_text("1\n00:00:00,0 --> 00:00:01,0\n-5 degrees\n")
    assert plain_lines(tmp_path / "a.srt") == ["-5 degrees"]


def test_a_manifest_is_no_transcript(tmp_path):
    # its text is the reference, also beside what a recogniser wrote
    row = {"audio_filepath": "a.wav", "text": "one", "pred_text": "on"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match="manifest"):
        plain_lines(tmp_path / "a.jsonl")


def test_a_line_of_open_tags_is_read_in_linear_time():
    assert subtitle_lines(["0:00 --> 0:01", "<c" * 100_000], "srt", Path("a.srt"))
