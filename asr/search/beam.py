"""Beam search, batched over utterances and hypotheses.

A hypothesis y of U characters for an utterance scores::

    (1 - ctc_weight) * log p_attention(y) + ctc_weight * log p_ctc(y) + lm_weight * log p_lm(y)
        + length_bonus * U + coverage_weight * (steps that got attention) + hot words

An extension by the end of the sentence has to be among the K best extensions of its utterance
to count as finished; the K best others go on. Scores of all extensions are tensors; the few
that are kept become plain numbers, so that a step takes few operations and small hand-overs. An
utterance is done when no hypothesis that goes on can come before the ``nbest`` finished ones:
probabilities only fall, also CTC's from that of a prefix to that of a transcript, so a
hypothesis can gain no more than the bonuses of the characters and encoder steps that are left.
With bonuses this takes more steps, hence a second rule: an utterance is also done when what goes
on is worse than the ``nbest`` finished ones by ``end_margin``. (With the margin of 10 AN4's dev
set takes 20 to 26 % fewer steps, and not one result changes.)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from asr.config import DecodeConfig
from asr.model.las import LAS
from asr.model.lm import LanguageModel
from asr.model.memory import Memory
from asr.search.ctc_prefix import CTCPrefixScorer, PrefixState, select_state
from asr.search.greedy import greedy
from asr.search.hotwords import HotWords
from asr.search.scorer import BLANK, Hypothesis, length_limit


class _Row(NamedTuple):  # no frozen dataclass: a search makes thousands, and a tuple is made faster
    """A hypothesis that goes on."""

    score: float
    """What the search compares; -inf: not in use."""
    attention: float
    """Log-probability by the decoder so far."""
    ctc: float
    """Log-probability of the prefix by CTC; 0 where it takes no part."""
    lm: float
    """Log-probability by the language model so far; 0 without one."""
    hot: float
    """What hot words have earned so far; 0 without any."""
    parent: int
    """Row of the step before that it comes from."""
    token: int
    """Its last character."""


@dataclass(frozen=True)
class _Finished:
    """A finished hypothesis: the step and row it ended in."""

    score: float
    attention: float
    ctc: float
    lm: float
    step: int
    row: int
    ended: bool


@dataclass
class _Utterance:
    """The search of one utterance."""

    index: int
    """Its place in the batch."""
    limit: int
    """Most characters."""
    rows: list[_Row]
    """The K hypotheses that go on."""
    finished: list[_Finished] = field(default_factory=list)


@dataclass(frozen=True)
class _Step:
    """What one step saw and chose, to read hypotheses back from their end."""

    weights: Tensor
    """Attention of each row, (rows, S)."""
    parents: list[int]
    """Row of this step that each row of the next one comes from."""
    tokens: list[int]
    """Character that was added."""
    said: list[float]
    """The decoder's log-probability of each row of the next step so far."""


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
    if config.lm_weight == 0:
        lm = None
    if lm is None and hotwords is None and is_greedy(config):
        return [[best] for best in greedy(model, memory, config.max_ratio)]
    return BeamSearch(model, memory, config, lm, hotwords).run()


def is_greedy(config: DecodeConfig) -> bool:
    """Whether greedy search finds the same: one hypothesis, scored by the decoder alone."""
    return config == replace(
        config,
        beam=1,
        nbest=1,
        ctc_weight=0.0,
        length_bonus=0.0,
        coverage_weight=0.0,
        eos_threshold=0.0,
    )


class BeamSearch:
    """One batch on its way through the search: K rows for each active utterance, N in all."""

    def __init__(
        self,
        model: LAS,
        memory: Memory,
        config: DecodeConfig,
        lm: LanguageModel | None = None,
        hotwords: HotWords | None = None,
    ) -> None:
        self.config, self.eos, self.device = config, model.eos, memory.states.device
        self.steps = memory.steps.tolist()
        limits = length_limit(memory.steps, config.max_ratio).tolist()
        empty = _Row(0.0, 0.0, 0.0, 0.0, 0.0, 0, model.eos)  # the one hypothesis at first
        unused = _Row(-math.inf, 0.0, 0.0, 0.0, 0.0, 0, model.eos)
        self.utterances = [
            _Utterance(b, limit, [empty] + [unused] * (config.beam - 1))
            for b, limit in enumerate(limits)
        ]
        self.active = self.utterances
        self.session = model.decoder.session(memory, config.beam)
        self.state = self.session.start()
        N = len(limits) * config.beam
        self.weights = memory.states.new_zeros(N, memory.states.shape[1])  # attention, (N, S)
        self.ctc: CTCPrefixScorer | None = None
        self.prefix: PrefixState | None = None
        if config.ctc_weight > 0:
            log_probs = model.ctc_log_probs(memory)
            self.ctc = CTCPrefixScorer(log_probs, memory.steps, BLANK, model.eos, config.beam)
            self.prefix = self.ctc.start()
        self.lm = lm
        self.lm_state = None if lm is None else lm.start(N)
        self.hotwords = hotwords
        self.hot_state = None if hotwords is None else hotwords.start(N)
        self.covered = torch.zeros_like(self.weights)  # attention gathered, (N, S)
        self.history: list[_Step] = []

    def run(self) -> list[list[Hypothesis]]:
        """Search to the end."""
        N = len(self.active) * self.config.beam
        tokens, parents = [self.eos] * N, list(range(N))
        for length in range(max(u.limit for u in self.utterances) + 1):
            *parts, total = self._extend(tokens, parents, length)
            self._choose(parts, total, length)
            tokens = [row.token for u in self.active for row in u.rows]
            parents = [row.parent for u in self.active for row in u.rows]
            said = [row.attention for u in self.active for row in u.rows]
            self.history.append(_Step(self.weights, parents, tokens, said))
            if self.config.coverage_weight > 0:
                self.covered = self.covered[parents]
            left = [p for p, reach in enumerate(self._reach(length)) if reach]
            if not left:
                break
            if self.ctc is not None and self.prefix is not None:
                longest = self.session.memory.states.shape[1]
                moved = select_state(self.prefix, self._tensor(parents), longest)
                self.prefix = self.ctc.advance(moved, self._tensor(tokens))
            if len(left) < len(self.active):
                tokens, parents = self._leave(left, tokens, parents)
        return [
            [
                self._read_back(end, self.steps[u.index])
                for end in _ranked(u.finished)[: self.config.nbest]
            ]
            for u in self.utterances
        ]

    def _tensor(self, numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, device=self.device)

    def _extend(
        self, tokens: list[int], parents: list[int], length: int
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor]:
        """Score every hypothesis, of ``length`` characters, followed by every character.

        Returns:
            the decoder's log-probabilities of the character alone, CTC's of all characters,
            the language model's and what hot words earn of the character alone, and what the
            search compares, each (N, V).
        """
        config, share = self.config, 1 - self.config.ctc_weight
        last, origins = torch.tensor([tokens, parents], dtype=torch.int32, device=self.device)
        attention, alignment, self.state = self.session.step(last, self.state, origins)
        self.weights = alignment.over(self.session.memory.states.shape[1])
        # what every extension of a row has, and what follows from its character
        base = [
            share * row.attention
            + config.lm_weight * row.lm
            + row.hot
            + config.length_bonus * (length + 1)
            if row.score > -math.inf
            else -math.inf
            for u in self.active
            for row in u.rows
        ]
        column = torch.tensor(base, device=self.device).unsqueeze(1)
        ctc = None
        if self.ctc is not None and self.prefix is not None:
            ctc = self.ctc.score(self.prefix).to(attention.dtype)
            total = column + share * attention + config.ctc_weight * ctc
        else:
            total = column + attention
        lm = None
        if self.lm is not None:
            lm, self.lm_state = self.lm.step(
                self._tensor(tokens), self.lm_state, self._tensor(parents)
            )
            total += config.lm_weight * lm
        hot = None
        if self.hotwords is not None and self.hot_state is not None:
            hot, self.hot_state = self.hotwords.step(
                self._tensor(tokens), self.hot_state, self._tensor(parents)
            )
            total += hot
        if config.length_bonus:
            total[:, self.eos] -= config.length_bonus  # the end is no character
        if config.coverage_weight > 0:
            self.covered = self.covered + self.weights
            total += config.coverage_weight * self._seen().unsqueeze(1)
        total[:, BLANK] = -math.inf
        if config.eos_threshold > 0:
            early = _too_early(attention, self.eos, config.eos_threshold)
            total[early, self.eos] = -math.inf
        return attention, ctc, lm, hot, total

    def _seen(self) -> Tensor:
        """Encoder steps of each row that got attention, (N,)."""
        return (self.covered > self.config.coverage_threshold).sum(1)

    def _choose(self, parts: Sequence[Tensor | None], total: Tensor, length: int) -> None:
        """Note the ends among the K best extensions; let the K best others go on."""
        K, V = self.config.beam, total.shape[1]
        count = len(self.active)
        # one end a row: so many hold the K best others
        scores, places = total.view(count, K * V).topk(min(2 * K, K * V), dim=1)
        nothing = torch.zeros_like(scores)
        picked = (
            nothing if part is None else part.view(count, -1).gather(1, places) for part in parts
        )
        # handed over at once, for a GPU has to be waited for
        numbers = torch.stack([scores, places.to(scores.dtype), *picked]).tolist()
        scores_of, places_of, said_of, heard_of, read_of, hot_of = numbers
        for place, (u, chosen) in enumerate(zip(self.active, places_of, strict=True)):
            before, u.rows, cut = u.rows, [], length >= u.limit
            for rank, where in enumerate(chosen):
                row, token = divmod(int(where), V)
                score = scores_of[place][rank]
                if score == -math.inf or len(u.rows) == K:
                    break
                said = before[row].attention + said_of[place][rank]
                heard = heard_of[place][rank]
                read = before[row].lm + read_of[place][rank]
                if token != self.eos:
                    hot = before[row].hot + hot_of[place][rank]
                    u.rows.append(_Row(score, said, heard, read, hot, place * K + row, token))
                elif rank < K:
                    end = _Finished(score, said, heard, read, length, place * K + row, True)
                    u.finished.append(end)
            if cut and not u.finished:
                u.finished = [
                    _Finished(r.score, r.attention, r.ctc, r.lm, length, place * K + i, False)
                    for i, r in enumerate(before)
                    if r.score > -math.inf
                ]
            unused = _Row(-math.inf, 0.0, 0.0, 0.0, 0.0, place * K, self.eos)
            u.rows += [unused] * (K - len(u.rows))

    def _reach(self, length: int) -> list[bool]:
        """Whether the hypotheses of each active utterance could still be returned."""
        config = self.config
        bonus = max(0.0, config.length_bonus + (self.hotwords.most if self.hotwords else 0.0))
        unseen = [0.0] * (len(self.active) * config.beam)
        if config.coverage_weight > 0:
            steps = self.session.memory.steps.to(self.device).repeat_interleave(config.beam)
            unseen = (config.coverage_weight * (steps - self._seen())).tolist()
        going_on = []
        for place, u in enumerate(self.active):
            best = max(r.score + unseen[place * config.beam + i] for i, r in enumerate(u.rows))
            left = u.limit - length - 1
            to_beat = -math.inf
            if len(u.finished) >= config.nbest:
                to_beat = _ranked(u.finished)[config.nbest - 1].score
            lost = 0 < config.end_margin < to_beat - max(r.score for r in u.rows)
            going_on.append(left >= 0 and best + bonus * left > to_beat and not lost)
        return going_on

    def _leave(
        self, left: list[int], tokens: list[int], parents: list[int]
    ) -> tuple[list[int], list[int]]:
        """Take finished utterances out of the batch; ``left`` are the places that stay.

        Returns:
            tokens and parents of the rows that stay; the state is theirs, in their order.
        """
        K = self.config.beam
        rows = [place * K + i for place in left for i in range(K)]
        self.active = [self.active[place] for place in left]
        self.session.bind(self.session.memory.select(left))
        longest = self.session.memory.states.shape[1]
        kept = [parents[row] for row in rows]
        self.state = self.state.select(self._tensor(kept), longest)
        if self.lm is not None:
            self.lm_state = self.lm.select(self.lm_state, self._tensor(kept))
        if self.hotwords is not None and self.hot_state is not None:
            self.hot_state = self.hotwords.select(self.hot_state, self._tensor(kept))
        if self.config.coverage_weight > 0:
            self.covered = self.covered[rows, :longest]
        if self.ctc is not None and self.prefix is not None:
            self.ctc = self.ctc.select(left)
            self.prefix = select_state(self.prefix, self._tensor(rows), longest)
        last = self.history[-1]
        self.history[-1] = _Step(
            last.weights, kept, [tokens[row] for row in rows], [last.said[row] for row in rows]
        )
        return [tokens[row] for row in rows], list(range(len(rows)))

    def _read_back(self, end: _Finished, steps: int) -> Hypothesis:
        """Follow a hypothesis from its end to its beginning."""
        row, history = end.row, self.history
        weights = [history[end.step].weights[row, :steps]] if end.ended else []
        tokens, said = [], [end.attention] if end.ended else []
        for step in reversed(history[: end.step]):
            tokens.append(step.tokens[row])
            said.append(step.said[row])
            row = step.parents[row]
            weights.append(step.weights[row, :steps])
        attention = (
            torch.stack(weights[::-1]) if weights else history[0].weights.new_zeros(0, steps)
        )
        return Hypothesis(
            tuple(reversed(tokens)),
            end.score,
            end.attention,
            end.ctc,
            end.lm,
            attention,
            end.ended,
            tuple(b - a for a, b in pairwise([0.0, *reversed(said)])),
        )


def _ranked(finished: list[_Finished]) -> list[_Finished]:
    return sorted(finished, key=lambda f: f.score, reverse=True)


def _too_early(log_probs: Tensor, eos: int, threshold: float) -> Tensor:
    """Rows whose end is too unlikely beside the best other character, (N,)."""
    others = log_probs.clone()
    others[:, [BLANK, eos]] = -math.inf
    return log_probs[:, eos] < threshold * others.amax(1)
