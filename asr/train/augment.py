"""Augmentation of training audio; all random numbers come from a generator that is passed in.

Nothing is clipped: waveforms are floats and may exceed full scale.
"""

from functools import lru_cache

import torch
from torch import Tensor

from asr.audio.clip import Clip, info, read
from asr.audio.folders import search
from asr.audio.memory import warn_once
from asr.audio.resample import resample
from asr.config import AugmentConfig
from asr.errors import InputError, first_line
from asr.formats import READABLE

COLOURS = {"white": 0.0, "pink": 0.5, "brown": 1.0}  # amplitude falls with frequency ** -value
TELEPHONE_HZ = 8000  # sample rate
LOWEST_HZ = 20.0  # nearly all power of brown noise is below, and inaudible


def speed(waveform: Tensor, factor: float) -> Tensor:
    """Change tempo and pitch together, as sox's speed effect does.

    Args:
        waveform: samples, (N,).
        factor: above 1 is faster; rounded to a hundredth.

    Returns:
        samples, (ceil(N / factor),).
    """
    return _resampled(waveform, round(100 * factor), 100)


def _resampled(waveform: Tensor, rate: int, target: int) -> Tensor:
    return torch.from_numpy(resample(waveform.numpy(), rate, target))


def volume(waveform: Tensor, gain_db: float) -> Tensor:
    """Amplify a waveform (N,) by a gain in dB."""
    return waveform * 10 ** (gain_db / 20)


def narrowband(waveform: Tensor, sample_rate: int) -> Tensor:
    """Remove frequencies above 4 kHz from a waveform (N,), as telephones do."""
    if sample_rate <= TELEPHONE_HZ:
        return waveform
    narrow = _resampled(waveform, sample_rate, TELEPHONE_HZ)
    return _resampled(narrow, TELEPHONE_HZ, sample_rate)[: len(waveform)]


def coloured_noise(
    samples: int, colour: str, generator: torch.Generator, sample_rate: int
) -> Tensor:
    """Return white, pink or brown noise (samples,) of power 1, without what is below 20 Hz."""
    spectrum = torch.fft.rfft(torch.randn(samples, generator=generator))
    cycles = torch.fft.rfftfreq(samples)  # per sample
    weights = torch.where(cycles < LOWEST_HZ / sample_rate, 0.0, cycles ** -COLOURS[colour])
    noise = torch.fft.irfft(spectrum * weights, n=samples)
    return noise / noise.square().mean().sqrt().clamp_min(1e-12)


def add_noise(waveform: Tensor, noise: Tensor, snr_db: float) -> Tensor:
    """Add noise at a signal-to-noise ratio; the noise is repeated or cut to the length.

    Args:
        waveform: samples, (N,); digital silence is returned unchanged.
        noise: samples, (M,).
        snr_db: 10 log10 of signal power over noise power.
    """
    repeats = -(-len(waveform) // len(noise))
    noise = noise.repeat(repeats)[: len(waveform)]
    powers = waveform.square().mean() / noise.square().mean().clamp_min(1e-20)
    return waveform + noise * (powers * 10 ** (-snr_db / 10)).sqrt()


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """Draw a number from a uniform distribution."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def randint(limit: int, generator: torch.Generator) -> int:
    """Draw an integer from 0 to limit - 1."""
    return int(torch.randint(limit, (), generator=generator))


@lru_cache(maxsize=8)
def noise_files(folder: str) -> tuple[str, ...]:
    """Return the audio files in a folder and its subfolders.

    Raises:
        InputError: no audio file was found.
    """
    files = [str(path) for path in search(folder).audio]
    if not files:
        raise InputError(
            f"augment.noise_dir = {folder}: no audio file there, {READABLE}; name another folder"
        )
    return tuple(files)


def recorded_noise(
    folder: str, samples: int, generator: torch.Generator, sample_rate: int
) -> Tensor:
    """Return a random excerpt of a random recording, at most ``samples`` long.

    A damaged recording is named in a warning, and gives silence.
    """
    files = noise_files(folder)
    path = files[randint(len(files), generator)]
    try:
        total_s, needed_s = info(path).duration_s, samples / sample_rate
        start_s = uniform(0.0, max(0.0, total_s - needed_s), generator)
        end_s = min(start_s + needed_s, total_s)
        return torch.from_numpy(read(Clip(path, start_s, end_s), sample_rate=sample_rate))
    except InputError as error:
        warn_once("augment.noise_dir", f"{first_line(error)}; no noise of this file is added")
        return torch.zeros(samples)


def augment_waveform(
    waveform: Tensor, config: AugmentConfig, generator: torch.Generator, sample_rate: int
) -> Tensor:
    """Apply random speed, noise, telephone band and gain.

    Args:
        waveform: samples, (N,).
        config: ranges and probabilities.
        generator: source of the random numbers.
        sample_rate: of the waveform in Hz; noise is resampled to it.

    Returns:
        samples, (M,).
    """
    waveform = speed(waveform, config.speeds[randint(len(config.speeds), generator)])
    if config.noise_prob > 0 and uniform(0, 1, generator) < config.noise_prob:
        if config.noise_dir:
            noise = recorded_noise(config.noise_dir, len(waveform), generator, sample_rate)
        else:
            colour = list(COLOURS)[randint(len(COLOURS), generator)]
            noise = coloured_noise(len(waveform), colour, generator, sample_rate)
        waveform = add_noise(waveform, noise, uniform(*config.noise_snr_db, generator))
    if config.narrowband_prob > 0 and uniform(0, 1, generator) < config.narrowband_prob:
        waveform = narrowband(waveform, sample_rate)
    return volume(waveform, uniform(-config.volume_db, config.volume_db, generator))


def draw_factor(reach: float, generator: torch.Generator) -> float:
    """Draw a factor between 1 - reach and 1 + reach, rounded to a hundredth."""
    return 1.0 if reach == 0 else round(uniform(1 - reach, 1 + reach, generator), 2)


def spec_augment(features: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Mask random bands and spans of time (SpecAugment without time warping, arXiv:1904.08779).

    Args:
        features: normalised frames, (T, F); a mask is 0, their mean.
        config: number and width of the masks.
        generator: source of the random numbers.

    Returns:
        a masked copy, (T, F).
    """
    features = features.clone()
    frames, bins = features.shape
    for _ in range(config.freq_masks):
        width = randint(min(config.freq_width, bins) + 1, generator)
        start = randint(bins - width + 1, generator)
        features[:, start : start + width] = 0.0
    for _ in range(config.time_masks):
        width = randint(min(config.time_width, int(config.time_ratio * frames)) + 1, generator)
        start = randint(frames - width + 1, generator)
        features[start : start + width] = 0.0
    return features
