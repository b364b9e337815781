"""The training loss: its parts, and what it adds to cross-entropy and CTC."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import nll_loss

from asr.model.padding import padding_mask

IGNORE = -100  # a target that does not count: padding
DIAGONAL_WIDTH = 0.2  # of the path that attention is guided to, as a share of the utterance


class Loss(NamedTuple):
    """The training loss of a batch and its parts: sums, divided by the count that was given."""

    total: Tensor
    """(1 - ctc_weight) * attention + ctc_weight * (ctc + consistency * its weight), and the
    guide while there is one; scalar."""
    attention: Tensor
    """Cross-entropy of the decoder, with label smoothing, by character and <eos>; scalar."""
    ctc: Tensor
    """CTC loss by character; scalar, 0 where ctc_weight is 0."""
    consistency: Tensor
    """Divergence of two copies' CTC probabilities by character; scalar."""
    accuracy: Tensor
    """Characters and <eos> that the decoder guessed right, as a share; scalar."""
    weights: Tensor
    """Attention, (B, U + 1, S)."""


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float, count: float) -> Tensor:
    """Cross-entropy with label smoothing, the sum over the targets divided by ``count``; scalar.

    Args:
        logits: (B, U + 1, V).
        targets: (B, U + 1); IGNORE on padding.
        smoothing: share of each target that is spread over all characters.
        count: of the targets of an update.
    """
    log_probs = logits.log_softmax(-1)
    loss = nll_loss(log_probs.flatten(0, 1), targets.flatten(), reduction="sum") / count
    if smoothing > 0:
        spread = -log_probs.sum(-1).masked_fill(targets == IGNORE, 0.0).sum() / count
        loss = (1 - smoothing) * loss + smoothing / logits.shape[-1] * spread
    return loss


def divergence(log_probs: Tensor, padding: Tensor) -> Tensor:
    """How much two copies of utterances disagree: KL(p || q) + KL(q || p), summed over steps.

    Each copy learns from the other one, which stands still (arXiv:2410.05101).

    Args:
        log_probs: of the first copies, then of the second, (B, S, V).
        padding: True where there is no step, (B, S).
    """
    other = log_probs.detach().roll(len(log_probs) // 2, 0)
    distance = (other.exp() * (other - log_probs)).sum(-1)  # KL(other || this), (B, S)
    return distance.masked_fill(padding, 0.0).sum()


def off_diagonal(weights: Tensor, steps: Tensor, lengths: Tensor) -> Tensor:
    """How much attention strays from a straight path through the utterance.

    Args:
        weights: attention, (B, U + 1, S); 0 on padding.
        steps: encoder steps of each utterance, (B,).
        lengths: characters of each transcript, (B,).

    Returns:
        the sum over characters and steps of alpha_t (1 - exp(-d_t^2 / (2 * 0.2^2))), d_t being
        the distance from the diagonal as a share of the utterance (arXiv:1710.08969, eq. 7);
        scalar.
    """
    characters, frames = (
        torch.arange(size, device=weights.device).add(0.5) / counts.to(weights.device).unsqueeze(1)
        for size, counts in zip(weights.shape[1:], (lengths + 1, steps), strict=True)
    )
    distance = characters.unsqueeze(2) - frames.unsqueeze(1)  # (B, U + 1, S)
    penalty = 1 - torch.exp(-distance.square() / (2 * DIAGONAL_WIDTH**2))
    return (weights * penalty).sum()


def inputs_and_targets(tokens: Tensor, lengths: Tensor, eos: int) -> tuple[Tensor, Tensor]:
    """<sos> y_1 ... y_U to read and y_1 ... y_U <eos> to guess, of padded (B, U), (B, U + 1)."""
    padding = padding_mask(lengths, tokens.shape[1], tokens.device)
    edge = tokens.new_full((len(tokens), 1), eos)
    inputs = torch.cat([edge, tokens.masked_fill(padding, eos)], dim=1)
    targets = torch.cat([tokens.masked_fill(padding, IGNORE), edge * 0 + IGNORE], dim=1)
    ends = lengths.to(tokens.device, non_blocking=True).unsqueeze(1)
    return inputs, targets.scatter(1, ends, eos)
