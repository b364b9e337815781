"""Features equal those of Kaldi's steps, written out here, and of torchaudio's code."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchaudio.compliance.kaldi as kaldi

from asr.audio.features import BLOCK, FeatureExtractor, add_deltas, loudness
from asr.config import FeatureConfig
from asr.errors import AudioError, InputError

FBANK = FeatureConfig()
MFCC = FeatureConfig(kind="mfcc", mel_bins=23)
SAME_AS_KALDI = {"atol": 1e-3}  # of natural logarithms, in float32


def noise(samples, scale=0.1):
    return (scale * np.random.default_rng(1).standard_normal(samples)).astype(np.float32)


def kaldi_fbank(waveform, config=FBANK, warp=1.0):
    return kaldi.fbank(
        32768 * torch.from_numpy(waveform)[None],
        num_mel_bins=config.mel_bins,
        sample_frequency=config.sample_rate,
        frame_length=config.frame_length_ms,
        frame_shift=config.frame_shift_ms,
        low_freq=config.low_freq_hz,
        high_freq=config.high_freq_hz,
        dither=0.0,
        use_energy=False,
        vtln_warp=warp,
    ).numpy()


def frame_by_hand(samples):
    """Compute the features of one window of 400 samples by Kaldi's steps, one by one."""
    x = [32768 * float(s) for s in samples]
    mean = sum(x) / 400
    x = [v - mean for v in x]
    x = [x[i] - 0.97 * x[max(i - 1, 0)] for i in range(400)]
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * i / 399) for i in range(400)]
    x = [v * h**0.85 for v, h in zip(x, hann, strict=True)]
    power = torch.fft.rfft(torch.tensor(x, dtype=torch.float64), n=512).abs() ** 2

    def mel(hz):
        return 1127 * math.log(1 + hz / 700)

    width = (mel(8000) - mel(20)) / 81
    energies = []
    for b in range(80):
        left, centre, right = (mel(20) + (b + i) * width for i in range(3))
        energy = 0.0
        for k in range(256):
            m = mel(k * 16000 / 512)
            if left < m <= centre:
                energy += float(power[k]) * (m - left) / width
            elif centre < m < right:
                energy += float(power[k]) * (right - m) / width
        energies.append(math.log(max(energy, torch.finfo(torch.float32).eps)))
    return np.array(energies)


def test_frames_equal_those_made_by_hand(speech):
    features = FeatureExtractor(FBANK)(speech)
    for t in (0, 40, len(features) - 1):
        by_hand = frame_by_hand(speech[160 * t : 160 * t + 400])
        np.testing.assert_allclose(features[t], by_hand, **SAME_AS_KALDI)


def test_speech_equals_torchaudio(speech):
    features = FeatureExtractor(FBANK)(speech)
    np.testing.assert_allclose(features, kaldi_fbank(speech), **SAME_AS_KALDI)


@pytest.mark.parametrize(
    "samples", [400, 559, 560, 160 * BLOCK + 239, 160 * BLOCK + 240, 400 * BLOCK]
)
def test_every_length_equals_torchaudio(samples):
    waveform = noise(samples)
    extractor = FeatureExtractor(FBANK)
    features = extractor(waveform)
    assert features.shape == (extractor.num_frames(samples), 80)
    np.testing.assert_allclose(features, kaldi_fbank(waveform), **SAME_AS_KALDI)


@pytest.mark.parametrize(
    "changes",
    [
        {"mel_bins": 40},
        {"sample_rate": 8000, "mel_bins": 23},
        {"sample_rate": 11025, "mel_bins": 23},
        {"low_freq_hz": 64.0, "high_freq_hz": 7000.0},
        {"high_freq_hz": -400.0},
        {"frame_length_ms": 32.0, "frame_shift_ms": 12.5},
    ],
)
def test_settings_equal_torchaudio(changes):
    config = replace(FBANK, **changes)
    waveform = noise(9000)
    expected = kaldi_fbank(waveform, config)
    np.testing.assert_allclose(FeatureExtractor(config)(waveform), expected, **SAME_AS_KALDI)


@pytest.mark.parametrize("warp", [0.8, 0.95, 1.0, 1.05, 1.2])
def test_warped_frequencies_equal_torchaudio(warp):
    waveform = noise(9000)
    features = FeatureExtractor(FBANK)(waveform, warp=warp)
    np.testing.assert_allclose(features, kaldi_fbank(waveform, warp=warp), **SAME_AS_KALDI)


@pytest.mark.parametrize("warp", [0.9, 1.1])
def test_filters_that_begin_where_warping_does(warp):
    """Kaldi requires a lower edge below 100 Hz; from there on, no line joins the lower end."""
    waveform = noise(9000)
    at, near = (replace(FBANK, low_freq_hz=low, mel_bins=23) for low in (100.0, 99.9))
    found, expected = (FeatureExtractor(config)(waveform, warp=warp) for config in (at, near))
    np.testing.assert_allclose(found[:, 1:], expected[:, 1:], atol=0.02)


def test_a_constant_offset_changes_nothing():
    waveform = noise(8000, scale=0.01)
    extractor = FeatureExtractor(FBANK)
    np.testing.assert_allclose(extractor(waveform + 0.5), extractor(waveform), atol=2e-2)


def test_digital_silence_is_the_floor():
    features = FeatureExtractor(FBANK)(np.zeros(4000))
    np.testing.assert_allclose(features, math.log(2**-23), atol=1e-5)


def test_long_audio_has_the_features_of_its_parts():
    waveform = noise(160 * 3 * BLOCK)
    extractor = FeatureExtractor(FBANK)
    start = BLOCK + 7
    part = extractor(waveform[160 * start : 160 * (start + 5) + 240])
    np.testing.assert_allclose(extractor(waveform)[start : start + 5], part, **SAME_AS_KALDI)


def test_the_waveform_is_left_as_it_was():
    waveform = noise(4000)
    before = waveform.copy()
    FeatureExtractor(replace(FBANK, dither=1.0))(waveform)
    assert np.array_equal(waveform, before)


def test_mfcc_equals_torchaudio(speech):
    expected = kaldi.mfcc(
        32768 * torch.from_numpy(speech)[None],
        num_mel_bins=23,
        num_ceps=13,
        dither=0.0,
        use_energy=False,
    )
    features = FeatureExtractor(MFCC)(speech)
    assert features.shape[1] == MFCC.dim == 13
    np.testing.assert_allclose(features, expected, atol=5e-3, rtol=1e-4)


def test_mfcc_keeps_as_many_cepstra_as_asked_for(speech):
    features = FeatureExtractor(replace(MFCC, ceps=7))(speech)
    expected = FeatureExtractor(MFCC)(speech)[:, :7]
    np.testing.assert_allclose(features, expected, atol=1e-3)


def deltas_by_hand(column, order):
    """Kaldi's formula (sum of n * c_{t+n} over 2 * sum of n^2), applied to its own result.

    Kaldi repeats the edges of the features, not of the deltas: 8 copies are plenty.
    """
    x = [column[0]] * 8 + column + [column[-1]] * 8
    for _ in range(order):
        inner = range(2, len(x) - 2)
        x = [0, 0, *(sum(n * x[t + n] for n in (-2, -1, 1, 2)) / 10 for t in inner), 0, 0]
    return x[8:-8]


def test_deltas_equal_those_made_by_hand():
    column = [0.0, 1.0, 4.0, 9.0, 16.0, 5.0, -3.0]
    result = add_deltas(np.array(column)[:, None], order=2)
    expected = np.array([column, deltas_by_hand(column, 1), deltas_by_hand(column, 2)]).T
    np.testing.assert_allclose(result, expected)
    assert result[2, 1].item() == pytest.approx((9 - 1 + 2 * 16 - 2 * 0) / 10)


@pytest.mark.parametrize(("kind", "static"), [("fbank", 80), ("mfcc", 13)])
def test_deltas_stand_after_the_static_features(kind, static):
    waveform = noise(4000)
    plain = FeatureConfig(kind=kind)
    config = replace(plain, delta_order=2)
    extractor = FeatureExtractor(config)
    features = extractor(waveform)
    assert extractor.dim == config.dim == features.shape[1] == 3 * static
    assert np.array_equal(features[:, :static], FeatureExtractor(plain)(waveform))


def test_one_frame_has_deltas_of_zero():
    features = FeatureExtractor(replace(FBANK, delta_order=2))(noise(400))
    assert features.shape == (1, 240)
    assert np.abs(features[:, 80:]).max() < 1e-4


def test_dither_is_noise_that_is_given_or_always_the_same():
    extractor = FeatureExtractor(replace(FBANK, dither=2.0))
    silence = np.zeros(4000, np.float32)
    first = extractor(silence, noise(4000, scale=1.0))
    expected = FeatureExtractor(FBANK)(noise(4000, scale=2.0 / 32768))
    np.testing.assert_allclose(first, expected, atol=1e-3)
    assert not np.array_equal(extractor(silence), first)
    assert np.array_equal(extractor(silence), extractor(silence))


def test_number_of_frames():
    extractor = FeatureExtractor(FBANK)
    samples = [0, 399, 400, 559, 560, 16000]
    assert [extractor.num_frames(n) for n in samples] == [0, 0, 1, 1, 2, 98]


@pytest.mark.parametrize("samples", [0, 399])
def test_audio_shorter_than_a_window(samples):
    with pytest.raises(AudioError, match=r"expected at least 0.025 s \(one analysis window\)"):
        FeatureExtractor(FBANK)(np.zeros(samples))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mel_bins": 200}, "features.mel_bins = 200: some filters fall between"),
        ({"low_freq_hz": 9000.0}, "expected 0 <= low < high <= 8000"),
        ({"high_freq_hz": 8001.0}, "expected 0 <= low < high <= 8000"),
        ({"kind": "mfcc", "mel_bins": 23, "ceps": 24}, "ceps = 24, expected at most"),
    ],
)
def test_settings_that_contradict_each_other(changes, message):
    with pytest.raises(InputError, match=message):
        FeatureExtractor(replace(FBANK, **changes))


def test_loudness_is_that_of_the_loud_frames():
    assert loudness(np.arange(101.0)[:, None]) == 95.0


def test_level_makes_loud_and_quiet_recordings_the_same():
    """The loud frames are at 0; without ``level``, a gain of 2 adds 2 ln 2 everywhere."""
    waveform = noise(16000)
    plain, level = FeatureExtractor(FeatureConfig()), FeatureExtractor(FeatureConfig(level=True))
    np.testing.assert_allclose(plain(2 * waveform), plain(waveform) + 2 * math.log(2), atol=1e-5)
    np.testing.assert_allclose(level(2 * waveform), level(waveform), atol=1e-4)
    assert float(loudness(level(waveform))) == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose(level(waveform), plain(waveform) - loudness(plain(waveform)))
