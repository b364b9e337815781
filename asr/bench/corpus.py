"""A corpus of tones: each letter is a pitch, so that a tiny model trains on it in seconds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from asr.config import FeatureConfig
from asr.corpus.feature_statistics import gather
from asr.corpus.tables import write_table
from asr.text.tokenizer import CharTokenizer

PITCH_HZ = {"A": 300, "B": 900, "C": 2700}
RATE_HZ = 16000
SECONDS = 0.25  # of a letter


def make_corpus(root: Path, utterances: int, features: FeatureConfig) -> None:
    """Write the data directories ``train`` and ``dev``, and ``tokens.txt``.

    Args:
        root: the folder.
        utterances: of the training set; the dev set has a quarter of them.
        features: settings of the features.
    """
    random = np.random.default_rng(1)
    texts = ["".join(random.choice(list(PITCH_HZ), 2 + i % 4)) for i in range(utterances)]
    _make_set(root / "train", "s1", texts, features)
    _make_set(root / "dev", "s2", [text[::-1] for text in texts[: utterances // 4]], features)
    CharTokenizer.from_texts(texts).to_file(root / "tokens.txt")


def _make_set(folder: Path, speaker: str, texts: Sequence[str], features: FeatureConfig) -> None:
    folder.mkdir(parents=True)
    named = {f"{speaker}-{i:03d}": text for i, text in enumerate(texts)}
    for name, text in named.items():
        soundfile.write(folder / f"{name}.wav", _tones(text), RATE_HZ)
    write_table(folder / "wav.scp", {name: str(folder / f"{name}.wav") for name in named})
    write_table(folder / "text", named)
    write_table(folder / "utt2spk", dict.fromkeys(named, speaker))
    write_table(folder / "spk2utt", {speaker: " ".join(named)})
    gather(folder, features)


def _tones(text: str) -> np.ndarray:
    time_s = np.arange(int(RATE_HZ * SECONDS)) / RATE_HZ
    waves = [0.3 * np.sin(2 * np.pi * PITCH_HZ[letter] * time_s) for letter in text]
    noise = np.random.default_rng(len(text)).normal(0, 0.01, len(time_s) * len(text))
    return np.concatenate(waves) + noise
