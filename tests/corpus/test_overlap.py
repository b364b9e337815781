"""The same audio and the same sentences in two directories, under different ids."""

import pytest

from asr.corpus import overlap
from asr.corpus.datadir import Utterance
from asr.corpus.overlap import recordings, same_audio, same_sentences
from asr.terminal import Quiet


def utterance(name, wav, start_s=0.0, end_s=None, text="ONE"):
    return Utterance(name, name, name, str(wav), start_s, end_s, text, None)


@pytest.fixture
def files(tmp_path):
    """a and its copy, a file of the same size that differs at its end, a link to a."""
    for name, content in (("a", b"xyz" * 5000), ("copy", b"xyz" * 5000), ("end", b"xyz" * 4999)):
        (tmp_path / name).write_bytes(content)
    with open(tmp_path / "end", "ab") as end:
        end.write(b"xyy")
    (tmp_path / "link").symlink_to("a")
    return tmp_path


@pytest.mark.parametrize("name", ["a", "copy", "link", "./a"])
def test_the_same_audio_under_another_name(files, name):
    dev = [utterance("d", f"{files}/{name}"), utterance("e", files / "end")]
    assert same_audio([utterance("t", files / "a")], dev) == ([("d", "t")], 0)


def test_other_parts_of_a_recording_are_not_the_same(files):
    train = [utterance("t1", files / "a", 0.0, 2.0), utterance("t2", files / "a", 4.0, 6.0)]
    dev = [utterance("d1", files / "copy", 2.0, 4.0), utterance("d2", files / "copy", 4.5, 6.5)]
    dev.append(utterance("d3", files / "copy", 1.5, 3.5))  # a quarter in common
    assert same_audio(train, dev) == ([("d2", "t2")], 0)


def test_parts_of_a_whole_recording_are_the_same(files):
    whole = Utterance("whole", "w", "r", str(files / "a"), 0.0, None, "ONE", 6.0)
    part = utterance("part", files / "copy", 2.0, 4.0)
    assert same_audio([part], [whole])[0] == [("whole", "part")]
    assert same_audio([whole], [part])[0] == [("part", "whole")]


def test_commands_are_compared_by_their_words_and_not_run(files):
    train, dev = utterance("t", f"touch {files}/run |"), utterance("d", f"touch {files}/run |")
    assert same_audio([train], [dev])[0] == [("d", "t")]
    assert not (files / "run").exists()


def test_files_are_read_only_where_sizes_agree_and_not_too_many(files, monkeypatch):
    monkeypatch.setattr(overlap, "MOST_READ", 2)
    (files / "short").write_bytes(b"s")
    train = [utterance("t", files / "a"), utterance("u", files / "end")]
    dev = [utterance("d", files / "copy"), utterance("e", files / "short")]
    assert same_audio(train, dev) == ([], 1)
    monkeypatch.setattr(overlap, "MOST_READ", 3)
    assert same_audio(train, dev) == ([("d", "t")], 0)


@pytest.mark.parametrize("quiet", [False, True])
def test_a_note_says_what_was_not_compared(files, monkeypatch, capsys, quiet):
    monkeypatch.setattr(overlap, "MOST_READ", 1)
    monkeypatch.setattr(Quiet, "on", quiet)
    recordings([utterance("t", files / "a"), utterance("d", files / "copy")])
    said = "note: 2 recordings were not searched for copies: too many have the same size\n"
    assert capsys.readouterr().err == ("" if quiet else said)


def test_missing_files_are_ignored(files):
    assert same_audio([utterance("t", files / "a")], [utterance("d", files / "none")]) == ([], 0)


def test_sentences_are_compared_without_case_and_punctuation():
    train = [utterance("t", "a", text="It\u2019s FINE, thanks.")]
    texts = ["it's fine thanks", "ITS FINE THANKS", "it s fine thanks", "fine"]
    assert same_sentences(train, [utterance(t, "b", text=t) for t in texts]) == 2
    assert same_sentences([utterance("t", "a", text=None)], [utterance("d", "b", text=None)]) == 0
