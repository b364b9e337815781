"""Damaged files of every format give audio or an AudioError, in bounded time and memory."""

import io
import time

import numpy as np
import pytest
import soundfile
from fuzz import budget
from hypothesis import given
from hypothesis import strategies as st

from asr.audio import media
from asr.audio.clip import Clip, blocks, info, read
from asr.errors import AudioError

LONGEST_S = 10.0  # for one file; usual are some milliseconds
KINDS = [
    *(("WAV", "PCM_16"), ("WAV", "GSM610"), ("WAV", "IMA_ADPCM"), ("RF64", "PCM_24")),
    *(("WAVEX", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")),
    *(("MP3", "MPEG_LAYER_III"), ("NIST", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "G721_32")),
    *(("W64", "PCM_16"), ("CAF", "ALAC_16"), ("VOC", "PCM_16")),
]
CONTAINERS = [
    *(("mp4", "aac"), ("matroska", "libopus"), ("asf", "wmav2"), ("adts", "aac")),
    *(("avi", "pcm_s16le"), ("wav", "g722"), ("ogg", "flac")),
]


def encode(kind, channels):
    file = io.BytesIO()
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (4000, channels))
    if kind[1] in ("GSM610", "G721_32"):
        samples = samples[:, :1]
    soundfile.write(file, samples, 16000, format=kind[0], subtype=kind[1])
    return file.getvalue()


def encode_media(container, codec):
    import av

    file = io.BytesIO()
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 8000)).astype(np.float32)
    with av.open(file, "w", format=container) as output:
        more = {"bit_rate": 32000} if codec == "wmav2" else {}
        track = output.add_stream(codec, rate=16000, layout="mono", **more)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        fit = av.AudioResampler(track.codec_context.format, "mono", 16000)
        for part in [*fit.resample(frame), *fit.resample(None), None]:
            output.mux(track.encode(part))
    return file.getvalue()


FILES = [encode(kind, channels) for kind in KINDS for channels in (1, 2)]
MEDIA = [encode_media(*kind) for kind in CONTAINERS] if media.installed() else []


@st.composite
def damaged(draw, files):
    """Return a file with changed, missing or repeated bytes, or two files joined."""
    data = bytearray(draw(st.sampled_from(files)))
    if draw(st.booleans()):
        data += draw(st.sampled_from(files))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.one_of(st.integers(0, 120), st.integers(0, len(data))))
        new = draw(st.one_of(st.binary(max_size=8), st.sampled_from([b"\xff" * 4, bytes(8)])))
        gone = draw(st.sampled_from([len(new), 0, 1, 100]))
        data[place : place + gone] = new
    return bytes(data[: draw(st.one_of(st.none(), st.integers(0, len(data))))])


def try_to_read(data):
    """All ways of reading agree, or all raise AudioError."""
    started = time.process_time()
    try:
        length = info(data).samples
        parts = list(blocks(Clip(data, channel=1), block_s=0.05))
        whole = read(Clip(data, channel=1))
        assert length > 0 and np.concatenate(parts).shape == whole.shape
        assert np.isfinite(whole).all()
        read(Clip(data, start_s=0.1, end_s=0.2))
    except AudioError as error:
        assert str(error).startswith("audio data: ") and "\n" not in str(error)
    assert time.process_time() - started < LONGEST_S


@budget(150)
@given(damaged(FILES))
def test_damaged_files(data):
    try_to_read(data)


@pytest.mark.skipif(not MEDIA, reason="the extra `media` is not installed")
@budget(60)
@given(damaged(MEDIA))
def test_damaged_media_files(data):
    try_to_read(data)


@budget(60)
@given(st.binary(max_size=200), st.sampled_from([b"", *(file[:40] for file in FILES)]))
def test_any_bytes(data, head):
    try_to_read(head + data)
