"""Broken and odd inputs in one call with good ones: no traceback, no hang, the good ones are done.

A few dozen by default; ``ASR_BROKEN_INPUTS=200 pytest tests/recognize/test_broken.py`` makes 200.
"""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[2]
COUNT = int(os.environ.get("ASR_BROKEN_INPUTS", "36"))
SECONDS = 0.4
FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "wavex.wav": ("WAVEX", "PCM_24"),
    "flac": ("FLAC", "PCM_16"),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "sph": ("NIST", "PCM_16"),
}


def encode(samples, rate=16000, suffix="wav"):
    if suffix == "m4a":
        return encode_m4a(samples, rate)
    kind, subtype = FORMATS[suffix]
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def encode_m4a(samples, rate):
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        track = output.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "fltp", "mono")
        frame.rate = rate
        floats = av.AudioResampler(track.format, "mono", rate, 1024)
        for part in [*floats.resample(frame), *floats.resample(None)]:
            output.mux(track.encode(part))
        output.mux(track.encode(None))
    return file.getvalue()


def noise(generator, rate=16000, *channels):
    return generator.normal(0, 0.1, (round(SECONDS * rate), *channels)).clip(-1, 1)


def any_file(generator):
    """A good file of some format, and its suffix."""
    suffixes = sorted([*FORMATS, *(["m4a"] if HAVE_AV else [])])
    suffix = suffixes[generator.integers(len(suffixes))]
    return encode(noise(generator), suffix=suffix), suffix


def fuzzed(generator, first, last):
    """A file of which some bytes between two places are others."""
    data, suffix = any_file(generator)
    changed = np.frombuffer(data, np.uint8).copy()
    places = generator.integers(first, min(last, len(data)), generator.integers(1, 12))
    changed[places] = generator.integers(0, 256, len(places))
    return changed.tobytes(), suffix


def fuzzed_header(generator):
    return fuzzed(generator, 4, 60)


def fuzzed_anywhere(generator):
    return fuzzed(generator, 0, 10**9)


def truncated(generator):
    data, suffix = any_file(generator)
    return data[: generator.integers(0, len(data))], suffix


def not_finite(generator):
    samples = noise(generator)
    samples[generator.integers(len(samples))] = generator.choice([np.nan, np.inf, -np.inf])
    return encode(samples, suffix="float.wav"), "wav"


def far_too_loud(generator):
    return encode(noise(generator) * 10.0 ** generator.integers(1, 38), suffix="float.wav"), "wav"


def silence(generator):
    return encode(np.zeros(generator.integers(1, 50000))), "wav"


def clipping(generator):
    return encode(np.sign(noise(generator))), "wav"


def few_samples(generator):
    return encode(noise(generator)[: generator.integers(0, 4)]), "wav"


def many_channels(generator):
    return encode(noise(generator, 16000, 100)), "wav"


def odd_rate(generator):
    rate = int(generator.choice([1, 900, 4000, 11127, 192000, 2**31 - 1]))
    return encode(noise(generator), rate), "wav"


def rubbish(generator):
    return generator.bytes(generator.integers(0, 3000)), str(generator.choice(["wav", "mp3"]))


MAKERS = (
    *(fuzzed_header, fuzzed_header, fuzzed_anywhere, truncated, truncated, not_finite),
    *(far_too_loud, silence, clipping, few_samples, many_channels, odd_rate, rubbish),
)
HAVE_AV = True
try:
    import av  # noqa: F401
except ImportError:
    HAVE_AV = False


@pytest.fixture
def folder(tmp_path):
    """Broken files, and between them good ones: sentences of the bundled corpus."""
    place = tmp_path / "in"
    place.mkdir()
    generator = np.random.default_rng(0)
    for number in range(COUNT):
        make = MAKERS[number % len(MAKERS)]
        data, suffix = make(generator)
        name = f"{number:03}-{make.__name__}.{suffix.split('.')[-1]}"
        (place / name).write_bytes(data)
    for number, file in enumerate(sorted((ROOT / "data/mini/test-mini").rglob("*.opus"))[:3]):
        shutil.copy(file, place / f"{number * COUNT // 3:03}-good-{number}.opus")
    (place / "999-folder.wav").mkdir()
    (place / "999-nowhere.wav").symlink_to(place / "no.wav")
    return place


def transcribe(model, *arguments):
    """Run the command in a process of its own, which has ten minutes."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    options = ["--model", model, "--beam", "1", "--max_ratio", "0.2", "--threads", "1"]
    return subprocess.run(
        [sys.executable, "-m", "asr", "transcribe", *options, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": paths},
    )


@pytest.mark.parametrize("vad", ["silero", "fixed"])  # with fixed, noise comes to the model
def test_broken_inputs_do_not_stop_good_ones(model, folder, tmp_path, vad):
    files = sorted(folder.iterdir())
    files.remove(folder / "999-folder.wav")  # an empty folder is refused before work starts
    done = transcribe(model, *files, "-f", "all", "-o", tmp_path / "out", "--vad", vad)
    assert "Traceback" not in done.stderr and "Fatal" not in done.stderr
    assert done.returncode == 1, done.stderr
    for file in files:
        written = (tmp_path / "out" / f"{file.stem}.txt").is_file()
        said = f"asr transcribe: {file}: " in done.stderr
        assert written != said, f"{file.name}: either a result or a reason"
        assert written or "good" not in file.name
        if written:
            text = (tmp_path / "out" / f"{file.stem}.json").read_text()
            json.loads(text, parse_constant=pytest.fail)  # NaN and inf are no JSON
    good = [file for file in files if "good" in file.name]
    assert transcribe(model, *good, "-o", tmp_path / "alone", "--vad", vad).returncode == 0
    for file in good:
        name = f"{file.stem}.txt"
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "alone" / name).read_text()
