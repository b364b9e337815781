"""Beam search, batched over utterances and hypotheses.

The score of a hypothesis is the weighted sum of the scores of all scorers (decoder, CTC, language
model, hot words, length, coverage, end threshold; :mod:`asr.search.scorers`).

A hypothesis finishes only if its <eos> extension is among the K best extensions of its utterance;
the K best other extensions stay open. The scores of all extensions are arrays of the model's kind.
Only the best ones become numpy arrays, so that the search waits for a GPU once a step.

The search of an utterance ends once no open hypothesis can overtake the ``nbest`` finished ones.
Each scorer bounds what a hypothesis can still gain: 0 for log-probabilities, including CTC's, which
never rise from a prefix to a transcript. Bonuses can raise a score for long, so the search also
ends once the open hypotheses trail the ``nbest`` finished ones by ``end_margin``.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, NoReturn

import numpy as np

from asr import arrays
from asr.arrays import Array, FloatArray, IntArray
from asr.config import DecodeConfig
from asr.lm.protocol import LanguageModel
from asr.search.greedy import greedy
from asr.search.hotwords import HotWords
from asr.search.hypothesis import BLANK, Hypothesis, broken_scores, length_limits
from asr.search.protocol import Alignment, Encoded, Model, Scorer, Step
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
    """Score of the ``nbest``-th finished hypothesis, or -inf if there are fewer."""


class _Extensions(NamedTuple):
    """The E best extensions of each utterance, best first."""

    total: FloatArray
    """Weighted sum of all scores, (B, E)."""
    links: IntArray
    """The row of this step that each extends, and its character, (2, B, E)."""
    scores: FloatArray
    """Score by each of the P scorers for this step, (P, B, E)."""


class _Finished(NamedTuple):
    """A finished hypothesis and the step and row of its end."""

    score: float
    scores: list[float]
    step: int
    row: int
    ended: bool


class _Past(NamedTuple):
    """Back-pointers and scores of one step, from which hypotheses are traced back."""

    alignment: Alignment
    """Attention of each row."""
    links: IntArray
    """For each row of the next step: the row of this step that it extends, and its last
    character, (2, N)."""
    decoder: FloatArray
    """Decoder score of each row of the next step, (N,)."""


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
        lm: language model over the same characters; not used if its weight is 0.
        hotwords: words to favour.

    Returns:
        At most ``config.nbest`` hypotheses for each utterance, best first. Hypotheses that were
        cut off at the length limit (``ended`` is False) appear only if none ended.

    Raises:
        InputError: scores are NaN, or no hypothesis has a finite score.
    """
    scorers = make_scorers(model.eos, config, lm, hotwords)
    if len(scorers) == config.beam == config.nbest == 1:  # the decoder alone
        return [[best] for best in greedy(model, encoded, config.max_ratio)]
    return BeamSearch(model, encoded, config, scorers).run()


class BeamSearch:
    """The search of one batch: K rows for each active utterance, N rows in all.

    Args:
        model: the recogniser's network.
        encoded: B utterances.
        config: beam width and end conditions.
        scorers: P of them, the decoder's first.
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
        """Total score of each row; -inf if the row is not in use."""
        self.best[:, 0] = 0.0
        self.scores = np.zeros((len(scorers), B * K))
        """Score by each scorer so far."""
        self.cumulative = np.array([s.cumulative for s in scorers])
        self.weights = np.array([0.0 if s.cumulative else s.weight for s in scorers])
        """Weights of the scores that the search adds up over the steps, (P,)."""
        self.all_used = False
        """Whether all rows are known to be in use, as in most steps."""
        self.history: list[_Past] = []

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # NaN is refused
    def run(self) -> list[list[Hypothesis]]:
        """Return the n-best hypotheses of each utterance; see :func:`search`."""
        N = self.best.size
        links = np.array([np.arange(N), np.full(N, self.eos)])
        for length in range(int(self.active.limit.max()) + 1):
            alignment, scores, total = self._extend(links)
            extensions = self._choose(scores, total)
            self._finish(extensions, length)
            if length >= self.active.limit.min():
                self._finish_at_limit(length)
            links = self._prune(extensions)
            kept = self._unfinished(length)
            ending = len(kept) < len(self.best)
            if ending:
                links = self._keep(kept, links)
            self.history.append(_Past(alignment, links, self.scores[0]))
            if not len(kept):
                break
            if ending:
                links = self._select(kept, links)
        return [self._hypotheses(index) for index in range(len(self.steps))]

    def _extend(self, links: IntArray) -> tuple[Alignment, list[Array], Array]:
        """Score every hypothesis followed by every character.

        Args:
            links: the row of the state that each row extends, and its last character, (2, N).

        Returns:
            the decoder's alignment, the scores by each scorer and their weighted sum, (N, V) each.
        """
        rows, tokens = self.encoded.array(links)
        log_probs, alignment, self.state = self.session.step(tokens, self.state, rows)
        step = Step(tokens, rows, log_probs, alignment)
        base = self.weights @ self.scores  # in float64; all extensions of a row share it
        if not self.all_used:
            base[self.best.ravel() == -math.inf] = -math.inf
        total = self.encoded.array(base.astype(np.float32)[:, None])
        scores = []
        for i, scorer in enumerate(self.scorers):
            score, self.states[i] = scorer.step(step, self.states[i])
            total = total + (score if scorer.weight == 1 else scorer.weight * score)
            scores.append(score)
        total[:, BLANK] = -math.inf
        return alignment, scores, total

    def _choose(self, scores: Sequence[Array], total: Array) -> _Extensions:
        """Return the 2 K best extensions of each utterance: at most K end, so K or more do not."""
        (B, K), V = self.best.shape, total.shape[1]
        best, positions = arrays.topk(total.reshape(B, K * V), min(2 * K, K * V))
        parts = (arrays.broadcast_to(score, total.shape) for score in scores)
        best, positions, *chosen = arrays.all_to_numpy(
            best, positions, *(part.take(positions) for part in parts)
        )
        self.all_used = math.isfinite(best.sum())
        if not self.all_used and np.isnan(best).any():
            self._refuse(int(np.isnan(best).any(axis=1).argmax()), chosen)
        links = np.array(np.divmod(positions, V), np.int64)
        return _Extensions(best, links, np.array(chosen, np.float64))

    def _finish(self, extensions: _Extensions, length: int) -> None:
        """Add the extensions that end and are among the K best of their utterance."""
        K, (total, (rows, tokens), added) = self.config.beam, extensions
        ends = tokens[:, :K] == self.eos
        if np.count_nonzero(ends):
            for i, j in np.argwhere(ends & (total[:, :K] > -math.inf)):
                row = int(rows[i, j])
                scores = added[:, i, j] + self._summed(row)
                self._add(i, _Finished(float(total[i, j]), scores.tolist(), length, row, True))

    def _finish_at_limit(self, length: int) -> None:
        """Add the open rows of utterances at their limit, if no hypothesis has finished."""
        for i in np.flatnonzero(self.active.limit <= length).tolist():
            if not self.finished[self.active.number[i]]:
                for k in np.flatnonzero(self.best[i] > -math.inf).tolist():
                    row = i * self.config.beam + k
                    scores = self.scores[:, row].tolist()
                    self._add(i, _Finished(float(self.best[i, k]), scores, length, row, False))

    def _add(self, i: int, hypothesis: _Finished) -> None:
        """Add a finished hypothesis of active utterance i."""
        finished = self.finished[self.active.number[i]]
        finished.append(hypothesis)
        finished.sort(key=lambda f: f.score, reverse=True)
        if len(finished) >= self.config.nbest:
            self.active.to_beat[i] = finished[self.config.nbest - 1].score

    def _prune(self, extensions: _Extensions) -> IntArray:
        """Keep the K best extensions that do not end; return their links, (2, N)."""
        (B, K), (total, links, added) = self.best.shape, extensions
        ends = links[1] == self.eos
        chosen: Any = slice(None), slice(K)
        if np.count_nonzero(ends):
            chosen = np.arange(B)[:, None], ends.argsort(axis=1, kind="stable")[:, :K]
        total, links, added = total[chosen], links[:, *chosen], added[:, *chosen]
        if not self.all_used:
            first = K * np.arange(B)[:, None]
            links = np.where(total == -math.inf, [first, np.full_like(first, self.eos)], links)
        self.best, links = total, links.reshape(2, B * K)
        self.scores = added.reshape(-1, B * K) + self._summed(links[0])
        return links

    def _summed(self, rows: Any) -> FloatArray:
        """Return the scores of rows, (P, ...); 0 for cumulative scorers, which are not summed."""
        scores = self.scores[:, rows]
        scores[self.cumulative] = 0.0
        return scores

    def _unfinished(self, length: int) -> IntArray:
        """Return the positions of the utterances whose open rows can still become results."""
        _, steps, limit, to_beat = self.active
        left, leading = limit - length - 1, self.best[:, 0]
        unfinished = (left >= 0) & (leading > -math.inf)
        if self.config.end_margin > 0:
            unfinished &= to_beat - leading <= self.config.end_margin
        scores = self.scores.reshape(-1, *self.best.shape)
        bound = self.best + sum(
            scorer.bound(each, left[:, None], steps[:, None])
            for scorer, each in zip(self.scorers, scores, strict=True)
        )
        return np.flatnonzero(unfinished & (bound > to_beat[:, None]).any(axis=1))

    def _keep(self, kept: IntArray, links: IntArray) -> IntArray:
        """Drop the rows of all utterances but those at these positions; return the links left."""
        rows = np.arange(self.best.size).reshape(self.best.shape)[kept].ravel()
        number, steps, limit, to_beat = self.active
        self.active = _Active(number[kept], steps[kept], limit[kept], to_beat[kept])
        self.best, self.scores = self.best[kept], self.scores[:, rows]
        return links[:, rows]

    def _select(self, kept: IntArray, links: IntArray) -> IntArray:
        """Reorder the states like the rows that are left; return the links into the new states."""
        parents, tokens = links
        rows = self.encoded.array(parents)
        self.encoded = self.encoded.select(kept.tolist())
        self.state = self.session.select(self.state, rows, self.encoded)
        self.states = [
            scorer.select(state, rows, self.encoded)
            for scorer, state in zip(self.scorers, self.states, strict=True)
        ]
        return np.array([np.arange(len(tokens)), tokens])

    def _hypotheses(self, index: int) -> list[Hypothesis]:
        """Return the n-best finished hypotheses of an utterance."""
        finished = self.finished[index][: self.config.nbest]
        if not finished:
            raise broken_scores(index, len(self.steps), "no text has a finite score")
        return [self._trace_back(int(self.steps[index]), end) for end in finished]

    def _trace_back(self, steps: int, end: _Finished) -> Hypothesis:
        """Return a hypothesis by its back-pointers, from its end to its beginning."""
        row, history = end.row, self.history
        attention = [history[end.step].alignment.of_row(row, steps)] if end.ended else []
        tokens, decoder = [], [end.scores[0]] if end.ended else []
        for past in reversed(history[: end.step]):
            tokens.append(int(past.links[1, row]))
            decoder.append(float(past.decoder[row]))
            row = past.links[0, row]
            attention.append(past.alignment.of_row(row, steps))
        return Hypothesis(
            tuple(reversed(tokens)),
            end.score,
            dict(zip((s.name for s in self.scorers), end.scores, strict=True)),
            arrays.to_numpy(arrays.namespace(attention[0]).stack(attention[::-1])),
            end.ended,
            tuple(b - a for a, b in pairwise([0.0, *reversed(decoder)])),
        )

    def _refuse(self, i: int, scores: Sequence[FloatArray]) -> NoReturn:
        """Raise InputError with the names of the scores that are NaN in an active utterance."""
        parts = zip(self.scorers, scores, strict=True)
        names = [scorer.name for scorer, part in parts if np.isnan(part[i]).any()]
        what = f"the score of {', '.join(names) or 'the beam'} is nan"
        raise broken_scores(int(self.active.number[i]), len(self.steps), what)
