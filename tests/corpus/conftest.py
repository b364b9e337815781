"""Small data directories whose lines one can see."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

Make = Callable[..., Path]


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    """A recording of two seconds."""
    path = tmp_path / "audio" / "a.wav"
    path.parent.mkdir()
    soundfile.write(path, np.full(32000, 0.1), 16000)
    return path


@pytest.fixture
def make(tmp_path: Path, wav: Path) -> Make:
    """Write a valid directory of three utterances and two speakers; files can be replaced.

    Keys are file names; ``_`` stands for the dot of wav.scp. None leaves a file out.
    """

    def write(name: str = "data", **files: str | bytes | None) -> Path:
        path = tmp_path / name
        path.mkdir(parents=True)
        content: dict[str, str | bytes | None] = {
            "utt2spk": "s1-a s1\ns1-b s1\ns2-a s2\n",
            "spk2utt": "s1 s1-a s1-b\ns2 s2-a\n",
            "text": "s1-a ONE\ns1-b TWO THREE\ns2-a FOUR\n",
            "wav.scp": f"s1-a {wav}\ns1-b {wav}\ns2-a {wav}\n",
        }
        content |= {file.replace("_scp", ".scp"): lines for file, lines in files.items()}
        for file, lines in content.items():
            if lines is not None:
                (path / file).write_bytes(lines.encode() if isinstance(lines, str) else lines)
        return path

    return write


@pytest.fixture
def segmented(make: Make, wav: Path) -> Path:
    """A directory with segments: two in one recording, one in another; every kind of table."""
    return make(
        "segmented",
        wav_scp=f"r1 {wav}\nr2 {wav}\n",
        segments="s1-a r1 0.0 0.8\ns1-b r1 0.8 2.0\ns2-a r2 0.5 1.5\n",
        utt2dur="s1-a 0.8\ns1-b 1.2\ns2-a 1.0\n",
        utt2num_frames="s1-a 78\ns1-b 118\ns2-a 98\n",
        reco2dur="r1 2.0\nr2 2.0\n",
        spk2gender="s1 f\ns2 m\n",
        spk2age="s1 30\ns2 40\n",
    )
