"""Synthetic speech like AN4's: sentences of the same kinds, and a data directory that is valid."""

import random
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from asr.corpus.validate import validate
from asr.errors import InputError

SOURCE = [["ENTER", "SIX", "FORTY"], ["A", "B", "C"], ["A", "C"], ["C", "A", "B", "A"], ["CODE"]]


@pytest.fixture
def script(load_script):
    return load_script("an4/local/synthesise.py")


def test_words_become_words_of_their_kind(script):
    drawn = list(islice(script.sentences(SOURCE, random.Random(1)), 500))
    commands = [words for words in drawn if len(words) == 3 and len(words[1]) > 1]
    assert {words[0] for words in commands} == {"ENTER", "ERASE", "RUBOUT"}
    assert {words[1] for words in commands} == set(script.KIND_OF["ONE"])
    assert {words[2] for words in commands} == set(script.KIND_OF["FORTY"])
    assert ["CODE"] in drawn  # a word of no kind stays


def test_spelled_names_follow_the_pairs_of_letters(script):
    drawn = list(islice(script.sentences(SOURCE, random.Random(1)), 500))
    names = [words for words in drawn if script.is_spelled(words)]
    pairs = {pair for words in names for pair in zip(["", *words], words, strict=False)}
    # the source's names are A B C and C A B A
    assert pairs == {("", "A"), ("", "C"), ("A", "B"), ("B", "C"), ("C", "A"), ("B", "A")}


def test_a_seed_gives_the_same_sentences(script):
    first, second, other = (
        list(islice(script.sentences(SOURCE, random.Random(seed)), 20)) for seed in (1, 1, 2)
    )
    assert first == second != other


class Tone:
    """A voice that hums for a tenth of a second for every letter."""

    def __init__(self, styles: Path) -> None:
        pass

    def say(self, text: str, voices: list[str], rate: float) -> np.ndarray:
        seconds = 0.1 * len(text) / rate
        return np.sin(np.arange(int(24000 * seconds)) * 0.05).astype(np.float32)


def test_data_directory_is_valid_and_made_once(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "Kokoro", Tone)
    source, out, styles = tmp_path / "source", tmp_path / "out", tmp_path / "voices"
    source.mkdir()
    styles.mkdir()
    (source / "text").write_text("".join(f"u{i} {' '.join(w)}\n" for i, w in enumerate(SOURCE)))
    for voice in ("af_one", "am_two", "zf_other"):
        (styles / f"{voice}.bin").touch()
    command = [str(source), str(out), "--styles", str(styles), "--utterances", "6", "--nj", "1"]
    assert script.main(command) == 0
    assert validate(out) == []
    assert "6 utterances" in capsys.readouterr().out
    assert not (out / "utt2spk").read_text().count("zf_other")  # not an English voice
    before = {path: path.stat().st_mtime_ns for path in (out / "audio").iterdir()}
    assert script.main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "audio").iterdir()} == before


def test_folder_without_voices(script, tmp_path):
    (tmp_path / "text").write_text("u ONE\n")
    with pytest.raises(InputError, match="no voice"):
        script.main([str(tmp_path), str(tmp_path / "out"), "--styles", str(tmp_path)])


@pytest.mark.parametrize("text", ["", "u\n"])
def test_text_without_words(script, tmp_path, text):
    (tmp_path / "text").write_text(text)
    with pytest.raises(InputError, match="no sentence, or one without words"):
        script.main([str(tmp_path), str(tmp_path / "out"), "--styles", str(tmp_path)])


def test_silence_is_not_written(script, tmp_path):
    with pytest.raises(InputError, match="says nothing"):
        script.write_flac(tmp_path / "a.flac", np.zeros(100, np.float32))
    assert list(tmp_path.iterdir()) == []
