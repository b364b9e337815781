"""Samples that come as arrays, of any type of numbers, to waveforms with full scale 1."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from asr.audio import channels
from asr.audio.channels import Mixer
from asr.audio.memory import warn_once
from asr.errors import InputError

LOUDEST = 1e10  # files of floats may hold 32-bit integers; what is beyond is damage
WIDTHS = (16, 24, 32, 64)  # bits of samples; integers may have more than their samples need


def is_sound(samples: np.ndarray) -> bool:
    """Whether all samples are finite, and small enough for the squares of their spectrum."""
    return bool((np.abs(samples) <= LOUDEST).all())


class ArrayReader:
    """Joins arrays that arrive one after the other into one waveform.

    Args:
        rate: samples per second.

    Raises:
        InputError: the rate is not above 0.
    """

    def __init__(self, rate: int) -> None:
        if rate <= 0:
            raise InputError(f"a rate of {rate} samples per second, expected more than 0")
        self.mixer = Mixer(rate, lambda: warn_once("samples", channels.WARNING))
        self.width = WIDTHS[0]  # that the samples of wide integers have needed so far

    def push(self, samples: ArrayLike) -> np.ndarray:
        """Samples (N,) or (N, channels), integers or floats; those that are ready come out, (M,).

        Raises:
            InputError: they are no finite numbers, or of a wrong shape.
        """
        values = self._floats(_array(samples))
        shape = values.shape
        if values.ndim == 2 and 0 < len(values) < values.shape[1]:
            raise InputError(
                f"samples of shape {shape}: more channels than samples, expected (N,) or "
                "(N, channels); transpose what has the channels first, such as torchaudio.load's"
            )
        if values.ndim not in (1, 2) or 0 in shape[1:] or not is_sound(values):
            raise InputError(
                f"samples of shape {shape}: expected finite numbers, (N,) or (N, channels)"
            )
        return self.mixer.push(values.reshape(len(values), -1 if len(values) else 1))

    def close(self) -> np.ndarray:
        """The samples that are left."""
        return self.mixer.close()

    def whole(self, samples: ArrayLike) -> np.ndarray:
        """The waveform of a single array."""
        return np.concatenate([self.push(samples), self.close()])

    def _floats(self, values: np.ndarray) -> np.ndarray:
        """Numbers of any type as float32, full scale 1."""
        if values.dtype.kind == "f":
            return np.asarray(values, np.float32)
        bits = 8 * values.dtype.itemsize
        if bits > WIDTHS[0]:
            self.width = max(self.width, _width(values))
            bits = self.width
        middle = 2.0 ** (bits - 1)
        floats = values.astype(np.float64)
        if values.dtype.kind == "u":
            floats -= middle
        return (floats / middle).astype(np.float32)


def _array(samples: Any) -> np.ndarray:
    """Numbers, which may be a tensor of torch, as numpy's array in the machine's byte order."""
    if hasattr(samples, "is_floating_point"):
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.is_floating_point() else samples).numpy()
    values = np.asarray(samples)
    if values.dtype.kind not in "fiu":
        raise InputError(f"samples of type {values.dtype}: expected floats or integers")
    return values


def _width(values: np.ndarray) -> int:
    """Bits that the samples in integers of 32 or 64 bits have: such as hold all of them."""
    if not values.size:
        return WIDTHS[0]
    low, high = int(values.min()), int(values.max())
    signed = values.dtype.kind == "i"
    needed = max(high, -low - 1).bit_length() + signed
    return next(width for width in WIDTHS if width >= needed)
