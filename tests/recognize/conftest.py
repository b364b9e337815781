"""A model of random weights and noise to feed it."""

import numpy as np
import pytest
import soundfile
import torch

from asr.config import FeatureConfig, TrainConfig
from asr.model.checkpoint import save_model
from asr.model.las import LAS
from asr.text.chars import CharTokenizer

RATE = 16000


@pytest.fixture
def save(tiny_config, tmp_path):
    """Write a model of random weights: it babbles, but always the same."""

    def save(cmvn="none", **info):
        torch.manual_seed(0)
        config = TrainConfig(features=FeatureConfig(mel_bins=20, cmvn=cmvn), model=tiny_config)
        tokenizer = CharTokenizer.from_texts(["AB C"])
        weights = LAS(tiny_config, 20, len(tokenizer)).state_dict()
        path = tmp_path / "exp" / "final.safetensors"
        save_model(path, weights, config=config, tokenizer=tokenizer, cmvn=None, info=info)
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
