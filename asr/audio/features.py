"""Log-mel filterbanks and MFCC with Kaldi's values.

As Kaldi's compute-fbank-feats, for every window of 25 ms with a shift of 10 ms, this removes the
mean, applies pre-emphasis and the "povey" window, and sums the power spectrum in triangular filters
on the mel scale.

Normalisation by speaker (``features.cmvn: speaker``) takes the speakers from the data directory, if
there is one, and the statistics from all utterances of a speaker
(:mod:`asr.corpus.feature_statistics`). Otherwise each file or stream is a speaker; the statistics
of a stream are those of its past.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from asr.arrays import IntArray
from asr.audio.cmvn import CmvnStats
from asr.config import FeatureConfig
from asr.errors import AudioError, InputError

PREEMPHASIS = 0.97
FLOOR = np.finfo(np.float32).eps  # of energies before the logarithm, as in Kaldi
FULL_SCALE = 32768.0  # Kaldi's samples are 16-bit integers
VTLN_LOW_HZ, VTLN_MARGIN_HZ = 100.0, 500.0  # Kaldi's --vtln-low, and minus its --vtln-high
LIFTER = 22.0
BLOCK = 64  # frames at a time, which fit into the processor's cache
BAND = 16  # filters at a time: OpenBLAS starts no threads for so small a product
PRIOR_FRAMES = 200  # of the training set, which the statistics of a speaker begin with


def mel(freq_hz: np.ndarray) -> np.ndarray:
    """Convert hertz to Kaldi's mel scale."""
    return 1127.0 * np.log1p(freq_hz / 700.0)


def unmel(value: np.ndarray) -> np.ndarray:
    """Convert Kaldi's mel scale to hertz."""
    return 700.0 * np.expm1(value / 1127.0)


def warp_frequency(freq_hz: np.ndarray, warp: float, low_hz: float, high_hz: float) -> np.ndarray:
    """Warp frequencies for Kaldi's vocal tract length normalisation (VTLN).

    The map is piecewise linear: it divides frequencies by ``warp``, except near the ends of the
    range, which are fixed. Its upper part begins below the end of the range; in Kaldi, below half
    the sample rate, which is the end of the default range.

    Args:
        freq_hz: frequencies, any shape.
        warp: above 1 for a short vocal tract, whose formants are high.
        low_hz: lower end of the filters' range.
        high_hz: upper end of it.
    """
    left = VTLN_LOW_HZ * max(1.0, warp)
    right = (high_hz - VTLN_MARGIN_HZ) * min(1.0, warp)
    reach = left - low_hz or 1.0  # if they are equal, no frequency is between them
    below = low_hz + (left / warp - low_hz) / reach * (freq_hz - low_hz)
    above = high_hz + (high_hz - right / warp) / (high_hz - right) * (freq_hz - high_hz)
    warped = np.where(freq_hz < left, below, freq_hz / warp)
    warped = np.where(freq_hz >= right, above, warped)
    return np.where(freq_hz < low_hz, freq_hz, warped)


def mel_filters(
    bins: int, fft_size: int, sample_rate: int, low_hz: float, high_hz: float, warp: float = 1.0
) -> np.ndarray:
    """Compute triangular filters, evenly spaced on the mel scale, that overlap by half.

    Args:
        bins: number of filters.
        fft_size: length of the Fourier transform.
        sample_rate: in Hz.
        low_hz: lower edge of the first filter.
        high_hz: upper edge of the last; 0 or less is relative to half the sample rate.
        warp: factor of vocal tract length normalisation (Kaldi's ``vtln-warp``).

    Returns:
        Weights of the spectrum's bins, (fft_size / 2 + 1, bins); those of the last bin are 0.

    Raises:
        InputError: a filter falls between two frequencies of the spectrum.
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
            f"features.mel_bins = {bins}: some filters fall between two of the spectrum's "
            f"{fft_size // 2} frequencies; take fewer bins or a longer frame"
        )
    return np.pad(weights, ((0, 1), (0, 0))).astype(np.float32)


class Band(NamedTuple):
    """Adjacent filters, and the frequencies that they cover."""

    frequencies: slice
    bins: slice
    weights: np.ndarray
    """(frequencies, bins)."""


@lru_cache(maxsize=128)  # training uses a few dozen warp factors
def mel_bands(
    bins: int, fft_size: int, sample_rate: int, low_hz: float, high_hz: float, warp: float
) -> tuple[Band, ...]:
    """Split the filters of :func:`mel_filters` into bands, without most of their zeros."""
    filters = mel_filters(bins, fft_size, sample_rate, low_hz, high_hz, warp)
    bands = []
    for start in range(0, filters.shape[1], BAND):
        own = slice(start, start + BAND)
        covered = np.flatnonzero(filters[:, own].any(1))
        frequencies = slice(covered[0], covered[-1] + 1)
        bands.append(Band(frequencies, own, filters[frequencies, own].copy()))
    return tuple(bands)


def dct_matrix(inputs: int, outputs: int) -> np.ndarray:
    """Compute the orthonormal DCT with Kaldi's cepstral lifter, (inputs, outputs).

    The first output is c_0, not the energy (Kaldi's ``--use-energy=false``).
    """
    n, k = np.arange(inputs), np.arange(outputs)
    matrix = math.sqrt(2.0 / inputs) * np.cos(np.pi / inputs * (n + 0.5)[:, None] * k)
    matrix[:, 0] = math.sqrt(1.0 / inputs)
    return (matrix * (1 + LIFTER / 2 * np.sin(np.pi * k / LIFTER))).astype(np.float32)


def add_deltas(features: np.ndarray, order: int, window: int = 2) -> np.ndarray:
    """Append deltas as Kaldi's add-deltas, (T, F) to (T, (order + 1) * F); edges are repeated."""
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
    """Return the 95th percentile of the frames' mean log-mel energies (T, F), a scalar.

    A gain adds the same number to it as to all log energies.
    """
    return np.quantile(log_mel.mean(1), 0.95)


def normalize(
    features: np.ndarray, kind: str, overall: CmvnStats | None, speaker: CmvnStats | None
) -> np.ndarray:
    """Apply the mean and variance normalisation of ``features.cmvn``, (T, F) to (T, F).

    Without statistics of the speaker, those of these features are used. PRIOR_FRAMES frames with
    the statistics of the training set are added to them, as in Kaldi's online normalisation: a
    single word has no mean of its own.
    """
    if kind == "none":
        return features
    stats = (overall if kind == "global" else speaker) or CmvnStats.from_features(features)
    if kind == "speaker" and overall is not None:
        stats += overall.scaled_to(PRIOR_FRAMES)
    return stats.normalize(features)


class FeatureExtractor:
    """Converts waveforms to features.

    Args:
        config: kind and sizes; the defaults equal Kaldi's with 80 bins and no dither.

    Raises:
        InputError: the spectrum has too few frequencies for the filters.
    """

    def __init__(self, config: FeatureConfig) -> None:
        self.config, self.dim = config, config.dim
        self.length = int(config.frame_length_ms * config.sample_rate / 1000)
        self.shift = config.shift
        self.fft_size = 2 ** math.ceil(math.log2(self.length))
        hann = np.hanning(self.length)[1:]  # its first value is 0
        self.window = (hann**0.85).astype(np.float32)  # Kaldi's "povey" window
        self.warped_bands(1.0)  # raises an error for filters that are too narrow
        self.dct = dct_matrix(config.mel_bins, config.ceps) if config.kind == "mfcc" else None

    def warped_bands(self, warp: float) -> tuple[Band, ...]:
        """Return the filters for another vocal tract length."""
        c = self.config
        edges = (c.low_freq_hz, c.high_freq_hz)
        return mel_bands(c.mel_bins, self.fft_size, c.sample_rate, *edges, warp)

    def num_frames(self, samples: int | IntArray) -> IntArray:
        """Return the numbers of whole windows in numbers of samples (Kaldi's snip-edges)."""
        return np.maximum(0, 1 + (samples - self.length) // self.shift)

    def __call__(
        self, waveform: np.ndarray, noise: np.ndarray | None = None, warp: float = 1.0
    ) -> np.ndarray:
        """Compute the features of a waveform.

        Args:
            waveform: (N,), full scale 1, at ``config.sample_rate``.
            noise: for dither, (N,) with power 1; by default always the same noise.
            warp: factor of vocal tract length normalisation; above 1 lowers a high voice.

        Returns:
            (T, F), float32.

        Raises:
            AudioError: the waveform is shorter than one window.
        """
        frames = int(self.num_frames(len(waveform)))
        if frames == 0:
            rate = self.config.sample_rate
            raise AudioError(
                f"{len(waveform) / rate:.4f} s of audio, expected at least "
                f"{self.length / rate:g} s (one analysis window); leave it out"
            )
        signal = np.multiply(waveform, np.float32(FULL_SCALE), dtype=np.float32)
        if self.config.dither > 0:
            if noise is None:
                noise = np.random.default_rng(0).standard_normal(len(signal), np.float32)
            signal += self.config.dither * noise
        features = self._log_mel(signal, self.warped_bands(warp))
        if self.config.level:
            features -= loudness(features)
        if self.dct is not None:
            features = np.einsum("tf,fc->tc", features, self.dct)
        if self.config.delta_order > 0:
            features = add_deltas(features, self.config.delta_order)
        return features

    def _log_mel(self, signal: np.ndarray, bands: Sequence[Band]) -> np.ndarray:
        """Compute log-mel energies (T, bins) of a signal (N,), which is modified."""
        signal -= signal.mean()  # a large offset would cost precision
        windows = sliding_window_view(signal, self.length)[:: self.shift]  # (T, length), a view
        means = np.einsum("tn->t", windows)[:, None]  # faster than sum(1)
        means *= (1 - PREEMPHASIS) / self.length
        differences = np.multiply(signal[:-1], -PREEMPHASIS, dtype=np.float32)
        differences += signal[1:]
        emphasised = sliding_window_view(differences, self.length - 1)[:: self.shift]
        result = np.empty((len(windows), self.config.mel_bins), np.float32)
        padded = np.zeros((min(BLOCK, len(windows)), self.fft_size), np.float32)
        for start in range(0, len(windows), BLOCK):
            block = slice(start, min(start + BLOCK, len(windows)))
            rows = padded[: block.stop - start]
            frames = rows[:, : self.length - 1]  # the window is 0 at the first sample
            np.subtract(emphasised[block], means[block], out=frames)
            frames *= self.window
            spectrum = np.fft.rfft(rows)  # (block, fft / 2 + 1)
            power = np.square(spectrum.real)
            power += np.square(spectrum.imag)
            for frequencies, bins, weights in bands:
                np.matmul(power[:, frequencies], weights, out=result[block, bins])
        np.maximum(result, FLOOR, out=result)
        return np.log(result, out=result)
