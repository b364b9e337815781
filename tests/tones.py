"""A corpus of tones: A, B and C are three pitches, so that a tiny model can learn to spell."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.config import FeatureConfig, TrainConfig
from asr.config.read import from_dict
from asr.corpus.feature_statistics import gather
from asr.text.tokenizer import CharTokenizer

PITCH_HZ = {"A": 300, "B": 900, "C": 2700, " ": 0}
SECONDS = 0.25


def tones(text: str) -> np.ndarray:
    time = np.arange(int(16000 * SECONDS)) / 16000
    noise = np.random.default_rng(len(text)).normal(0, 0.01, len(time) * len(text))
    return np.concatenate([0.3 * np.sin(2 * np.pi * PITCH_HZ[c] * time) for c in text]) + noise


def make_set(folder: Path, speaker: str, texts: list[str]) -> Path:
    folder.mkdir(parents=True)
    ids = [f"{speaker}-{i:02d}" for i in range(len(texts))]
    for name, text in zip(ids, texts, strict=True):
        soundfile.write(folder / f"{name}.wav", tones(text), 16000)
    tables = {
        "wav.scp": [f"{name} {folder / name}.wav" for name in ids],
        "text": [f"{name} {text}" for name, text in zip(ids, texts, strict=True)],
        "utt2spk": [f"{name} {speaker}" for name in ids],
        "spk2utt": [f"{speaker} {' '.join(ids)}"],
    }
    for table, lines in tables.items():
        (folder / table).write_text("".join(line + "\n" for line in lines))
    gather(folder, FeatureConfig(mel_bins=20))
    return folder


@pytest.fixture(scope="session")
def tone_corpus(tmp_path_factory):
    """A folder with train, dev and tokens.txt."""
    root = tmp_path_factory.mktemp("tones")
    texts = ["AB", "BA", "CAB", "ABC", "BCA", "C", "AC", "CB A", "A B", "BB", "CC A", "AAB"]
    make_set(root / "train", "s1", texts)
    make_set(root / "dev", "s2", ["BAC", "A C"])
    CharTokenizer.from_texts(texts).to_file(root / "tokens.txt")
    return root


TINY = {
    "epochs": 3,
    "average": 2,
    "checkpoint_minutes": 0.0,
    "threads": 1,
    "device": "cpu",
    "features": {"mel_bins": 20},
    "passes": 2,
    "augment": {
        "vtln": 0.1,
        "freq_width": 4,
        "time_width": 5,
        "noise_prob": 0.5,
    },
    "model": {
        "encoder": {"units": 12, "pyramid": [2, 2], "dropout": 0.1},
        "attention": {"units": 8, "filters": 2, "filter_width": 5},
        "decoder": {"units": 12, "embedding": 6, "dropout": 0.1},
    },
    "loss": {
        "consistency": 0.2,
        "guide": 1.0,
        "guide_epochs": 2,
    },
    "optim": {"learning_rate": 0.01, "warmup_steps": 3},
    "batch": {"seconds": 3.0, "workers": 0},
}


@pytest.fixture
def tiny_training() -> TrainConfig:
    return from_dict(TrainConfig, TINY)
