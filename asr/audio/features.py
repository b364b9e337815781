"""Log-mel filterbanks and MFCC with Kaldi's values.

For every window of 25 ms, 10 ms apart, Kaldi's compute-fbank-feats removes the mean, takes
differences (pre-emphasis), applies the "povey" window, and sums the power spectrum under
triangles on the mel scale. The steps here are the same, for a block of windows at a time.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from asr.audio.io import AudioError
from asr.config import FeatureConfig
from asr.errors import InputError

PREEMPHASIS = 0.97
FLOOR = torch.finfo(torch.float32).eps  # log of nothing, as in Kaldi
FULL_SCALE = 32768.0  # Kaldi works on 16-bit numbers
VTLN_LOW_HZ, VTLN_MARGIN_HZ = 100.0, 500.0  # Kaldi's --vtln-low, and minus its --vtln-high
LIFTER = 22.0
BLOCK = 256  # frames at a time: what they need stays in the processor's cache


def mel(freq_hz: Tensor | float) -> Tensor:
    """Hertz to Kaldi's mel scale."""
    return 1127.0 * torch.log1p(torch.as_tensor(freq_hz, dtype=torch.float64) / 700.0)


def unmel(value: Tensor) -> Tensor:
    """Kaldi's mel scale to hertz."""
    return 700.0 * torch.expm1(value / 1127.0)


def warp_frequency(freq_hz: Tensor, warp: float, low_hz: float, high_hz: float) -> Tensor:
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
    warped = torch.where(freq_hz < left, below, freq_hz / warp)
    warped = torch.where(freq_hz >= right, above, warped)
    return torch.where((freq_hz < low_hz) | (freq_hz > high_hz), freq_hz, warped)


@lru_cache(maxsize=128)  # a training warps by a few dozen factors
def mel_filters(
    bins: int,
    fft_size: int,
    sample_rate: int,
    low_hz: float,
    high_hz: float,
    warp: float = 1.0,
) -> Tensor:
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
    edges = torch.linspace(float(mel(low_hz)), float(mel(high_hz)), bins + 2, dtype=torch.float64)
    if warp != 1.0:
        edges = mel(warp_frequency(unmel(edges), warp, low_hz, high_hz))
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    spectrum = mel(torch.arange(fft_size // 2) * sample_rate / fft_size).unsqueeze(1)
    rising, falling = (spectrum - left) / (centre - left), (right - spectrum) / (right - centre)
    weights = torch.minimum(rising, falling).clamp_min(0.0)
    if not weights.any(0).all():
        raise InputError(
            f"features.mel_bins = {bins}: some filters are narrower than the distance of the "
            f"spectrum's {fft_size // 2} frequencies; take fewer bins or a longer frame"
        )
    return torch.nn.functional.pad(weights, (0, 0, 0, 1)).float()


def dct_matrix(inputs: int, outputs: int) -> Tensor:
    """Orthonormal cosine transform with Kaldi's cepstral lifter, (inputs, outputs).

    The first output is the transform's own c_0 (Kaldi's ``--use-energy=false``).
    """
    n, k = torch.arange(inputs, dtype=torch.float64), torch.arange(outputs, dtype=torch.float64)
    matrix = math.sqrt(2.0 / inputs) * torch.cos(math.pi / inputs * (n + 0.5).unsqueeze(1) * k)
    matrix[:, 0] = math.sqrt(1.0 / inputs)
    return (matrix * (1 + LIFTER / 2 * torch.sin(math.pi * k / LIFTER))).float()


def add_deltas(features: Tensor, order: int, window: int = 2) -> Tensor:
    """Kaldi's add-deltas: (T, F) to (T, (order + 1) * F); the edges repeat."""
    frames = len(features)
    step = torch.arange(-window, window + 1, dtype=torch.float64)
    step /= (step * step).sum()
    parts, scales = [features], torch.ones(1, dtype=torch.float64)
    for _ in range(order):
        scales = torch.nn.functional.conv1d(
            scales.view(1, 1, -1), step.flip(0).view(1, 1, -1), padding=2 * window
        ).flatten()  # the filter of this order: the one before, convolved with the step
        reach = len(scales) // 2
        total = torch.zeros_like(features)
        for offset, scale in zip(range(-reach, reach + 1), scales.tolist(), strict=True):
            rows = torch.arange(offset, offset + frames).clamp(0, frames - 1)
            total += scale * features[rows]
        parts.append(total)
    return torch.cat(parts, dim=1)


def loudness(log_mel: Tensor) -> Tensor:
    """The mean log energy (T, F) of the loud frames, their 95th percentile; a scalar.

    A gain adds the same number to all log energies, and so to this one.
    """
    return log_mel.mean(1).quantile(0.95)


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
        hann = torch.hann_window(self.length, periodic=False, dtype=torch.float64)
        self.window = hann.pow(0.85).float()  # Kaldi's "povey" window; its first value is 0
        self.filters = self.warped_filters(1.0)
        self.dct = dct_matrix(config.mel_bins, config.ceps) if config.kind == "mfcc" else None

    def warped_filters(self, warp: float) -> Tensor:
        """The filters for other vocal tracts, as :func:`mel_filters` gives them."""
        c = self.config
        edges = (c.low_freq_hz, c.high_freq_hz)
        return mel_filters(c.mel_bins, self.fft_size, c.sample_rate, *edges, warp)

    def num_frames(self, samples: int, tempo: float = 1.0) -> int:
        """Whole windows in so many samples (Kaldi's snip_edges)."""
        shift = round(self.shift * tempo)
        return 0 if samples < self.length else 1 + (samples - self.length) // shift

    def __call__(
        self,
        waveform: Tensor,
        generator: torch.Generator | None = None,
        warp: float = 1.0,
        tempo: float = 1.0,
    ) -> Tensor:
        """Features of a waveform.

        Args:
            waveform: (N,), full scale 1, at ``config.sample_rate``.
            generator: for dither, where it is on; without one the same noise comes each time.
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
        signal = waveform.float() * FULL_SCALE
        if self.config.dither > 0:
            generator = generator or torch.Generator().manual_seed(0)
            signal += self.config.dither * torch.randn(len(signal), generator=generator)
        filters = self.filters if warp == 1.0 else self.warped_filters(warp)
        windows = signal.unfold(0, self.length, round(self.shift * tempo))  # (T, length), a view
        features = self._log_mel(windows, filters)
        if self.config.level:
            features -= loudness(features)
        if self.dct is not None:
            features = features @ self.dct
        if self.config.delta_order > 0:
            features = add_deltas(features, self.config.delta_order)
        return features

    def _log_mel(self, windows: Tensor, filters: Tensor) -> Tensor:
        """Windows (T, length) to log-mel energies (T, bins), a block of frames at a time."""
        frames = len(windows)
        result = windows.new_empty(frames, self.config.mel_bins)
        buffer = windows.new_zeros(min(BLOCK, frames), self.fft_size)
        for start in range(0, frames, BLOCK):
            block = slice(start, min(start + BLOCK, frames))
            padded = buffer[: block.stop - start]  # zero in column 0 and after the window
            centred = windows[block] - windows[block].mean(1, keepdim=True)
            emphasised = padded[:, 1 : self.length]  # the povey window hides the first sample
            torch.sub(centred[:, 1:], centred[:, :-1], alpha=PREEMPHASIS, out=emphasised)
            emphasised.mul_(self.window[1:])
            spectrum = torch.fft.rfft(padded)  # (block, fft / 2 + 1)
            power = (spectrum * spectrum.conj()).real  # torch sums squares 4 times as slowly
            torch.mm(power, filters, out=result[block])
        return result.clamp_min_(FLOOR).log_()
