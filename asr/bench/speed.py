"""Times of a training step and of a search, and how the search grows with the length.

All times are processor seconds of one thread, which other programs hardly change.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr.arrays import FloatArray
from asr.bench.accuracy import Trained, join, read_dev
from asr.bench.measure import in_child, times_of
from asr.search.beam import search
from asr.search.protocol import Encoded
from asr.train.evaluate import SEARCH

JOINED = (1, 2, 4)  # utterances in a segment
SEGMENTS = 8  # in the batch
REPEATS = 3


def measure(folder: str | Path, dev: str | Path) -> dict[str, Any]:
    """Measure a finished training; the process must use one thread.

    Args:
        folder: of the training.
        dev: data directory, whose utterances are joined to segments.

    Returns:
        ``step_s`` and ``peak_memory_mb`` of training steps with the batch of ``asr bench train``;
        for each form of attention and number of joined utterances, ``rtf``, the seconds of encoder
        and beam search per second of audio, and ``decoder``, the same of the decoder alone, which
        reads the transcripts with as many rows as the search has; and the load of the machine.
    """
    config = f"--config={Path(folder) / 'config.yaml'}"
    step = in_child(["train", config, "--threads=1", f"--repeats={REPEATS}"])
    return {
        "step_s": step["processor_seconds"],
        "peak_memory_mb": step["peak_memory_mb"],
        "forms": searches(Trained.from_folder(folder), dev),
        "load": os.getloadavg()[0],
    }


def searches(trained: Trained, dev: str | Path) -> dict[str, dict[str, dict[str, float]]]:
    """Return the numbers of each form; see :func:`measure`."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    recognizer, rate = trained.recognizer(), trained.header.config.features.sample_rate
    spoken = read_dev(dev, rate)
    for count in JOINED:
        segments = join(spoken, count, rate)[: min(SEGMENTS, len(spoken) // JOINED[-1])]
        features = [recognizer.features(each.waveform) for each in segments]
        audio_s = sum(len(each.waveform) for each in segments) / rate
        texts = [trained.header.tokenizer.encode(each.text) for each in segments]
        for form in trained.forms if segments else ():
            trained.use_form(form)
            rows = found.setdefault(form, {"rtf": {}, "decoder": {}})
            for name, seconds in _seconds(trained, features, texts).items():
                rows[name][str(count)] = seconds / audio_s
    return found


def _seconds(
    trained: Trained, features: Sequence[FloatArray], texts: Sequence[Sequence[int]]
) -> dict[str, float]:
    model = trained.model
    config = trained.recognizer().config  # without CTC if the model has none

    def work() -> None:
        search(model, model.encode(features), config)

    encoded = model.encode(features)
    return {
        "rtf": times_of(work, REPEATS, warm_up=1).processor,
        "decoder": times_of(lambda: read(trained, encoded, texts), REPEATS, warm_up=1).processor,
    }


def read(trained: Trained, encoded: Encoded, texts: Sequence[Sequence[int]]) -> None:
    """Let the decoder read a text of each utterance, with as many rows as a search has."""
    session = trained.model.decode(encoded, SEARCH.beam)  # type: ignore[arg-type]
    state, rows = session.start(), np.arange(len(texts) * SEARCH.beam)
    tokens = np.zeros((max(map(len, texts)), len(texts)), np.int64)
    for column, text in enumerate(texts):
        tokens[: len(text), column] = text
    for each in tokens.repeat(SEARCH.beam, axis=1):
        _, _, state = session.step(encoded.array(each), state, encoded.array(rows))
