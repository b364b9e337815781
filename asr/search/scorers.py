"""The scorers of the beam search; a further one is a class and a line of :func:`make_scorers`."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from asr.arrays import to_numpy
from asr.config import DecodeConfig
from asr.lm.protocol import LanguageModel
from asr.model.las import LAS
from asr.model.memory import Memory
from asr.search.ctc_prefix import CTCPrefixScorer, PrefixState
from asr.search.hotwords import HotWords
from asr.search.hypothesis import BLANK
from asr.search.protocol import Scorer, Step


def make_scorers(
    model: LAS,
    config: DecodeConfig,
    lm: LanguageModel | None = None,
    hotwords: HotWords | None = None,
) -> list[Scorer]:
    """The scorers with a weight, in the order in which the search adds them up."""
    others = [
        CTC(config.ctc_weight, model),
        None if lm is None else LanguageModelScorer(config.lm_weight, lm),
        None if hotwords is None else HotWordScorer(hotwords),
        LengthBonus(config.length_bonus, model.eos),
        Coverage(config.coverage_weight, config.coverage_threshold),
        EndThreshold(config.eos_threshold, model.eos),
    ]
    found = (scorer for scorer in others if scorer is not None and scorer.weight != 0)
    return [Decoder(1 - config.ctc_weight), *found]


@dataclass
class Decoder(Scorer):
    """Log-probability by the decoder; :class:`Step` already holds it."""

    weight: float
    name = "decoder"

    def step(self, step: Step, state: None) -> tuple[Tensor, None]:
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
    model: LAS
    name = "ctc"
    cumulative = True

    def start(self, encoded: Memory, width: int) -> CTCState:
        """Apply the CTC head to the encoder output."""
        log_probs = self.model.ctc_log_probs(encoded)
        scorer = CTCPrefixScorer(log_probs, encoded.steps, BLANK, self.model.eos, width)
        return CTCState(scorer, None)

    def step(self, step: Step, state: CTCState) -> tuple[Tensor, CTCState]:
        """Extend the prefixes by the last characters; score them with each next one."""
        scorer, prefix = state
        if prefix is None:
            prefix = scorer.start()
        else:
            prefix = scorer.advance(prefix.select(step.rows), step.tokens)
        return scorer.score(prefix).to(step.log_probs.dtype), CTCState(scorer, prefix)

    def select(self, state: CTCState, rows: Tensor, encoded: Memory) -> CTCState:
        """The rows and the log-probabilities of their utterances."""
        scorer, prefix = state
        utterances = rows[:: scorer.width] // scorer.width
        scorer = scorer.select(utterances, encoded.steps)
        return CTCState(scorer, prefix and prefix.select(rows, encoded.states.shape[1]))


@dataclass
class LanguageModelScorer(Scorer):
    """Log-probability by a language model of characters (shallow fusion)."""

    weight: float
    lm: LanguageModel
    name = "lm"

    def start(self, encoded: Memory, width: int) -> Any:
        """The language model's state of all rows."""
        return self.lm.start(len(encoded.steps) * width)

    def step(self, step: Step, state: Any) -> tuple[Tensor, Any]:
        """Score the next characters."""
        if step.tokens.device.type != "cpu":
            return self.lm.step(step.tokens, state, step.rows)
        scores, state = self.lm.step(to_numpy(step.tokens), state, to_numpy(step.rows))
        return torch.as_tensor(scores), state

    def select(self, state: Any, rows: Tensor, encoded: Memory) -> Any:
        """The language model's state of some rows."""
        return self.lm.select(state, to_numpy(rows) if rows.device.type == "cpu" else rows)


class HotWordScorer(LanguageModelScorer):
    """What hot words earn; their weights are in the scores."""

    name = "hotwords"

    def __init__(self, hotwords: HotWords) -> None:
        super().__init__(1.0, hotwords)
        self.most = hotwords.most

    def bound(self, score: float, left: int, steps: int) -> float:
        """Every further character may earn the most."""
        return self.most * left


@dataclass
class LengthBonus(Scorer):
    """Counts characters; the end is none."""

    weight: float
    eos: int
    name = "length"

    def step(self, step: Step, state: None) -> tuple[Tensor, None]:
        """1 for every character, 0 for the end."""
        ones = torch.ones_like(step.log_probs[0])
        ones[self.eos] = 0.0
        return ones, None

    def bound(self, score: float, left: int, steps: int) -> float:
        """All further characters, or none where they cost something."""
        return max(0.0, self.weight * left)


@dataclass
class Coverage(Scorer):
    """Counts the encoder steps that gathered more attention than a threshold."""

    weight: float
    threshold: float
    name = "coverage"
    cumulative = True

    def start(self, encoded: Memory, width: int) -> Tensor:
        """The attention that each encoder step has gathered, (N, S)."""
        B, S, _ = encoded.states.shape
        return encoded.states.new_zeros(B * width, S)

    def step(self, step: Step, state: Tensor) -> tuple[Tensor, Tensor]:
        """The count with the attention of this step, which does not depend on the character."""
        gathered = state[step.rows] + step.alignment.over(state.shape[1])
        covered = (gathered > self.threshold).sum(1, keepdim=True)
        return covered.to(step.log_probs.dtype), gathered

    def select(self, state: Tensor, rows: Tensor, encoded: Memory) -> Tensor:
        """The rows, cut to the longest utterance."""
        return state[rows, : encoded.states.shape[1]]

    def bound(self, score: float, left: int, steps: int) -> float:
        """All encoder steps that are not covered yet."""
        return self.weight * (steps - score)


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

    def step(self, step: Step, state: None) -> tuple[Tensor, None]:
        """-inf for an end that comes too early, else 0."""
        others = step.log_probs.clone()
        others[:, [BLANK, self.eos]] = -torch.inf
        early = step.log_probs[:, self.eos] < self.threshold * others.amax(1)
        scores = torch.zeros_like(others)
        scores[:, self.eos].masked_fill_(early, -torch.inf)
        return scores, None
