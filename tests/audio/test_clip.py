"""Every format, rate and number of channels is read as 16 kHz mono; bad files are explained."""

import io as memory
import math
import struct
import sys

import numpy as np
import pytest
import soundfile

from asr.audio import clip, header
from asr.audio.clip import Clip, command_of, info, read
from asr.errors import AudioError

FORMATS = [  # format, subtype, largest error of a 440 Hz tone of amplitude 0.5
    ("WAV", "PCM_U8", 1 / 128),
    ("WAV", "PCM_16", 1 / 32768),
    ("WAV", "PCM_24", 1e-6),
    ("WAV", "PCM_32", 1e-6),
    ("WAV", "FLOAT", 1e-6),
    ("WAVEX", "PCM_16", 1 / 32768),
    ("FLAC", "PCM_16", 1 / 32768),
    ("FLAC", "PCM_24", 1e-6),
    ("NIST", "PCM_16", 1 / 32768),
    ("OGG", "VORBIS", 0.02),
    ("OGG", "OPUS", 0.03),
    ("MP3", "MPEG_LAYER_III", 0.02),
]


def sine(rate, seconds=1.0):
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)


def encode(samples, rate=16000, format="WAV", subtype="PCM_16"):
    file = memory.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def middle(waveform):
    """Return a waveform without its ends, where codecs and resampling filters ring."""
    return waveform[1600:-1600]


@pytest.mark.parametrize(("format", "subtype", "error"), FORMATS)
def test_formats_from_file_and_from_bytes(tmp_path, tone, format, subtype, error):
    data = encode(tone, format=format, subtype=subtype)
    path = tmp_path / "a.audio"  # the content decides, not the name
    path.write_bytes(data)
    waveform = read(path)
    assert waveform.dtype == np.float32
    assert waveform.shape == (16000,)
    assert np.abs(middle(waveform) - middle(tone)).max() <= error
    assert np.array_equal(read(data), waveform)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 44056, 48000])
def test_rates(tone, rate):
    waveform = read(encode(sine(rate), rate, subtype="FLOAT"))
    assert len(waveform) == 16000
    assert np.abs(middle(waveform) - middle(tone)).max() < 2e-3


def test_channels_are_averaged(tone):
    left, right = tone, np.zeros(16000)
    stereo = read(encode(np.stack([left, right], axis=1), subtype="FLOAT"))
    np.testing.assert_allclose(stereo, tone / 2, atol=1e-6)


def test_stereo_at_44100_as_phones_record_it(tone):
    both = np.stack([sine(44100)] * 2, axis=1)
    waveform = read(encode(both, 44100, "FLAC"))
    assert np.abs(middle(waveform) - middle(tone)).max() < 2e-3


def test_float_samples_beyond_full_scale_are_kept():
    assert read(encode(np.array([0.5, 3.0, -2.5]), subtype="FLOAT")).tolist() == [0.5, 3.0, -2.5]


@pytest.mark.parametrize("format", ["WAV", "FLAC", "NIST"])
def test_a_clip_equals_its_span_of_the_file(format):
    data = encode(np.arange(16000) / 32768, format=format)
    assert np.array_equal(read(Clip(data, start_s=0.25, end_s=0.5)), read(data)[4000:8000])
    assert np.array_equal(read(Clip(data, start_s=0.75)), read(data)[12000:])


def test_a_clip_decodes_only_its_span(tmp_path):
    data = bytearray(encode(np.random.default_rng(0).uniform(-1, 1, 160000), format="FLAC"))
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)  # damage in the middle
    path = tmp_path / "a.flac"
    path.write_bytes(data)
    with pytest.raises(AudioError, match="damaged"):
        read(path)
    assert len(read(Clip(path, start_s=0.5, end_s=1.5))) == 16000


def test_a_segment_may_end_a_little_after_its_recording():
    data = encode(sine(16000))
    assert len(read(Clip(data, start_s=0.5, end_s=1.4))) == 8000
    with pytest.raises(AudioError, match=r"asked for 0.5 s to 1.6 s, the audio lasts 1.000 s"):
        read(Clip(data, start_s=0.5, end_s=1.6))


@pytest.mark.parametrize(
    ("start_s", "end_s"), [(-0.1, 0.5), (0.5, 0.5), (0.6, 0.5), (1.0, 1.2), (math.nan, None)]
)
def test_empty_segments_are_refused(start_s, end_s):
    with pytest.raises(AudioError, match="check the segment's times"):
        read(Clip(encode(sine(16000)), start_s=start_s, end_s=end_s))


def test_low_rates_are_warned_of_once(capsys, tmp_path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(encode(sine(8000), 8000))
        read(tmp_path / name)
    said = capsys.readouterr().err
    assert said.count("warning") == 1
    assert "a.wav: recorded at 8000 Hz, below 16000 Hz" in said


@pytest.mark.parametrize(("rate", "target"), [(16000, 16000), (48000, 16000), (8000, 8000)])
def test_high_rates_are_not_warned_of(capsys, rate, target):
    read(encode(sine(rate), rate), sample_rate=target)
    assert capsys.readouterr().err == ""


def test_info(tmp_path):
    path = tmp_path / "a.flac"
    path.write_bytes(encode(np.zeros((22050, 2)), 44100, "FLAC"))
    found = info(path)
    assert (found.duration_s, found.sample_rate) == (0.5, 44100)
    assert (found.channels, found.samples) == (2, 22050)


def test_samples_of_16_bits_are_exact(tmp_path):
    samples = np.arange(-32768, 32768) / 32768
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    assert np.array_equal(read(tmp_path / "a.wav"), samples)


# Bad files.

WAV = encode(sine(16000))
NOISE = np.random.default_rng(0).uniform(-1, 1, 16000)
SPHERE = encode(sine(16000), format="NIST")
LONG_CHUNK = b"LIST" + struct.pack("<I", 5999) + bytes(6000)  # odd ones are padded


def cut(data):
    return data[: len(data) * 2 // 3]


BAD = {
    "0 bytes": (b"", r"empty \(0 bytes\); copy or record it again"),
    "header without samples": (encode(np.zeros(0)), "a header without any samples"),
    "the header of a longer file": (WAV[:44], "cut short: 32000 bytes fewer"),
    "cut wav": (cut(WAV), r"damaged: 10659 samples where the header promises 16000; copy"),
    "cut wav, long chunk first": (WAV[:36] + LONG_CHUNK + cut(WAV)[36:], "10659 samples where"),
    "cut flac": (cut(encode(NOISE, format="FLAC")), "cut short or damaged.*promises 16000"),
    "head of a flac": (encode(NOISE, format="FLAC")[:60], "damaged audio; copy"),
    "cut vorbis": (cut(encode(NOISE, format="OGG", subtype="VORBIS")), "cut short"),
    "cut opus": (cut(encode(NOISE, format="OGG", subtype="OPUS")), "cut short"),
    "cut sphere": (SPHERE[:-10000], "cut short or damaged: 11000 samples"),
    "compressed sphere": (
        SPHERE.replace(b"coding -s3 pcm", b"coding -s26 pcm,embedded-shorten-v2.00"),
        "compressed SPHERE; unpack it: sph2pipe",
    ),
    "text": (b"two words and no audio\n", "a text file, expected wav, flac"),
    "rate": (WAV[:24] + struct.pack("<I", 7) + WAV[28:], "a rate of 7 Hz, expected 1000 to"),
    "unknown": (b"\x93\x07" * 999, "not an audio format known here.*ffmpeg"),
    "NaN": (encode(np.array([0.1, np.nan]), subtype="FLOAT"), "not finite numbers"),
    "loud": (
        encode(np.array([0.1, 1e30]), subtype="FLOAT"),
        "beyond 1e[+]10 where full scale is 1",
    ),
    "inf": (encode(np.array([0.1, np.inf]), subtype="FLOAT"), "not finite numbers"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_audio_is_named_and_explained(tmp_path, kind):
    data, message = BAD[kind]
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    with pytest.raises(AudioError, match=f"a.wav: .*{message}"):
        read(path)
    with pytest.raises(AudioError, match=f"^audio data: .*{message}"):
        read(data)


def test_damage_that_makes_pyav_seek_before_the_file_is_an_audio_error(tmp_path):
    data = encode(np.zeros(9000), format="CAF")
    at = data.find(b"data") + 6  # in the length of the chunk, 8 bytes
    (tmp_path / "a.caf").write_bytes(data[:at] + b"\x9c" + data[at + 1 :])
    with pytest.raises(AudioError, match=r"a\.caf: damaged audio"):
        read(tmp_path / "a.caf")


def test_damage_that_makes_libsndfile_seek_before_the_file_prints_no_traceback(monkeypatch):
    raised = []
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    with pytest.raises(AudioError, match=r"any samples|damaged audio"):
        read(encode(np.zeros(9000), format="AIFF").replace(b"SSND", b"S\0ND"))
    assert not raised


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(AudioError, match=r"no.wav: cannot read \(No such file or directory\)"):
        read(tmp_path / "no.wav")
    with pytest.raises(AudioError, match="a folder, expected an audio file"):
        read(tmp_path)
    with pytest.raises(AudioError, match=r"no\.wav"):
        info(tmp_path / "no.wav")


# Files of programs that write to a pipe and cannot go back to fill in the size.


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF - 36, 0xFFFFFFFF])
def test_wav_of_unknown_length(size, tone):
    data = WAV[:40] + struct.pack("<I", size) + WAV[44:]
    assert np.array_equal(read(data), read(WAV))
    assert len(read(Clip(data, start_s=0.75))) == 4000


def test_wav_of_unknown_length_is_not_copied(tmp_path, monkeypatch):
    """Hours of audio are read in bounded memory: never more than a block at a time."""
    (tmp_path / "long.wav").write_bytes(WAV[:40] + bytes(4) + WAV[44:])
    most, read_stream = 0, header.View.readinto

    def watched(self, buffer):
        nonlocal most
        most = max(most, len(buffer))
        return read_stream(self, buffer)

    monkeypatch.setattr(header.View, "readinto", watched)
    parts = list(clip.blocks(clip.Clip(tmp_path / "long.wav"), block_s=0.1))
    assert np.array_equal(np.concatenate(parts), read(WAV)) and 0 < most <= 65536


def test_flac_of_unknown_length(tone):
    """An encoder that writes to a pipe states 0 samples, in the last 36 bits of these 5 bytes."""
    whole = encode(tone, format="FLAC")
    data = whole[:21] + bytes([whole[21] & 0xF0, 0, 0, 0, 0]) + whole[26:]
    assert info(data).samples == 16000
    assert np.array_equal(read(data), read(whole))
    assert np.array_equal(read(Clip(data, start_s=0.75, end_s=0.9)), read(whole)[12000:14400])


def test_an_empty_wav_with_a_comment_is_empty():
    data = encode(np.zeros(0))
    with pytest.raises(AudioError, match="a header without any samples"):
        read(data + b"LIST" + struct.pack("<I", 4) + b"INFO")


def test_pipe_and_entry(tmp_path):
    path = tmp_path / "a b.wav"
    path.write_bytes(WAV)
    assert np.array_equal(read(Clip(f"cat '{path}' | cat", command=True)), read(WAV))
    assert np.array_equal(read(Clip.of_entry(f"cat '{path}' |", start_s=0.5)), read(WAV)[8000:])
    assert np.array_equal(read(Clip.of_entry(str(path), end_s=0.5)), read(WAV)[:8000])


def test_an_entry_without_a_bar_is_not_run(tmp_path):
    for entry in ("touch made", "touch made|\xa0"):  # the space without a break is of the name
        assert command_of(entry) is None
        with pytest.raises(AudioError, match="cannot read"):
            read(Clip.of_entry(entry.replace("made", f"{tmp_path}/made")))
    assert not (tmp_path / "made").exists()
    assert command_of(" cat it \t| ") == "cat it"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo one >&2; echo two >&2; exit 3", r"pipe `.*`: exit code 3; standard error: two$"),
        ("exit 4", r"pipe `exit 4`: exit code 4$"),
        ("true " + "x" * 200_000, r"pipe `true x{95}`: cannot be run: .*check the line of wav.scp"),
        (
            "cat no.wav | cat",
            r"output of `.*`: empty \(0 bytes\).*; standard error: cat: no.wav: No such",
        ),
        ("echo hello", r"output of `echo hello`: a text file"),
    ],
)
def test_pipes_that_fail(command, message):
    with pytest.raises(AudioError, match=message):
        read(Clip(command, command=True))
