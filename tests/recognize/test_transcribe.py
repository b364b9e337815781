"""Transcribing: many inputs, one bad file, results where they were asked for."""

import json

import numpy as np
import pytest
import soundfile
import torch

import asr
from asr.config import DecodeConfig, FeatureConfig, TrainConfig
from asr.errors import InputError
from asr.model.checkpoint import save_model
from asr.model.las import LAS
from asr.recognize.cli import main
from asr.recognize.recognizer import cut
from asr.text.chars import CharTokenizer

RATE = 16000


@pytest.fixture
def model(tiny_config, tmp_path):
    """A folder with a model of random weights: it babbles, but always the same."""
    torch.manual_seed(0)
    config = TrainConfig(features=FeatureConfig(mel_bins=20), model=tiny_config)
    tokenizer = CharTokenizer.from_texts(["AB C"])
    weights = LAS(tiny_config, 20, len(tokenizer)).state_dict()
    path = tmp_path / "exp" / "final.safetensors"
    save_model(path, weights, config=config, tokenizer=tokenizer, cmvn=None, info={})
    return str(path.parent)


@pytest.fixture
def audio(tmp_path):
    """Two good files and one that is text."""
    generator = np.random.default_rng(0)
    for name, seconds in (("a", 0.5), ("b", 0.8)):
        soundfile.write(
            tmp_path / f"{name}.wav", generator.normal(0, 0.1, int(seconds * RATE)), RATE
        )
    (tmp_path / "bad.wav").write_text("no audio")
    return tmp_path


def test_python_takes_files_bytes_and_arrays(model, audio):
    recognizer = asr.load(model, device="cpu", config=DecodeConfig(beam=2, nbest=2))
    path = audio / "a.wav"
    samples, rate = soundfile.read(path, dtype="float32")
    stereo = np.stack([samples, samples], axis=1)
    expected = recognizer.transcribe(path)
    assert expected.duration_s == 0.5
    assert recognizer.transcribe_file(path) == expected.text
    for source in (path.read_bytes(), (samples, rate), (stereo, rate)):
        assert recognizer.transcribe(source).text == expected.text
    several = recognizer.transcribe([path, audio / "b.wav"], attention=True)
    assert [t.duration_s for t in several] == [0.5, 0.8]
    segment = several[0].segments[0]
    assert segment.nbest[0].strip() == segment.text
    torch.testing.assert_close(segment.attention.sum(1), torch.ones(len(segment.attention)))
    assert set(several[0].to_dict()) == {"text", "duration", "segments"}


def test_bad_arrays_are_refused(model):
    recognizer = asr.load(model, device="cpu")
    for samples in (np.full(8000, np.nan), np.zeros((2, 3, 4))):
        with pytest.raises(InputError, match="expected finite numbers"):
            recognizer.transcribe((samples, RATE))


def test_one_bad_file_does_not_stop_the_others(model, audio, capsys):
    files = [str(audio / name) for name in ("a.wav", "bad.wav", "missing.wav", "b.wav")]
    assert main([*files, "--model", model, "--device", "cpu"]) == 1
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == [files[0], files[3]]
    assert f"{files[1]}: a text file" in err
    assert files[2] in err


def test_results_go_into_a_folder(model, audio, capsys):
    (audio / "bad.wav").unlink()
    arguments = [str(audio), "--model", model, "-f", "all", "-o", str(audio / "out")]
    assert main([*arguments, "--beam", "1"]) == 0
    assert capsys.readouterr().out == ""
    assert sorted(p.name for p in (audio / "out").iterdir()) == [
        "a.json",
        "a.txt",
        "b.json",
        "b.txt",
    ]
    value = json.loads((audio / "out" / "b.json").read_text())
    assert value["segments"][0]["end"] == 0.8
    assert (audio / "out" / "b.txt").read_text().strip() == value["text"]


def test_two_inputs_for_one_output_are_refused_before_work_starts(model, audio):
    soundfile.write(audio / "a.flac", np.zeros(RATE), RATE)
    files = [str(audio / "a.wav"), str(audio / "a.flac")]
    with pytest.raises(InputError, match=r"a\.wav and .*a\.flac would both write"):
        main([*files, "--model", model, "-o", str(audio / "out")])
    assert not (audio / "out").exists()


def test_a_folder_without_audio(model, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no audio file"):
        main([str(tmp_path / "empty"), "--model", model])


def test_short_audio_is_not_cut_and_long_audio_in_its_pauses():
    rate = 100
    assert cut(torch.ones(30 * rate), rate) == [(0, 3000)]
    long = torch.ones(70 * rate)
    long[2490:2510] = 0.0  # pauses at 25 s and at 50 s
    long[4990:5010] = 0.0
    first, second, third = cut(long, rate)
    assert first == (0, pytest.approx(2500, abs=10))
    assert second == (first[1], pytest.approx(5000, abs=10))
    assert third == (second[1], 7000)
