import json
import re
from pathlib import Path

import pytest

from asr.corpus.datadir import DataDir
from asr.corpus.importing import Imported, import_kaldi, import_rows, make_ids, pair_rows, safe
from asr.corpus.table_formats import COLUMNS, read_rows
from asr.corpus.tables import read_table
from asr.corpus.validate import validate
from asr.errors import InputError

SAME_NAMES = {name: name for name in COLUMNS}


def same(text: str) -> str:
    return text


@pytest.fixture
def audio(tmp_path, wav) -> Path:
    """A folder with a.wav, b.wav and c.wav, where tables can lie."""
    for name in ("b", "c"):
        wav.with_name(f"{name}.wav").write_bytes(wav.read_bytes())
    return wav.parent


def import_table(audio: Path, name: str, content: str, names: dict[str, str] | None = None):
    (audio / name).write_text(content, encoding="utf-8")
    rows = read_rows(audio / name, SAME_NAMES | (names or {}))
    return import_rows(rows, audio / "out", str.upper)


def refusal(audio: Path, name: str, content: str) -> list[str]:
    """Problems with rows, ``line: message``, and that nothing is written."""
    with pytest.raises(InputError) as told:
        import_table(audio, name, content)
    first, *problems, last = str(told.value).splitlines()
    assert first == "cannot import:"
    assert last.endswith("nothing was written")
    assert not (audio / "out").exists()
    return [problem.strip().removeprefix(f"{audio / name}:") for problem in problems]


# -- Ids -------------------------------------------------------------------------------------


def test_ids_are_safe():
    assert safe(" a  b/c\\d\te\u00a0f ") == "a_b_c_d_e_f"


def test_the_speaker_is_a_prefix():
    assert make_ids([("1", "ann"), ("ann-2", "ann"), ("ann_3", "ann"), ("x", ""), ("y", "y")]) == [
        *(("ann-1", "ann"), ("ann-2", "ann"), ("ann-ann_3", "ann"), ("x", "x"), ("y", "y")),
    ]


@pytest.mark.parametrize(
    "names",
    [
        [("a", "anna"), ("1", "anna-maria"), ("z", "anna")],
        [("2", "s"), ("1", "s+"), ("s+-3", "s+")],
        [("x-1", ""), ("5", "x")],
    ],
)
def test_speakers_whose_utterances_would_interleave_are_renamed(names):
    made = make_ids(names)
    speakers = [speaker for _, speaker in sorted(made)]
    assert speakers == sorted(speakers)
    assert all(name == speaker or name.startswith(f"{speaker}-") for name, speaker in made)
    assert not any(set("+-") & set(speaker) for speaker in speakers)


# -- Tables ----------------------------------------------------------------------------------


TABLES = {
    "t.csv": 'audio,text,speaker\na.wav,"one, two",s2\nb.wav,three,s1\n',
    "semicolons.csv": "audio;text;speaker\na.wav;one, two;s2\nb.wav;three;s1\n",
    "bom.csv": '\ufeffaudio,text,speaker\r\na.wav,"one,\r\ntwo",s2\r\nb.wav,three,s1\r\n',
    "t.tsv": "text\tspeaker\taudio\none, two\ts2\ta.wav\nthree\ts1\tb.wav\n",
    "t.jsonl": '{"audio": "a.wav", "text": "one, two", "speaker": "s2"}\n\n'
    '{"audio": "b.wav", "text": "three", "speaker": "s1", "more": [1]}\n',
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_becomes_a_directory(audio, name):
    assert import_table(audio, name, TABLES[name]) == Imported(2, 2)
    first, second = DataDir.load(audio / "out").utterances
    assert (first.id, first.speaker, first.text) == ("s1-b", "s1", "THREE")
    assert (second.id, second.speaker, second.text) == ("s2-a", "s2", "ONE, TWO")
    assert second.wav == str(audio / "a.wav")


def test_paths_are_absolute(audio, monkeypatch, tmp_path):
    monkeypatch.chdir(audio)
    Path("t.csv").write_text("audio,text\n../audio/a.wav,one\n")
    import_rows(read_rows("t.csv", SAME_NAMES), "out", same)
    monkeypatch.chdir(tmp_path)
    assert DataDir.load("audio/out").utterances[0].wav == str(audio / "a.wav")


def test_quotes_are_text_in_tsv(audio):
    import_table(audio, "t.tsv", 'audio\ttext\na.wav\t"so\nb.wav\tsaid"\n')
    assert read_table(audio / "out" / "text") == {"a": '"SO', "b": 'SAID"'}


def test_columns_can_have_other_names(audio):
    names = {"audio": "path", "text": "sentence"}
    import_table(audio, "t.csv", "path,sentence\na.wav,one\n", names)
    assert DataDir.load(audio / "out").utterances[0].text == "ONE"


def test_a_missing_column_lists_the_columns_of_the_table(audio):
    with pytest.raises(
        InputError, match=r"t.csv:1: found the columns voice, text, expected .*audio"
    ):
        import_table(audio, "t.csv", "voice,text\na.wav,one\n")
    with pytest.raises(InputError, match=r"expected one called .begn.; name it with --start-col"):
        import_table(audio, "t.csv", "audio,text,begin\na.wav,one,0.1\n", {"start": "begn"})
    import_table(audio, "t.csv", "audio,text,duration\na.wav,one,7\n", {"duration": "none"})


@pytest.mark.parametrize("name", ["t.csv", "t.json"])
def test_an_empty_table(audio, name):
    with pytest.raises(InputError, match=f"{name}: an empty file, expected a table"):
        import_table(audio, name, "\n")


def test_start_and_end_become_segments(audio):
    rows = [
        {"audio": "a.wav", "text": "one", "start": 0, "end": 1.0, "speaker": "s"},
        {"audio": "a.wav", "text": "two", "start": 1.0, "end": 2, "speaker": "s"},
    ]
    import_table(audio, "t.jsonl", "\n".join(map(json.dumps, rows)))
    first, second = DataDir.load(audio / "out").utterances
    assert (first.id, first.start_s, first.end_s) == ("s-a-0", 0.0, 1.0)
    assert (second.id, second.start_s, second.end_s) == ("s-a-1.0", 1.0, 2.0)
    assert first.recording == second.recording
    assert len(read_table(audio / "out" / "wav.scp")) == 1


def test_genders(audio):
    table = "audio,text,speaker,gender\na.wav,one,s1,female\nb.wav,two,s2,M\nc.wav,six,s1,{}\n"
    assert import_table(audio, "t.csv", table.format("")).notes == ()
    assert read_table(audio / "out" / "spk2gender") == {"s1": "f", "s2": "m"}


@pytest.mark.parametrize(
    "rows", ["s1,f\nb.wav,two,s2,mujer", "s1,f\nb.wav,two,s2,m\nc.wav,six,s2,F"]
)
def test_genders_are_left_out_with_a_note_if_one_is_not_known(audio, rows):
    (note,) = import_table(audio, "t.csv", f"audio,text,speaker,gender\na.wav,one,{rows}\n").notes
    assert note == "no spk2gender: 1 speaker not known as either m or f, the first s2"
    assert not (audio / "out" / "spk2gender").exists()
    assert validate(audio / "out") == []


def test_each_bad_row_is_reported_with_its_line(audio):
    table = (
        "audio,text,id\n"
        "a.wav,,x1\n"
        "none.wav,one,x2\n"
        '"b.wav","one\ntwo",x3\n'
        "b.wav,one,two,x4\n"
        ",one,x5\n"
        "c.wav,<s> one </s>,x6\n"
        "c.wav,one,x3\n"
        "sub,one,x7\n"
    )
    (audio / "sub").mkdir()
    assert [problem.partition(";")[0] for problem in refusal(audio, "t.csv", table)] == [
        "2: an empty transcript",
        f"3: {audio}/none.wav: no such audio file",
        "6: 4 fields, expected 3",
        "7: no audio file is named",
        "8: </s> <s> must not be in a transcript",
        f"10: {audio}/sub: a folder, expected an audio file",
        f"9: gets the id x3, as {audio}/t.csv:4 does",
    ]


def test_each_bad_line_of_json_is_reported(audio):
    lines = ['{"audio": "a.wav"', "[1]", '{"audio": "a.wav"}', '{"audio": null, "text": "x"}']
    found = refusal(audio, "t.jsonl", "\n".join(lines))
    assert found[0].startswith("1: not JSON (")
    assert found[1].startswith("2: found [1], expected an object")
    assert found[2].startswith("3: no text; add it")
    assert found[3].startswith("4: no audio and no id")


@pytest.mark.parametrize(
    "times",
    ["0.5,", ",1.0", "1.0,0.5", "-1,2", "a,b", "0,inf", "0.5,nan", "1,1", "0,1_0", "0,\u0661"],
)
def test_wrong_times(audio, times):
    (problem,) = refusal(audio, "t.csv", f"audio,text,start,end\na.wav,one,{times}\n")[:1]
    assert problem.startswith("2: start '")


def test_a_row_that_ends_after_its_recording(audio):
    table = "audio,text,start,end\na.wav,one,0,2.4\na.wav,two,1.0,9\na.wav,six,2,2.1\n"
    first, second = refusal(audio, "t.csv", table)
    assert first == "3: 1.0 to 9 s, but the audio lasts 2 s; fix the times"
    assert second == "4: 2 to 2.1 s, but the audio lasts 2 s; fix the times"


def test_a_duration_below_that_of_the_recording_is_noted(audio):
    found = import_table(audio, "t.csv", "audio,text,duration\na.wav,one,1.5\nb.wav,two,2\n")
    assert "1 recording longer than the duration in the table, the first in" in found.notes[0]
    assert "t.csv:2 (1.5 of 2 s); only this much is used." in found.notes[0]
    assert [u.end_s for u in DataDir.load(audio / "out").utterances] == [1.5, 2.0]
    table = "audio,text,duration,speaker\na.wav,one,2,ann\n"
    assert import_table(audio, "t.csv", table).notes == ()


def test_some_rows_with_times_and_some_without(audio):
    (problem,) = refusal(audio, "t.csv", "audio,text,start,end\na.wav,one,0,1\nb.wav,two,,\n")
    assert problem.startswith("3: no start and end, but other rows have them")


def test_two_files_of_one_name_are_refused_by_both_places(audio):
    (audio / "d").mkdir()
    (audio / "d" / "a.wav").write_bytes((audio / "a.wav").read_bytes())
    (problem,) = refusal(audio, "t.csv", "audio,text\na.wav,one\nd/a.wav,two\n")
    assert problem.startswith(f"3: gets the id a, as {audio}/t.csv:2 does")


@pytest.mark.parametrize("name", ["touch x |", "touch x; cat a.wav|", "two\nlines.wav", "t\tb.wav"])
def test_a_file_whose_name_would_be_a_command_or_another_path_is_refused(audio, name):
    (audio / name).write_bytes((audio / "a.wav").read_bytes())
    row = json.dumps({"audio": name, "text": "x"})
    (problem,) = refusal(audio, "t.jsonl", row)
    assert "rename the file" in problem


def test_tables_that_cannot_be_read(audio):
    for name, message in (("none.csv", "No such file"), ("a.wav", "not UTF-8|ends in .csv")):
        with pytest.raises(InputError, match=message):
            list(read_rows(audio / name, SAME_NAMES))
    (audio / "latin.csv").write_bytes("audio,text\na.wav,café\n".encode("latin1"))
    with pytest.raises(InputError, match=r"latin.csv:2: byte 0xe9 is not UTF-8"):
        list(read_rows(audio / "latin.csv", SAME_NAMES))
    with pytest.raises(InputError, match="nothing to import"):
        import_table(audio, "t.csv", "audio,text\n")


def test_characters_are_changed_and_named(audio):
    table = "audio,text,speaker\na.wav,co\u00adop,Rene\u0301\nb.wav,cafe\u0301,Ren\u00e9\n"
    result = import_table(audio, "t.csv", table)
    assert (result.utterances, result.speakers) == (2, 1)
    assert result.notes == (
        "transcripts: 1 U+00AD (SOFT HYPHEN) removed, letters of 1 texts composed (Unicode NFC); "
        f"the first in {audio}/t.csv:2",
    )
    assert read_table(audio / "out" / "text") == {
        **{"Ren\u00e9-a": "COOP", "Ren\u00e9-b": "CAF\u00c9"},
    }


def test_ids_that_look_alike_are_refused(audio):
    table = "audio,text,id\na.wav,one,n\u00e9\nb.wav,two,ne\u0301\n"
    (problem,) = refusal(audio, "t.csv", table)
    assert problem.startswith("3: gets the id n\u00e9")


@pytest.mark.parametrize(("first", "second"), [("Ann M", "Ann/M"), ("", "a")])
def test_speakers_whose_ids_would_be_one_are_refused(audio, first, second):
    table = f"audio,text,speaker\na.wav,one,{first}\nb.wav,two,{second}\n"
    (problem,) = refusal(audio, "t.csv", table)
    assert problem.startswith(f'3: speaker "{second}" gets the id')


def test_an_error_value_of_a_spreadsheet_is_refused(audio):
    (problem,) = refusal(audio, "t.csv", "audio,text\na.wav,#NAME?\n")
    assert problem.startswith("2: #NAME? is an error value of a spreadsheet")


# -- Folders ---------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, wav) -> Path:
    """ann/1.wav, ann/2.wav and bob/1.wav with their transcripts."""
    for name in ("ann/1", "ann/2", "bob/1"):
        path = tmp_path / "pairs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".wav").write_bytes(wav.read_bytes())
        path.with_suffix(".txt").write_text(f"\ufeffwords of\n{name[:3]}\n", encoding="utf-8")
    (tmp_path / "pairs" / "._1.wav").write_text("what a Mac leaves behind")
    return tmp_path / "pairs"


def test_pairs_with_the_folder_as_speaker(folder, tmp_path):
    rows = pair_rows(folder, speaker_from_folder=True)
    assert import_rows(rows, tmp_path / "out", same) == Imported(3, 2)
    assert read_table(tmp_path / "out" / "text") == {
        **{"ann-1": "words of ann", "ann-2": "words of ann", "bob-1": "words of bob"},
    }
    assert validate(tmp_path / "out") == []


def test_pairs_without_speakers(folder, tmp_path):
    rows = pair_rows(folder, speaker_from_folder=False)
    found = import_rows(rows, tmp_path / "out", same)
    assert (found.utterances, found.speakers) == (3, 3)
    assert "3 utterances without a speaker, the first in" in found.notes[0]
    assert read_table(tmp_path / "out" / "utt2spk") == {
        **{"ann-1": "ann-1", "ann-2": "ann-2", "bob-1": "bob-1"},
    }


def test_audio_without_transcript(folder, tmp_path):
    (folder / "ann" / "2.txt").unlink()
    (folder / "bob" / "1.txt").write_bytes(b"caf\xe9")
    with pytest.raises(InputError) as told:
        import_rows(pair_rows(folder, speaker_from_folder=True), tmp_path / "out", same)
    assert f"{folder}/ann/2.txt: cannot read (No such file or directory)" in str(told.value)
    assert f"{folder}/bob/1.txt: byte 0xe9 is not UTF-8" in str(told.value)
    assert "2 problems; nothing was written" in str(told.value)


def test_a_transcript_that_normalising_empties(folder, tmp_path):
    (folder / "ann" / "2.txt").write_text("...")
    with pytest.raises(InputError, match=r"ann/2.txt: an empty transcript after normalising '...'"):
        rows = pair_rows(folder, speaker_from_folder=True)
        import_rows(rows, tmp_path / "out", lambda text: text.strip("."))


def test_two_formats_of_one_recording(folder, tmp_path):
    (folder / "ann" / "1.flac").write_bytes(b"")
    with pytest.raises(InputError, match=r"/1\.wav: gets the id ann-1, as .*/1\.flac does"):
        import_rows(pair_rows(folder, speaker_from_folder=True), tmp_path / "out", same)


def test_a_transcript_may_keep_the_ending_of_its_audio(folder):
    (folder / "bob" / "1.txt").rename(folder / "bob" / "1.wav.txt")
    *_, row = pair_rows(folder, speaker_from_folder=True)
    assert (Path(row.where).name, row.error) == ("1.wav.txt", "")


def test_links_are_followed_and_left_out_files_are_reported(folder, tmp_path, wav):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "e\u0301.WAV").write_bytes(wav.read_bytes())
    (tmp_path / "more" / "\u00e9.TXT").write_text("three")
    (folder / "linked").symlink_to(tmp_path / "more")
    (folder / "notes.pdf").touch()
    (folder / "alone.txt").touch()
    notes: list[str] = []
    rows = pair_rows(folder, speaker_from_folder=False, tell=notes.append)
    assert import_rows(rows, tmp_path / "out", same).utterances == 4
    assert read_table(tmp_path / "out" / "text")["linked-\u00e9"] == "three"
    assert notes == [f"{folder}: left out: 2 other files, 1 hidden file"]


def test_a_folder_without_audio(tmp_path):
    with pytest.raises(InputError, match="no audio in it, expected"):
        list(pair_rows(tmp_path, speaker_from_folder=False))
    with pytest.raises(InputError, match="no such folder"):
        list(pair_rows(tmp_path / "nowhere", speaker_from_folder=False))


# -- Kaldi directories -----------------------------------------------------------------------


@pytest.fixture
def kaldi(make, audio) -> Path:
    """As speechocean762 is published: tabs, relative paths, digits, unsorted, no prefix."""
    return make(
        "published",
        utt2spk="20\t0002\n11 0001\n10 0001\n",
        spk2utt="0001 10\n",
        text="20\tONE  TWO\n11\tTHREE\n10\tFOUR\n",
        wav_scp="20\taudio/a.wav\n11\taudio/b.wav\n10\taudio/c.wav\n",
        spk2gender="0002\tf\n0001\tm\n",
        spk2age="0002\t30\n0001\t31\n",
        feats_scp="10 old.ark:3\n",
    )


def test_a_published_directory_becomes_valid(kaldi, tmp_path):
    out = tmp_path / "out"
    assert import_kaldi(kaldi, out, tmp_path, same) == Imported(3, 2)
    assert validate(out) == []
    assert read_table(out / "text") == {
        **{"0001-10": "FOUR", "0001-11": "THREE", "0002-20": "ONE TWO"},
    }
    assert read_table(out / "wav.scp")["0002-20"] == f"{tmp_path}/audio/a.wav"
    assert read_table(out / "spk2age") == {"0001": "31", "0002": "30"}
    assert not (out / "feats.scp").exists()


def test_ids_with_the_speaker_in_front_stay(segmented, tmp_path):
    import_kaldi(segmented, tmp_path / "out", "/", same)
    names = ("text", "segments", "utt2spk", "utt2dur", "reco2dur", "wav.scp", "spk2gender")
    for name in names:
        assert read_table(tmp_path / "out" / name) == read_table(segmented / name)


def test_ids_of_a_sorted_directory_stay(kaldi, tmp_path):
    for name in ("text", "wav.scp", "utt2spk"):
        lines = (kaldi / name).read_text()
        for old, new in (("20", "0002_20"), ("11", "0001_11"), ("10", "0001_10")):
            lines = re.sub(f"^{old}", new, lines, flags=re.MULTILINE)
        (kaldi / name).write_text(lines.replace("audio/", "audio\\"))
    import_kaldi(kaldi, tmp_path / "out", tmp_path, same)
    assert list(read_table(tmp_path / "out" / "text")) == ["0001_10", "0001_11", "0002_20"]


def test_a_wrong_root_is_reported_for_each_recording(kaldi, tmp_path):
    with pytest.raises(InputError) as told:
        import_kaldi(kaldi, tmp_path / "out", tmp_path / "audio", same)
    assert str(told.value).count("no such audio file; see --root") == 3
    assert f"{kaldi}/wav.scp: 20: {tmp_path}/audio/audio/a.wav" in str(told.value)
    assert not (tmp_path / "out").exists()


def test_ids_that_become_one_are_refused(kaldi, tmp_path):
    (kaldi / "utt2spk").write_text("10 0001\n0001-10 0001\n")
    with pytest.raises(InputError) as told:
        import_kaldi(kaldi, tmp_path / "out", tmp_path, same)
    assert "utt2spk: 0001-10: gets the id 0001-10, as utt2spk: 10 does" in str(told.value)


def test_a_line_of_nobody_does_not_take_the_place_of_another(kaldi, tmp_path):
    (kaldi / "wav.scp").write_text(
        "0001-10 audio/a.wav\n20 audio/a.wav\n11 audio/b.wav\n10 audio/c.wav\n"
    )
    with pytest.raises(
        InputError, match=r"wav\.scp: 0001-10: gets the id 0001-10, as utt2spk: 10 does"
    ):
        import_kaldi(kaldi, tmp_path / "out", tmp_path, same)


def test_reserved_symbols_are_refused_before_they_are_normalised(kaldi, tmp_path):
    (kaldi / "text").write_text("20 <s> ONE </s>\n11 THREE\n10 FOUR\n")
    with pytest.raises(InputError, match="text: 20: </s> <s> must not be in a transcript"):
        import_kaldi(kaldi, tmp_path / "out", tmp_path, lambda text: text.strip("</s> "))


def test_a_malformed_utt2spk_is_refused(kaldi, tmp_path):
    (kaldi / "utt2spk").write_text("20 0002 x\n11 0001\n10\n")
    with pytest.raises(InputError) as told:
        import_kaldi(kaldi, tmp_path / "out", tmp_path, same)
    assert "utt2spk: 20: 3 fields" in str(told.value)
    assert "utt2spk: 10: 1 field" in str(told.value)


def test_commands_are_copied_with_a_note(kaldi, tmp_path):
    (kaldi / "wav.scp").write_text("20 cat audio/a.wav |\n11 audio/b.wav\n10 audio/c.wav\n")
    (note,) = import_kaldi(kaldi, tmp_path / "out", tmp_path, same).notes
    assert "1 command copied unchanged" in note
    assert read_table(tmp_path / "out" / "wav.scp")["0002-20"] == "cat audio/a.wav |"


def test_a_missing_file(kaldi, tmp_path):
    (kaldi / "text").unlink()
    with pytest.raises(InputError, match=r"published/text: cannot read"):
        import_kaldi(kaldi, tmp_path / "out", tmp_path, same)
