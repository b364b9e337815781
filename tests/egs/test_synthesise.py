"""Synthetic speech like AN4's: sentences of the same kinds, and a data directory that is valid."""

import os
import random
import signal
import subprocess
import sys
import time
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


class Killed(Tone):
    """A voice that takes more memory than there is."""

    def say(self, text: str, voices: list[str], rate: float) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        return np.zeros(0, np.float32)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def command(tmp_path, out):
    source, styles = tmp_path / "source", tmp_path / "voices"
    source.mkdir()
    styles.mkdir()
    (source / "text").write_text("".join(f"u{i} {' '.join(w)}\n" for i, w in enumerate(SOURCE)))
    for voice in ("af_one", "am_two", "zf_other"):
        (styles / f"{voice}.bin").touch()
    return [str(source), str(out), "--styles", str(styles), "--utterances", "6", "--nj", "1"]


def test_data_directory_is_valid_and_made_once(script, command, out, monkeypatch, capsys):
    monkeypatch.setattr(script, "Kokoro", Tone)
    assert script.main(command) == 0
    assert validate(out) == []
    assert "6 utterances" in capsys.readouterr().out
    assert not (out / "utt2spk").read_text().count("zf_other")  # not an English voice
    before = {path: path.stat().st_mtime_ns for path in (out / "audio").iterdir()}
    assert script.main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "audio").iterdir()} == before


def test_other_sentences_get_other_recordings(script, command, out, monkeypatch):
    """The recordings of the first run stay, and none of them is taken for other words."""
    monkeypatch.setattr(script, "Kokoro", Tone)

    def listed(*options):
        assert script.main([*command, *options]) == 0
        return set((out / "wav.scp").read_text().split()[1::2])

    first = listed()
    assert not first & listed("--seed", "2")
    Path(command[0], "text").write_text("u HELLO WORLD\n")
    assert not first & listed()
    assert set((out / "utt2spk").read_text().split()[1::2]) <= {
        "synthetic-af_one",
        "synthetic-am_two",
    }


def test_a_killed_process_is_told(script, command, monkeypatch):
    monkeypatch.setattr(script, "Kokoro", Killed)
    with pytest.raises(InputError, match=r"a process was killed .* lower --nj"):
        script.main(command)


def test_an_interrupt_ends_with_one_line(script, command, out, tmp_path):
    """What is queued is not begun."""
    slow = f"""
import sys, time
sys.argv = ["synthesise.py", *{[*command, "--utterances", "1000"]!r}]
sys.path.insert(0, {str(Path(script.__file__).parent)!r})
import synthesise
class Slow:
    def __init__(self, styles): pass
    def say(self, text, voices, rate):
        time.sleep(0.2)
        return synthesise.np.ones(9999, "float32")
synthesise.Kokoro = Slow
synthesise.run(synthesise.main)
"""
    run = subprocess.Popen([sys.executable, "-c", slow], stderr=subprocess.PIPE, text=True)
    while not list(out.glob("audio/*.flac")):
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    assert said.strip() == "synthesise.py: interrupted; the same command goes on"
    assert len(list(out.glob("audio/*.flac"))) < 100


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
