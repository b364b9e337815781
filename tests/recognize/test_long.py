"""The measurement of long recordings: what is joined, and that its numbers are there."""

import json

import numpy as np
import pytest
import soundfile

from asr.bench import transcribe as long
from asr.commands.bench import main
from asr.errors import InputError


def test_a_recording_is_joined_of_utterances_and_pauses(tmp_path):
    spoken = [long.Reference(np.full(16000 * n, 0.5, np.float32), f"TEXT {n}") for n in (1, 2)]
    said = long.join(spoken, 0.2, -50.0, tmp_path / "a.flac")
    assert [u.text for u in said[:3]] == ["TEXT 1", "TEXT 2", "TEXT 1"]
    samples, rate = soundfile.read(tmp_path / "a.flac")
    assert 12 <= len(samples) / rate < 18
    speech = abs(samples - 0.5) < 1e-4
    assert speech.sum() >= sum(len(u.waveform) for u in said)
    loudest = abs(samples[~speech]).max()
    assert 0 < loudest < 0.03  # noise of -50 dB at the most


def test_errors_are_those_of_all_texts_together():
    said = [
        long.Reference(np.zeros(1, np.float32), "A B"),
        long.Reference(np.zeros(1, np.float32), "C D"),
    ]
    assert long.errors(said, ["A B C D"]) == 0  # in one segment or in two
    assert long.errors(said, ["A B", "", "D"]) == 25


def test_bench_transcribe(model, capsys):
    arguments = ["transcribe", "--model", model, "--minutes", "0.3", "--beam", "1", "--json"]
    assert main([*arguments, "--threads", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 18 <= found["audio_s"] < 25 and found["utterances"] >= 3
    assert 0 < found["kept_s"] <= found["audio_s"] and found["segments"] > 0
    # the kernel counts pages in batches, so that a peak can fall by a few of them
    assert found["peak_memory_mb"] + 1 > found["memory_before_mb"] > 1
    difference = found["wer_percent"] - found["wer_one_by_one_percent"]
    assert found["wer_difference"] == pytest.approx(difference)


def test_sizes_that_make_no_sense(model):
    for option, value in (("--minutes", "0"), ("--noise_db", "3")):
        with pytest.raises(InputError, match=option):
            main(["transcribe", "--model", model, option, value])
    with pytest.raises(InputError, match="no such folder"):
        main(["transcribe", "--model", model, "--data", "nowhere", "--minutes", "1"])
