"""Sounds that the audio tests share."""

from pathlib import Path

import numpy as np
import pytest

from asr.audio import clip, memory

MINI = Path(__file__).parents[2] / "data" / "mini"


@pytest.fixture(autouse=True)
def nothing_warned_yet(monkeypatch):
    monkeypatch.setattr(memory, "_printed", set())


@pytest.fixture
def tone():
    """One second of 440 Hz at 16 kHz, half of full scale."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)).astype(np.float32)


@pytest.fixture
def speech():
    """A sentence of the bundled corpus."""
    return clip.read(min((MINI / "test-mini").rglob("*.opus")))
