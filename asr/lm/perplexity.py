"""Perplexity of a text under a language model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from asr.arrays import FloatArray
from asr.lm.lookahead import WordLM
from asr.lm.protocol import LanguageModel
from asr.text.tokenizer import CharTokenizer

_BLOCK = 1024  # sentences that are scored side by side


@dataclass(frozen=True)
class Perplexity:
    """Log-probabilities of a text under a language model."""

    sentences: tuple[tuple[float, str], ...]
    """Natural log-probability of each sentence with its end, and the sentence."""
    unknown_words: int | None
    """Number of words that the n-gram does not know; None if there is no n-gram."""

    @property
    def log_prob(self) -> float:
        """Natural log-probability of the whole text."""
        return math.fsum(log_prob for log_prob, _ in self.sentences)

    @property
    def words(self) -> int:
        """Number of words."""
        return sum(len(text.split()) for _, text in self.sentences)

    @property
    def characters(self) -> int:
        """Number of characters, including the spaces between words."""
        return sum(len(text) for _, text in self.sentences)

    def per(self, units: int) -> float:
        """Return the perplexity per unit; the end of a sentence counts as one, as in SRILM."""
        nats = -self.log_prob / (units + len(self.sentences))
        return math.exp(min(700.0, nats))  # exp overflows above 709

    def __str__(self) -> str:
        unknown = "" if self.unknown_words is None else f" ({self.unknown_words} unknown)"
        return (
            f"perplexity {self.per(self.characters):.3f} per character, "
            f"{self.per(self.words):.1f} per word; "
            f"log-probability {self.log_prob:.2f}, {len(self.sentences)} sentences, "
            f"{self.words} words{unknown}, {self.characters} characters"
        )


def sentence_log_probs(
    lm: LanguageModel, sentences: Sequence[Sequence[int]], eos: int
) -> FloatArray:
    """Return the log-probabilities of sentences with their ends, as a search scores them.

    Args:
        lm: a language model on the CPU.
        sentences: characters of M sentences, without <sos/eos>.
        eos: id of <sos/eos>.

    Returns:
        (M,).
    """
    order = sorted(range(len(sentences)), key=lambda i: -len(sentences[i]))
    result = np.zeros(len(sentences))
    for start in range(0, len(order), _BLOCK):
        chosen = order[start : start + _BLOCK]
        result[chosen] = _add_up(lm, [[*sentences[i], eos] for i in chosen], eos)
    return result


def _add_up(lm: LanguageModel, sentences: Sequence[Sequence[int]], eos: int) -> FloatArray:
    """Return the log-probabilities of sentences that include their ends, longest first, (M,)."""
    total, rows = np.zeros(len(sentences)), np.arange(len(sentences))
    last, state = np.full(len(rows), eos), lm.start(len(rows))
    for column in np.array(list(zip_longest(*sentences, fillvalue=-1))):
        count = int((column >= 0).sum())
        log_probs, state = lm.step(last[:count], state, rows[:count])
        last = column[:count]
        total[:count] += log_probs[rows[:count], last]
    return total


def perplexity(lm: LanguageModel, sentences: Sequence[str], tokenizer: CharTokenizer) -> Perplexity:
    """Return the perplexity of sentences, with single spaces, under a language model on the CPU."""
    encoded = [tokenizer.encode(text) for text in sentences]
    scores = sentence_log_probs(lm, encoded, tokenizer.eos_id).tolist()
    unknown = None
    if isinstance(lm, WordLM):
        known = {tuple(tokenizer.encode(word)) for word in lm.ngram.words}
        words = (tuple(tokenizer.encode(word)) for text in sentences for word in text.split())
        unknown = sum(word not in known or tokenizer.unk_id in word for word in words)
    return Perplexity(tuple(zip(scores, sentences, strict=True)), unknown)
