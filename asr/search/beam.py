"""Beam search, batched over utterances and hypotheses.

The score of a hypothesis is the weighted sum of the scores of a list of scorers, see
:mod:`asr.search.scorers`: decoder, CTC, language model, hot words, length, coverage, end threshold.

A hypothesis finishes only if its <eos> extension is among the K best extensions of its utterance;
the K best others go on. Scores of all extensions are arrays of the model's kind; the few that are
kept become numpy, so that a GPU is waited for once a step. An utterance is done when no
hypothesis that goes on can come before the ``nbest`` finished ones: each scorer bounds what a
hypothesis can still gain, which is 0 for log-probabilities, also for CTC's, which falls from that
of a prefix to that of a transcript. With bonuses this takes more steps, hence a second rule: an
utterance is also done when what goes on is worse than the ``nbest`` finished ones by
``end_margin``. (With the margin of 10 AN4's dev set takes 20 to 26 % fewer steps, and not one
result changes.)
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from asr import arrays
from asr.arrays import Array
from asr.config import DecodeConfig
from asr.lm.protocol import LanguageModel
from asr.search.greedy import greedy
from asr.search.hotwords import HotWords
from asr.search.hypothesis import BLANK, Hypothesis, broken_scores, length_limits
from asr.search.protocol import Alignment, Encoded, FloatArray, IntArray, Model, Scorer, Step
from asr.search.scorers import make_scorers


class _Active(NamedTuple):
    """The utterances whose search has not ended, (B,) each."""

    number: IntArray
    """Position in the whole batch."""
    steps: IntArray
    """Encoder steps."""
    limit: IntArray
    """Most characters."""
    to_beat: FloatArray
    """Score of the ``nbest``-th finished hypothesis; -inf: there are fewer."""


class _Extensions(NamedTuple):
    """The E best extensions of each utterance, best first."""

    total: FloatArray
    """What the search compares, (B, E)."""
    links: IntArray
    """The row of this step that each continues, and its character, (2, B, E)."""
    added: FloatArray
    """What each scorer gave, (P, B, E)."""


class _Finished(NamedTuple):
    """A finished hypothesis: the step and row it ended in."""

    score: float
    scores: list[float]
    step: int
    row: int
    ended: bool


class _Past(NamedTuple):
    """Back-pointers and scores of one step, to trace hypotheses back from their end."""

    alignment: Alignment
    """Where each row looked."""
    links: IntArray
    """Of the rows of the next step: the row of this step that they continue, and their last
    character, (2, N)."""
    decoder: FloatArray
    """Their scores by the decoder, (N,)."""


def search(
    model: Model,
    encoded: Encoded,
    config: DecodeConfig,
    lm: LanguageModel | None = None,
    hotwords: HotWords | None = None,
) -> list[list[Hypothesis]]:
    """Find the best hypotheses of a batch.

    Args:
        model: the recogniser's network.
        encoded: B utterances.
        config: beam width and weights.
        lm: language model over the same characters; takes no part where its weight is 0.
        hotwords: words to favour.

    Returns:
        For each utterance ``config.nbest`` hypotheses or fewer, best first. Those that
        reached the length limit (``ended`` is False) appear only where none ended.

    Raises:
        InputError: scores are NaN, or no hypothesis has a finite score.
    """
    scorers = make_scorers(model.eos, config, lm, hotwords)
    if len(scorers) == config.beam == config.nbest == 1:  # the decoder alone
        return [[best] for best in greedy(model, encoded, config.max_ratio)]
    return BeamSearch(model, encoded, config, scorers).run()


class BeamSearch:
    """One batch on its way through the search: K rows for each active utterance, N in all.

    Args:
        model: the recogniser's network.
        encoded: B utterances.
        config: beam width and stop rules.
        scorers: those whose scores are added up; the first is the decoder's.
    """

    def __init__(
        self, model: Model, encoded: Encoded, config: DecodeConfig, scorers: Sequence[Scorer]
    ) -> None:
        self.config, self.eos, self.scorers, self.encoded = config, model.eos, scorers, encoded
        self.steps = np.asarray(encoded.steps)
        B, K = len(self.steps), config.beam
        limits = np.asarray(length_limits(encoded.steps, config.max_ratio))
        self.active = _Active(np.arange(B), self.steps, limits, np.full(B, -math.inf))
        self.finished: list[list[_Finished]] = [[] for _ in range(B)]
        self.session = model.decode(encoded, K)
        self.state = self.session.start()
        self.states = [s.start(encoded, K) for s in scorers]
        self.best = np.full((B, K), -math.inf)
        """What the search compares; -inf: the row is not in use."""
        self.best[:, 0] = 0.0
        self.scores = np.zeros((len(scorers), B * K))
        """By each scorer so far."""
        self.cumulative = np.array([s.cumulative for s in scorers])
        self.weights = np.array([0.0 if s.cumulative else s.weight for s in scorers])
        """Of the scores that are added up."""
        self.shortest = int(limits.min())
        """The least limit."""
        self.all_used = False
        """Whether all rows are known to be in use, as in most steps."""
        self.history: list[_Past] = []

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # NaN is looked for
    def run(self) -> list[list[Hypothesis]]:
        """Search to the end."""
        N = self.best.size
        links = np.array([np.arange(N), np.full(N, self.eos)])
        for length in range(int(self.active.limit.max()) + 1):
            alignment, scores, total = self._extend(links)
            extensions = self._choose(scores, total)
            self._finish(extensions, length)
            if length >= self.shortest:
                self._cut_off(length)
            links = self._grow(extensions)
            left = self._going_on(length)
            leaving = len(left) < len(self.best)
            if leaving:
                links = self._keep(left, links)
            self.history.append(_Past(alignment, links, self.scores[0]))
            if not len(left):
                break
            if leaving:
                links = self._select(left, links)
        return [self._hypotheses(index) for index in range(len(self.steps))]

    def _extend(self, links: IntArray) -> tuple[Alignment, list[Array], Array]:
        """Score every hypothesis followed by every character.

        Args:
            links: rows of the state that each row continues, and last characters, (2, N).

        Returns:
            where the decoder looked, the scores by each scorer and what the search compares,
            each (N, V).
        """
        rows, tokens = self.encoded.array(links)
        log_probs, alignment, self.state = self.session.step(tokens, self.state, rows)
        step = Step(tokens, rows, log_probs, alignment)
        total = self.encoded.array(self._bases())
        scores = []
        for i, scorer in enumerate(self.scorers):
            score, self.states[i] = scorer.step(step, self.states[i])
            total = total + (score if scorer.weight == 1 else scorer.weight * score)
            scores.append(score)
        total[:, BLANK] = -math.inf
        return alignment, scores, total

    def _bases(self) -> FloatArray:
        """Scores that all extensions of a row share, (N, 1), added in double precision."""
        bases = self.weights @ self.scores
        if not self.all_used:
            bases[self.best.ravel() == -math.inf] = -math.inf
        return bases.astype(np.float32)[:, None]

    def _choose(self, scores: Sequence[Array], total: Array) -> _Extensions:
        """Find the best extensions of each utterance: one end a row, so 2 K hold K others."""
        (B, K), V = self.best.shape, total.shape[1]
        best, positions = arrays.topk(total.reshape(B, K * V), min(2 * K, K * V))
        parts = (arrays.broadcast_to(score, total.shape) for score in scores)
        best, positions, *added = arrays.hand_over(
            best, positions, *(part.take(positions) for part in parts)
        )
        self.all_used = math.isfinite(best.sum())
        if not self.all_used and np.isnan(best).any():
            self._refuse(np.isnan(best).any(axis=1), added)
        links = np.array(np.divmod(positions, V), np.int64)
        return _Extensions(best, links, np.array(added, np.float64))

    def _finish(self, extensions: _Extensions, length: int) -> None:
        """Let extensions that end finish, if they are among the K best of their utterance."""
        K, (total, (rows, tokens), added) = self.config.beam, extensions
        ends = tokens[:, :K] == self.eos
        if np.count_nonzero(ends):
            for i, j in np.argwhere(ends & (total[:, :K] > -math.inf)):
                row = int(rows[i, j])
                scores = added[:, i, j] + self._before(row)
                self._add(i, _Finished(float(total[i, j]), scores.tolist(), length, row, True))

    def _cut_off(self, length: int) -> None:
        """Finish the open rows of utterances at the limit that have no finished hypothesis."""
        for i in np.flatnonzero(self.active.limit <= length).tolist():
            if not self.finished[self.active.number[i]]:
                for k in np.flatnonzero(self.best[i] > -math.inf):
                    row = i * self.config.beam + int(k)
                    scores = self.scores[:, row].tolist()
                    self._add(i, _Finished(float(self.best[i, k]), scores, length, row, False))

    def _add(self, i: int, hypothesis: _Finished) -> None:
        """Note a finished hypothesis of the active utterance number i."""
        finished = self.finished[self.active.number[i]]
        finished.append(hypothesis)
        finished.sort(key=lambda f: f.score, reverse=True)
        if len(finished) >= self.config.nbest:
            self.active.to_beat[i] = finished[self.config.nbest - 1].score

    def _grow(self, extensions: _Extensions) -> IntArray:
        """Let the K best extensions that do not end go on; returns their links, (2, N)."""
        (B, K), (total, links, added) = self.best.shape, extensions
        ends = links[1] == self.eos
        if np.count_nonzero(ends):
            chosen = np.arange(B)[:, None], ends.argsort(axis=1, kind="stable")[:, :K]
            total, links, added = total[chosen], links[:, *chosen], added[:, *chosen]
        else:
            total, links, added = total[:, :K], links[..., :K], added[..., :K]
        if not self.all_used:
            first = K * np.arange(B)[:, None]
            links = np.where(total == -math.inf, [first, np.full_like(first, self.eos)], links)
        self.best, links = total, links.reshape(2, B * K)
        self.scores = added.reshape(-1, B * K) + self._before(links[0])
        return links

    def _before(self, rows: Any) -> FloatArray:
        """The scores of rows that those of their next characters are added to, (P, ...)."""
        scores = self.scores[:, rows]
        scores[self.cumulative] = 0.0
        return scores

    def _going_on(self, length: int) -> IntArray:
        """The positions of the utterances whose hypotheses could still be returned."""
        _, steps, limit, to_beat = self.active
        if self.all_used and length + 1 < self.shortest and to_beat.max() == -math.inf:
            return np.arange(len(self.best))
        left, ahead = limit - length - 1, self.best[:, 0]
        going = (left >= 0) & (ahead > -math.inf)
        if self.config.end_margin > 0:
            going &= to_beat - ahead <= self.config.end_margin
        scores = self.scores.reshape(-1, *self.best.shape)
        reach = self.best + sum(
            scorer.bound(each, left[:, None], steps[:, None])
            for scorer, each in zip(self.scorers, scores, strict=True)
        )
        return np.flatnonzero(going & (reach > to_beat[:, None]).any(axis=1))

    def _keep(self, left: IntArray, links: IntArray) -> IntArray:
        """Keep the rows of the utterances at these positions; the others are done."""
        rows = np.arange(self.best.size).reshape(self.best.shape)[left].ravel()
        number, steps, limit, to_beat = self.active
        self.active = _Active(number[left], steps[left], limit[left], to_beat[left])
        self.best, self.scores = self.best[left], self.scores[:, rows]
        self.shortest = int(self.active.limit.min(initial=0))
        return links[:, rows]

    def _select(self, left: IntArray, links: IntArray) -> IntArray:
        """Keep the states of the utterances at these positions, in the order of the rows."""
        parents, tokens = links
        rows = self.encoded.array(parents)
        self.encoded = self.encoded.select(left.tolist())
        self.state = self.session.select(self.state, rows, self.encoded)
        self.states = [
            scorer.select(state, rows, self.encoded)
            for scorer, state in zip(self.scorers, self.states, strict=True)
        ]
        return np.array([np.arange(len(tokens)), tokens])

    def _hypotheses(self, index: int) -> list[Hypothesis]:
        """The best finished hypotheses of an utterance, best first."""
        finished = self.finished[index][: self.config.nbest]
        if not finished:
            raise broken_scores(index, len(self.steps), "no text has a finite score")
        return [self._read_back(int(self.steps[index]), end) for end in finished]

    def _read_back(self, steps: int, end: _Finished) -> Hypothesis:
        """Follow a hypothesis from its end to its beginning."""
        row, history = end.row, self.history
        looked = [history[end.step].alignment.of_row(row, steps)] if end.ended else []
        tokens, decoder = [], [end.scores[0]] if end.ended else []
        for past in reversed(history[: end.step]):
            tokens.append(int(past.links[1, row]))
            decoder.append(float(past.decoder[row]))
            row = past.links[0, row]
            looked.append(past.alignment.of_row(row, steps))
        attention = np.zeros((0, steps), np.float32)
        if looked:
            attention = arrays.to_numpy(arrays.namespace(looked[0]).stack(looked[::-1]))
        return Hypothesis(
            tuple(reversed(tokens)),
            end.score,
            dict(zip((s.name for s in self.scorers), end.scores, strict=True)),
            attention,
            end.ended,
            tuple(b - a for a, b in pairwise([0.0, *reversed(decoder)])),
        )

    def _refuse(self, wrong: npt.NDArray[np.bool_], added: Sequence[FloatArray]) -> NoReturn:
        """Say which scores of which utterance are NaN."""
        i = int(np.flatnonzero(wrong)[0])
        parts = zip(self.scorers, added, strict=True)
        names = [scorer.name for scorer, part in parts if np.isnan(part[i]).any()]
        what = f"the score of {', '.join(names) or 'the beam'} is nan"
        raise broken_scores(int(self.active.number[i]), len(self.steps), what)
