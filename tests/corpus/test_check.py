"""asr data check: what it finds in audio, and what its policies do."""

import json

import numpy as np
import pytest
import soundfile

from asr.commands.data import run_check
from asr.corpus.check import LIMITS, check, policies
from asr.corpus.datadir import DataDir
from asr.errors import InputError

USUAL = {name: value for name, (value, _, _) in LIMITS.items()}
RATE = 8000


@pytest.fixture
def data(make, tmp_path):
    """An utterance of each kind, and a good one."""
    rng = np.random.default_rng(1)
    good = rng.normal(0, 0.1, RATE).clip(-0.5, 0.5)
    sounds = {
        "a-clipped": np.where(np.arange(RATE) % 500 == 0, 1.0, good),
        "b-empty": good[:400],
        "c-fast": good,
        "d-good": good,
        "e-long": np.tile(good, 31),
        "f-none": np.zeros(0),
        "g-quiet": good / 1000,
        "h-silent": np.zeros(RATE),
        "j-stereo": np.stack([good, good], 1),
    }
    (tmp_path / "i.wav").write_bytes(b"RIFF, but damaged")
    for name, samples in sounds.items():
        soundfile.write(tmp_path / f"{name[0]}.wav", samples, RATE)
    ids = sorted([*sounds, "i-unreadable"])
    return make(
        utt2spk="".join(f"{u} {u[0]}\n" for u in ids),
        spk2utt="".join(f"{u[0]} {u}\n" for u in ids),
        text="".join(f"{u} {'A' * (26 if u == 'c-fast' else 1)}\n" for u in ids),
        wav_scp="".join(f"{u} {tmp_path / u[0]}.wav\n" for u in ids),
    )


def found_in(path, **limits):
    report = check(path, USUAL | limits, policies("")).report
    return {kind: list(found["examples"]) for kind, found in report["kinds"].items()}


def test_each_kind_is_found(data):
    assert found_in(data) == {
        "unreadable": ["i-unreadable"],
        "empty": ["b-empty", "f-none"],
        "silent": ["g-quiet", "h-silent"],
        "stereo": ["j-stereo"],
        "clipped": ["a-clipped"],
        "long": ["e-long"],
        "fast": ["c-fast"],
    }
    other = found_in(data, longest=40, silent=-90, clipped=1, fastest=27, shortest=0.01)
    assert other["empty"] == ["f-none"] and other["silent"] == ["h-silent"]
    assert not (other["long"] or other["clipped"] or other["fast"])


def test_a_report_names_examples_and_stops(data, capsys):
    assert run_check([str(data), "--nj", "2"]) == 1
    out, err = capsys.readouterr()
    assert "unreadable (stop): 1 utterance: audio that cannot be read\n  i-unreadable: " in out
    assert "clipped (warn): 1 utterance: more than 0.1 % of the samples at full scale" in out
    assert "  a-clipped: 0.20 %\n" in out and "  c-fast: 26 characters in 1.00 s" in out
    *_, remedy = err.split("stopped: unreadable, empty; fix the audio, or --policy ")
    assert run_check([str(data), "--out", f"{data}-ok", "--policy", remedy.strip()]) == 0


@pytest.mark.parametrize("limit", ["shortest nan", "longest -1", "clipped inf", "silent nan"])
def test_limits_are_numbers(data, limit):
    name, value = limit.split()
    with pytest.raises(InputError, match=rf"--{name}: {value}, expected"):
        run_check([str(data), f"--{name}={value}"])
    assert run_check([str(data), "--silent=-90", "--policy", "unreadable=warn,empty=warn"]) == 0


def test_only_changed_audio_is_read_again(data, tmp_path):
    seen = []
    check(data, USUAL, policies(""))
    soundfile.write(tmp_path / "d.wav", np.zeros(RATE), RATE)
    found = check(data, USUAL, policies(""), report=lambda done, count: seen.append(done))
    assert seen == [8, 10]  # the damaged file and the changed one
    assert list(found.report["kinds"]["silent"]["examples"]) == ["d-good", "g-quiet", "h-silent"]


def test_commands_are_run_again(make, wav):
    path = make(wav_scp="".join(f"{name} cat {wav} |\n" for name in ("s1-a", "s1-b", "s2-a")))
    assert found_in(path)["silent"] == []
    soundfile.write(wav, np.zeros(RATE), RATE)
    assert found_in(path)["silent"] == ["s1-a", "s1-b", "s2-a"]


def test_utterances_are_dropped_with_a_backup(data, capsys):
    policy = "unreadable=drop,empty=drop,silent=drop"
    assert run_check([str(data), "--policy", policy, "--json"]) == 0
    out, err = capsys.readouterr()
    kinds = json.loads(out)["kinds"]
    assert kinds["silent"]["count"] == 2 and kinds["silent"]["policy"] == "drop"
    assert f"5 utterances dropped: {data}: 5 utterances left; originals in {data}/.backup" in err
    left = ["a-clipped", "c-fast", "d-good", "e-long", "j-stereo"]
    assert list(DataDir.load(data).utterances.ids) == left
    assert (data / ".backup" / "text").read_text().count("\n") == 10
    assert run_check([str(data), "--policy", "fast=drop", "--out", f"{data}-ok"]) == 0
    assert list(DataDir.load(f"{data}-ok").utterances.ids) == [left[0], *left[2:]]
    assert list(DataDir.load(data).utterances.ids) == left


def test_a_directory_with_nothing_to_find(make, wav, capsys):
    path = make(wav_scp=f"s1-a cat {wav} |\ns1-b {wav}\ns2-a {wav}\n", text=None)
    assert run_check([str(path)]) == 0
    assert capsys.readouterr().out.endswith(" s: nothing found\n")


@pytest.mark.parametrize("text", ["quiet=drop", "silent=remove", "silent"])
def test_unknown_policies(text):
    with pytest.raises(InputError, match="expected KIND=POLICY with a kind of unreadable, "):
        policies(text)
