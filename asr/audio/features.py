"""Log-mel filterbanks and MFCC with Kaldi's values.

For every window of 25 ms, 10 ms apart, Kaldi's compute-fbank-feats removes the mean, takes
differences (pre-emphasis), applies the "povey" window, and sums the power spectrum under
triangles on the mel scale. The steps here are the same, for a block of windows at a time.

Who is a speaker, for normalisation by speaker (``features.cmvn: speaker``): the data directory says
it in training, decoding, alignment and calibration, and all of a speaker's utterances there count
(:mod:`asr.corpus.feature_statistics`). Without a data directory a file is one speaker, and a stream
is one of whom only the past is known.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from asr.audio.cmvn import CmvnStats
from asr.config import FeatureConfig
from asr.errors import AudioError, InputError

PREEMPHASIS = 0.97
FLOOR = np.finfo(np.float32).eps  # log of nothing, as in Kaldi
FULL_SCALE = 32768.0  # Kaldi works on 16-bit numbers
VTLN_LOW_HZ, VTLN_MARGIN_HZ = 100.0, 500.0  # Kaldi's --vtln-low, and minus its --vtln-high
LIFTER = 22.0
BLOCK = 64  # frames at a time: what they need stays in the processor's cache
BAND = 16  # filters at a time: for so small a product, OpenBLAS starts no threads


def mel(freq_hz: np.ndarray) -> np.ndarray:
    """Hertz to Kaldi's mel scale."""
    return 1127.0 * np.log1p(freq_hz / 700.0)


def unmel(value: np.ndarray) -> np.ndarray:
    """Kaldi's mel scale to hertz."""
    return 700.0 * np.expm1(value / 1127.0)


def warp_frequency(freq_hz: np.ndarray, warp: float, low_hz: float, high_hz: float) -> np.ndarray:
    """Where a filter's edge goes in vocal tract length normalisation, as Kaldi has it.

    The frequency is divided by ``warp``, but for the ends of the range, which stay where
    they are and are joined to the middle by straight lines.

    Args:
        freq_hz: frequencies, any shape.
        warp: above 1 for a short vocal tract, whose formants are high.
        low_hz: lower end of the filters' range.
        high_hz: upper end.
    """
    left = VTLN_LOW_HZ * max(1.0, warp)
    right = (high_hz - VTLN_MARGIN_HZ) * min(1.0, warp)
    reach = left - low_hz or 1.0  # no frequency lies between the two where they are equal
    below = low_hz + (left / warp - low_hz) / reach * (freq_hz - low_hz)
    above = high_hz + (high_hz - right / warp) / (high_hz - right) * (freq_hz - high_hz)
    warped = np.where(freq_hz < left, below, freq_hz / warp)
    warped = np.where(freq_hz >= right, above, warped)
    return np.where((freq_hz < low_hz) | (freq_hz > high_hz), freq_hz, warped)


@lru_cache(maxsize=128)  # a training warps by a few dozen factors
def mel_filters(
    bins: int,
    fft_size: int,
    sample_rate: int,
    low_hz: float,
    high_hz: float,
    warp: float = 1.0,
) -> np.ndarray:
    """Triangles, evenly spaced on the mel scale, that overlap by half.

    Args:
        bins: how many.
        fft_size: of the spectrum that they weight.
        sample_rate: in Hz.
        low_hz: lower edge of the first.
        high_hz: upper edge of the last; 0 or less counts from half the sample rate.
        warp: factor of vocal tract length normalisation (Kaldi's ``vtln-warp``).

    Returns:
        Weights of the spectrum's bins, (fft_size / 2 + 1, bins); the last bin has none.

    Raises:
        InputError: a filter falls between two frequencies.
    """
    nyquist = sample_rate / 2
    high_hz = high_hz if high_hz > 0 else nyquist + high_hz
    lowest, highest = mel(np.array([low_hz, high_hz]))
    edges = np.linspace(lowest, highest, bins + 2)
    if warp != 1.0:
        edges = mel(warp_frequency(unmel(edges), warp, low_hz, high_hz))
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    spectrum = mel(np.arange(fft_size // 2) * sample_rate / fft_size)[:, None]
    rising, falling = (spectrum - left) / (centre - left), (right - spectrum) / (right - centre)
    weights = np.maximum(np.minimum(rising, falling), 0.0)
    if not weights.any(0).all():
        raise InputError(
            f"features.mel_bins = {bins}: some filters are narrower than the distance of the "
            f"spectrum's {fft_size // 2} frequencies; take fewer bins or a longer frame"
        )
    return np.pad(weights, ((0, 1), (0, 0))).astype(np.float32)


class Band(NamedTuple):
    """Some neighbouring filters, and the frequencies that they cover."""

    frequencies: slice
    bins: slice
    weights: np.ndarray
    """(frequencies, bins)."""


def split(filters: np.ndarray) -> list[Band]:
    """The filters of :func:`mel_filters` without most of their zeros."""
    bands = []
    for start in range(0, filters.shape[1], BAND):
        bins = slice(start, start + BAND)
        covered = np.flatnonzero(filters[:, bins].any(1))
        frequencies = slice(covered[0], covered[-1] + 1)
        bands.append(Band(frequencies, bins, filters[frequencies, bins].copy()))
    return bands


def dct_matrix(inputs: int, outputs: int) -> np.ndarray:
    """Orthonormal cosine transform with Kaldi's cepstral lifter, (inputs, outputs).

    The first output is the transform's own c_0 (Kaldi's ``--use-energy=false``).
    """
    n, k = np.arange(inputs), np.arange(outputs)
    matrix = math.sqrt(2.0 / inputs) * np.cos(np.pi / inputs * (n + 0.5)[:, None] * k)
    matrix[:, 0] = math.sqrt(1.0 / inputs)
    return (matrix * (1 + LIFTER / 2 * np.sin(np.pi * k / LIFTER))).astype(np.float32)


def add_deltas(features: np.ndarray, order: int, window: int = 2) -> np.ndarray:
    """Kaldi's add-deltas: (T, F) to (T, (order + 1) * F); the edges repeat."""
    frames = len(features)
    step = np.arange(-window, window + 1)
    parts, scales = [features], np.ones(1)
    for _ in range(order):
        scales = np.convolve(scales, step / (step * step).sum())  # the filter of this order
        reach = len(scales) // 2
        total = np.zeros_like(features)
        for offset, scale in zip(range(-reach, reach + 1), scales.tolist(), strict=True):
            rows = np.arange(offset, offset + frames).clip(0, frames - 1)
            total += scale * features[rows]
        parts.append(total)
    return np.concatenate(parts, axis=1)


def loudness(log_mel: np.ndarray) -> np.floating:
    """The mean log energy (T, F) of the loud frames, their 95th percentile; a scalar.

    A gain adds the same number to all log energies, and so to this one.
    """
    return np.quantile(log_mel.mean(1), 0.95)


def normalize(
    features: np.ndarray, kind: str, overall: CmvnStats | None, speaker: CmvnStats | None
) -> np.ndarray:
    """Mean and variance normalisation as ``features.cmvn`` says, (T, F) to (T, F).

    A speaker of whom nothing is known has the statistics of these features.
    """
    if kind == "none":
        return features
    stats = overall if kind == "global" else speaker
    return (stats or CmvnStats.from_features(features)).normalize(features)


class FeatureExtractor:
    """Waveform to features.

    Args:
        config: kind and sizes; the defaults equal Kaldi's with 80 bins and no dither.

    Raises:
        InputError: there are more filters than the spectrum has frequencies for.
    """

    def __init__(self, config: FeatureConfig) -> None:
        self.config, self.dim = config, config.dim
        self.length = int(config.frame_length_ms * config.sample_rate / 1000)
        self.shift = int(config.frame_shift_ms * config.sample_rate / 1000)
        self.fft_size = 2 ** math.ceil(math.log2(self.length))
        hann = np.hanning(self.length)[1:]  # its first value is 0
        self.window = (hann**0.85).astype(np.float32)  # Kaldi's "povey" window
        self.bands = self.warped_bands(1.0)
        self.dct = dct_matrix(config.mel_bins, config.ceps) if config.kind == "mfcc" else None

    def warped_bands(self, warp: float) -> list[Band]:
        """The filters for other vocal tracts."""
        c = self.config
        edges = (c.low_freq_hz, c.high_freq_hz)
        return split(mel_filters(c.mel_bins, self.fft_size, c.sample_rate, *edges, warp))

    def num_frames(self, samples: int, tempo: float = 1.0) -> int:
        """Number of whole windows in a number of samples (Kaldi's snip_edges)."""
        shift = round(self.shift * tempo)
        return 0 if samples < self.length else 1 + (samples - self.length) // shift

    def __call__(
        self,
        waveform: np.ndarray,
        noise: np.ndarray | None = None,
        warp: float = 1.0,
        tempo: float = 1.0,
    ) -> np.ndarray:
        """Features of a waveform.

        Args:
            waveform: (N,), full scale 1, at ``config.sample_rate``.
            noise: for dither, where it is on: (N,) of power 1; by default it is always the same.
            warp: stretch of the frequency axis, as Kaldi's vocal tract length normalisation
                has it: above 1 makes a deep voice of a high one.
            tempo: factor of the frame shift: above 1 the speech seems faster, at its own pitch.

        Returns:
            (T, F), float32.

        Raises:
            AudioError: the waveform is shorter than one window.
        """
        frames = self.num_frames(len(waveform), tempo)
        if frames == 0:
            rate = self.config.sample_rate
            raise AudioError(
                f"{len(waveform) / rate:.4f} s of audio, expected at least "
                f"{self.length / rate:g} s (one analysis window); leave this utterance out"
            )
        signal = np.multiply(waveform, np.float32(FULL_SCALE), dtype=np.float32)
        if self.config.dither > 0:
            if noise is None:
                noise = np.random.default_rng(0).standard_normal(len(signal), np.float32)
            signal += self.config.dither * noise
        bands = self.bands if warp == 1.0 else self.warped_bands(warp)
        features = self._log_mel(signal, round(self.shift * tempo), bands)
        if self.config.level:
            features -= loudness(features)
        if self.dct is not None:
            features = np.einsum("tf,fc->tc", features, self.dct)
        if self.config.delta_order > 0:
            features = add_deltas(features, self.config.delta_order)
        return features

    def _log_mel(self, signal: np.ndarray, shift: int, bands: list[Band]) -> np.ndarray:
        """Log-mel energies (T, bins) of a signal (N,), which is changed, by blocks of frames."""
        signal -= signal.mean()  # a large offset would cost precision
        windows = sliding_window_view(signal, self.length)[::shift]  # (T, length), a view
        means = np.einsum("tn->t", windows)[:, None]  # takes half the time of sum(1)
        means *= (1 - PREEMPHASIS) / self.length
        differences = np.multiply(signal[:-1], -PREEMPHASIS, dtype=np.float32)
        differences += signal[1:]
        emphasised = sliding_window_view(differences, self.length - 1)[::shift]
        result = np.empty((len(windows), self.config.mel_bins), np.float32)
        padded = np.zeros((min(BLOCK, len(windows)), self.fft_size), np.float32)
        for start in range(0, len(windows), BLOCK):
            block = slice(start, min(start + BLOCK, len(windows)))
            rows = padded[: block.stop - start]
            frames = rows[:, : self.length - 1]  # without the first samples: their window is 0
            np.subtract(emphasised[block], means[block], out=frames)
            frames *= self.window
            spectrum = np.fft.rfft(rows)  # (block, fft / 2 + 1)
            power = np.square(spectrum.real)
            power += np.square(spectrum.imag)
            for frequencies, bins, weights in bands:
                np.matmul(power[:, frequencies], weights, out=result[block, bins])
        np.maximum(result, FLOOR, out=result)
        return np.log(result, out=result)
