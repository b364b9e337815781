"""Bootstrap interval of an error rate."""

import math

import numpy as np
import numpy.typing as npt

REPLICATES = 10_000
SEED = 0  # the same transcripts give the same interval
_BLOCK = 1_000  # replicates drawn at once; bounds the memory


def wer_spread(errors: npt.NDArray[np.int64], words: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Bootstrap the WER over utterances (Bisani and Ney, ICASSP 2004; Kaldi's compute-wer-bootci).

    Utterances with the same numbers are interchangeable, so a replicate is one multinomial
    draw over the distinct pairs (errors, words): the same distribution as drawing
    utterances, in far fewer steps.

    Args:
        errors: number of errors in each utterance, (N,).
        words: number of reference words in each utterance, (N,).

    Returns:
        The mean of the replicates' rates, and 1.96 times their standard deviation, half the width
        of the 95 % interval.
    """
    if words.sum() == 0:
        return (math.inf if errors.sum() else 0.0), 0.0
    kinds, counts = np.unique(np.stack([errors, words], axis=1), axis=0, return_counts=True)
    generator = np.random.default_rng(SEED)
    rates = []
    for _ in range(REPLICATES // _BLOCK):
        draws = generator.multinomial(len(errors), counts / len(errors), size=_BLOCK)
        drawn_errors, drawn_words = (draws @ kinds).T
        valid = drawn_words > 0
        rates.append(drawn_errors[valid] / drawn_words[valid])
    replicates = np.concatenate(rates)
    return float(replicates.mean()), float(1.96 * replicates.std())
