"""Bootstrap interval of an error rate."""

import math

import numpy as np
import numpy.typing as npt

REPLICATES = 10_000
SEED = 0  # the same transcripts give the same interval
_BLOCK = 1_000  # replicates drawn at once


def wer_spread(errors: npt.NDArray[np.int64], words: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Bootstrap the WER over utterances (Bisani and Ney, ICASSP 2004; Kaldi's compute-wer-bootci).

    Args:
        errors: number of errors in each utterance, (N,).
        words: number of reference words in each utterance, (N,).

    Returns:
        The mean of the replicates' rates, and 1.96 times their standard deviation, half the width
        of the 95 % interval.
    """
    if words.sum() == 0:
        return (math.inf if errors.sum() else 0.0), 0.0
    drawn_errors, drawn_words = replicates(np.stack([errors, words], axis=1)).T
    valid = drawn_words > 0
    rates = drawn_errors[valid] / drawn_words[valid]
    return float(rates.mean()), float(1.96 * rates.std())


def replicates(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Draw utterances with replacement, again and again, and sum their numbers each time.

    Utterances with the same numbers are interchangeable, so a replicate is one multinomial draw
    over the distinct rows: the same distribution as drawing utterances, in far fewer steps.

    Args:
        numbers: C numbers of each utterance, (N, C).

    Returns:
        the sums, (REPLICATES, C).
    """
    kinds, counts = np.unique(numbers, axis=0, return_counts=True)
    generator, shares = np.random.default_rng(SEED), counts / len(numbers)
    blocks = range(0, REPLICATES, _BLOCK)
    return np.concatenate(
        [generator.multinomial(len(numbers), shares, size=_BLOCK) @ kinds for _ in blocks]
    )
