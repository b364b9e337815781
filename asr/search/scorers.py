"""The scorers of the beam search. A new one needs a class and a line in :func:`make_scorers`."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from asr import arrays
from asr.arrays import Array, FloatArray, IntArray
from asr.config import DecodeConfig
from asr.lm.protocol import LanguageModel
from asr.search.ctc_prefix import CTCPrefixScorer, PrefixState
from asr.search.hotwords import HotWords
from asr.search.hypothesis import BLANK
from asr.search.protocol import Encoded, Scorer, Step


def make_scorers(
    eos: int,
    config: DecodeConfig,
    lm: LanguageModel | None = None,
    hotwords: HotWords | None = None,
) -> list[Scorer]:
    """Return the decoder's scorer and all others with a weight, in the order of their sum."""
    others = [
        CTC(config.ctc_weight, eos),
        lm and LanguageModelScorer(config.lm_weight, lm),
        hotwords and LanguageModelScorer(1.0, hotwords, "hotwords", hotwords.most),
        LengthBonus(config.length_bonus, eos),
        Coverage(config.coverage_weight, config.coverage_threshold),
        EndThreshold(float(config.eos_threshold > 0), config.eos_threshold, eos),
    ]
    found = (scorer for scorer in others if scorer and scorer.weight != 0)
    return [Decoder(1 - config.ctc_weight), *found]


@dataclass
class Decoder(Scorer):
    """Log-probability by the decoder, which :class:`Step` already holds."""

    weight: float
    name = "decoder"

    def step(self, step: Step, state: None) -> tuple[Array, None]:
        """Return the decoder's log-probabilities."""
        return step.log_probs, None


CTCState = tuple[CTCPrefixScorer, PrefixState | None]
"""The prefix scorer of a batch, and its prefixes: None before the first step."""


@dataclass
class CTC(Scorer):
    """CTC's log-probability of all transcripts that begin with the hypothesis."""

    weight: float
    eos: int
    name = "ctc"
    cumulative = True

    def start(self, encoded: Encoded, width: int) -> CTCState:
        """Return the scorer of the batch; the model must have CTC."""
        assert encoded.ctc is not None
        return CTCPrefixScorer(encoded.ctc, encoded.steps, self.eos, width), None

    def step(self, step: Step, state: CTCState) -> tuple[Array, CTCState]:
        """Extend the prefixes by the last characters; score them with each next character."""
        scorer, prefix = state
        if prefix is None:
            prefix = scorer.start()
        else:
            prefix = scorer.advance(prefix.select(step.rows), step.tokens)
        return arrays.cast(scorer.score(prefix), "float32"), (scorer, prefix)

    def select(self, state: CTCState, rows: Array, encoded: Encoded) -> CTCState:
        """Return the rows and the scorer of their utterances."""
        scorer, prefix = state
        scorer = scorer.select(rows[:: scorer.width] // scorer.width, encoded.steps)
        return scorer, prefix and prefix.select(rows, max(encoded.steps))


@dataclass
class LanguageModelScorer(Scorer):
    """Log-probability by a language model of characters (shallow fusion), or hot-word bonus."""

    weight: float
    lm: LanguageModel
    name: str = "lm"
    most: float = 0.0
    """Largest score of a character."""

    def start(self, encoded: Encoded, width: int) -> Any:
        """Return the language model's state of all rows."""
        return self.lm.start(len(encoded.steps) * width)

    def step(self, step: Step, state: Any) -> tuple[Array, Any]:
        """Return the language model's scores."""
        return self.lm.step(step.tokens, state, step.rows)

    def select(self, state: Any, rows: Array, encoded: Encoded) -> Any:
        """Return the language model's state of some rows."""
        return self.lm.select(state, rows)

    def bound(self, scores: FloatArray, left: IntArray, steps: IntArray) -> FloatArray:
        """Return the largest score for all further characters."""
        return self.weight * self.most * left


@dataclass
class LengthBonus(Scorer):
    """Number of characters, without the end."""

    weight: float
    eos: int
    name = "length"

    def step(self, step: Step, state: None) -> tuple[Array, None]:
        """Return 1 for every character and 0 for the end."""
        ones = arrays.full(step.log_probs.shape[1], 1.0, step.log_probs)
        ones[self.eos] = 0.0
        return ones, None

    def bound(self, scores: FloatArray, left: IntArray, steps: IntArray) -> FloatArray:
        """Return the bonus of all further characters, or 0 if it is negative."""
        return max(0.0, self.weight) * left


@dataclass
class Coverage(Scorer):
    """Number of encoder steps whose attention, summed over the characters, is above a threshold."""

    weight: float
    threshold: float
    name = "coverage"
    cumulative = True

    def start(self, encoded: Encoded, width: int) -> Array:
        """Return the attention of each encoder step so far, (N, S)."""
        shape = len(encoded.steps) * width, max(encoded.steps)
        return encoded.array(np.zeros(shape, np.float32))

    def step(self, step: Step, state: Array) -> tuple[Array, Array]:
        """Return the number of covered steps, the same for every character, (N, 1)."""
        attention = state[step.rows] + step.alignment.over(state.shape[1])
        covered = (attention > self.threshold).sum(axis=1, keepdims=True)
        return arrays.cast(covered, "float32"), attention

    def select(self, state: Array, rows: Array, encoded: Encoded) -> Array:
        """Return some rows, cut to the longest utterance."""
        return state[rows][:, : max(encoded.steps)]

    def bound(self, scores: FloatArray, left: IntArray, steps: IntArray) -> FloatArray:
        """Return the bonus of all encoder steps that are not covered yet."""
        return self.weight * (steps - scores)


@dataclass
class EndThreshold(Scorer):
    """Forbids an end much less likely than the best other character (arXiv:1904.02619)."""

    weight: float
    threshold: float
    """The end's log-probability must reach this factor times the best other character's."""
    eos: int
    name = "eos"

    def step(self, step: Step, state: None) -> tuple[Array, None]:
        """Return -inf for an end that comes too early, else 0."""
        best = arrays.amax(step.log_probs[:, BLANK + 1 : self.eos])
        scores = arrays.full(tuple(step.log_probs.shape), 0.0, step.log_probs)
        early = step.log_probs[:, self.eos] < self.threshold * best
        scores[early, self.eos] = -np.inf
        return scores, None
