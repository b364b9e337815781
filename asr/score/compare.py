"""Significance tests of the difference between two systems on the same references."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from asr.errors import InputError
from asr.score.bootstrap import replicates
from asr.score.wer import Pair, Score, align, errors, reference_words

MIN_SEGMENTS = 30  # fewer are too few for the normal approximation
GOOD_RUN = 2  # consecutive words that both systems have right and that separate two segments


@dataclass(frozen=True)
class Comparison:
    """Two systems, A and B, on the same references."""

    wer_a: float
    wer_b: float
    interval: tuple[float, float]
    """95 % bootstrap interval of WER(A) - WER(B), resampling utterances (Bisani and Ney, 2004)."""
    chance_b_better: float
    """Share of the bootstrap replicates in which B has fewer errors."""
    segments: int
    """Number of segments in the matched-pairs test."""
    z: float
    """Statistic of the test: the mean difference over its standard error; NaN for fewer than
    :data:`MIN_SEGMENTS`."""
    p: float
    """Two-sided p-value: the chance of a difference as large between equally good systems; NaN
    as ``z``."""

    @property
    def difference(self) -> float:
        """WER(A) - WER(B)."""
        return self.wer_a - self.wer_b


def compare(a: Score, b: Score) -> Comparison:
    """Compare two systems.

    Raises:
        InputError: the two are not scored on the same references.
    """
    if (a.ids, a.refs) != (b.ids, b.refs):
        raise InputError(
            f"the references of the two systems differ ({len(a.ids)} and {len(b.ids)} utterances); "
            "decode the same set with both, and score both with mode all"
        )
    wrong = np.stack([errors(a.word_counts), errors(b.word_counts)], axis=1)
    interval, chance = bootstrap_difference(wrong, reference_words(a.word_counts))
    differences = [
        x - y
        for one, other in zip(align(a.refs, a.hyps), align(b.refs, b.hyps), strict=True)
        for x, y in matched_segments(one, other)
    ]
    enough = len(differences) >= MIN_SEGMENTS
    z, p = matched_pairs(differences) if enough else (math.nan, math.nan)
    return Comparison(a.wer, b.wer, interval, chance, len(differences), z, p)


def bootstrap_difference(
    wrong: npt.NDArray[np.int64], words: npt.NDArray[np.int64]
) -> tuple[tuple[float, float], float]:
    """Bootstrap the difference of two systems: every replicate draws the same utterances for both.

    Args:
        wrong: number of errors of A and B in each utterance, (N, 2).
        words: number of reference words in each utterance, (N,).

    Returns:
        The 2.5 % and 97.5 % quantiles of WER(A) - WER(B), and the share of replicates in which B
        has fewer errors.
    """
    wrong_a, wrong_b, drawn_words = replicates(np.column_stack([wrong, words])).T
    differences = (wrong_a - wrong_b) / np.maximum(drawn_words, 1)
    low, high = np.quantile(differences, [0.025, 0.975])
    return (float(low), float(high)), float((differences > 0).mean())


def matched_segments(one: Sequence[Pair], other: Sequence[Pair]) -> list[tuple[int, int]]:
    """Return the errors of A and of B in each segment of an utterance that has errors.

    Segments are separated by two or more words that both systems have right, so that errors
    in one hardly depend on those in another (Gillick and Cox, ICASSP 1989; NIST's MAPSSWE).

    Args:
        one: the reference aligned with A's hypothesis.
        other: the reference aligned with B's hypothesis.
    """
    segments: list[tuple[int, int]] = []
    run = GOOD_RUN
    for place, (x, y) in enumerate(zip(_by_place(one), _by_place(other), strict=True)):
        if x == y == 0:
            run += place % 2  # a word
            continue
        if run >= GOOD_RUN:
            segments.append((0, 0))
        segments[-1] = (segments[-1][0] + x, segments[-1][1] + y)
        run = 0
    return segments


def _by_place(pairs: Sequence[Pair]) -> list[int]:
    """Return the errors before the first reference word, at it, before the second, and so on."""
    counts = [0]
    for ref, hyp in pairs:
        if ref is None:
            counts[-1] += 1
        else:
            counts += [int(ref != hyp), 0]
    return counts


def matched_pairs(differences: Sequence[int]) -> tuple[float, float]:
    """Test whether the mean difference is 0, by the normal approximation.

    Args:
        differences: errors of A minus errors of B in each segment.

    Returns:
        The statistic z and the two-sided p-value.
    """
    count = len(differences)
    values = np.array(differences, float)
    if count < 2 or not values.any():
        return 0.0, 1.0
    spread = values.std(ddof=1)
    if spread == 0:  # the same difference everywhere
        return math.copysign(math.inf, values[0]), 0.0
    z = float(values.mean() / (spread / math.sqrt(count)))
    return z, math.erfc(abs(z) / math.sqrt(2))
