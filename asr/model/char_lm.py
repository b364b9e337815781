"""The character language model: a GRU that predicts the next character."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from asr.arrays import Array, is_numpy, to_numpy
from asr.config import LMConfig
from asr.model.loss import inputs_and_targets


class CharLM(nn.Module):
    """Embedding, GRU layers, softmax.

    Args:
        config: its settings.
        vocab: number of tokens (V); <sos/eos> is V - 1.
    """

    def __init__(self, config: LMConfig, vocab: int) -> None:
        super().__init__()
        self.eos = vocab - 1
        self.embedding = nn.Embedding(vocab, config.embedding)
        between = config.dropout if config.layers > 1 else 0.0
        self.gru = nn.GRU(
            config.embedding, config.units, config.layers, batch_first=True, dropout=between
        )
        self.dropout = nn.Dropout(config.dropout)
        self.readout = nn.Linear(config.units, vocab)

    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Predict the character after each character.

        Args:
            tokens: characters, (N, L).
            state: state after the characters before, (layers, N, units); None at the start.

        Returns:
            log-probabilities (N, L, V) and the state after the last character.
        """
        hidden, state = self.gru(self.dropout(self.embedding(tokens)), state)
        return self.readout(self.dropout(hidden)).log_softmax(-1), state

    def start(self, rows: int) -> Tensor:
        """Return the state before the first character, (layers, rows, units)."""
        return self.readout.weight.new_zeros(self.gru.num_layers, rows, self.gru.hidden_size)

    @torch.no_grad()
    def step(self, tokens: Array, state: Tensor, rows: Array) -> tuple[Array, Tensor]:
        """Score the next characters; see :class:`asr.lm.protocol.LanguageModel`.

        The state is a tensor, (layers, N, units), even if the search computes with numpy.
        """
        read = torch.as_tensor(tokens, device=state.device)
        log_probs, state = self(read[:, None], self.select(state, rows))
        log_probs = log_probs.squeeze(1)
        return to_numpy(log_probs) if is_numpy(tokens) else log_probs, state

    def select(self, state: Tensor, rows: Array) -> Tensor:
        """Return some rows of a state, which may repeat."""
        return state[:, torch.as_tensor(rows, device=state.device)]

    @torch.no_grad()
    def score(self, sentences: list[list[int]]) -> Tensor:
        """Return the log-probabilities of whole sentences including <eos>, (N,)."""
        device = self.readout.weight.device
        inputs, targets = (part.to(device) for part in sentence_batch(sentences, self.eos))
        log_probs = self(inputs)[0].gather(2, targets.clamp_min(0).unsqueeze(2)).squeeze(2)
        return log_probs.masked_fill(targets < 0, 0.0).sum(1)


def sentence_batch(sentences: Sequence[Sequence[int]], eos: int) -> tuple[Tensor, Tensor]:
    """Return the inputs and targets of sentences, see :func:`asr.model.loss.inputs_and_targets`."""
    tokens = [torch.tensor(sentence, dtype=torch.int64) for sentence in sentences]
    lengths = torch.tensor([len(sentence) for sentence in sentences])
    return inputs_and_targets(pad_sequence(tokens, batch_first=True), lengths, eos)
