"""Listen, attend and spell: features to characters. Start reading here.

    features (B, T, F) --encoder--> states (B, S, D) --decoder--> characters (B, U, V)
                                          |
                                          +--CTC head--> (B, S, V)

The encoder shortens the utterance. The decoder writes one character after another and reads the
encoder's states through attention. A CTC head on the same states helps training to align the two
(arXiv:1609.06773) and scores hypotheses in a search.
"""

from torch import Tensor, nn

from asr.config import LossConfig, ModelConfig
from asr.model.batch import Batch, Count
from asr.model.decoder import AttentionDecoder
from asr.model.encoder import Encoder
from asr.model.fast.product import affine
from asr.model.loss import (
    Loss,
    consistency_loss,
    cross_entropy,
    ctc_sum,
    guided_attention_loss,
    inputs_and_targets,
)
from asr.model.memory import Memory


class LAS(nn.Module):
    """The whole network.

    Args:
        config: its settings.
        feature_dim: width of a feature frame (F).
        vocab: number of tokens (V); <blank> is 0 and <sos/eos> is V - 1.
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
        """Encode a padded batch for the decoder.

        Args:
            features: normalised frames, (B, T, F).
            frames: number of frames of each utterance, (B,), in main memory.

        Raises:
            ValueError: an utterance has no frame.
        """
        if int(frames.min()) < 1:
            raise ValueError("an utterance has no frame")
        return self.decoder.precompute(*self.encoder(features, frames))

    def ctc_log_probs(self, states: Tensor) -> Tensor:
        """Return the CTC log-probabilities of encoder states: (B, S, D) to (B, S, V)."""
        return affine(states, self.ctc.weight.t(), self.ctc.bias).log_softmax(-1)

    def forward(self, batch: Batch, weights: LossConfig, count: Count) -> Loss:
        """Return the teacher-forced loss of a batch; see :meth:`loss`.

        Args:
            batch: the utterances.
            weights: weights of the parts of the loss.
            count: characters and utterances of an update.
        """
        return self.loss(self.encode(batch.features, batch.frames), batch, weights, count)

    def loss(self, memory: Memory, batch: Batch, weights: LossConfig, count: Count) -> Loss:
        """Return the teacher-forced loss of a batch: its sums divided by ``count``.

        Args:
            memory: the encoded batch.
            batch: the utterances; where ``weights.copies`` is 2 in training, the second half
                holds other copies of the first half.
            weights: weights of the parts of the loss at this point of training.
            count: characters and utterances of this batch, or of all batches of an update.
        """
        inputs, targets = inputs_and_targets(batch.tokens, batch.lengths, self.eos)
        logits, aligned = self.decoder(inputs, batch.lengths + 1, memory)
        written = count.characters + count.utterances
        correct = logits.argmax(-1) == targets  # never true on padding
        accuracy = correct.sum() / written
        smoothing = weights.label_smoothing if self.training else 0.0
        attention = cross_entropy(logits.log_softmax(-1), targets, smoothing, written)
        ctc, consistency, encoder = self._ctc_losses(memory, batch, weights, count)
        total = (1 - weights.ctc_weight) * attention + weights.ctc_weight * encoder
        if self.training and weights.guide > 0:
            guide = guided_attention_loss(aligned, memory.steps, batch.lengths) / written
            total = total + weights.guide * guide
        return Loss(total, attention, ctc, consistency, accuracy, aligned)

    def _ctc_losses(
        self, memory: Memory, batch: Batch, weights: LossConfig, count: Count
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the CTC loss, the consistency loss, and all losses of the CTC head."""
        ctc = consistency = memory.states.new_zeros(())
        if weights.ctc_weight == 0:
            return ctc, consistency, ctc
        log_probs = self.ctc_log_probs(memory.states)  # (B, S, V)
        ctc = ctc_sum(log_probs, memory.steps, batch) / count.characters
        if self.training and weights.consistency > 0:
            consistency = consistency_loss(log_probs, memory.padding) / count.characters
        return ctc, consistency, ctc + weights.consistency * consistency
