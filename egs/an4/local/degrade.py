"""Make degraded copies of a data directory, to measure how robust a recogniser is.

usage: degrade.py DATA OUT CONDITION...

OUT_<condition> is DATA with its audio changed: telephone (8 kHz, a narrow band), noise (pink,
10 dB below the speech), quiet (30 dB less), overdriven (20 dB more, clipped).
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "utils"))

from recipe import run

from asr.audio.clip import Clip, read
from asr.audio.resample import resample
from asr.corpus.datadir import read_valid
from asr.corpus.tables import write_tables
from asr.errors import EXIT_USAGE, InputError
from asr.files import write_atomically
from asr.train.augment import add_noise, coloured_noise

RATE, TELEPHONE_RATE = 16000, 8000
SNR_DB = 10.0


def noisy(waveform: np.ndarray) -> np.ndarray:
    """Return the samples with pink noise; recordings of equal length get the same noise."""
    generator = torch.Generator().manual_seed(len(waveform))
    noise = coloured_noise(len(waveform), "pink", generator, RATE)
    return add_noise(torch.from_numpy(waveform), noise, SNR_DB).numpy()


CONDITIONS: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
    "telephone": (TELEPHONE_RATE, lambda waveform: resample(waveform, RATE, TELEPHONE_RATE)),
    "noise": (RATE, noisy),
    "quiet": (RATE, lambda waveform: 10 ** (-30 / 20) * waveform),
    "overdriven": (RATE, lambda waveform: (10 * waveform).clip(-1, 1)),
}


def degrade(data: Path, out: Path, condition: str) -> None:
    """Write a copy of a data directory, with its audio in ``out/wav``.

    Raises:
        InputError: a recording cannot be read.
    """
    rate, change = CONDITIONS[condition]
    tables = read_valid(data, text=False)
    (out / "wav").mkdir(parents=True, exist_ok=True)
    entries = {}
    for name, entry in tables["wav.scp"].items():
        changed = change(read(Clip.of_entry(entry), sample_rate=RATE))
        write = partial(soundfile.write, data=changed, samplerate=rate, format="WAV")
        entries[name] = str(write_atomically(out / "wav" / f"{name}.wav", write))
    write_tables(out, {**tables, "wav.scp": entries})


def main(argv: list[str]) -> int:
    """Make the copies.

    Raises:
        InputError: a condition is unknown, or a recording cannot be read.
    """
    if len(argv) < 3:
        print(__doc__, file=sys.stderr)
        return EXIT_USAGE
    for condition in argv[2:]:
        if condition not in CONDITIONS:
            raise InputError(f"{condition}: no such condition, expected {', '.join(CONDITIONS)}")
    for condition in argv[2:]:
        degrade(Path(argv[0]), Path(f"{argv[1]}_{condition}"), condition)
    return 0


if __name__ == "__main__":
    run(main)
