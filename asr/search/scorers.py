"""The scorers of the beam search; a further one is a class and a line of :func:`make_scorers`."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from asr import arrays
from asr.arrays import Array
from asr.config import DecodeConfig
from asr.lm.protocol import LanguageModel
from asr.search.ctc_prefix import CTCPrefixScorer, PrefixState
from asr.search.hotwords import HotWords
from asr.search.hypothesis import BLANK
from asr.search.protocol import Encoded, FloatArray, IntArray, Scorer, Step


def make_scorers(
    eos: int,
    config: DecodeConfig,
    lm: LanguageModel | None = None,
    hotwords: HotWords | None = None,
) -> list[Scorer]:
    """The scorers with a weight, in the order in which the search adds them up."""
    others = [
        CTC(config.ctc_weight, eos),
        None if lm is None else LanguageModelScorer(config.lm_weight, lm),
        None if hotwords is None else HotWordScorer(hotwords),
        LengthBonus(config.length_bonus, eos),
        Coverage(config.coverage_weight, config.coverage_threshold),
        EndThreshold(config.eos_threshold, eos),
    ]
    found = (scorer for scorer in others if scorer is not None and scorer.weight != 0)
    return [Decoder(1 - config.ctc_weight), *found]


@dataclass
class Decoder(Scorer):
    """Log-probability by the decoder; :class:`Step` already holds it."""

    weight: float
    name = "decoder"

    def step(self, step: Step, state: None) -> tuple[Array, None]:
        """Score the next characters."""
        return step.log_probs, None


class CTCState(NamedTuple):
    """The log-probabilities of a batch, and its prefixes."""

    scorer: CTCPrefixScorer
    prefix: PrefixState | None
    """None before the first step."""


@dataclass
class CTC(Scorer):
    """Log-probability by CTC of all transcripts that begin like the hypothesis."""

    weight: float
    eos: int
    name = "ctc"
    cumulative = True

    def start(self, encoded: Encoded, width: int) -> CTCState:
        """No prefix yet."""
        if encoded.ctc is None:
            raise ValueError("a search with a CTC weight needs a model with CTC")
        scorer = CTCPrefixScorer(encoded.ctc, encoded.steps, BLANK, self.eos, width)
        return CTCState(scorer, None)

    def step(self, step: Step, state: CTCState) -> tuple[Array, CTCState]:
        """Extend the prefixes by the last characters; score them with each next one."""
        scorer, prefix = state
        if prefix is None:
            prefix = scorer.start()
        else:
            prefix = scorer.advance(prefix.select(step.rows), step.tokens)
        return arrays.cast(scorer.score(prefix), "float32"), CTCState(scorer, prefix)

    def select(self, state: CTCState, rows: Array, encoded: Encoded) -> CTCState:
        """The rows and the log-probabilities of their utterances."""
        scorer, prefix = state
        scorer = scorer.select(rows[:: scorer.width] // scorer.width, encoded.steps)
        return CTCState(scorer, prefix and prefix.select(rows, max(encoded.steps)))


@dataclass
class LanguageModelScorer(Scorer):
    """Log-probability by a language model of characters (shallow fusion)."""

    weight: float
    lm: LanguageModel
    name = "lm"

    def start(self, encoded: Encoded, width: int) -> Any:
        """The language model's state of all rows."""
        return self.lm.start(len(encoded.steps) * width)

    def step(self, step: Step, state: Any) -> tuple[Array, Any]:
        """Score the next characters."""
        return self.lm.step(step.tokens, state, step.rows)

    def select(self, state: Any, rows: Array, encoded: Encoded) -> Any:
        """The language model's state of some rows."""
        return self.lm.select(state, rows)


class HotWordScorer(LanguageModelScorer):
    """Reward of hot words, which includes their weights."""

    name = "hotwords"

    def __init__(self, hotwords: HotWords) -> None:
        super().__init__(1.0, hotwords)
        self.most = hotwords.most

    def bound(self, scores: FloatArray, left: IntArray, steps: IntArray) -> FloatArray:
        """Every further character may earn the most."""
        return self.most * left


@dataclass
class LengthBonus(Scorer):
    """Counts characters; the end is none."""

    weight: float
    eos: int
    name = "length"

    def step(self, step: Step, state: None) -> tuple[Array, None]:
        """1 for every character, 0 for the end."""
        ones = arrays.full(step.log_probs.shape[1], 1.0, step.log_probs)
        ones[self.eos] = 0.0
        return ones, None

    def bound(self, scores: FloatArray, left: IntArray, steps: IntArray) -> FloatArray:
        """Bound: a bonus for all further characters, or 0 if the bonus is negative."""
        return max(0.0, self.weight) * left


@dataclass
class Coverage(Scorer):
    """Counts the encoder steps that gathered more attention than a threshold."""

    weight: float
    threshold: float
    name = "coverage"
    cumulative = True

    def start(self, encoded: Encoded, width: int) -> Array:
        """The attention that each encoder step has gathered, (N, S)."""
        shape = len(encoded.steps) * width, max(encoded.steps)
        return encoded.array(np.zeros(shape, np.float32))

    def step(self, step: Step, state: Array) -> tuple[Array, Array]:
        """The count with the attention of this step, which does not depend on the character."""
        gathered = state[step.rows] + step.alignment.over(state.shape[1])
        covered = (gathered > self.threshold).sum(axis=1, keepdims=True)
        return arrays.cast(covered, "float32"), gathered

    def select(self, state: Array, rows: Array, encoded: Encoded) -> Array:
        """The rows, cut to the longest utterance."""
        return state[rows][:, : max(encoded.steps)]

    def bound(self, scores: FloatArray, left: IntArray, steps: IntArray) -> FloatArray:
        """All encoder steps that are not covered yet."""
        return self.weight * (steps - scores)


class EndThreshold(Scorer):
    """Forbids an end that is too unlikely beside the best other character (arXiv:1904.02619).

    Args:
        threshold: least ratio of the log-probabilities; 0 allows every end.
        eos: id of <sos/eos>.
    """

    name = "eos"

    def __init__(self, threshold: float, eos: int) -> None:
        self.weight = float(threshold > 0)
        self.threshold, self.eos = threshold, eos

    def step(self, step: Step, state: None) -> tuple[Array, None]:
        """-inf for an end that comes too early, else 0."""
        best = arrays.amax(step.log_probs[:, BLANK + 1 : self.eos])
        scores = arrays.full(tuple(step.log_probs.shape), 0.0, step.log_probs)
        early = step.log_probs[:, self.eos] < self.threshold * best
        scores[early, self.eos] = -np.inf
        return scores, None
