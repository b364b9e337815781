import pytest

from asr.corpus.datadir import DataDir
from asr.corpus.tables import (
    keyed_by,
    read_table,
    read_tables,
    restrict,
    split_line,
    write_table,
    write_tables,
)
from asr.errors import InputError


def test_utterances_of_a_directory_without_segments(make, wav):
    data = DataDir.load(make(utt2dur="s1-a 2.0\ns1-b 2.0\ns2-a 1.5\n"))
    last = data.utterances[-1]
    assert [u.id for u in data.utterances] == ["s1-a", "s1-b", "s2-a"]
    assert (last.speaker, last.recording, last.wav) == ("s2", "s2-a", str(wav))
    assert (last.start_s, last.end_s, last.duration_s, last.text) == (0.0, None, 1.5, "FOUR")


def test_utterances_of_a_directory_with_segments(segmented):
    second = DataDir.load(segmented).utterances[1]
    assert (second.recording, second.start_s, second.end_s) == ("r1", 0.8, 2.0)
    assert second.duration_s == 1.2


def test_a_command_is_kept_as_it_stands(make):
    command = "sph2pipe -f wav 'a  b.sph' |"
    data = DataDir.load(make(wav_scp=f"s1-a {command}\ns1-b {command}\ns2-a {command}\n"))
    assert data.utterances[0].wav == command


def test_without_text(make):
    path = make(text=None)
    assert DataDir.load(path, text=False).utterances[0].text is None
    with pytest.raises(InputError, match="text: no such file"):
        DataDir.load(path)


def test_loading_an_invalid_directory_reports_the_lines(make):
    path = make(text="s1-a ONE\ns1-b\ns2-a FOUR\n")
    with pytest.raises(InputError, match=rf"{path}/text:2: .*\n`asr data validate {path}` lists"):
        DataDir.load(path)


def test_a_missing_directory(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        DataDir.load(tmp_path / "none")


def test_tables_are_written_in_byte_order(tmp_path):
    write_table(tmp_path / "text", {"b": "2", "a": "1", "é": "5", "B": "3", "_": "4"})
    assert (tmp_path / "text").read_text() == "B 3\n_ 4\na 1\nb 2\né 5\n"


def test_tabs_and_runs_of_spaces_separate_the_key():
    assert split_line("utt\t WAVE/a b.wav ") == ("utt", "WAVE/a b.wav")
    assert split_line("utt") == ("utt", "")


def test_only_a_line_feed_ends_a_line(tmp_path):
    (tmp_path / "text").write_text("a X\u2028Y\nb Z\n")
    assert read_table(tmp_path / "text") == {"a": "X\u2028Y", "b": "Z"}


@pytest.mark.parametrize(
    ("content", "message"),
    [("a 1\n\nb 2\n", ":2: empty line"), ("a 1\nb 2\na 3\n", ":3: a is there already")],
)
def test_tables_that_cannot_be_read(tmp_path, content, message):
    (tmp_path / "text").write_text(content)
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "text")


def test_names_tell_what_a_table_is_keyed_by():
    names = ("utt2lang", "reco2file_and_channel", "spk2age", "spk2utt", "utt2spk.bak", "cmvn.ark")
    assert [keyed_by(name) for name in names] == [
        *("utterance", "recording", "speaker"),
        *(None, None, None),
    ]


def test_restrict_takes_recordings_and_speakers_along(segmented):
    tables = restrict(read_tables(segmented), ["s2-a"])
    keys = {name: " ".join(table) for name, table in tables.items()}
    assert keys == {
        **dict.fromkeys(("utt2spk", "text", "segments", "utt2dur", "utt2num_frames"), "s2-a"),
        **dict.fromkeys(("wav.scp", "reco2dur"), "r2"),
        **dict.fromkeys(("spk2gender", "spk2age"), "s2"),
    }


def test_another_content_removes_what_belonged_to_the_old_one(make):
    path = make(utt2dur="s1-a 2\ns1-b 2\ns2-a 2\n", **{"cmvn.ark": "s1 [ ]\n", "notes": "mine"})
    tables = read_tables(path)
    del tables["utt2dur"]
    write_tables(path, tables)
    assert (path / "utt2dur").exists() and (path / "cmvn.ark").exists()
    write_tables(path, tables | {"text": {**tables["text"], "s1-a": "ELSE"}})
    assert not (path / "utt2dur").exists() and (path / "cmvn.ark").exists()
    write_tables(path, tables | {"wav.scp": {**tables["wav.scp"], "s1-a": "other.wav"}})
    assert not (path / "cmvn.ark").exists()
    assert (path / "notes").read_text() == "mine"
