"""Formats, compared with golden files and read by independent packages."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import srt
import webvtt
from praatio import textgrid

from asr.audio.clip import Clip
from asr.errors import InputError
from asr.recognize.inputs import Input
from asr.recognize.transcript import Segment, Transcript, Word
from asr.recognize.writers import FORMATS, clock, formats_from, outputs, render


def segment(start_s, end_s, text, words=(), **more):
    return Segment(
        start_s, end_s, text, -1.0, {"decoder": -1.0}, more.pop("flags", ()), (1,), words=words
    )


@pytest.fixture
def talk():
    words = (Word("GO", 0.5, 0.7516, 0.98765), Word("ON", 0.8, 1.1, 0.5))
    late = (Word("STOP", 3661.0, 3661.5),)
    return Transcript(
        3662.0,
        (
            segment(0.25, 1.5, "GO ON", words),
            segment(1.5, 1.5, ""),
            segment(3660.5, 3662.0, "STOP", late),
        ),
    )


GOLDEN = {
    "txt": "GO ON\n\nSTOP\n",
    "srt": "1\n00:00:00,250 --> 00:00:01,500\nGO ON\n\n2\n01:01:00,500 --> 01:01:02,000\nSTOP\n",
    "vtt": "WEBVTT\n\n00:00.250 --> 00:01.500\nGO ON\n\n01:01:00.500 --> 01:01:02.000\nSTOP\n",
    "tsv": "start\tend\ttext\n250\t1500\tGO ON\n3660500\t3662000\tSTOP\n",
    "ctm": "talk 1 0.500 0.252 GO 0.9877\ntalk 1 0.800 0.300 ON 0.5000\n"
    "talk 1 3661.000 0.500 STOP\n",
    "stm": "talk 1 unknown 0.250 1.500 GO ON\ntalk 1 unknown 3660.500 3662.000 STOP\n",
    "trn": "GO ON STOP (talk)\n",
    "audacity": "0.500000\t0.752000\tGO\n0.800000\t1.100000\tON\n3661.000000\t3661.500000\tSTOP\n",
}


@pytest.mark.parametrize("kind", GOLDEN)
def test_golden_files(talk, kind):
    assert render(talk, kind, "talk") == GOLDEN[kind]


def test_a_textgrid_by_hand():
    words = (Word("SAY", 0.25, 0.625), Word('"A"', 0.625, 1.0))
    text = render(Transcript(1.0, (segment(0.25, 1.0, 'SAY "A"', words),)), "textgrid")
    assert text.startswith(
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0.000\nxmax = 1.000\n'
        "tiers? <exists>\nsize = 2\nitem []:\n    item [1]:\n"
        '        class = "IntervalTier"\n        name = "words"\n        xmin = 0.000\n'
        "        xmax = 1.000\n        intervals: size = 3\n        intervals [1]:\n"
        '            xmin = 0.000\n            xmax = 0.250\n            text = ""\n'
        "        intervals [2]:\n            xmin = 0.250\n            xmax = 0.625\n"
    )
    assert 'text = "SAY ""A"""' in text


def seconds(delta):
    return delta.total_seconds()


def test_independent_readers_find_what_the_json_has(talk, tmp_path):
    found = json.loads(render(talk, "json"))
    spoken = [(s["start"], s["end"], s["text"]) for s in found["segments"] if s["text"]]
    words = [(w["start"], w["end"], w["word"]) for s in found["segments"] for w in s["words"]]

    read = list(srt.parse(render(talk, "srt")))
    assert [(seconds(c.start), seconds(c.end), c.content) for c in read] == spoken
    assert [c.index for c in read] == [1, 2]

    vtt = webvtt.from_string(render(talk, "vtt"))
    assert [(c.start_in_seconds, c.end_in_seconds, c.text) for c in vtt] == [
        (int(start), int(end), text) for start, end, text in spoken
    ]
    assert [c.start for c in vtt] == ["00:00:00.250", "01:01:00.500"]

    path = tmp_path / "talk.TextGrid"
    path.write_text(render(talk, "textgrid"))
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    for tier, expected in (("words", words), ("segments", spoken)):
        entries = grid.getTier(tier).entries
        assert [(e.start, e.end, e.label) for e in entries] == expected
    assert grid.maxTimestamp == found["duration"]
    whole = textgrid.openTextgrid(str(path), includeEmptyIntervals=True).getTier("words").entries
    assert whole[0].start == 0 and whole[-1].end == found["duration"]
    assert all(a.end == b.start for a, b in pairwise(whole))

    fields = [line.split(" ") for line in render(talk, "ctm", "talk").splitlines()]
    assert [(float(f[2]), round(float(f[2]) + float(f[3]), 3), f[4]) for f in fields] == words
    fields = [line.split(" ", 5) for line in render(talk, "stm", "talk").splitlines()]
    assert [(float(f[3]), float(f[4]), f[5]) for f in fields] == spoken


def test_long_segments_become_subtitles_of_two_lines():
    texts = [f"WORD{n:02d}" for n in range(30)]  # six fit into a line of 42 characters
    words = tuple(Word(text, float(n), n + 0.9) for n, text in enumerate(texts))
    talk = Transcript(30.0, (segment(0.0, 30.0, " ".join(texts), words),))
    read = list(srt.parse(render(talk, "srt")))
    assert [(seconds(c.start), seconds(c.end)) for c in read] == [(0, 12), (12, 24), (24, 30)]
    assert [line.count("WORD") for c in read for line in c.content.split("\n")] == [6] * 5
    assert " ".join(c.content.replace("\n", " ") for c in read) == " ".join(texts)


def test_text_without_spaces_is_cut_between_characters():
    text = "".join(chr(0x4E00 + n) for n in range(100))
    characters = tuple((c, n / 10, (n + 1) / 10) for n, c in enumerate(text))
    words = (Word(text, 0.0, 10.0, characters=characters),)
    read = list(srt.parse(render(Transcript(10.0, (segment(0.0, 10.0, text, words),)), "srt")))
    assert [c.content for c in read] == [f"{text[:42]}\n{text[42:84]}", text[84:]]
    assert [(seconds(c.start), seconds(c.end)) for c in read] == [(0, 8.4), (8.4, 10)]


def test_text_with_the_markup_of_a_format():
    text = "A --> <B>\t& \u00c9"
    words = tuple(Word(word, n / 5, (n + 1) / 5) for n, word in enumerate(text.split()))
    talk = Transcript(2.0, (segment(0.0, 1.0, text, words),))
    (cue,) = srt.parse(render(talk, "srt"))
    assert cue.content == "A -> <B> & \u00c9"
    assert "A -&gt; &lt;B&gt; &amp; \u00c9" in render(talk, "vtt")
    assert render(talk, "tsv").splitlines()[1] == "0\t1000\tA --> <B> & \u00c9"
    assert render(talk, "trn", "my file") == "A --> <B> & \u00c9 (my_file)\n"


def test_silence():
    silence = Transcript(2.0, ())
    empty = {kind: render(silence, kind, "x") for kind in FORMATS if kind != "json"}
    assert empty.pop("vtt") == "WEBVTT\n"
    assert empty.pop("tsv") == "start\tend\ttext\n"
    assert empty.pop("trn") == "(x)\n"
    assert "intervals: size = 1" in empty.pop("textgrid")
    assert set(empty.values()) == {""}


def test_times_that_are_equal_or_overlap_after_rounding(tmp_path):
    words = (Word("A", 0.1, 0.2), Word("B", 0.1999, 0.2001), Word("C", 0.2, 0.2))
    talk = Transcript(0.2, (segment(0.2, 0.2, "A B C", words),))
    (cue,) = srt.parse(render(talk, "srt"))
    assert cue.start < cue.end
    path = tmp_path / "x.TextGrid"
    path.write_text(render(talk, "textgrid"))
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    assert [e.label for e in grid.getTier("words").entries] == ["A", "B", "C"]


def test_clocks():
    assert clock(0, ",") == "00:00:00,000"
    assert clock(359_999_999, ",") == "99:59:59,999"
    assert clock(360_000_000, ".", hours=False) == "100:00:00.000"
    assert clock(59_999, ".", hours=False) == "00:59.999"


def test_names_of_formats(tmp_path):
    assert formats_from("all") == tuple(FORMATS)
    assert formats_from("srt, json,srt") == ("srt", "json")
    with pytest.raises(InputError, match="no format 'doc'"):
        formats_from("srt,doc")
    plan = outputs([audio("a.wav")], tmp_path, ("textgrid", "audacity"))
    assert [p.name for p in plan[Path("a.wav")]] == ["a.TextGrid", "a.labels.txt"]
    with pytest.raises(InputError, match=r"a\.wav and a\.labels\.wav would both write"):
        outputs([audio("a.wav"), audio("a.labels.wav")], tmp_path, ("txt", "audacity"))


def audio(label, data=None):
    return Input(Clip(label), label, Path(label.replace("/", "_") if data else label), data)


def test_inputs_of_one_result_are_named(tmp_path):
    dev, test = Path("dev"), Path("test")
    for others, message in (
        ((audio("a/b", dev), audio("a_b", dev)), "dev: a/b and dev: a_b would both write"),
        ((audio("a", dev), audio("a", test)), "dev: a and test: a would both write"),
        ((audio("a.wav"), audio("a.wav")), r"^a\.wav: named twice; name it once"),
    ):
        with pytest.raises(InputError, match=message):
            outputs(others, tmp_path, ("txt",))


def test_json_has_whispers_keys(talk):
    found = json.loads(render(talk, "json"))
    assert {"text", "segments"} <= set(found)
    keys = {"id", "seek", "start", "end", "text", "tokens", "temperature", "avg_logprob"}
    assert keys | {"compression_ratio", "words"} <= set(found["segments"][0])
    assert {"word", "start", "end", "probability"} <= set(found["segments"][0]["words"][0])
