"""Augmentation of audio and features; all random numbers come from the generator."""

from dataclasses import replace

import pytest
import soundfile
import torch
import torchaudio

from asr.config import AugmentConfig
from asr.errors import InputError
from asr.train import augment
from asr.train.augment import (
    add_noise,
    augment_waveform,
    coloured_noise,
    draw_factor,
    narrowband,
    spec_augment,
    speed,
    volume,
)

PLAIN = AugmentConfig(speeds=(1.0,), volume_db=0.0)


@pytest.fixture
def tone():
    """One second of 440 Hz at 16 kHz, half of full scale."""
    return 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(16000) / 16000)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pitch_hz(waveform):
    """The strongest frequency of a waveform at 16 kHz."""
    return float(torch.fft.rfft(waveform).abs().argmax()) * 16000 / len(waveform)


def power(waveform):
    return float(waveform.square().mean())


def snr_db(signal, noisy):
    return float(10 * torch.log10(signal.square().mean() / (noisy - signal).square().mean()))


@pytest.mark.parametrize(("factor", "samples"), [(0.9, 17778), (1.0, 16000), (1.1, 14546)])
def test_speed_changes_length_and_pitch_together(tone, factor, samples):
    result = speed(tone, factor)
    assert len(result) == samples  # 16000 / factor, rounded up
    assert pitch_hz(result) == pytest.approx(440 * factor, abs=1)
    assert power(result) == pytest.approx(power(tone), rel=0.01)


def test_volume():
    quiet = torch.tensor([0.1, -0.2])
    torch.testing.assert_close(volume(quiet, 20.0), torch.tensor([1.0, -2.0]))  # not clipped
    assert volume(quiet, 0.0).equal(quiet)


@pytest.mark.parametrize("length", [100, 16000, 50000])
@pytest.mark.parametrize("ratio_db", [-5.0, 0.0, 20.0])
def test_noise_has_the_given_snr(tone, length, ratio_db):
    noise = 3 * torch.randn(length)  # shorter, as long, longer
    noisy = add_noise(tone, noise, ratio_db)
    assert noisy.shape == tone.shape
    tolerance_db = 1.0 if length > len(tone) else 0.01
    assert snr_db(tone, noisy) == pytest.approx(ratio_db, abs=tolerance_db)


def test_short_noise_is_repeated(tone):
    noisy = add_noise(tone, torch.randn(1000), 10.0)
    difference = noisy - tone
    torch.testing.assert_close(difference[:1000], difference[5000:6000], atol=1e-6, rtol=0)


@pytest.mark.parametrize("factor", [0.9, 1.1])
@pytest.mark.parametrize("samples", [1, 7, 400, 16001])
def test_speed_changes_as_in_torchaudio(factor, samples):
    waveform = torch.randn(samples, generator=seeded())
    expected = torchaudio.transforms.Resample(round(100 * factor), 100)(waveform)
    torch.testing.assert_close(speed(waveform, factor), expected)


def test_noise_on_silence_and_silence_as_noise(tone):
    silence = torch.zeros(16000)
    assert add_noise(silence, torch.randn(16000), 10.0).equal(silence)
    assert add_noise(tone, silence, 10.0).equal(tone)


@pytest.mark.parametrize("sample_rate", [8000, 16000, 48000])
@pytest.mark.parametrize(("colour", "slope_db"), [("white", 0.0), ("pink", -3.0), ("brown", -6.0)])
def test_slope_of_coloured_noise(colour, slope_db, sample_rate):
    noise = coloured_noise(10 * sample_rate, colour, seeded(), sample_rate)
    assert power(noise) == pytest.approx(1.0)
    spectrum = torch.fft.rfft(noise).abs().square()  # bins of 0.1 Hz

    def level_db(hz):
        return 10 * torch.log10(spectrum[10 * hz : 20 * hz].mean())  # an octave

    assert float(level_db(2000) - level_db(250)) / 3 == pytest.approx(slope_db, abs=0.3)
    assert spectrum[:200].max() < 1e-6 * spectrum[200:400].mean()  # nothing below 20 Hz


def test_one_sample_of_noise_is_a_number():
    assert coloured_noise(1, "pink", seeded(), 16000).isfinite().all()


def test_no_augmentation_leaves_the_waveform_unchanged(tone):
    assert augment_waveform(tone, PLAIN, seeded(), 16000).equal(tone)


def test_speeds_are_drawn_evenly():
    config = AugmentConfig(speeds=(0.5, 1.0, 2.0), volume_db=0.0)
    generator = seeded()
    lengths = [len(augment_waveform(torch.ones(100), config, generator, 16000)) for _ in range(300)]
    counts = [lengths.count(n) for n in (200, 100, 50)]
    assert sum(counts) == 300
    assert min(counts) > 75


def test_gains_are_drawn_evenly():
    config = AugmentConfig(speeds=(1.0,), volume_db=6.0)
    generator = seeded()
    waveforms = [augment_waveform(torch.ones(1), config, generator, 16000) for _ in range(300)]
    gains_db = 20 * torch.cat(waveforms).log10()
    assert -6 <= gains_db.min() < -5.5
    assert 5.5 < gains_db.max() <= 6
    assert abs(gains_db.mean()) < 0.6


def test_noise_has_the_configured_probability_and_snr(tone):
    config = AugmentConfig(speeds=(1.0,), volume_db=0.0, noise_prob=0.5, noise_snr_db=(5.0, 15.0))
    generator = seeded()
    results = [augment_waveform(tone, config, generator, 16000) for _ in range(100)]
    ratios = [snr_db(tone, result) for result in results if not result.equal(tone)]
    assert 35 < len(ratios) < 65
    assert 4.99 < min(ratios) < 7
    assert 13 < max(ratios) < 15.01


def test_noise_of_every_colour_is_used(tone, monkeypatch):
    colours = []

    def record(samples, colour, *others):
        colours.append(colour)
        return torch.ones(samples)

    monkeypatch.setattr(augment, "coloured_noise", record)
    for seed in range(20):
        augment_waveform(tone, replace(PLAIN, noise_prob=1.0), seeded(seed), 16000)
    assert set(colours) == {"white", "pink", "brown"}


def test_recorded_noise(tmp_path, tone):
    recording = 0.1 * torch.sin(2 * torch.pi * 1000 * torch.arange(48000) / 16000)
    (tmp_path / "street").mkdir()
    soundfile.write(tmp_path / "street" / "car.wav", recording, 16000)
    (tmp_path / "README").write_text("not audio")
    config = AugmentConfig(
        speeds=(1.0,),
        volume_db=0.0,
        noise_prob=1.0,
        noise_dir=str(tmp_path),
        noise_snr_db=(10.0, 10.0),
    )
    first, second = (augment_waveform(tone, config, seeded(seed), 16000) for seed in (1, 2))
    assert pitch_hz(first - tone) == 1000
    assert snr_db(tone, first) == pytest.approx(10, abs=0.1)
    assert not first.equal(second)  # another stretch of the recording
    longer = tone.repeat(5)  # than the recording
    assert augment_waveform(longer, config, seeded(), 16000).shape == longer.shape


def test_every_recording_of_noise_is_used(tmp_path, tone):
    for hz in (1000, 2000):
        recording = 0.1 * torch.sin(2 * torch.pi * hz * torch.arange(16000) / 16000)
        soundfile.write(tmp_path / f"{hz}.wav", recording, 16000)
    config = replace(PLAIN, noise_prob=1.0, noise_dir=str(tmp_path))
    noisy = [augment_waveform(tone, config, seeded(seed), 16000) for seed in range(8)]
    assert {pitch_hz(each - tone) for each in noisy} == {1000, 2000}


def test_recorded_noise_is_resampled(tmp_path, tone):
    recording = 0.1 * torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 8000)
    soundfile.write(tmp_path / "telephone.wav", recording, 8000)
    config = replace(PLAIN, noise_prob=1.0, noise_dir=str(tmp_path))
    assert pitch_hz(augment_waveform(tone, config, seeded(), 16000) - tone) == 1000


def test_narrowband_keeps_what_is_below_4_khz():
    time = torch.arange(16000) / 16000
    low, high = torch.sin(2 * torch.pi * 1000 * time), torch.sin(2 * torch.pi * 6000 * time)
    middle = slice(1000, -1000)  # away from the edges of the filter
    torch.testing.assert_close(
        narrowband(low + high, 16000)[middle], low[middle], atol=0.01, rtol=0
    )
    assert len(narrowband(low[:777], 16000)) == 777
    assert narrowband(low, 8000) is low


def test_narrowband_has_the_configured_probability():
    hiss = torch.randn(1600, generator=torch.Generator().manual_seed(1))
    config = replace(PLAIN, narrowband_prob=0.3)
    generator = torch.Generator().manual_seed(1)
    changed = [not augment_waveform(hiss, config, generator, 16000).equal(hiss) for _ in range(300)]
    assert sum(changed) / 300 == pytest.approx(0.3, abs=0.06)


def test_a_noise_folder_without_audio(tmp_path, tone):
    config = AugmentConfig(noise_prob=1.0, noise_dir=str(tmp_path))
    with pytest.raises(InputError, match=r"augment.noise_dir = .*: no audio file there"):
        augment_waveform(tone, config, seeded(), 16000)


def test_a_damaged_recording_of_noise_is_named_and_not_added(tmp_path, tone, capsys):
    (tmp_path / "bad.wav").write_bytes(b"RIFF, but damaged")
    config = replace(PLAIN, noise_prob=1.0, noise_dir=str(tmp_path))
    assert augment_waveform(tone, config, seeded(), 16000).equal(tone)
    assert "bad.wav" in capsys.readouterr().err


def test_the_same_generator_gives_the_same_waveform(tone):
    config = AugmentConfig(noise_prob=0.7)
    first = [augment_waveform(tone, config, seeded(seed), 16000) for seed in range(5)]
    torch.rand(7)  # the global generator has no part in it
    again = [augment_waveform(tone, config, seeded(seed), 16000) for seed in range(5)]
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    assert not first[0].equal(first[1])


def hidden(features, dim):
    """How many bins (dim 1) or frames (dim 0) are masked from end to end."""
    return int((features == 0).all(1 - dim).sum())


def test_factors_are_drawn_evenly():
    generator = torch.Generator().manual_seed(1)
    factors = [draw_factor(0.1, generator) for _ in range(1000)]
    assert (min(factors), max(factors)) == (0.9, 1.1)
    assert sum(factors) / 1000 == pytest.approx(1.0, abs=0.005)
    assert draw_factor(0.0, generator) == 1.0


def test_spec_augment_masks_only_bands_and_spans():
    features = torch.ones(100, 80)
    config = AugmentConfig(freq_masks=1, freq_width=20, time_masks=1, time_width=40, time_ratio=1.0)
    generator = seeded()
    widths = []
    for _ in range(200):
        masked = spec_augment(features, config, generator)
        frames, bins = hidden(masked, 0), hidden(masked, 1)
        assert int((masked == 1).sum()) == (100 - frames) * (80 - bins)
        widths.append((frames, bins))
    frames, bins = zip(*widths, strict=True)
    assert (min(frames), max(frames)) == (0, 40)
    assert (min(bins), max(bins)) == (0, 20)
    assert features.equal(torch.ones(100, 80))


def test_every_bin_and_every_frame_is_masked_now_and_then():
    config = AugmentConfig(freq_masks=1, freq_width=2, time_masks=1, time_width=2, time_ratio=1.0)
    generator = seeded()
    masked = [spec_augment(torch.ones(10, 10), config, generator) == 0 for _ in range(300)]
    for dim in (0, 1):
        assert torch.stack([each.all(dim) for each in masked]).any(0).all()


def test_time_masks_are_limited_by_the_share_of_frames():
    config = AugmentConfig(freq_masks=0, time_masks=1, time_width=40, time_ratio=0.2)
    generator = seeded()
    widths = [hidden(spec_augment(torch.ones(30, 8), config, generator), 0) for _ in range(200)]
    assert max(widths) == 6


def test_spec_augment_of_few_frames_and_bins():
    config = AugmentConfig(time_ratio=1.0)
    for shape in ((1, 80), (3, 5), (1, 1)):
        assert spec_augment(torch.ones(shape), config, seeded()).shape == shape


def test_the_same_generator_gives_the_same_masks():
    features = torch.randn(200, 80)
    first, same, other = (spec_augment(features, AugmentConfig(), seeded(s)) for s in (1, 1, 2))
    assert first.equal(same)
    assert not first.equal(other)


def test_without_masks_features_are_unchanged():
    features = torch.randn(20, 80)
    config = AugmentConfig(freq_masks=0, time_masks=0)
    assert spec_augment(features, config, seeded()).equal(features)
