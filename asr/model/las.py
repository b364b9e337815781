"""Listen, attend and spell: features to characters. Start reading here.

    features (B, T, F) --encoder--> states (B, S, D) --decoder--> characters (B, U, V)
                                          |
                                          +--CTC head--> (B, S, V)

The encoder shortens the utterance, the decoder writes one character after another and looks
at the encoder's states through attention, and a CTC head on the same states keeps the two
in step while training (arXiv:1609.06773) and scores hypotheses while decoding.
"""

from torch import Tensor, nn
from torch.nn.functional import ctc_loss

from asr.config import LossConfig, ModelConfig
from asr.model.batch import Batch, Count
from asr.model.decoder import AttentionDecoder
from asr.model.encoder import Encoder
from asr.model.fast.product import affine
from asr.model.loss import Loss, cross_entropy, divergence, inputs_and_targets, off_diagonal
from asr.model.memory import Memory
from asr.model.padding import padding_mask


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
        self.encoder = Encoder(feature_dim, config.encoder, config.reset)
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

    def forward(self, batch: Batch, weights: LossConfig, count: Count) -> Loss:
        """Return the teacher-forced loss of a batch; see :meth:`loss`."""
        return self.loss(self.encode(batch.features, batch.frames), batch, weights, count)

    def loss(self, memory: Memory, batch: Batch, weights: LossConfig, count: Count) -> Loss:
        """Return the teacher-forced loss of a batch: sums over characters, divided by ``count``.

        Args:
            memory: the batch as :meth:`encode` returns it.
            batch: with ``weights.consistency``, in training, its second half repeats the first.
            weights: of the parts at this point of training, and its scheduled sampling.
            count: of this batch, or of all the batches of an update.
        """
        inputs, targets = inputs_and_targets(batch.tokens, batch.lengths, self.eos)
        sampling = weights.scheduled_sampling if self.training else 0.0
        logits, alignment = self.decoder(inputs, batch.lengths + 1, memory, sampling)
        written = count.characters + count.utterances
        smoothing = weights.label_smoothing if self.training else 0.0
        attention = cross_entropy(logits, targets, smoothing, written)
        accuracy = (logits.argmax(-1) == targets).sum() / written  # IGNORE is no character
        ctc, consistency = self._ctc_losses(memory, batch, weights, count)
        total = (1 - weights.ctc_weight) * attention
        total = total + weights.ctc_weight * (ctc + weights.consistency * consistency)
        if self.training and weights.guide > 0:
            stray = off_diagonal(alignment, memory.steps, batch.lengths)
            total = total + weights.guide * (stray / written)
        return Loss(total, attention, ctc, consistency, accuracy, alignment)

    def _ctc_losses(
        self, memory: Memory, batch: Batch, weights: LossConfig, count: Count
    ) -> tuple[Tensor, Tensor]:
        """CTC loss, and what two copies disagree about in it; scalars."""
        ctc = consistency = memory.states.new_zeros(())
        if weights.ctc_weight > 0:
            log_probs = self.ctc_log_probs(memory)  # (B, S, V)
            by_step = log_probs.transpose(0, 1)
            ctc = ctc_loss(by_step, batch.tokens, memory.steps, batch.lengths, reduction="sum")
            ctc = ctc / count.characters
            if self.training and weights.consistency > 0:
                consistency = divergence(log_probs, memory.padding) / count.characters
        return ctc, consistency
