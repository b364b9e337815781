"""Beam search, batched over utterances and hypotheses.

A hypothesis y of U characters for an utterance scores::

    (1 - ctc_weight) * log p_attention(y) + ctc_weight * log p_ctc(y)
        + length_bonus * U + coverage_weight * (steps that got attention)

An extension by the end of the sentence has to be among the K best extensions of its utterance
to count as finished; the K best others go on. An utterance is done when no hypothesis that
goes on can come before the finished ones: without bonuses that is certain, for probabilities
only fall; with them, what they may still bring is counted up to ``HOPE``.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from asr.config import DecodeConfig
from asr.model.attention import Memory
from asr.model.decoder import DecoderState
from asr.model.las import LAS
from asr.search.ctc_prefix import CTCPrefixScorer, PrefixState, select_state
from asr.search.scorer import BLANK, AttentionScorer, Hypothesis, length_limit

HOPE = 10.0  # most that length bonus and coverage may still bring, in log-probability


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
    """The hypotheses that go on: K rows for each of the active utterances."""

    utterances: Tensor
    """Index of the utterance, (B,)."""
    memory: Memory
    decoder: DecoderState
    tokens: Tensor
    """Last characters, (B * K,)."""
    attention: Tensor
    """Log-probability by the decoder so far, (B * K,); -inf for rows not in use."""
    covered: Tensor
    """Attention gathered by each encoder step, (B * K, S)."""
    ctc: CTCPrefixScorer | None = None
    prefix: PrefixState | None = None
    history: list[_Step] = field(default_factory=list)


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
    count = len(memory.steps)
    limits = length_limit(memory.steps, config.max_ratio)
    finished: list[list[_Finished]] = [[] for _ in range(count)]
    beam = _start(model, memory, config)
    for length in range(int(limits.max()) + 1):
        done = _step(model, beam, config, limits, length, finished)
        if done.all():
            break
        if done.any():
            _leave(beam, (~done).nonzero().squeeze(1), config.beam)
    return [
        [
            _read_back(beam.history, best, int(memory.steps[b]))
            for best in _ranked(finished[b], config)
        ]
        for b in range(count)
    ]


def _ranked(finished: list[_Finished], config: DecodeConfig) -> list[_Finished]:
    return sorted(finished, key=lambda f: f.score, reverse=True)[: config.nbest]


def _start(model: LAS, memory: Memory, config: DecodeConfig) -> _Beam:
    count, width = len(memory.steps), config.beam
    utterances = torch.arange(count, device=memory.steps.device)
    rows = utterances.repeat_interleave(width)
    wide = memory.select(rows)
    attention = memory.states.new_full((count, width), -torch.inf)
    attention[:, 0] = 0.0  # one empty hypothesis; the other rows are filled by its extensions
    beam = _Beam(
        utterances,
        wide,
        AttentionScorer(model, wide).start(),
        torch.full_like(rows, model.eos),
        attention.flatten(),
        torch.zeros_like(wide.padding, dtype=memory.states.dtype),
    )
    if config.ctc_weight > 0:
        log_probs = model.ctc_log_probs(memory)
        beam.ctc = CTCPrefixScorer(log_probs[rows], wide.steps, BLANK, model.eos)
        beam.prefix = beam.ctc.start()
    return beam


def _step(
    model: LAS,
    beam: _Beam,
    config: DecodeConfig,
    limits: Tensor,
    length: int,
    finished: list[list[_Finished]],
) -> Tensor:
    """Extend every hypothesis by one character; True for utterances that are done, (B,)."""
    width, eos = config.beam, model.eos
    log_probs, decoder = AttentionScorer(model, beam.memory).step(beam.decoder, beam.tokens)
    attention = beam.attention.unsqueeze(1) + log_probs  # (B * K, V)
    covered = beam.covered + decoder.weights
    ctc = torch.zeros_like(attention)
    if beam.ctc is not None and beam.prefix is not None:
        ctc = beam.ctc.score(beam.prefix).to(attention.dtype)
    total = (1 - config.ctc_weight) * attention + config.ctc_weight * ctc
    total = total + config.length_bonus * (length + 1)
    total[:, eos] -= config.length_bonus  # the end is no character
    total = total.masked_fill(attention.isneginf(), -torch.inf)  # also where its weight is 0
    if config.coverage_weight > 0:
        seen = (covered > config.coverage_threshold).sum(1, keepdim=True)
        total = total + config.coverage_weight * seen
    if config.eos_threshold > 0:
        others = log_probs.clone()
        others[:, eos] = -torch.inf
        early = log_probs[:, eos] < config.eos_threshold * others.amax(1)
        total[early, eos] = -torch.inf

    count, vocab = len(beam.utterances), total.shape[1]
    by_utterance = total.view(count, width * vocab)
    in_beam = by_utterance.topk(width).values[:, -1]  # the worst score that is in the beam
    at_limit = length >= limits[beam.utterances]
    ends = total.view(count, width, vocab)[..., eos]  # (B, K)
    is_end = (ends >= in_beam.unsqueeze(1)) & ends.isfinite()
    for b, k in is_end.nonzero().tolist():
        row = b * width + k
        best = _Finished(
            float(total[row, eos]),
            float(attention[row, eos]),
            float(ctc[row, eos]),
            length,
            row,
            True,
        )
        finished[int(beam.utterances[b])].append(best)
    for b in at_limit.nonzero().squeeze(1).tolist():
        if not finished[int(beam.utterances[b])]:
            finished[int(beam.utterances[b])].extend(_cut_off(beam, config, b, length))

    total[:, eos] = -torch.inf
    scores, places = by_utterance.topk(width)  # (B, K), the ends are out
    parents = (
        places // vocab + torch.arange(count, device=places.device).unsqueeze(1) * width
    ).flatten()
    tokens = (places % vocab).flatten()
    beam.history.append(_Step(decoder.weights, parents, tokens))
    beam.decoder = decoder.select(parents)
    beam.covered, beam.tokens = covered[parents], tokens
    beam.attention = attention[parents, tokens].masked_fill(scores.flatten().isneginf(), -torch.inf)
    if beam.ctc is not None and beam.prefix is not None:
        longest = beam.memory.states.shape[1]
        beam.prefix = beam.ctc.advance(select_state(beam.prefix, parents, longest), tokens)
    return at_limit | _settled(beam, config, scores[:, 0], limits, length, finished)


def _cut_off(beam: _Beam, config: DecodeConfig, b: int, length: int) -> list[_Finished]:
    """The hypotheses of an utterance at the length limit, scored as they stand."""
    result = []
    for row in range(b * config.beam, (b + 1) * config.beam):
        attention = float(beam.attention[row])
        if attention > -torch.inf:
            score = (1 - config.ctc_weight) * attention + config.length_bonus * length
            result.append(_Finished(score, attention, 0.0, length, row, False))
    return result


def _settled(
    beam: _Beam,
    config: DecodeConfig,
    best: Tensor,
    limits: Tensor,
    length: int,
    finished: list[list[_Finished]],
) -> Tensor:
    """Utterances whose best open hypothesis cannot come before the finished ones, (B,)."""
    result = []
    for b, (utterance, score) in enumerate(
        zip(beam.utterances.tolist(), best.tolist(), strict=True)
    ):
        left = int(limits[utterance]) - length - 1
        steps = int(beam.memory.steps[b * config.beam])
        hope = max(0.0, config.length_bonus) * left + config.coverage_weight * steps
        ranked = _ranked(finished[utterance], config)
        worst = ranked[-1].score if len(ranked) == config.nbest else -torch.inf
        result.append(score == -torch.inf or score + min(hope, HOPE) <= worst)
    return torch.tensor(result, device=best.device)


def _leave(beam: _Beam, left: Tensor, width: int) -> None:
    """Take the finished utterances out of the batch; ``left`` are the places that stay."""
    rows = (left.unsqueeze(1) * width + torch.arange(width, device=left.device)).flatten()
    beam.utterances = beam.utterances[left]
    beam.memory = beam.memory.select(rows)
    longest = beam.memory.states.shape[1]
    beam.decoder = beam.decoder.select(rows, longest)
    beam.tokens, beam.attention = beam.tokens[rows], beam.attention[rows]
    beam.covered = beam.covered[rows, :longest]
    if beam.ctc is not None and beam.prefix is not None:
        beam.ctc = beam.ctc.select(rows)
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
