"""GRU decoder with attention: encoder states to character log-probabilities.

For character i, with s the decoder state and y the characters::

    c_i, alpha_i = attend(s_{i-1}, memory, alpha_{i-1})
    s_i          = GRU([embedding(y_{i-1}), c_i], s_{i-1})
    y_i          ~ softmax(readout([s_i, c_i]))
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr.config import AttentionConfig, DecoderConfig
from asr.model.attention import LocationAttention, Memory, uniform_weights
from asr.model.gru import gru_step, gru_weights


@dataclass(frozen=True)
class DecoderState:
    """What one step of the decoder hands to the next."""

    hidden: Tensor
    """s, (N, H)."""
    weights: Tensor
    """alpha of the last character, (N, S)."""

    def select(self, rows: Tensor, steps: int | None = None) -> "DecoderState":
        """The given rows, picked or repeated; weights cut to ``steps`` if it is given."""
        return DecoderState(self.hidden[rows], self.weights[rows, :steps])


class AttentionDecoder(nn.Module):
    """The speller.

    Args:
        vocab: characters, with the special ones (V).
        states: width of the encoder (D).
        config: sizes of the decoder.
        attention: sizes of the attention.
    """

    def __init__(
        self, vocab: int, states: int, config: DecoderConfig, attention: AttentionConfig
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, config.embedding)
        self.attention = LocationAttention(config.units, states, attention)
        W, U, b, c = (p.detach()[0] for p in gru_weights(config.embedding + states, config.units))
        # what characters and context bring to the gates: two products, for the characters of a
        # whole transcript are known at once
        self.W_y, self.W_c = (
            nn.Parameter(part.clone()) for part in (W[: config.embedding], W[config.embedding :])
        )
        self.U, self.b, self.c = nn.Parameter(U), nn.Parameter(b), nn.Parameter(c)
        self.readout = nn.Linear(config.units + states, vocab)
        self.dropout = nn.Dropout(config.dropout)

    def start(self, memory: Memory) -> DecoderState:
        """The state before the first character."""
        hidden = memory.states.new_zeros(len(memory.steps), self.U.shape[0])
        return DecoderState(hidden, uniform_weights(memory))

    def _characters(self, tokens: Tensor) -> Tensor:
        """The characters' part of the GRU's input gates: (...) to (..., 3H)."""
        return self.dropout(self.embedding(tokens)) @ self.W_y + self.b

    def _advance(
        self, characters: Tensor, memory: Memory, state: DecoderState
    ) -> tuple[Tensor, DecoderState]:
        """One step from the characters' gates (N, 3H): context (N, D) and the next state."""
        context, weights = self.attention(state.hidden, memory, state.weights)
        hidden = gru_step(characters + context @ self.W_c, state.hidden, self.U, self.c)
        return context, DecoderState(hidden, weights)

    def _logits(self, hidden: Tensor, context: Tensor) -> Tensor:
        return self.readout(self.dropout(torch.cat([hidden, context], dim=-1)))

    def step(
        self, tokens: Tensor, memory: Memory, state: DecoderState
    ) -> tuple[Tensor, DecoderState]:
        """Read one character a row and score the next one.

        Args:
            tokens: the last characters, (N,).
            memory: encoder output, a row for each token.
            state: from :meth:`start` or the step before.

        Returns:
            log-probabilities (N, V) and the next state.
        """
        context, state = self._advance(self._characters(tokens), memory, state)
        return self._logits(state.hidden, context).log_softmax(-1), state

    def forward(
        self, tokens: Tensor, memory: Memory, sampling: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Score whole transcripts, reading the true characters (teacher forcing).

        Args:
            tokens: input characters, <sos> first, (B, U).
            memory: encoder output.
            sampling: chance to read the model's own guess instead of the true character
                (scheduled sampling, arXiv:1506.03099).

        Returns:
            logits (B, U, V) and attention weights (B, U, S).
        """
        characters = self._characters(tokens)  # (B, U, 3H)
        state = self.start(memory)
        contexts: list[Tensor] = []
        hiddens: list[Tensor] = []
        weights: list[Tensor] = []
        for u in range(tokens.shape[1]):
            gates = characters[:, u]
            if sampling > 0 and u > 0:
                with torch.no_grad():
                    guess = self._logits(hiddens[-1], contexts[-1]).argmax(-1)  # (B,)
                use = torch.rand(len(guess), device=guess.device) < sampling
                gates = torch.where(use.unsqueeze(1), self._characters(guess), gates)
            context, state = self._advance(gates, memory, state)
            contexts.append(context)
            hiddens.append(state.hidden)
            weights.append(state.weights)
        hidden, context = torch.stack(hiddens, 1), torch.stack(contexts, 1)  # (B, U, H or D)
        return self._logits(hidden, context), torch.stack(weights, 1)
