"""Speech probabilities equal those of the package's own model, however the audio is cut."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.audio.clip import read
from asr.errors import InputError
from asr.model import vad
from asr.model.vad import SileroDetector

MINI = Path(__file__).parents[2] / "data" / "mini"


@pytest.fixture
def waveform():
    """A sentence, a pause and the sentence again; 100 samples more than whole chunks."""
    speech = read(min((MINI / "test-mini").rglob("*.opus")))
    both = np.concatenate([speech, np.zeros(16000, np.float32), speech])
    return both[: len(both) // 512 * 512 + 100]


def probabilities(waveform, size, rate=16000):
    detector = SileroDetector(rate)
    parts = [detector.push(waveform[i : i + size]) for i in range(0, len(waveform), size)]
    return np.concatenate([*parts, detector.close()])


def test_probabilities_are_those_of_the_package(waveform):
    folder = vad.find_spec("silero_vad").submodule_search_locations[0]
    theirs = torch.jit.load(f"{folder}/{vad.WEIGHTS}")
    padded = torch.from_numpy(np.pad(waveform, (0, 412)))
    with torch.no_grad():
        expected = torch.cat([theirs(chunk[None], 16000).flatten() for chunk in padded.split(512)])
    found = probabilities(waveform, 50000)
    assert found.max() > 0.9 and found.min() < 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("size", [1, 511, 5000])
def test_blocks_change_nothing(waveform, size):
    part = waveform[:20000]
    np.testing.assert_allclose(probabilities(part, size), probabilities(part, 20000), atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 48000])
def test_other_rates(waveform, rate):
    from asr.audio.resample import resample

    found = probabilities(resample(waveform, 16000, rate), 4000, rate)
    expected = probabilities(waveform, 4000)
    assert len(found) == len(expected)
    assert ((found > 0.5) == (expected > 0.5)).mean() > 0.9


def test_no_audio_has_no_probabilities():
    assert len(SileroDetector(16000).close()) == 0


def test_the_package_is_not_imported():
    code = (
        "import sys, numpy, torch\nfrom asr.model.vad import SileroDetector\n"
        "torch.set_num_threads(2)\n"
        "SileroDetector(16000).push(numpy.zeros(5000, 'f'))\n"
        "assert torch.get_num_threads() == 2 and 'silero_vad' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_the_package_the_error_has_the_command(monkeypatch):
    monkeypatch.setattr(vad, "find_spec", lambda name: None)
    vad.speech_network.cache_clear()
    with pytest.raises(InputError, match=r"pip install 'silero-vad.*--vad fixed"):
        SileroDetector(16000)
