"""Blocks of a file, of one channel or of a segment equal the whole that is read at once."""

import io

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from asr.audio import decode
from asr.audio.clip import Clip, CommandOutputs, blocks, info, read
from asr.audio.resample import Resampler, resample
from asr.errors import AudioError

RATES = [4000, 8000, 11025, 16000, 44100, 44056, 48000, 192000]


def encode(samples, rate=16000, format="WAV", subtype="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def noise(count, channels=1):
    return np.random.default_rng(0).uniform(-0.5, 0.5, (count, channels)).squeeze()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("size", [97, 512, 9999])
def test_resampling_in_blocks_equals_resampling_at_once(rate, size):
    waveform = noise(rate // 8).astype(np.float32)
    resampler = Resampler(rate, 16000)
    parts = [resampler.push(waveform[i : i + size]) for i in range(0, len(waveform), size)]
    whole = resample(waveform, rate, 16000)
    joined = np.concatenate([*parts, resampler.close()])
    np.testing.assert_allclose(joined, whole, atol=1e-5)


PAIRS = [(rate, 16000) for rate in (4000, 11025, 44100, 48000, 192000)]


@pytest.mark.parametrize(("rate", "target"), [*PAIRS, (16000, 8000), (90, 100), (110, 100)])
@pytest.mark.parametrize("samples", [0, 1, 7, 400, 24001])
def test_resampling_equals_torchaudio(rate, target, samples):
    waveform = noise(samples).astype(np.float32).reshape(-1)
    found = resample(waveform, rate, target)
    assert found.shape == (-(-samples * target // rate),) and found.dtype == np.float32
    if samples:
        expected = torchaudio.transforms.Resample(rate, target)(torch.from_numpy(waveform))
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("rate", [15979, 22255])
def test_rates_without_a_large_common_divisor_are_left_to_soxr(rate):
    time = np.arange(rate) / rate
    found = resample(np.sin(2 * np.pi * 440 * time).astype(np.float32), rate, 16000)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(found[500:-500], expected[500:-500], atol=1e-3)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize(("format", "subtype"), [("WAV", "PCM_16"), ("MP3", "MPEG_LAYER_III")])
def test_blocks_are_the_file(rate, format, subtype):
    data = encode(noise(rate * 2), rate, format, subtype)
    parts = list(blocks(Clip(data), block_s=0.3))
    assert len(parts) > 6 and max(map(len, parts)) < 0.5 * 16000
    np.testing.assert_allclose(np.concatenate(parts), read(data), atol=1e-5)
    part = np.concatenate(list(blocks(Clip(data, 0.5, 1.25), block_s=0.3)))
    expected = read(Clip(data, start_s=0.5, end_s=1.25))
    np.testing.assert_allclose(part, expected, atol=1e-5)


def test_a_channel_alone():
    both = noise(16000, channels=2)
    data = encode(both)
    for channel in (1, 2):
        alone = encode(both[:, channel - 1])
        assert np.array_equal(
            np.concatenate(list(blocks(Clip(data, channel=channel)))), read(alone)
        )
        assert np.array_equal(read(Clip(data, channel=channel)), read(alone))
    for channel in (0, 3):
        with pytest.raises(AudioError, match=f"channel {channel}, expected 1 to 2"):
            list(blocks(Clip(data, channel=channel)))


def test_damage_in_the_middle_shows_when_it_is_reached():
    data = bytearray(encode(noise(160000), format="FLAC"))
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    found = blocks(Clip(bytes(data), name="a.flac"), block_s=1.0)
    assert len(next(found)) == 16000
    with pytest.raises(AudioError, match=r"a\.flac: cut short or damaged"):
        list(found)


def test_entries_of_a_wav_scp(tmp_path):
    path = tmp_path / "a b.wav"
    path.write_bytes(encode(noise(16000)))
    whole = read(path)
    assert np.array_equal(np.concatenate(list(blocks(Clip.of_entry(f" {path} ")))), whole)
    piped = Clip.of_entry(f"cat '{path}' | cat |", 0.5)
    assert np.array_equal(np.concatenate(list(blocks(piped))), whole[8000:])
    with pytest.raises(AudioError, match=r"exit code 3; standard error: no$"):
        list(blocks(Clip.of_entry("echo no >&2; exit 3 |")))
    with pytest.raises(AudioError, match="cannot read"):  # a path is never run
        list(blocks(Clip(f"touch {tmp_path}/made |")))
    assert not (tmp_path / "made").exists()


def test_a_command_is_run_for_each_reading_but_once_for_a_list_of_segments(tmp_path):
    path = tmp_path / "a.wav"
    entry = f"echo x >> {tmp_path}/runs; cat {path} |"

    def lengths(**more):
        return [len(read(Clip.of_entry(entry, start_s=s), **more)) for s in (0.0, 0.5)]

    path.write_bytes(encode(noise(16000)))
    assert lengths() == [16000, 8000]
    path.write_bytes(encode(noise(32000)))
    assert lengths() == [32000, 24000]
    outputs = CommandOutputs()
    assert lengths(outputs=outputs) == [32000, 24000]
    assert (tmp_path / "runs").read_text() == 5 * "x\n"
    path.write_bytes(encode(noise(16000)))
    clips = [Clip.of_entry(entry, start_s) for start_s in (0.0, 0.5)]
    assert [len(np.concatenate(list(blocks(clip)))) for clip in clips] == [16000, 8000]


# m4a, mp4 and webm


def media(container, codec, samples, rate=16000, tracks=1):
    """Encode a file as phones and browsers do; only an mp4 states its duration."""
    av = pytest.importorskip("av", reason="the extra `media` is not installed")
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        track, *_ = [output.add_stream(codec, rate=rate, layout="stereo") for _ in range(tracks)]
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples.T, np.float32), format="fltp", layout="stereo"
        )
        frame.rate = rate
        floats = av.AudioResampler(track.format, "stereo", rate, track.frame_size or None)
        for part in [*floats.resample(frame), *floats.resample(None)]:
            output.mux(track.encode(part))
        output.mux(track.encode(None))
    return file.getvalue()


MEDIA = [("mp4", "aac"), ("webm", "libopus"), ("matroska", "pcm_s16le")]


def tones(rate, seconds=1.0):
    time = np.arange(round(rate * seconds)) / rate
    return 0.5 * np.sin(2 * np.pi * np.array([440, 880]) * time[:, None])


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "flv"])
def test_joined_media_files_are_read_to_their_end(container):
    one, two = (media(container, "aac", tones(44100, seconds), 44100) for seconds in (1.0, 2.0))
    whole = read(one + two)
    assert len(whole) == pytest.approx(3 * 16000, abs=0.2 * 16000)
    assert whole[-8000:].std() > 0.1


def test_a_file_with_several_tracks_says_which_is_read(capsys):
    read(media("matroska", "pcm_s16le", tones(16000), tracks=2))
    assert "it has 2 sound tracks; the first is read" in capsys.readouterr().err


@pytest.mark.parametrize(("container", "codec"), MEDIA)
def test_sound_of_media_files(container, codec, tmp_path):
    data = media(container, codec, tones(48000), 48000)
    path = tmp_path / "a.m4a"
    path.write_bytes(data)
    found = info(path)
    assert (found.sample_rate, found.channels) == (48000, 2)
    assert found.duration_s == pytest.approx(1.0, abs=0.1)
    for channel, hertz in ((1, 440), (2, 880)):
        waveform = read(Clip(path, channel=channel))[1600:14400]
        assert waveform.std() == pytest.approx(0.5 / 2**0.5, rel=0.05)
        assert int(np.abs(np.fft.rfft(waveform)).argmax()) == pytest.approx(hertz * 0.8, abs=1)
    whole = read(data)
    np.testing.assert_allclose(
        np.concatenate(list(blocks(Clip(path), block_s=0.3))), whole, atol=1e-5
    )
    part = read(Clip(data, start_s=0.5, end_s=0.75))
    assert np.abs((part - whole[8000:12000])[10:-10]).max() < 1e-3  # filters swing at the ends


def test_media_files_that_are_damaged():
    data = media("mp4", "aac", tones(16000, 3.0))
    for bad in (data[: len(data) // 2], data[:40], data[:8] + bytes(len(data) - 8)):
        with pytest.raises(AudioError, match=r"audio data: (damaged|cut short|no sound).*again"):
            read(bad)
    data = media("matroska", "pcm_s16le", tones(16000, 3.0))
    with pytest.raises(AudioError, match="cut short: the last"):
        read(data[: len(data) // 2])


def test_without_pyav_the_error_names_the_package(monkeypatch):
    monkeypatch.setattr(decode, "installed", lambda: False)
    for head, kind in ((b"\0\0\0\x20ftypM4A ", "mp4 or m4a"), (b"\x1a\x45\xdf\xa3", "webm or mkv")):
        with pytest.raises(AudioError, match=rf"{kind}.*pip install -e '\.\[media\]'.*ffmpeg"):
            read(head + bytes(99))


def video(container, sound_s, picture_s, start_s=0.0, gap_s=0.0):
    """Encode noise that begins at ``start_s`` and has a gap, and a picture of a given length."""
    av = pytest.importorskip("av", reason="the extra `media` is not installed")
    from fractions import Fraction

    file = io.BytesIO()
    samples = noise(round(sound_s * 16000)).astype(np.float32)
    with av.open(file, "w", format=container) as output:
        codec = "aac" if container == "mp4" else "pcm_s16le"
        sound = output.add_stream(codec, rate=16000, layout="mono")
        packets = []
        if picture_s:
            shown = output.add_stream("mpeg4", rate=10, width=64, height=48, pix_fmt="yuv420p")
            for number in range(round(10 * picture_s)):
                image = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), "uint8"), "rgb24")
                image.pts, image.time_base = number, Fraction(1, 10)
                packets += shown.encode(image)
            packets += shown.encode(None)
        fit = av.AudioResampler(sound.codec_context.format, "mono", 16000)
        for start in range(0, len(samples), 1024):
            block = samples[None, start : start + 1024]
            frame = av.AudioFrame.from_ndarray(block, "fltp", "mono")
            late = start_s + (gap_s if start > len(samples) / 2 else 0)
            frame.sample_rate, frame.time_base = 16000, Fraction(1, 16000)
            frame.pts = round(16000 * late) + start
            for part in fit.resample(frame):
                packets += sound.encode(part)
        packets += sound.encode(None)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            output.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize("container", ["mp4", "matroska", "mov"])
def test_the_times_of_a_video_are_those_of_its_picture(container, tmp_path):
    path = tmp_path / "film"
    path.write_bytes(video(container, 2.0, 6.0, start_s=3.0))
    whole = read(path)
    assert info(path).samples == len(whole) == pytest.approx(5 * 16000, abs=1100)
    assert not whole[: 3 * 16000 - 1100].any() and whole[3 * 16000 + 1100 :].std() > 0.1
    np.testing.assert_allclose(
        np.concatenate(list(blocks(Clip(path), block_s=0.7))), whole, atol=1e-5
    )
    assert np.array_equal(read(Clip(path, start_s=2.9, end_s=3.5))[3000:], whole[49400:56000])


def test_an_interruption_of_the_sound_is_silence():
    whole = read(video("matroska", 2.0, 0, gap_s=1.5))
    assert len(whole) == pytest.approx(3.5 * 16000, abs=200)
    assert not whole[20000:38000].any() and whole[42000:].std() > 0.1


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_sound_that_ends_before_the_picture_is_whole_and_a_cut_file_is_not(container):
    data = video(container, 2.0, 9.0)
    assert len(read(data)) == pytest.approx(2 * 16000, abs=1100)
    data = video(container, 9.0, 9.0)
    with pytest.raises(AudioError, match=r"damaged|cut short"):
        read(data[: len(data) // 2])


@pytest.mark.parametrize("layout", ["mono", "5.1", "7.1"])
def test_every_channel_of_a_video_is_its_own(layout):
    av = pytest.importorskip("av", reason="the extra `media` is not installed")
    count, file = av.AudioLayout(layout).nb_channels, io.BytesIO()
    levels = np.arange(1, count + 1, dtype=np.int16) * 1000
    with av.open(file, "w", format="matroska") as output:
        track = output.add_stream("pcm_s16le", rate=16000, layout=layout)
        samples = np.tile(levels, 4000).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate, frame.pts = 16000, 0
        for part in (frame, None):
            output.mux(track.encode(part))
    data = file.getvalue()
    assert info(data).channels == count
    found = [read(Clip(data, channel=c)).mean() * 32768 for c in range(1, count + 1)]
    np.testing.assert_allclose(found, levels, atol=1)


def test_blocks_of_a_video_that_are_kept_take_no_more_memory_than_their_samples():
    data = media("matroska", "pcm_s16le", tones(16000, 20.0).astype(np.float32))
    kept = list(blocks(Clip(data, channel=1), block_s=0.01))
    owners = {id(owner): owner for owner in (b if b.base is None else b.base for b in kept)}
    assert sum(owner.nbytes for owner in owners.values()) <= 8 * sum(b.nbytes for b in kept)
