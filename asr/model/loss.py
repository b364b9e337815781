"""The parts of the training loss, and the decoder's inputs and targets."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import ctc_loss, nll_loss

from asr.model.batch import Batch
from asr.model.padding import padding_mask

IGNORE = -100  # target on padding
DIAGONAL_WIDTH = 0.2  # g of guided attention, as a share of the utterance


class Loss(NamedTuple):
    """The training loss of a batch and its parts: sums divided by a :class:`Count`."""

    total: Tensor
    """(1 - ctc_weight) attention + ctc_weight (CTC + consistency L_consistency) + guide L_guide;
    scalar."""
    attention: Tensor
    """Cross-entropy of the decoder with label smoothing, per character and <eos>; scalar."""
    ctc: Tensor
    """CTC loss per character; scalar, 0 if ctc_weight is 0."""
    consistency: Tensor
    """Consistency loss per character; scalar."""
    accuracy: Tensor
    """Share of characters and <eos> that the decoder predicted correctly; scalar."""
    weights: Tensor
    """Attention weights, (B, U + 1, S)."""


def cross_entropy(log_probs: Tensor, targets: Tensor, smoothing: float, count: int) -> Tensor:
    """Return the cross-entropy with label smoothing: the sum over targets divided by ``count``.

    Args:
        log_probs: (B, U + 1, V).
        targets: (B, U + 1); IGNORE on padding.
        smoothing: share of each target's probability that is spread over all tokens.
        count: number of targets of an update.
    """
    loss = nll_loss(log_probs.flatten(0, 1), targets.flatten(), reduction="sum") / count
    if smoothing > 0:
        spread = -log_probs.sum(-1).masked_fill(targets == IGNORE, 0.0).sum() / count
        loss = (1 - smoothing) * loss + smoothing / log_probs.shape[-1] * spread
    return loss


def ctc_sum(log_probs: Tensor, steps: Tensor, batch: Batch) -> Tensor:
    """Return the sum of the CTC losses of a batch from log-probabilities (B, S, V); scalar."""
    by_step = log_probs.transpose(0, 1)
    return ctc_loss(by_step, batch.tokens, steps, batch.lengths, reduction="sum")


def consistency_loss(log_probs: Tensor, padding: Tensor) -> Tensor:
    """Return KL(p || q) + KL(q || p) of two copies of utterances, summed over steps; scalar.

    In each term the other copy is a constant (CR-CTC, arXiv:2410.05101).

    Args:
        log_probs: CTC log-probabilities of the first copies, then of the second, (B, S, V).
        padding: True on padding, (B, S).
    """
    other = log_probs.detach().roll(len(log_probs) // 2, 0)
    distance = (other.exp() * (other - log_probs)).sum(-1)  # KL(other || this), (B, S)
    return distance.masked_fill(padding, 0.0).sum()


def guided_attention_loss(weights: Tensor, steps: Tensor, lengths: Tensor) -> Tensor:
    """Return how far attention is from the diagonal (arXiv:1710.08969, eq. 7), scalar.

    It is the sum over characters and steps of alpha_t (1 - exp(-d_t^2 / (2 * 0.2^2))), where d_t
    is the distance from the diagonal as a share of the utterance.

    Args:
        weights: attention weights, (B, U + 1, S); 0 on padding.
        steps: encoder steps of each utterance, (B,).
        lengths: characters of each transcript, (B,).
    """
    characters, frames = (
        torch.arange(size, device=weights.device).add(0.5) / counts.to(weights.device).unsqueeze(1)
        for size, counts in zip(weights.shape[1:], (lengths + 1, steps), strict=True)
    )
    distance = characters.unsqueeze(2) - frames.unsqueeze(1)  # (B, U + 1, S)
    penalty = 1 - torch.exp(-distance.square() / (2 * DIAGONAL_WIDTH**2))
    return (weights * penalty).sum()


def inputs_and_targets(tokens: Tensor, lengths: Tensor, eos: int) -> tuple[Tensor, Tensor]:
    """Return <sos> y_1 ... y_U and y_1 ... y_U <eos>, both (B, U + 1), of padded tokens (B, U).

    After its end a row of inputs holds <eos> and a row of targets :data:`IGNORE`.
    """
    padding = padding_mask(lengths, tokens.shape[1], tokens.device)
    edge = tokens.new_full((len(tokens), 1), eos)
    inputs = torch.cat([edge, tokens.masked_fill(padding, eos)], dim=1)
    targets = torch.cat([tokens.masked_fill(padding, IGNORE), edge * 0 + IGNORE], dim=1)
    ends = lengths.to(tokens.device, non_blocking=True).unsqueeze(1)
    return inputs, targets.scatter(1, ends, eos)
