"""Cepstral mean and variance normalisation (CMVN), with Kaldi's statistics."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.errors import InputError
from asr.files import write_text

# Speech varies by far more. A feature that was constant in training, such as an upper bin of
# upsampled telephone speech, must not swamp all others in audio where it varies.
STD_FLOOR = 0.1
_AGAIN = "run `asr features` again"


@dataclass(frozen=True)
class CmvnStats:
    """Sums over frames, as of Kaldi's compute-cmvn-stats; ``+`` adds those of other frames."""

    count: float
    """Number of frames."""
    sum: np.ndarray
    """Sum of the features, (F,), float64."""
    square_sum: np.ndarray
    """Sum of their squares, (F,), float64."""

    @classmethod
    def zero(cls, dim: int) -> "CmvnStats":
        """Return the statistics of no frames."""
        return cls(0.0, np.zeros(dim), np.zeros(dim))

    @classmethod
    def from_features(cls, features: np.ndarray) -> "CmvnStats":
        """Return the statistics of features (T, F)."""
        values = features.astype(np.float64)
        return cls(float(len(values)), values.sum(0), np.square(values).sum(0))

    def __add__(self, other: "CmvnStats") -> "CmvnStats":
        return CmvnStats(
            self.count + other.count, self.sum + other.sum, self.square_sum + other.square_sum
        )

    def scaled_to(self, count: float) -> "CmvnStats":
        """Return statistics with the same mean and variance of another number of frames."""
        factor = count / self.count
        return CmvnStats(count, self.sum * factor, self.square_sum * factor)

    @property
    def mean(self) -> np.ndarray:
        """Mean of the features, (F,)."""
        return self.sum / self.count

    @property
    def std(self) -> np.ndarray:
        """Standard deviation, (F,), at least ``STD_FLOOR``."""
        variance = self.square_sum / self.count - np.square(self.mean)
        return np.sqrt(np.maximum(variance, STD_FLOOR**2))

    def normalize(self, features: np.ndarray) -> np.ndarray:
        """Subtract the mean from features (T, F) and divide them by the standard deviation."""
        return (features - self.mean.astype(np.float32)) / self.std.astype(np.float32)


def write_stats(path: str | Path, stats: Mapping[str, CmvnStats]) -> Path:
    """Write statistics as a Kaldi text archive of 2 x (F + 1) matrices, sorted by key."""
    lines = []
    for key in sorted(stats):
        value = stats[key]
        first = " ".join(f"{v:.17g}" for v in [*value.sum.tolist(), value.count])
        second = " ".join(f"{v:.17g}" for v in [*value.square_sum.tolist(), 0.0])
        lines.append(f"{key}  [\n  {first}\n  {second} ]\n")
    return write_text(path, "".join(lines))


def read_stats(path: str | Path) -> dict[str, CmvnStats]:
    """Read statistics by key from a text archive of :func:`write_stats` or Kaldi's copy-matrix.

    Raises:
        InputError: the file is missing or is not such an archive.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read ({error}); {_AGAIN}") from error
    stats: dict[str, CmvnStats] = {}
    for number in range(0, len(lines), 3):
        where = f"{path}:{number + 1}"
        key, value = _parse(lines[number : number + 3], where)
        if key in stats:
            raise InputError(f"{where}: {key} is there twice; {_AGAIN}")
        stats[key] = value
    if not stats:
        raise InputError(f"{path}: empty, expected statistics; {_AGAIN}")
    return stats


def _parse(lines: list[str], where: str) -> tuple[str, CmvnStats]:
    """Return the key and the statistics from the three lines of a matrix."""
    try:
        (key, bracket), (first, second) = lines[0].split(), lines[1:]
        rows = [[float(v) for v in line.rstrip(" ]").split()] for line in (first, second)]
        matrix = np.array(rows)
    except ValueError as error:
        raise InputError(
            f'{where}: expected "<key>  [" and two rows of numbers; {_AGAIN}'
        ) from error
    count = float(matrix[0, -1]) if matrix.size else 0.0
    if bracket != "[" or not np.isfinite(matrix).all() or count <= 0:
        raise InputError(f"{where}: not statistics (sums and a count above 0); {_AGAIN}")
    return key, CmvnStats(count, matrix[0, :-1], matrix[1, :-1])
