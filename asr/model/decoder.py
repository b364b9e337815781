"""Decoder with attention: encoder states to character log-probabilities.

For character i, with s the cell's output and y the characters::

    alpha_i = attend(s_{i-1}, memory)
    c_i     = sum_t alpha_{i,t} h_t
    s_i     = cell([embedding(y_{i-1}), c_i], s_{i-1})
    y_i     ~ softmax(readout([s_i, c_i]))

The context enters the gates by a product, c_i W_c, which equals the sum of alpha_{i,t} over
h_t W_c: so that product is taken once for every encoder step (``Memory.values``) instead of
once for every character and hypothesis, and in a search the readout's part likewise. An attention
of M heads has M contexts, which stand side by side.
"""

import torch
from torch import Tensor, nn

from asr.config import AttentionConfig, DecoderConfig
from asr.model.attention import make_attention
from asr.model.cells import make_cell
from asr.model.cells.gru import Reset
from asr.model.dropout import Dropout
from asr.model.fast import lookup
from asr.model.fast.product import affine
from asr.model.memory import Memory
from asr.model.padding import padding_mask
from asr.model.session import DecoderParts, DecoderSession


class AttentionDecoder(nn.Module):
    """The decoder.

    Args:
        vocab: characters, with the special ones (V).
        states: width of the encoder (D).
        config: sizes of the decoder.
        attention: sizes of the attention.
        reset: form of the GRU.
    """

    def __init__(
        self,
        vocab: int,
        states: int,
        config: DecoderConfig,
        attention: AttentionConfig,
        reset: Reset = "after",
    ) -> None:
        super().__init__()
        # Seeds give the numbers they always gave, hence this order; and optimisers keep their
        # numbers by the order of the parameters, hence the other one below.
        embedding = nn.Embedding(vocab, config.embedding)
        made = make_attention(config.units, states, attention)
        context = made.heads * states
        self.cell = make_cell(config.cell, (config.embedding, context), config.units, reset)
        self.embedding, self.attention = embedding, made
        self.readout = nn.Linear(config.units + context, vocab)
        self.dropout = Dropout(config.dropout)

    def precompute(self, states: Tensor, steps: Tensor, padding: Tensor) -> Memory:
        """Prepare encoder states (B, S, D) for the decoder.

        For each head, a step's values are its part of the cell's gates, h_t W_c, and, for a search,
        which is without dropout, of the logits, h_t R_c.
        """
        keys = self.attention.precompute(states, steps)
        W = self.cell.input_weights(1)  # (M D, G)
        if not self.training:
            W = torch.cat([W, self.readout.weight[:, -len(W) :].t()], dim=1)  # (M D, G + V)
        M, D = self.attention.heads, states.shape[2]
        by_head = W.view(M, D, -1).transpose(0, 1).flatten(1)  # (D, M (G + V))
        values = affine(states, by_head).view(*states.shape[:2], M, -1).transpose(1, 2)
        return Memory(states, keys, values, steps, padding)

    def session(self, memory: Memory, width: int = 1) -> DecoderSession:
        """Return a session for a search with so many rows per utterance; evaluation only."""
        H = self.cell.start(1)[0].shape[1]
        every = torch.arange(self.embedding.num_embeddings, device=memory.states.device)
        with torch.no_grad():
            parts = DecoderParts(
                self.attention,
                self.cell,
                self._characters(every),
                self.readout.weight[:, :H].t().contiguous(),
                self.readout.bias,
            )
        found = lookup.decoder(self.attention, self.cell, parts.gates)
        return (found.session if found else DecoderSession)(parts, memory, width)

    def _characters(self, tokens: Tensor) -> Tensor:
        """The characters' part of the cell's gates: (...) to (..., G)."""
        return self.cell.gates(self.dropout(self.embedding(tokens)))

    def forward(
        self, tokens: Tensor, lengths: Tensor, memory: Memory, sampling: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Score whole transcripts, reading the true characters (teacher forcing).

        Args:
            tokens: input characters, <sos> first, (B, L).
            lengths: how many of them are real, (B,), in main memory.
            memory: encoder output.
            sampling: chance to read the model's own guess instead of the true character. The
                guesses are those after the true characters, so that two passes do for all of
                them (parallel scheduled sampling, arXiv:1906.04331).

        Returns:
            logits (B, L, V), of no meaning on padding, and attention weights (B, L, S), the mean
            of the heads.
        """
        if sampling > 0:
            with torch.no_grad():
                guesses = self.forward(tokens, lengths, memory)[0].argmax(-1)  # (B, L)
            use = torch.rand(tokens.shape, device=tokens.device) < sampling
            guessed = torch.where(use, guesses, tokens.roll(-1, 1))[:, :-1]
            tokens = torch.cat([tokens[:, :1], guessed], dim=1)
        characters = self._characters(tokens)  # (B, L, G)
        found = lookup.decoder(self.attention, self.cell, characters)
        if found:
            output, weights = found.loop(self.attention, self.cell, characters, lengths, memory)
            context = torch.bmm(weights, memory.states)  # (B, L, D)
        else:
            output, weights, context = self._loop(characters, lengths, memory)
        return self.readout(self.dropout(torch.cat([output, context], dim=-1))), weights

    def _loop(
        self, characters: Tensor, lengths: Tensor, memory: Memory
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The recurrence as the equations say it.

        Returns:
            outputs of the cell (B, L, H), attention weights (B, L, S) and contexts (B, L, M D).
        """
        values = memory.values[..., : self.cell.gate_width]
        state = self.cell.start(len(characters))
        looked = self.attention.start(memory.keys, len(characters))
        outputs, alignments = [], []
        for i in range(characters.shape[1]):
            alignment, looked = self.attention.step(state[0], memory.keys, looked)
            state = self.cell.step(characters[:, i] + alignment.mix(values), state)
            outputs.append(state[0])
            alignments.append(alignment)
        steps = memory.states.shape[1]
        padding = padding_mask(lengths, len(outputs), characters.device)  # (B, L)
        output = torch.stack(outputs, 1).masked_fill(padding.unsqueeze(-1), 0.0)
        heads = torch.stack([a.heads_over(steps) for a in alignments], 1)  # (B, L, M, S)
        heads = heads.masked_fill(padding[..., None, None], 0.0)
        contexts = torch.bmm(heads.flatten(1, 2), memory.states).view(*padding.shape, -1)
        return output, heads.mean(2) if heads.shape[2] > 1 else heads[:, :, 0], contexts
