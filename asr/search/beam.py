"""Beam search, batched over utterances and hypotheses.

A hypothesis y of U characters for an utterance scores::

    (1 - ctc_weight) * log p_attention(y) + ctc_weight * log p_ctc(y)
        + length_bonus * U + coverage_weight * (steps that got attention)

An extension by the end of the sentence has to be among the K best extensions of its utterance
to count as finished; the K best others go on. An utterance is done when no hypothesis that
goes on can come before the ``nbest`` finished ones: probabilities only fall, also CTC's from
that of a prefix to that of a transcript, so a hypothesis can gain no more than the bonuses of
the characters and of the encoder steps that are left. With them a search takes more steps.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from asr.config import DecodeConfig
from asr.errors import InputError
from asr.model.attention import Memory
from asr.model.decoder import DecoderState
from asr.model.las import LAS
from asr.search.ctc_prefix import CTCPrefixScorer, PrefixState, select_state
from asr.search.scorer import BLANK, AttentionScorer, Hypothesis, length_limit


@dataclass(frozen=True)
class _Step:
    """What one step chose, to read hypotheses back from their end."""

    weights: Tensor
    """Attention of each row at this step, (rows, S)."""
    parents: Tensor
    """Row of this step that each row of the next one comes from."""
    tokens: Tensor
    """Character that was added."""


@dataclass(frozen=True)
class _Finished:
    """A finished hypothesis: the step and row it ended in."""

    score: float
    attention: float
    ctc: float
    step: int
    row: int
    ended: bool


@dataclass
class _Beam:
    """The hypotheses that go on: K rows for each of the active utterances, N in all."""

    utterances: list[int]
    """Index of each active utterance."""
    memory: Memory
    """Encoder output of the active utterances."""
    decoder: DecoderState
    tokens: Tensor
    """Last characters, (N,)."""
    scores: Tensor
    """What the search compares, (N,); -inf for rows not in use."""
    attention: Tensor
    """Log-probability by the decoder so far, (N,)."""
    ctc_scores: Tensor
    """Log-probability of the prefix by CTC, (N,)."""
    covered: Tensor
    """Attention gathered by each encoder step, (N, S)."""
    ctc: CTCPrefixScorer | None = None
    prefix: PrefixState | None = None
    history: list[_Step] = field(default_factory=list)


@dataclass(frozen=True)
class _Extensions:
    """Every hypothesis followed by every character."""

    total: Tensor
    """What the search compares, (N, V)."""
    attention: Tensor
    """Log-probability by the decoder, (N, V)."""
    ctc: Tensor
    """Log-probability by CTC, (N, V); 0 where it takes no part."""
    decoder: DecoderState
    covered: Tensor
    """(N, S)."""


def check_settings(config: DecodeConfig) -> None:
    """Refuse settings that no search can follow.

    Raises:
        InputError: the first of them.
    """
    for name in ("beam", "nbest", "batch"):
        if getattr(config, name) < 1:
            raise InputError(f"{name} = {getattr(config, name)}, expected 1 or more")
    if not 0 <= config.ctc_weight <= 1:
        raise InputError(f"ctc_weight = {config.ctc_weight}, expected a share from 0 to 1")


@torch.no_grad()
def search(model: LAS, memory: Memory, config: DecodeConfig) -> list[list[Hypothesis]]:
    """Find the best hypotheses of a batch.

    Args:
        model: in evaluation mode.
        memory: encoder output of B utterances.
        config: beam width and weights.

    Returns:
        For each utterance ``config.nbest`` hypotheses or fewer, best first. Those that
        reached the length limit (``ended`` is False) appear only where none ended.
    """
    steps = memory.steps.tolist()
    limits = length_limit(memory.steps, config.max_ratio).tolist()
    finished: list[list[_Finished]] = [[] for _ in limits]
    beam = _start(model, memory, config)
    for length in range(max(limits) + 1):
        at_limit = [length >= limits[b] for b in beam.utterances]
        extensions = _extend(model, beam, config, length)
        _keep_ends(beam, extensions, model.eos, length, finished)
        for place, b in enumerate(beam.utterances):
            if at_limit[place] and not finished[b]:
                finished[b] = _cut_off(beam, config.beam, place, length)
        _go_on(beam, extensions, config.beam, model.eos)
        reach = _reach(beam, config, [limits[b] - length - 1 for b in beam.utterances])
        left = [
            place
            for place, b in enumerate(beam.utterances)
            if not at_limit[place] and reach[place] > _to_beat(finished[b], config.nbest)
        ]
        if not left:
            break
        if len(left) < len(beam.utterances):
            _leave(beam, left, config.beam)
    return [
        [_read_back(beam.history, end, steps[b]) for end in _ranked(ends)[: config.nbest]]
        for b, ends in enumerate(finished)
    ]


def _ranked(finished: list[_Finished]) -> list[_Finished]:
    return sorted(finished, key=lambda f: f.score, reverse=True)


def _to_beat(finished: list[_Finished], nbest: int) -> float:
    """The score above which a hypothesis would still be returned."""
    return -math.inf if len(finished) < nbest else _ranked(finished)[nbest - 1].score


def _start(model: LAS, memory: Memory, config: DecodeConfig) -> _Beam:
    count, width = len(memory.steps), config.beam
    scores = memory.states.new_full((count, width), -torch.inf)
    scores[:, 0] = 0.0  # one empty hypothesis; the other rows are filled by its extensions
    beam = _Beam(
        list(range(count)),
        memory,
        AttentionScorer(model, memory, width).start(),
        memory.steps.new_full((count * width,), model.eos),
        scores.flatten(),
        torch.zeros_like(scores.flatten()),
        torch.zeros_like(scores.flatten()),
        scores.new_zeros(count * width, memory.states.shape[1]),
    )
    if config.ctc_weight > 0:
        log_probs = model.ctc_log_probs(memory)
        beam.ctc = CTCPrefixScorer(log_probs, memory.steps, BLANK, model.eos, width)
        beam.prefix = beam.ctc.start()
    return beam


def _extend(model: LAS, beam: _Beam, config: DecodeConfig, length: int) -> _Extensions:
    """Score every hypothesis, of ``length`` characters, followed by every character."""
    log_probs, decoder = AttentionScorer(model, beam.memory).step(beam.decoder, beam.tokens)
    attention = beam.attention.unsqueeze(1) + log_probs  # (N, V)
    ctc = torch.zeros_like(attention)
    if beam.ctc is not None and beam.prefix is not None:
        ctc = beam.ctc.score(beam.prefix).to(attention.dtype)
    total = (1 - config.ctc_weight) * attention + config.ctc_weight * ctc
    total += config.length_bonus * (length + 1)
    total[:, model.eos] -= config.length_bonus  # the end is no character
    covered = beam.covered + decoder.weights
    if config.coverage_weight > 0:
        total += config.coverage_weight * _seen(covered, config).unsqueeze(1)
    total[beam.scores.isneginf()] = -torch.inf
    total[:, BLANK] = -torch.inf  # also where the weight of attention is 0
    if config.eos_threshold > 0:
        total[_too_early(log_probs, model.eos, config.eos_threshold), model.eos] = -torch.inf
    return _Extensions(total, attention, ctc, decoder, covered)


def _seen(covered: Tensor, config: DecodeConfig) -> Tensor:
    """Encoder steps that got attention: (N, S) to (N,)."""
    return (covered > config.coverage_threshold).sum(1)


def _too_early(log_probs: Tensor, eos: int, threshold: float) -> Tensor:
    """Rows whose end is too unlikely beside the best other character, (N,)."""
    others = log_probs.clone()
    others[:, eos] = -torch.inf
    return log_probs[:, eos] < threshold * others.amax(1)


def _keep_ends(
    beam: _Beam, found: _Extensions, eos: int, length: int, finished: list[list[_Finished]]
) -> None:
    """Note the ends that are among the K best extensions of their utterance."""
    count = len(beam.utterances)
    width = len(beam.scores) // count
    in_beam = found.total.view(count, -1).topk(width).values[:, -1]  # the worst of the K best
    ends = found.total[:, eos].view(count, width)
    rows = ((ends >= in_beam.unsqueeze(1)) & ends.isfinite()).flatten().nonzero().squeeze(1)
    parts = torch.stack([x[rows, eos] for x in (found.total, found.attention, found.ctc)])
    for row, (score, attention, ctc) in zip(rows.tolist(), parts.t().tolist(), strict=True):
        end = _Finished(score, attention, ctc, length, row, True)
        finished[beam.utterances[row // width]].append(end)


def _cut_off(beam: _Beam, width: int, place: int, length: int) -> list[_Finished]:
    """The hypotheses of an utterance at the length limit, scored as they stand."""
    rows = range(place * width, (place + 1) * width)
    parts = torch.stack([beam.scores, beam.attention, beam.ctc_scores], 1)[rows.start : rows.stop]
    return [
        _Finished(score, attention, ctc, length, row, False)
        for row, (score, attention, ctc) in zip(rows, parts.tolist(), strict=True)
        if score != -math.inf
    ]


def _go_on(beam: _Beam, found: _Extensions, width: int, eos: int) -> None:
    """Keep the K best extensions of each utterance that do not end it."""
    count, vocab = len(beam.utterances), found.total.shape[1]
    found.total[:, eos] = -torch.inf
    scores, places = found.total.view(count, width * vocab).topk(width)  # (B, K)
    first = torch.arange(count, device=places.device).unsqueeze(1) * width
    parents, tokens = (first + places // vocab).flatten(), (places % vocab).flatten()
    beam.history.append(_Step(found.decoder.weights, parents, tokens))
    beam.decoder, beam.covered = found.decoder.select(parents), found.covered[parents]
    beam.tokens, beam.scores = tokens, scores.flatten()
    beam.attention, beam.ctc_scores = found.attention[parents, tokens], found.ctc[parents, tokens]
    if beam.ctc is not None and beam.prefix is not None:
        longest = beam.memory.states.shape[1]
        beam.prefix = beam.ctc.advance(select_state(beam.prefix, parents, longest), tokens)


def _reach(beam: _Beam, config: DecodeConfig, left: list[int]) -> list[float]:
    """The best score that the hypotheses of each utterance could still come to.

    Args:
        beam: the hypotheses that go on.
        config: weights of the bonuses.
        left: characters that may still be added, for each utterance.
    """
    reach = beam.scores
    if config.coverage_weight > 0:
        steps = beam.memory.steps.repeat_interleave(config.beam)
        reach = reach + config.coverage_weight * (steps - _seen(beam.covered, config))
    best = reach.view(len(left), -1).amax(1).tolist()
    bonus = max(0.0, config.length_bonus)
    return [score + bonus * characters for score, characters in zip(best, left, strict=True)]


def _leave(beam: _Beam, left: list[int], width: int) -> None:
    """Take the finished utterances out of the batch; ``left`` are the places that stay."""
    places = torch.tensor(left, device=beam.tokens.device)
    rows = (places.unsqueeze(1) * width + torch.arange(width, device=places.device)).flatten()
    beam.utterances = [beam.utterances[place] for place in left]
    beam.memory = beam.memory.select(places)
    longest = beam.memory.states.shape[1]
    beam.decoder = beam.decoder.select(rows, longest)
    beam.tokens, beam.scores = beam.tokens[rows], beam.scores[rows]
    beam.attention, beam.ctc_scores = beam.attention[rows], beam.ctc_scores[rows]
    beam.covered = beam.covered[rows, :longest]
    if beam.ctc is not None and beam.prefix is not None:
        beam.ctc = beam.ctc.select(places)
        beam.prefix = select_state(beam.prefix, rows, longest)
    last = beam.history[-1]
    beam.history[-1] = _Step(last.weights, last.parents[rows], last.tokens[rows])


def _read_back(history: list[_Step], end: _Finished, steps: int) -> Hypothesis:
    """Follow a hypothesis from its end to its beginning."""
    row = end.row
    weights = [history[end.step].weights[row, :steps]] if end.ended else []
    tokens = []
    for step in reversed(history[: end.step]):
        tokens.append(int(step.tokens[row]))
        row = int(step.parents[row])
        weights.append(step.weights[row, :steps])
    attention = torch.stack(weights[::-1]) if weights else history[0].weights.new_zeros(0, steps)
    return Hypothesis(
        tuple(reversed(tokens)), end.score, end.attention, end.ctc, attention, end.ended
    )
