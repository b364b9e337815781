import pytest

from asr.corpus.validate import FILES, RULES, fix_remedy, validate, warnings
from asr.errors import InputError


def told(path, **options) -> list[str]:
    """Problems with the directory's path cut off: ``file:line: message``."""
    return [str(problem).removeprefix(f"{path}/") for problem in validate(path, **options)]


def test_valid_directories(make, segmented):
    assert told(make()) == []
    assert told(segmented) == []


# name: (files that differ from a valid directory, how each problem begins)
CASES = {
    "one field": (
        {"utt2spk": "s1-a s1\ns1-b\ns2-a s2\n", "spk2utt": "s1 s1-a\ns2 s2-a\n"},
        ['utt2spk:2: s1-b: 1 field, expected "<utt-id> <spk-id>"; add the speaker'],
    ),
    "white space that is no space": (
        {"utt2spk": "s1-a \u2028\ns1-b s1\ns2-a s2\n", "spk2utt": "s1 s1-b\ns2 s2-a\n"},
        ["utt2spk:1: U+2028 (LINE SEPARATOR) in column 6", "utt2spk:1: s1-a: 1 field"],
    ),
    "three fields": (
        {"utt2spk": "s1-a s1 x\ns1-b s1\ns2-a s2\n"},
        ['utt2spk:1: s1-a: 3 fields, expected "<utt-id> <spk-id>"; remove the extra field'],
    ),
    "empty transcript": (
        {"text": "s1-a ONE\ns1-b\ns2-a \n"},
        ["text:2: s1-b: an empty transcript", "text:3: s2-a: an empty transcript"],
    ),
    "reserved symbols": (
        {"text": "s1-a <s> ONE </s>\ns1-b #0\ns2-a A<s>\n"},
        ["text:1: s1-a: </s> <s> must not be", "text:2: s1-b: #0 must not be"],
    ),
    "byte order mark": (
        {"text": "\ufeffs1-a ONE\ns1-b TWO\ns2-a SIX\n"},
        ["text:1: a byte order mark"],
    ),
    "carriage returns": (
        {"text": "s1-a ONE\r\ns1-b TWO\ns2-a SIX\r\n"},
        ["text:1: a carriage return", "text:3: a carriage return"],
    ),
    "no line feed at the end": (
        {"text": "s1-a ONE\ns1-b TWO\ns2-a SIX"},
        ["text:3: the last line does not end"],
    ),
    "not UTF-8": (
        {"text": b"s1-a ONE\ns1-b CAF\xe9\ns2-a SIX\n"},
        ["text:2: byte 0xe9 is not UTF-8"],
    ),
    "UTF-16": (
        {"text": "s1-a ONE\ns1-b TWO\ns2-a SIX\n".encode("utf-16")},
        ["text: UTF-16, as Windows writes it, expected UTF-8"],
    ),
    "control character": (
        {"text": "s1-a ONE\ns1-b TWO\x07\ns2-a SIX\n"},
        ["text:2: U+0007 (a control character) in column 9"],
    ),
    "no-break space": (
        {"text": "s1-a ONE\u00a0TWO\ns1-b TWO\ns2-a SIX\n"},
        ["text:1: U+00A0 (NO-BREAK SPACE) in column 9"],
    ),
    "zero-width space": (
        {"text": "s1-a ONE\ns1-b T\u200bWO\ns2-a SIX\n"},
        ["text:2: U+200B (ZERO WIDTH SPACE) in column 7"],
    ),
    "format characters": (
        {"text": "s1-a O\u00adNE\u200e\ns1-b T\u2060WO\ns2-a SIX\n"},
        [
            "text:1: U+00AD (SOFT HYPHEN) in column 7",
            "text:1: U+200E (LEFT-TO-RIGHT MARK) in column 10",
            "text:2: U+2060 (WORD JOINER) in column 7",
        ],
    ),
    "empty lines": (
        {"text": "s1-a ONE\n\ns1-b TWO\ns2-a SIX\n \n"},
        ["text:2: an empty line", "text:5: an empty line"],
    ),
    "space before the key": (
        {"text": "s1-a ONE\n s1-b TWO\ns2-a SIX\n"},
        ["text:2: white space before s1-b"],
    ),
    "unsorted": (
        {"text": "s1-b TWO\ns1-a ONE\ns2-a SIX\n"},
        ["text:2: s1-a comes after s1-b; sort by bytes"],
    ),
    "unsorted at several places": (
        {"wav_scp": "s2-a x |\ns1-b x |\ns1-a x |\n"},
        ["wav.scp:2: s1-b comes after s2-a", "wav.scp:3: s1-a comes after s1-b"],
    ),
    "double": (
        {"text": "s1-a ONE\ns1-b TWO\ns1-b TWO\ns2-a SIX\n"},
        ["text:3: s1-b is in line 2 already"],
    ),
    "double far away": (
        {"text": "s1-a ONE\ns1-b TWO\ns2-a SIX\ns1-a ONE\n"},
        ["text:4: s1-a is in line 1 already"],
    ),
    "empty file": (
        {"spk2gender": ""},
        ["spk2gender: the file is empty"],
    ),
    "lists differ": (
        {"text": "s1-a ONE\ns1-c TWO\ns2-a SIX\n"},
        ["utt2spk:2: s1-b: no line in text; add it", "text:2: s1-c: not in utt2spk; remove"],
    ),
    "wav.scp differs": (
        {"wav_scp": "s1-a x |\ns1-b x |\n"},
        ["utt2spk:3: s2-a: no line in wav.scp"],
    ),
    "no path": (
        {"wav_scp": "s1-a x |\ns1-b\ns2-a x |\n"},
        ["wav.scp:2: s1-b: nothing after the id, expected a path"],
    ),
    "tilde": (
        {"wav_scp": "s1-a x |\ns1-b ~/b.wav\ns2-a x |\n"},
        ["wav.scp:2: s1-b: ~/b.wav: ~ is not expanded"],
    ),
    "missing audio": (
        {"wav_scp": "s1-a /none/a.wav\ns1-b none/b.wav\ns2-a x |\n"},
        [
            "wav.scp:1: s1-a: /none/a.wav: no such file; fix the path",
            "wav.scp:2: s1-b: none/b.wav: no such file in /",
        ],
    ),
    "an entry of a Kaldi archive": (
        {"wav_scp": "s1-a a.ark:12\ns1-b x |\ns2-a x |\n"},
        ["wav.scp:1: s1-a: a.ark:12: an entry of a Kaldi archive, expected an audio file"],
    ),
    "a folder instead of audio": (
        {"wav_scp": "s1-a /\ns1-b x |\ns2-a x |\n"},
        ["wav.scp:1: s1-a: /: a folder, expected an audio file"],
    ),
    "underscore instead of dash": (
        {
            "utt2spk": "s10_1 s10\ns1_1 s1\n",
            "spk2utt": "s1 s1_1\ns10 s10_1\n",
            "text": "s10_1 ONE\ns1_1 TWO\n",
            "wav_scp": "s10_1 x |\ns1_1 x |\n",
        },
        [
            "utt2spk:2: s1_1: speaker s1 comes after s10 of s10_1; make the speaker a prefix of "
            'the utterance, joined by "-"'
        ],
    ),
    "spk2utt names others": (
        {"spk2utt": "s1 s1-a s1-x\ns2 s2-a\n"},
        ["spk2utt:1: s1: not the utterances of utt2spk (s1-b, s1-x)"],
    ),
    "spk2utt unsorted inside": (
        {"spk2utt": "s1 s1-b s1-a\ns2 s2-a\n"},
        ["spk2utt:1: s1: utterances not sorted"],
    ),
    "spk2utt lacks a speaker and has another": (
        {"spk2utt": "s1 s1-a s1-b\ns3 s2-a\n"},
        ["utt2spk:3: s2: no line in spk2utt", "spk2utt:2: s3: not in utt2spk"],
    ),
    "gender": (
        {"spk2gender": "s1 F\ns2 m\n"},
        ['spk2gender:1: s1: found "F", expected m or f'],
    ),
    "durations": (
        {"utt2dur": "s1-a 0\ns1-b 1e7\ns2-a nan\n"},
        [f"utt2dur:{n}: {u}: found" for n, u in ((1, "s1-a"), (2, "s1-b"), (3, "s2-a"))],
    ),
    "frames in many digits": (
        {"utt2num_frames": f"s1-a {'9' * 5000}\ns1-b 0\ns2-a \u00b2\n"},
        [f"utt2num_frames:{n}: {u}: found" for n, u in ((2, "s1-b"), (3, "s2-a"))],
    ),
    "a path that is too long": (
        {"wav_scp": f"s1-a {'9' * 5000}\ns1-b x |\ns2-a x |\n"},
        [f"wav.scp:1: s1-a: {'9' * 5000}: no such file in /"],
    ),
    "durations of other utterances": (
        {"utt2dur": "s1-a 2\ns1-b 2\ns2-z 2\n"},
        ["utt2spk:3: s2-a: no line in utt2dur", "utt2dur:3: s2-z: not in utt2spk"],
    ),
    "reco2dur without segments": (
        {"reco2dur": "s1-a 2\ns1-b x\ns2-a 2\ns3-a 2\n"},
        ['reco2dur:2: s1-b: found "x"', "reco2dur:4: s3-a: not in utt2spk"],
    ),
    "frames": (
        {"utt2num_frames": "s1-a 10\ns1-b 1.5\ns2-a 0\n"},
        ['utt2num_frames:2: s1-b: found "1.5"', 'utt2num_frames:3: s2-a: found "0"'],
    ),
    "features": (
        {"feats_scp": "s1-a f.ark:5\ns1-b\n"},
        ["utt2spk:3: s2-a: no line in feats.scp", "feats.scp:2: s1-b: nothing after the id"],
    ),
    "cmvn of an unknown speaker": (
        {"cmvn_scp": "s1 c.ark:5\ns2 c.ark:9\ns3 c.ark:13\n"},
        ["cmvn.scp:3: s3: not in utt2spk"],
    ),
    "two originals": (
        {"utt2uniq": "s1-a a\ns1-b b c\ns2-a a\n"},
        ['utt2uniq:2: s1-b: found "b c", expected one word'],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_violation_is_reported_with_its_line(make, name):
    files, expected = CASES[name]
    found = told(make(**files))
    assert len(found) == len(expected), found
    for message, start in zip(found, expected, strict=True):
        assert message.startswith(start)


SEGMENTS = {
    "end before begin": ("s1-a r1 0.8 0.2", "segments:1: s1-a: 0.8 to 0.2 s, expected"),
    "negative begin": ("s1-a r1 -0.1 0.8", "segments:1: s1-a: -0.1 to 0.8 s, expected"),
    "after the end of time": ("s1-a r1 0 1e308", "segments:1: s1-a: 0 to 1e+308 s, expected"),
    "three fields": ("s1-a r1 0.8", 'segments:1: s1-a: found "r1 0.8", expected "<rec-id>'),
    "no number": ("s1-a r1 0 end", 'segments:1: s1-a: found "r1 0 end", expected "<rec-id>'),
    "other recording": ("s1-a r9 0.0 0.8", "segments:1: r9: no line in wav.scp"),
    "beyond the recording": ("s1-a r1 1.8 2.6", "segments:1: s1-a: 1.8 to 2.6 s, but reco2dur"),
    "behind the recording": ("s1-a r1 2.0 2.4", "segments:1: s1-a: 2 to 2.4 s, but reco2dur"),
    "not utt2dur": ("s1-a r1 0 2.0", "segments:1: s1-a: lasts 2 s, but utt2dur says 0.8 s"),
}


@pytest.mark.parametrize("name", SEGMENTS)
def test_each_wrong_segment_is_reported(segmented, name):
    line, expected = SEGMENTS[name]
    if name == "other recording":
        (segmented / "reco2dur").unlink()
    (segmented / "segments").write_text(f"{line}\ns1-b r1 0.8 2.0\ns2-a r2 0.5 1.5\n")
    found = told(segmented)
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_a_segment_may_end_half_a_second_late(segmented):
    """As in Kaldi's extract-segments; asr.audio.clip.read allows it too."""
    (segmented / "segments").write_text("s1-a r1 0.0 0.8\ns1-b r1 0.8 2.4\ns2-a r2 0.5 1.5\n")
    assert told(segmented) == []


def test_a_recording_without_a_segment_is_reported(segmented, wav):
    (segmented / "wav.scp").write_text(f"r1 {wav}\nr2 {wav}\nr3 {wav}\n")
    (segmented / "reco2dur").write_text("r1 2\nr2 2\nr3 2\n")
    assert [message.partition(";")[0] for message in told(segmented)] == [
        "wav.scp:3: r3: not in segments",
        "reco2dur:3: r3: not in segments",
    ]


def test_segments_need_recordings(segmented):
    (segmented / "wav.scp").unlink()
    assert told(segmented, wav=False) == [
        "wav.scp: no such file, but segments needs it; add it",
    ]


def test_problems_of_several_files_are_all_reported(make):
    path = make(text="s1-b TWO\ns1-a\ns2-a <s>\n", spk2gender="s1 x\ns2 y\n")
    assert [message.partition(": ")[0] for message in told(path)] == [
        *("text:2", "text:2", "text:3", "spk2gender:1", "spk2gender:2"),
    ]


def test_required_files(make):
    assert told(make("a", text=None, wav_scp=None)) == [
        "text: no such file, but it is required; add it, or give --no-text",
        "wav.scp: no such file, but it is required; add it, or give --no-wav",
    ]
    assert told(make("b", text=None, wav_scp=None), text=False, wav=False) == []
    assert told(make("c"), feats=True)[0].startswith("feats.scp: no such file")
    assert told(make("d", spk2utt=None))[0].startswith("spk2utt: no such file")
    assert told(make("e", utt2spk=None)) == ["utt2spk: no such file, but it is required; add it"]


def test_optional_files_are_checked_if_they_exist(make):
    path = make(text="s1-a\ns1-b X\ns2-a Y\n")
    assert len(told(path, text=False)) == 1


def test_a_path_may_have_spaces_of_any_kind(make, wav):
    odd = wav.with_name("a b\u00a0c.wav")
    wav.rename(odd)
    assert told(make(wav_scp=f"s1-a {odd}\ns1-b {odd}\ns2-a {odd}\n")) == []


def test_a_path_that_is_not_a_directory(tmp_path, wav):
    cases = {
        tmp_path / "none": "no such folder, expected a data directory; check",
        wav: "a file, expected a data directory; check",
        tmp_path: "a folder of recordings, expected .*; `asr data import OUT --folder ",
    }
    for path, message in cases.items():
        with pytest.raises(InputError, match=f"{path}: {message}"):
            validate(path)


@pytest.mark.parametrize(
    ("files", "remedy"),
    [
        ({"wav_scp": "s1-a x.wav\ns1-b x.wav\ns2-a x.wav\n"}, ""),
        ({"text": "s1-a ONE\ns1-b <s>\ns2-a FOUR\n"}, ""),
        ({"text": b"s1-b CAF\xe9\n"}, ""),
        ({"utt2spk": None, "spk2utt": None}, ""),
        ({"spk2utt": None}, "all"),
        ({"text": "s2-a \ns1-a ONE\ns1-b <s>\n", "spk2utt": "s1 s1-a\ns2 s2-a\n"}, "3"),
    ],
)
def test_fix_is_named_only_if_it_helps(make, files, remedy):
    path = make(**files)
    expected = remedy and f"; `asr data fix {path}` fixes {remedy}"
    assert fix_remedy(path, validate(path)) == expected


def test_a_folder_where_a_file_should_be(make):
    path = make(text=None)
    (path / "text").mkdir()
    assert told(path) == ["text: cannot read (Is a directory); expected a file of lines"]


def test_every_table_has_a_rule():
    assert {*FILES} - RULES.keys() == {"spk2utt"}


def test_audio_is_opened_on_request(make, wav, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_text("not audio")
    path = make(
        wav_scp=f"s1-a {wav}\ns1-b {broken}\ns2-a exit 1 |\n",
        utt2dur="s1-a 2.3\ns1-b 9\ns2-a 1\n",
    )
    assert told(path) == []
    found = told(path, audio=True)
    assert found[0].startswith(f"wav.scp:2: s1-b: {broken}: ")
    assert found[1:] == ["utt2dur:1: s1-a: 2.3 s, but the audio lasts 2.000 s; fix it"]


def test_segments_are_compared_with_the_audio(segmented):
    (segmented / "reco2dur").unlink()
    (segmented / "utt2dur").unlink()
    (segmented / "segments").write_text("s1-a r1 0.0 0.8\ns1-b r1 0.8 2.0\ns2-a r2 0.5 3.5\n")
    assert told(segmented) == []
    assert told(segmented, audio=True) == [
        "segments:3: s2-a: 0.5 to 3.5 s, but the audio of r2 lasts 2 s; fix the times"
    ]


def test_warnings(make):
    assert warnings(make("a")) == []
    one = make(
        "b",
        utt2spk="s1-a s1\ns1-b s1\n",
        spk2utt="s1 s1-a s1-b\n",
        text="s1-a ONE\ns1-b TWO\n",
        wav_scp="s1-a x |\ns1-b x |\n",
    )
    assert told(one) == []
    speaker, pipes = warnings(one)
    assert "one speaker for all 2 utterances" in speaker
    assert "wav.scp: bash will run 2 commands" in pipes


def test_ids_that_look_alike(make):
    ids = ["s-e\u0301", "s-\u00e9"]
    tables = {
        name: "".join(f"{i} {value}\n" for i in ids)
        for name, value in (("utt2spk", "s"), ("text", "ONE"), ("wav_scp", "x |"))
    }
    path = make(**tables, spk2utt=f"s {' '.join(ids)}\n")
    assert [line.partition(";")[0] for line in told(path)] == [
        f"{name}:2: s-\u00e9: looks like the id in line 1"
        for name in ("utt2spk", "text", "wav.scp")
    ]


def test_a_lost_letter_gives_a_warning(make):
    (lost,) = warnings(make(text="s1-a ONE\ns1-b CAF\ufffd\ns2-a TWO\n"))
    assert "/text:2: U+FFFD (REPLACEMENT CHARACTER) stands for a letter that was lost" in lost


def test_other_forms_of_letters_and_apostrophes_give_warnings(make):
    path = make(text="s1-a CAFE\u0301\ns1-b DON'T\ns2-a DON\u2019T E\u0301\n")
    assert told(path) == []
    forms, apostrophes = warnings(path)
    assert forms.startswith(f"{path}/text:1: U+0301 (COMBINING ACUTE ACCENT), a letter that is not")
    assert "in 2 lines in all" in forms
    assert (
        "U+0027 (APOSTROPHE) 1 times, U+2019 (RIGHT SINGLE QUOTATION MARK) 1 times" in apostrophes
    )
