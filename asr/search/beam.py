"""Beam search, batched over utterances and hypotheses.

The score of a hypothesis is the weighted sum of the scores of a list of scorers, see
:mod:`asr.search.scorers`: decoder, CTC, language model, hot words, length, coverage, end threshold.

A hypothesis finishes only if its <eos> extension is among the K best extensions of its utterance;
the K best others go on. Scores of all extensions are tensors; the few that are kept become plain
numbers, so that a step takes few operations and one hand-over. An utterance is done when no
hypothesis that goes on can come before the ``nbest`` finished ones: each scorer bounds what a
hypothesis can still gain, which is 0 for log-probabilities, also for CTC's, which falls from that
of a prefix to that of a transcript. With bonuses this takes more steps, hence a second rule: an
utterance is also done when what goes on is worse than the ``nbest`` finished ones by
``end_margin``. (With the margin of 10 AN4's dev set takes 20 to 26 % fewer steps, and not one
result changes.)
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from asr.config import DecodeConfig
from asr.lm.protocol import LanguageModel
from asr.model.attention import Alignment
from asr.model.las import LAS
from asr.model.memory import Memory
from asr.search.greedy import greedy
from asr.search.hotwords import HotWords
from asr.search.hypothesis import BLANK, Hypothesis, length_limit
from asr.search.protocol import Scorer, Step
from asr.search.scorers import make_scorers


class _Row(NamedTuple):  # no frozen dataclass: a search makes thousands, and a tuple is made faster
    """A hypothesis that goes on."""

    score: float
    """What the search compares; -inf: not in use."""
    parent: int
    """Row of the step before that it comes from."""
    token: int
    """Its last character."""
    pick: int
    """Its number among the best extensions of all rows."""


class _Finished(NamedTuple):
    """A finished hypothesis: the step and row it ended in."""

    score: float
    scores: list[float]
    step: int
    row: int
    ended: bool


@dataclass
class _Utterance:
    """The search of one utterance."""

    index: int
    """Its position in the batch."""
    steps: int
    """Encoder steps."""
    limit: int
    """Most characters."""
    rows: list[_Row]
    """The K hypotheses that go on."""
    finished: list[_Finished] = field(default_factory=list)

    def best(self, count: int) -> list[_Finished]:
        """The best finished hypotheses, best first."""
        return sorted(self.finished, key=lambda f: f.score, reverse=True)[:count]


@dataclass(frozen=True)
class _Past:
    """What one step saw and chose, to read hypotheses back from their end."""

    alignment: Alignment
    """Where each row looked."""
    rows: list[_Row]
    """The rows of the next step, which come from these."""
    decoder: list[float]
    """Their scores by the decoder."""


@torch.no_grad()
def search(
    model: LAS,
    memory: Memory,
    config: DecodeConfig,
    lm: LanguageModel | None = None,
    hotwords: HotWords | None = None,
) -> list[list[Hypothesis]]:
    """Find the best hypotheses of a batch.

    Args:
        model: in evaluation mode.
        memory: encoder output of B utterances.
        config: beam width and weights.
        lm: language model over the same characters; takes no part where its weight is 0.
        hotwords: words to favour.

    Returns:
        For each utterance ``config.nbest`` hypotheses or fewer, best first. Those that
        reached the length limit (``ended`` is False) appear only where none ended.
    """
    scorers = make_scorers(model, config, lm, hotwords)
    if len(scorers) == config.beam == config.nbest == 1:  # the decoder alone
        return [[best] for best in greedy(model, memory, config.max_ratio)]
    return BeamSearch(model, memory, config, scorers).run()


class BeamSearch:
    """One batch on its way through the search: K rows for each active utterance, N in all.

    Args:
        model: in evaluation mode.
        memory: encoder output of B utterances.
        config: beam width and stop rules.
        scorers: those whose scores are added up; the first is the decoder's.
    """

    def __init__(
        self, model: LAS, memory: Memory, config: DecodeConfig, scorers: Sequence[Scorer]
    ) -> None:
        self.config, self.eos, self.device = config, model.eos, memory.states.device
        self.scorers, self.vocab = scorers, model.vocab
        first, unused = (_Row(score, 0, model.eos, 0) for score in (0.0, -math.inf))
        rows = [first] + [unused] * (config.beam - 1)
        limits = length_limit(memory.steps, config.max_ratio).tolist()
        self.utterances = [
            _Utterance(index, steps, limit, rows)
            for index, (steps, limit) in enumerate(zip(memory.steps.tolist(), limits, strict=True))
        ]
        self.active = self.utterances
        self.session = model.decoder.session(memory, config.beam)
        self.state = self.session.start()
        self.states = [s.start(memory, config.beam) for s in scorers]
        self.scores = [[0.0] * (len(limits) * config.beam) for _ in scorers]
        """By each scorer so far: P lists of N."""
        self.history: list[_Past] = []

    def run(self) -> list[list[Hypothesis]]:
        """Search to the end."""
        N = len(self.active) * self.config.beam
        tokens, parents = [self.eos] * N, list(range(N))
        for length in range(max(u.limit for u in self.utterances) + 1):
            alignment, scores, total = self._extend(tokens, parents)
            self._choose(scores, total, length)
            left = [i for i, u in enumerate(self.active) if self._goes_on(i, u, length)]
            leaving = len(left) < len(self.active)
            if leaving:
                self._keep(left)
            rows = [row for u in self.active for row in u.rows]
            tokens, parents = [row.token for row in rows], [row.parent for row in rows]
            self.history.append(_Past(alignment, rows, self.scores[0]))
            if not left:
                break
            if leaving:
                self._select(left, parents)
                parents = list(range(len(rows)))  # the states are theirs, in their order
        return [[self._read_back(u, f) for f in u.best(self.config.nbest)] for u in self.utterances]

    def _extend(
        self, tokens: list[int], parents: list[int]
    ) -> tuple[Alignment, list[Tensor], Tensor]:
        """Score every hypothesis followed by every character.

        Returns:
            where the decoder looked, the scores by each scorer and what the search compares,
            each (N, V).
        """
        numbers = torch.tensor([tokens, parents], device=self.device)
        last, rows = numbers.int()
        log_probs, alignment, self.state = self.session.step(last, self.state, rows)
        step = Step(numbers[0], numbers[1], log_probs, alignment)
        total = self._bases()
        scores = []
        for i, scorer in enumerate(self.scorers):
            score, self.states[i] = scorer.step(step, self.states[i])
            total = total + (score if scorer.weight == 1 else scorer.weight * score)
            scores.append(score.expand_as(log_probs))
        total[:, BLANK] = -math.inf
        return alignment, scores, total

    def _bases(self) -> Tensor:
        """What all extensions of each row have in common, (N, 1), added in double precision."""
        rows = (row for u in self.active for row in u.rows)
        bases = [0.0 if row.score > -math.inf else -math.inf for row in rows]
        for scorer, scores in zip(self.scorers, self.scores, strict=True):
            if not scorer.cumulative:
                weight = scorer.weight
                bases = [base + weight * score for base, score in zip(bases, scores, strict=True)]
        return torch.tensor(bases, device=self.device).unsqueeze(1)

    def _choose(self, scores: Sequence[Tensor], total: Tensor, length: int) -> None:
        """Let the K best extensions of each utterance go on; those among them that end finish."""
        K, V, count = self.config.beam, self.vocab, len(self.active)
        # one end a row: so many hold the K best others
        best, positions = total.view(count, K * V).topk(min(2 * K, K * V), dim=1)
        added_by = [part.reshape(count, K * V).gather(1, positions) for part in scores]
        numbers = torch.stack([best, positions.to(best.dtype), *added_by]).flatten(1)
        totals, indices, *added = numbers.tolist()  # at once, for a GPU has to be waited for
        extensions = enumerate(zip(totals, indices, strict=True))
        for i, u in enumerate(self.active):
            self._grow(u, islice(extensions, best.shape[1]), added, length, i * K)
        rows = [row for u in self.active for row in u.rows]
        self.scores = self._extended(
            [row.parent for row in rows], [row.pick for row in rows], added
        )

    def _grow(
        self,
        u: _Utterance,
        extensions: Iterable[tuple[int, tuple[float, float]]],
        added: Sequence[Sequence[float]],
        length: int,
        first: int,
    ) -> None:
        """Let the best extensions of an utterance, in their order, go on or finish.

        Args:
            u: the utterance.
            extensions: of its rows, best first: number, score, and position among K V.
            added: by each scorer to all extensions.
            length: characters of its rows.
            first: number of its first row.
        """
        K, before, u.rows = self.config.beam, u.rows, []
        for rank, (pick, (score, position)) in enumerate(list(extensions)):
            if score == -math.inf or len(u.rows) == K:
                break
            row, token = divmod(int(position), self.vocab)
            if token != self.eos:
                u.rows.append(_Row(score, first + row, token, pick))
            elif rank < K:
                scores = [part[0] for part in self._extended([first + row], [pick], added)]
                u.finished.append(_Finished(score, scores, length, first + row, True))
        if length >= u.limit and not u.finished:
            u.finished = [
                _Finished(row.score, [part[i] for part in self.scores], length, i, False)
                for i, row in enumerate(before, first)
                if row.score > -math.inf
            ]
        u.rows += [_Row(-math.inf, first, self.eos, 0)] * (K - len(u.rows))

    def _extended(
        self, parents: list[int], picks: list[int], added: Sequence[Sequence[float]]
    ) -> list[list[float]]:
        """The scores by each scorer of rows with one more character."""
        return [
            [new[pick] for pick in picks]
            if scorer.cumulative
            else [old[parent] + new[pick] for parent, pick in zip(parents, picks, strict=True)]
            for scorer, old, new in zip(self.scorers, self.scores, added, strict=True)
        ]

    def _goes_on(self, position: int, u: _Utterance, length: int) -> bool:
        """Whether a hypothesis that goes on could still be returned."""
        config, left = self.config, u.limit - length - 1
        ahead = u.rows[0].score  # the best
        if left < 0 or len(u.finished) < config.nbest:
            return left >= 0 and ahead > -math.inf
        to_beat = u.best(config.nbest)[-1].score
        if 0 < config.end_margin < to_beat - ahead:
            return False
        return any(
            row.score + self._bound(i, left, u.steps) > to_beat
            for i, row in enumerate(u.rows, position * config.beam)
        )

    def _bound(self, row: int, left: int, steps: int) -> float:
        """The most that a row can still gain."""
        parts = zip(self.scorers, self.scores, strict=True)
        return sum(scorer.bound(scores[row], left, steps) for scorer, scores in parts)

    def _keep(self, left: list[int]) -> None:
        """Keep the rows of the utterances at these positions; the others are done."""
        K = self.config.beam
        self.active = [self.active[i] for i in left]
        self.scores = [[part[i * K + k] for i in left for k in range(K)] for part in self.scores]

    def _select(self, left: list[int], parents: list[int]) -> None:
        """Keep the states of the utterances at these positions: those of the given rows."""
        rows = torch.tensor(parents, device=self.device)
        memory = self.session.memory.select(left)
        self.session.bind(memory)
        self.state = self.state.select(rows, memory.states.shape[1])
        self.states = [
            scorer.select(state, rows, memory)
            for scorer, state in zip(self.scorers, self.states, strict=True)
        ]

    def _read_back(self, u: _Utterance, end: _Finished) -> Hypothesis:
        """Follow a hypothesis from its end to its beginning."""
        row, history = end.row, self.history
        looked = [history[end.step].alignment.of_row(row, u.steps)] if end.ended else []
        tokens, decoder = [], [end.scores[0]] if end.ended else []
        for step in reversed(history[: end.step]):
            tokens.append(step.rows[row].token)
            decoder.append(step.decoder[row])
            row = step.rows[row].parent
            looked.append(step.alignment.of_row(row, u.steps))
        empty = history[0].alignment.weights.new_zeros(0, u.steps)
        attention = torch.stack(looked[::-1]) if looked else empty
        scores = dict(zip((s.name for s in self.scorers), end.scores, strict=True))
        return Hypothesis(
            tuple(reversed(tokens)),
            end.score,
            scores,
            attention,
            end.ended,
            tuple(b - a for a, b in pairwise([0.0, *reversed(decoder)])),
        )
