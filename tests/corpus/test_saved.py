"""Features of a killed command are not measured again, and the files stay the same."""

import os
import shutil

import numpy as np
import pytest
import soundfile

from asr.commands.features import read_features
from asr.config import FeatureConfig
from asr.corpus import saved
from asr.corpus.feature_statistics import SAVED_FILE, gather
from asr.corpus.saved import Saved
from asr.errors import InputError

CONFIG = FeatureConfig(mel_bins=20)
WRITTEN = ("utt2dur", "utt2num_frames", "cmvn.ark", "features.json")


@pytest.fixture
def data(make, wav, monkeypatch):
    """Three utterances of noise in files of their own; a process measures one at a time."""
    for seed, name in enumerate(("a", "b", "c")):
        noise = np.random.default_rng(seed).normal(0, 0.1, 16000)
        soundfile.write(wav.with_name(f"{name}.wav"), noise, 16000)
    monkeypatch.setattr(saved, "CHUNK", 1)
    files = [wav.with_name(f"{name}.wav") for name in ("a", "b", "c")]
    return make(
        wav_scp="".join(f"{u} {f}\n" for u, f in zip(("s1-a", "s1-b", "s2-a"), files, strict=True))
    )


def interrupted(path, config=CONFIG, after=2):
    """Stop when some utterances are measured; return how many were already at the start."""
    seen = []

    def report(done, count):
        seen.append(done)
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gather(path, config, 2, report)
    assert not (path / "utt2dur").exists()
    return seen[0]


def resumed(path, config=CONFIG):
    """Finish; return how many utterances were measured already."""
    seen = []
    gather(path, config, 1, lambda done, count: seen.append(done))
    assert seen[-1] == 3 and not (path / SAVED_FILE).exists()
    return seen[0]


def test_a_stopped_command_goes_on_to_the_same_files(data, tmp_path):
    whole = tmp_path / "whole"
    shutil.copytree(data, whole)
    assert resumed(whole) == 0
    assert interrupted(data) == 0
    with open(data / SAVED_FILE, "ab") as file:
        file.write(b"half a row")
    assert resumed(data) == 2
    for name in WRITTEN:
        assert (data / name).read_bytes() == (whole / name).read_bytes()


def test_changed_audio_and_other_settings_are_measured_again(data, wav):
    interrupted(data)
    os.utime(wav.with_name("a.wav"), ns=(1, 1))
    os.utime(wav.with_name("b.wav"), ns=(1, 1))
    os.utime(wav.with_name("c.wav"), ns=(1, 1))
    assert interrupted(data) == 0
    assert interrupted(data, FeatureConfig(mel_bins=23)) == 0


def test_audio_that_cannot_be_read_is_tried_again(data, wav):
    good = wav.with_name("b.wav").read_bytes()
    wav.with_name("b.wav").write_bytes(b"none")
    with pytest.raises(InputError, match=r"of 1 of 3 utterances cannot be read.*\n  s1-b: "):
        gather(data, CONFIG)
    wav.with_name("b.wav").write_bytes(good)
    assert resumed(data) == 2


def test_two_processes_do_not_write_one_file(data, monkeypatch):
    monkeypatch.setattr(saved, "PATIENCE_S", 0.0)
    first = Saved(data / SAVED_FILE, {"x": "f8"}, 1)
    with pytest.raises(InputError, match="another process is writing"):
        gather(data, CONFIG)
    assert len(first) == 0
    (data / SAVED_FILE).unlink()  # the first has ended while the second waited for the lock
    first.append(np.zeros(1, first.dtype))
    assert len(first.rows()) == 1


def test_commands_run_again_after_an_error(make, tmp_path):
    """What a command writes may have changed, unlike a file with the same time and size."""
    sound = tmp_path / "sound.wav"
    soundfile.write(sound, np.zeros(16000), 16000)
    path = make(wav_scp=f"s1-a cat {sound} |\ns1-b false |\ns2-a {sound}\n")
    with pytest.raises(InputError, match="1 of 3 utterances cannot be read"):
        gather(path, CONFIG)
    soundfile.write(sound, np.zeros(8000), 16000)
    (path / "wav.scp").write_text(f"s1-a cat {sound} |\ns1-b {sound}\ns2-a {sound}\n")
    assert gather(path, CONFIG)[0] == [0.5, 0.5, 0.5]


def test_a_configuration_may_have_options_of_a_training_but_no_unknown_section(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text("train: data/train\nfeatures.mel_bins: 23\n")
    assert read_features(str(path)).mel_bins == 23
    path.write_text("feature:\n  mel_bins: 23\n")
    with pytest.raises(InputError, match="feature: no such setting"):
        read_features(str(path))
