"""Listen, attend and spell: features to characters. Start reading here.

    features (B, T, F) --encoder--> states (B, S, D) --decoder--> characters (B, U, V)
                                          |
                                          +--CTC head--> (B, S, V)

The encoder shortens the utterance, the decoder writes one character after another and looks
at the encoder's states through attention, and a CTC head on the same states keeps the two
in step while training (arXiv:1609.06773) and scores hypotheses while decoding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, ctc_loss

from asr.config import LossConfig, ModelConfig
from asr.model.decoder import AttentionDecoder
from asr.model.encoder import PyramidEncoder
from asr.model.fast.product import affine
from asr.model.memory import Memory
from asr.model.padding import padding_mask

IGNORE = -100  # a target that does not count: padding
DIAGONAL_WIDTH = 0.2  # of the path that attention is guided to, as a share of the utterance


@dataclass(frozen=True)
class Loss:
    """The training loss of a batch and its parts, each a mean over characters."""

    total: Tensor
    """(1 - ctc_weight) * attention + ctc_weight * (ctc + consistency * its weight), and the
    guide while there is one; scalar."""
    attention: Tensor
    """Cross-entropy of the decoder, with label smoothing; scalar."""
    ctc: Tensor
    """CTC loss divided by the characters; scalar, 0 where ctc_weight is 0."""
    consistency: Tensor
    """Divergence of two copies' CTC probabilities divided by the characters; scalar."""
    accuracy: Tensor
    """Share of characters that the decoder guessed right; scalar."""
    weights: Tensor
    """Attention, (B, U + 1, S)."""


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
        the mean over characters of sum_t alpha_t (1 - exp(-d_t^2 / (2 * 0.2^2))), d_t being the
        distance from the diagonal as a share of the utterance (arXiv:1710.08969, eq. 7); scalar.
    """
    written, heard = (
        torch.arange(size, device=weights.device).add(0.5) / counts.to(weights.device).unsqueeze(1)
        for size, counts in zip(weights.shape[1:], (lengths + 1, steps), strict=True)
    )
    distance = written.unsqueeze(2) - heard.unsqueeze(1)  # (B, U + 1, S)
    penalty = 1 - torch.exp(-distance.square() / (2 * DIAGONAL_WIDTH**2))
    return (weights * penalty).sum() / (lengths + 1).sum()


class LAS(nn.Module):
    """The model.

    Args:
        config: sizes.
        feature_dim: width of a feature frame (F).
        vocab: characters with the special ones (V); <blank> is 0 and <sos/eos> is V - 1.
    """

    def __init__(self, config: ModelConfig, feature_dim: int, vocab: int) -> None:
        super().__init__()
        self.config, self.feature_dim, self.vocab = config, feature_dim, vocab
        self.eos = vocab - 1
        self.encoder = PyramidEncoder(feature_dim, config.encoder, config.reset)
        self.decoder = AttentionDecoder(
            vocab, self.encoder.width, config.decoder, config.attention, config.reset
        )
        self.ctc = nn.Linear(self.encoder.width, vocab)

    def encode(self, features: Tensor, frames: Tensor) -> Memory:
        """Listen.

        Args:
            features: normalised frames, (B, T, F).
            frames: real frames of each utterance, (B,), in main memory.

        Raises:
            ValueError: an utterance has no frame.
        """
        if int(frames.min()) < 1:
            raise ValueError("an utterance has no frame")
        states, steps = self.encoder(features, frames)
        return self.decoder.precompute(
            states, steps, padding_mask(steps, states.shape[1], states.device)
        )

    def ctc_log_probs(self, memory: Memory) -> Tensor:
        """CTC log-probabilities of every step, (B, S, V)."""
        return affine(memory.states, self.ctc.weight.t(), self.ctc.bias).log_softmax(-1)

    def loss(
        self,
        features: Tensor,
        frames: Tensor,
        tokens: Tensor,
        lengths: Tensor,
        config: LossConfig,
        sampling: float = 0.0,
        guide: float = 0.0,
    ) -> Loss:
        """Teacher-forced loss of a padded batch.

        Args:
            features: (B, T, F).
            frames: (B,), in main memory.
            tokens: transcripts without special characters, (B, U); padding is ignored. With
                ``config.consistency``, in training, the second half repeats the first.
            lengths: characters of each transcript, (B,), in main memory.
            config: weights of the parts.
            sampling: chance of scheduled sampling at this point of training.
            guide: weight of :func:`off_diagonal` at this point of training.
        """
        memory = self.encode(features, frames)
        inputs, targets = self._inputs_and_targets(tokens, lengths)
        logits, weights = self.decoder(inputs, lengths + 1, memory, sampling)  # (B, U + 1, V)
        attention = cross_entropy(
            logits.flatten(0, 1),
            targets.flatten(),
            ignore_index=IGNORE,
            label_smoothing=config.label_smoothing if self.training else 0.0,
        )
        real = targets != IGNORE
        accuracy = ((logits.argmax(-1) == targets) & real).sum() / real.sum()
        ctc = consistency = torch.zeros_like(attention)
        if config.ctc_weight > 0:
            log_probs = self.ctc_log_probs(memory)  # (B, S, V)
            ctc = ctc_loss(
                log_probs.transpose(0, 1), tokens, memory.steps, lengths, reduction="sum"
            )
            ctc = ctc / lengths.sum()
            if self.training and config.consistency > 0:
                consistency = divergence(log_probs, memory.padding) / lengths.sum()
        total = (1 - config.ctc_weight) * attention
        total = total + config.ctc_weight * (ctc + config.consistency * consistency)
        if guide > 0:
            total = total + guide * off_diagonal(weights, memory.steps, lengths)
        return Loss(total, attention, ctc, consistency, accuracy, weights)

    def _inputs_and_targets(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """<sos> y_1 ... y_U to read and y_1 ... y_U <eos> to write, both (B, U + 1)."""
        padding = padding_mask(lengths, tokens.shape[1], tokens.device)
        edge = tokens.new_full((len(tokens), 1), self.eos)
        inputs = torch.cat([edge, tokens.masked_fill(padding, self.eos)], dim=1)
        targets = torch.cat([tokens.masked_fill(padding, IGNORE), edge * 0 + IGNORE], dim=1)
        ends = lengths.to(tokens.device, non_blocking=True).unsqueeze(1)
        return inputs, targets.scatter(1, ends, self.eos)
