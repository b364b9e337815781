"""Statistics of alignments beside the error rate: their means, and their correlation to errors."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.errors import InputError
from asr.files import RESULTS
from asr.score.wer import Score, errors, reference_words
from asr.text.characters import compose
from asr.text.transcripts import read_lines

Statistics = Mapping[str, Mapping[str, float]]
"""Statistics of the alignment by utterance and name."""
MIN_UTTERANCES = 10  # a correlation of fewer is chance


@dataclass(frozen=True)
class Correlation:
    """A statistic of the alignments over a test set."""

    name: str
    mean: float
    correlation: float | None
    """Spearman's rank correlation to the utterances' word error rates; None if either is the same
    for all utterances, or for fewer than :data:`MIN_UTTERANCES`."""


def read_statistics(hypotheses: str | Path) -> dict[str, dict[str, float]]:
    """Return the statistics in ``results.jsonl`` of a folder, or beside its ``text``; or nothing.

    Raises:
        InputError: a line is no JSON object, or a statistic is no number.
    """
    text, found = Path(hypotheses), {}
    path = (text if text.is_dir() else text.parent) / RESULTS
    if not (text.is_dir() or text.name == "text") or not path.is_file():
        return {}
    for number, line in enumerate(read_lines(path), 1):
        try:
            entry = json.loads(line)
            values = dict(entry.get("alignment") or {})
            name = compose(str(entry["id"]))
            found[name] = {key: float(value) for key, value in values.items()}
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise InputError(
                f"{path}:{number}: not a result of `asr decode` ({error}); decode again"
            ) from None
    return {name: values for name, values in found.items() if values}


def correlate(score: Score, statistics: Statistics) -> list[Correlation]:
    """Return the mean of each statistic and its rank correlation to the word error rates.

    A statistic that an utterance lacks is left out.
    """
    rows = [row for row, name in enumerate(score.ids) if name in statistics]
    if not rows:
        return []
    counts = score.word_counts[rows]
    rates = errors(counts) / np.maximum(1, reference_words(counts))  # (N,)
    found = []
    every = [statistics[score.ids[row]] for row in rows]
    for name in every[0]:
        if all(name in each for each in every):
            values = np.array([each[name] for each in every])
            rank = rank_correlation(values, rates) if len(rows) >= MIN_UTTERANCES else None
            found.append(Correlation(name, float(values.mean()), rank))
    return found


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    """Return Spearman's rank correlation, with mean ranks for ties, of (N,) and (N,)."""
    x, y = (ranks - ranks.mean() for ranks in (_ranks(x), _ranks(y)))
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norm if norm > 0 else None


def _ranks(x: np.ndarray) -> np.ndarray:
    _, group, counts = np.unique(x, return_inverse=True, return_counts=True)
    means: np.ndarray = np.cumsum(counts) - (counts - 1) / 2
    return means[group]
