"""Arrays of samples of any numeric type to waveforms with full scale 1."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from asr.audio import channels
from asr.audio.channels import Mixer
from asr.audio.memory import warn_once
from asr.errors import InputError

MAX_SAMPLE = 1e10  # float files may hold 32-bit integers; larger samples come from damage
WIDTHS = (16, 24, 32, 64)  # bits per sample; an integer type may be wider than its samples


def is_valid(samples: np.ndarray) -> bool:
    """Return whether all samples are finite and their power spectrum cannot overflow."""
    return bool((np.abs(samples) <= MAX_SAMPLE).all())


class ArrayReader:
    """Converts a sequence of arrays into one waveform.

    Args:
        rate: samples per second.

    Raises:
        InputError: the rate is not a whole number above 0.
    """

    def __init__(self, rate: float) -> None:
        try:
            self.rate = int(rate)
        except (TypeError, ValueError, OverflowError):
            self.rate = 0
        if self.rate <= 0 or self.rate != rate:
            raise InputError(f"a rate of {rate!r}, expected a whole number of samples per second")
        self.mixer = Mixer(self.rate, lambda: warn_once("samples", channels.WARNING))
        self.blocks = True  # which may be silent, unlike a whole recording
        self.channels = 0  # of the last array
        self.width = WIDTHS[0]  # of the wide integers so far

    def push(self, samples: ArrayLike) -> np.ndarray:
        """Take integers or floats (N,) or (N, channels); return the samples that are ready, (M,).

        Integers of up to 32 bits have the full scale of their type, wider ones that of the
        narrowest of :data:`WIDTHS` that holds them.

        Raises:
            InputError: the samples are not finite numbers, or their shape is wrong.
        """
        values = self._floats(_array(samples))
        where = f"samples of shape {values.shape}"
        if values.ndim == 2 and 0 < len(values) < values.shape[1] != self.channels:
            raise InputError(
                f"{where}: more channels than samples, expected (N,) or (N, channels); transpose "
                "arrays that have the channels first, such as those of torchaudio.load"
            )
        if values.ndim not in (1, 2) or 0 in values.shape[1:] or not is_valid(values):
            raise InputError(f"{where}: expected finite numbers, (N,) or (N, channels)")
        self.channels = values.shape[1] if values.ndim == 2 else 1
        return self.mixer.push(values.reshape(len(values), self.channels))

    def close(self) -> np.ndarray:
        """Return the remaining samples."""
        return self.mixer.close()

    def whole(self, samples: ArrayLike) -> np.ndarray:
        """Return the waveform (N,) of one array; :data:`WIDTHS` decide about 32 bits, too."""
        self.blocks = False
        return np.concatenate([self.push(samples), self.close()])

    def _floats(self, values: np.ndarray) -> np.ndarray:
        """Convert numbers of any type to float32 with full scale 1."""
        if values.dtype.kind == "f":
            return np.asarray(values, np.float32)
        bits = 8 * values.dtype.itemsize
        if bits > (32 if self.blocks else WIDTHS[0]):
            self.width = max(self.width, _width(values))
            bits = self.width
        middle = 2.0 ** (bits - 1)
        floats = values.astype(np.float64)
        if values.dtype.kind == "u":
            floats -= middle
        return (floats / middle).astype(np.float32)


def _array(samples: Any) -> np.ndarray:
    """Convert a sequence or a torch tensor of numbers to a numpy array."""
    if hasattr(samples, "is_floating_point"):
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.is_floating_point() else samples).numpy()
    try:
        values = np.asarray(samples)
    except ValueError as error:
        raise InputError(f"samples that are no array ({error}): expected numbers") from error
    if values.dtype.kind not in "fiu":
        raise InputError(f"samples of type {values.dtype}: expected floats or integers")
    return values


def _width(values: np.ndarray) -> int:
    """Return the smallest sample width in bits that holds all values of a wide integer type."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    signed = values.dtype.kind == "i"
    needed = max(high, -low - 1).bit_length() + signed
    return next(width for width in WIDTHS if width >= needed)
