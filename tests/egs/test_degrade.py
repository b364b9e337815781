"""Worse copies of recordings: as long, as loud and as noisy as their name says."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.audio.clip import info, read
from asr.corpus.datadir import DataDir
from asr.corpus.validate import validate
from asr.errors import InputError


@pytest.fixture
def degrade(load_script):
    return load_script("an4/local/degrade.py")


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "dev"
    folder.mkdir()
    tone = 0.2 * np.sin(np.arange(16000) * 2 * np.pi * 1000 / 16000)
    soundfile.write(folder / "a.wav", tone, 16000)
    (folder / "wav.scp").write_text(f"s-a {folder}/a.wav\n")
    (folder / "text").write_text("s-a GO\n")
    (folder / "utt2spk").write_text("s-a s\n")
    (folder / "spk2utt").write_text("s s-a\n")
    return folder


def test_copies(degrade, data, tmp_path):
    conditions = ["telephone", "noise", "quiet", "overdriven"]
    assert degrade.main([str(data), str(tmp_path / "dev"), *conditions]) == 0
    waveforms = {}
    for condition in conditions:
        folder = tmp_path / f"dev_{condition}"
        assert not validate(folder)
        (utterance,) = DataDir.load(folder).utterances
        assert utterance.text == "GO"
        waveforms[condition] = read(utterance.wav, sample_rate=16000)
        assert info(utterance.wav).sample_rate == (8000 if condition == "telephone" else 16000)
    clean = read(data / "a.wav", sample_rate=16000)
    power = (clean**2).mean()
    added = ((waveforms["noise"] - clean) ** 2).mean()
    assert 10 * math.log10(power / added) == pytest.approx(10.0, abs=0.1)
    quieter = (waveforms["quiet"] ** 2).mean()
    assert 10 * math.log10(power / quieter) == pytest.approx(30.0, abs=0.1)
    assert float(abs(waveforms["overdriven"]).max()) > 0.99


def test_an_unknown_condition_changes_nothing(degrade, data, tmp_path):
    with pytest.raises(InputError, match="echo: no such condition"):
        degrade.main([str(data), str(tmp_path / "dev"), "noise", "echo"])
    assert not (tmp_path / "dev_noise").exists()
