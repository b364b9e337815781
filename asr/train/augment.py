"""Augmentation of training audio, drawn from a generator that is passed in.

Nothing here clips: waveforms are floats, and a loud one may go beyond full scale.
"""

from functools import lru_cache

import torch
import torchaudio
from torch import Tensor

from asr.audio.clip import Clip, info, read
from asr.audio.folders import search
from asr.audio.formats import READABLE
from asr.config import AugmentConfig
from asr.errors import InputError

COLOURS = {"white": 0.0, "pink": 0.5, "brown": 1.0}  # amplitude falls with frequency ** -value
NARROW_HZ = 8000  # sample rate of telephones
LOWEST = 20 / 16000  # cycles per sample; brown noise has nearly all its power below, unheard


def speed(waveform: Tensor, factor: float) -> Tensor:
    """Play faster (factor > 1) or slower, pitch and tempo together, as sox's speed does.

    Args:
        waveform: (N,).
        factor: rounded to a hundredth.

    Returns:
        (ceil(N / factor),): 0.9 makes audio longer.

    Raises:
        InputError: the factor is not above 0.
    """
    if round(100 * factor) < 1:
        raise InputError(f"augment.speeds: {factor:g}, expected factors such as 0.9")
    return _resample(waveform, round(100 * factor), 100)


def _resample(waveform: Tensor, rate: int, target: int) -> Tensor:
    return waveform if rate == target else _resampler(rate, target)(waveform)


@lru_cache(maxsize=32)
def _resampler(rate: int, target: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(rate, target)


def volume(waveform: Tensor, gain_db: float) -> Tensor:
    """Make louder (gain_db > 0) or softer, (N,) to (N,)."""
    return waveform * 10 ** (gain_db / 20)


def narrowband(waveform: Tensor, sample_rate: int) -> Tensor:
    """Take away what is above 4 kHz, (N,) to (N,), as telephones do."""
    if sample_rate <= NARROW_HZ:
        return waveform
    low = _resample(_resample(waveform, sample_rate, NARROW_HZ), NARROW_HZ, sample_rate)
    return low[: len(waveform)]


def coloured_noise(samples: int, colour: str, generator: torch.Generator) -> Tensor:
    """White, pink or brown noise from 20 Hz up (at 16 kHz), of mean power 1, (samples,)."""
    spectrum = torch.fft.rfft(torch.randn(samples, generator=generator))
    cycles = torch.fft.rfftfreq(samples)  # per sample
    weights = torch.where(cycles < LOWEST, 0.0, cycles ** -COLOURS[colour])
    noise = torch.fft.irfft(spectrum * weights, n=samples)
    return noise / noise.square().mean().sqrt().clamp_min(1e-12)


def add_noise(waveform: Tensor, noise: Tensor, snr_db: float) -> Tensor:
    """Add noise at a ratio of signal to noise power; noise is repeated or cut to fit.

    Args:
        waveform: (N,); silence stays as it is, for it has no power to compare with.
        noise: (M,).
        snr_db: 10 log10 of the signal's mean power over the noise's.
    """
    repeats = -(-len(waveform) // len(noise))
    noise = noise.repeat(repeats)[: len(waveform)]
    powers = waveform.square().mean() / noise.square().mean().clamp_min(1e-20)
    return waveform + noise * (powers * 10 ** (-snr_db / 10)).sqrt()


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Draw a number between two others."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def below(limit: int, generator: torch.Generator) -> int:
    """A whole number from 0 to limit - 1."""
    return int(torch.randint(limit, (), generator=generator))


@lru_cache(maxsize=8)
def noise_files(folder: str) -> tuple[str, ...]:
    """The audio files in a folder and those below it.

    Raises:
        InputError: there are none.
    """
    files = [str(path) for path in search(folder).audio]
    if not files:
        raise InputError(f"augment.noise_dir = {folder}: no audio file there, {READABLE}")
    return tuple(files)


def recorded_noise(
    folder: str, samples: int, generator: torch.Generator, sample_rate: int
) -> Tensor:
    """A random stretch of a random recording; all of one that is shorter than asked for."""
    files = noise_files(folder)
    path = files[below(len(files), generator)]
    total_s, needed_s = info(path).duration_s, samples / sample_rate
    start_s = uniform(0.0, max(0.0, total_s - needed_s), generator)
    end_s = min(start_s + needed_s, total_s)
    return torch.from_numpy(read(Clip(path, start_s, end_s), sample_rate=sample_rate))


def augment_waveform(
    waveform: Tensor, config: AugmentConfig, generator: torch.Generator, sample_rate: int
) -> Tensor:
    """Draw a speed, perhaps noise and a narrow band, and a gain.

    Args:
        waveform: (N,).
        config: ranges and chances.
        generator: the source of everything random.
        sample_rate: of the waveform, and of the noise that is added.
    """
    waveform = speed(waveform, config.speeds[below(len(config.speeds), generator)])
    if config.noise_prob > 0 and uniform(0, 1, generator) < config.noise_prob:
        if config.noise_dir:
            noise = recorded_noise(config.noise_dir, len(waveform), generator, sample_rate)
        else:
            colour = list(COLOURS)[below(len(COLOURS), generator)]
            noise = coloured_noise(len(waveform), colour, generator)
        waveform = add_noise(waveform, noise, uniform(*config.noise_snr_db, generator))
    if config.narrowband_prob > 0 and uniform(0, 1, generator) < config.narrowband_prob:
        waveform = narrowband(waveform, sample_rate)
    return volume(waveform, uniform(-config.volume_db, config.volume_db, generator))


def draw_factor(reach: float, generator: torch.Generator) -> float:
    """A factor from 1 - reach to 1 + reach, rounded to a hundredth; 1.0 where reach is 0."""
    return 1.0 if reach == 0 else round(uniform(1 - reach, 1 + reach, generator), 2)


def spec_augment(features: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Hide random bands and stretches (arXiv:1904.08779, without time warping).

    Args:
        features: normalised, (T, F), so that 0 is the mean.
        config: how many, how wide.
        generator: the source of everything random.

    Returns:
        A masked copy, (T, F).
    """
    features = features.clone()
    frames, bins = features.shape
    for _ in range(config.freq_masks):
        width = below(min(config.freq_width, bins) + 1, generator)
        start = below(bins - width + 1, generator)
        features[:, start : start + width] = 0.0
    for _ in range(config.time_masks):
        width = below(min(config.time_width, int(config.time_ratio * frames)) + 1, generator)
        start = below(frames - width + 1, generator)
        features[start : start + width] = 0.0
    return features
