"""A model of random weights and noise to feed it."""

import numpy as np
import pytest
import soundfile
import torch

from asr.audio.vad import FRAME
from asr.config import FeatureConfig, LossConfig, TrainConfig
from asr.model import vad
from asr.model.las import LAS
from asr.store.model_file import Header, save_model
from asr.text.tokenizer import CharTokenizer

RATE = 16000


class LoudDetector:
    """Detects speech in everything but zeros."""

    def __init__(self, rate):
        self.chunk, self.rest = FRAME * rate // RATE, np.zeros(0, np.float32)

    def push(self, waveform):
        samples = np.concatenate([self.rest, waveform])
        whole = len(samples) // self.chunk * self.chunk
        self.rest = samples[whole:]
        return (samples[:whole].reshape(-1, self.chunk) != 0).any(1).astype(float)

    def close(self):
        return self.rest.any().astype(float)[None] if len(self.rest) else np.zeros(0)


@pytest.fixture(autouse=True)
def noise_is_speech(monkeypatch):
    """Replace the speech detector, which would discard the noise of these tests."""
    monkeypatch.setattr(vad, "SileroDetector", LoudDetector)


@pytest.fixture
def save(tiny_config, tmp_path):
    """Write a model of random weights, always the same."""

    def save(cmvn="none", ctc_weight=0.3, **info):
        torch.manual_seed(0)
        features, loss = FeatureConfig(mel_bins=20, cmvn=cmvn), LossConfig(ctc_weight=ctc_weight)
        config = TrainConfig(features=features, model=tiny_config, loss=loss)
        tokenizer = CharTokenizer.from_texts(["AB C"])
        weights = LAS(tiny_config, 20, len(tokenizer)).state_dict()
        path = tmp_path / "exp" / "final.safetensors"
        save_model(path, weights, Header(config, tokenizer, None, info))
        return str(path.parent)

    return save


@pytest.fixture
def model(save):
    return save()


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
