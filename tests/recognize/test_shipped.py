"""The model that ships recognises words of its domain: times of day, said by synthetic voices."""

from pathlib import Path

import pytest

import asr
from asr.audio.clip import Clip
from asr.model import vad
from asr.model.vad import SileroDetector

MINI = Path(__file__).parents[2] / "data" / "mini"
ENDS = {  # utterances that end with a time of day
    "1005-1-0002": "THREE FORTY FIVE",
    "1008-1-0018": "FIVE FORTY FIVE",
    "1008-1-0030": "ONE FORTY FIVE",
    "1009-1-0004": "EIGHT FORTY FIVE",
    "1028-1-0033": "THREE FORTY FIVE",
}


def last_words(utterance: str, count: int) -> Clip:
    """The last words of an utterance of the bundled corpus, and 0.1 s before them."""
    table = (MINI / "train-mini.ctm").read_text().splitlines()
    begins = [float(line.split()[2]) for line in table if line.startswith(f"{utterance} ")]
    (file,) = MINI.rglob(f"{utterance}.opus")
    return Clip(file, start_s=begins[-count] - 0.1)


@pytest.fixture
def recognizer(monkeypatch):
    monkeypatch.setattr(vad, "SileroDetector", SileroDetector)  # the real one
    return asr.load("an4", "cpu")


def test_it_writes_down_bundled_speech(recognizer):
    clips = [last_words(name, len(text.split())) for name, text in ENDS.items()]
    found = [recognizer.transcribe(clip).text for clip in clips]
    assert asr.score(list(ENDS.values()), found).wer <= 0.1
