"""Decoder with attention: encoder states to character log-probabilities.

For character i, with s the cell's output and y the characters::

    alpha_i = attend(s_{i-1}, memory)
    c_i     = sum_t alpha_{i,t} h_t
    s_i     = cell([embedding(y_{i-1}), c_i], s_{i-1})
    y_i     ~ softmax(readout([s_i, c_i]))

The context enters the gates as c_i W_c = sum_t alpha_{i,t} (h_t W_c). The product h_t W_c is
therefore computed once for every encoder step (``Memory.values``), not for every character and
hypothesis; in a search this holds for the readout's product, too. The contexts of an attention of
M heads are concatenated.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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
    """The attention decoder.

    Args:
        vocab: number of tokens (V).
        states: width of the encoder (D).
        config: settings of the decoder.
        attention: settings of the attention.
        reset: where the reset gate of a GRU stands.
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
        # The order in which modules are made determines their initial weights, and the order in
        # which they are assigned determines the order of an optimiser's saved state.
        embedding = nn.Embedding(vocab, config.embedding)
        made = make_attention(config.units, states, attention)
        context = made.heads * states
        self.cell = make_cell(config.cell, (config.embedding, context), config.units, reset)
        self.embedding, self.attention = embedding, made
        self.readout = nn.Linear(config.units + context, vocab)
        self.dropout = Dropout(config.dropout)
        self.hard = True
        """Whether attention takes its hard form in evaluation mode, if it has one."""

    def precompute(self, states: Tensor, steps: Tensor) -> Memory:
        """Prepare encoder states (B, S, D), of ``steps`` (B,) real steps, for the decoder.

        The values of a step are, for each head, its product with the cell's weights, h_t W_c, and
        in evaluation mode also with the readout's, h_t R_c.
        """
        keys = self.attention.precompute(states, steps, hard=self.hard and not self.training)
        W = self.cell.input_weights(1)  # (M D, G)
        if not self.training:
            W = torch.cat([W, self.readout.weight[:, -len(W) :].t()], dim=1)  # (M D, G + V)
        M, D = self.attention.heads, states.shape[2]
        by_head = W.view(M, D, -1).transpose(0, 1).flatten(1)  # (D, M (G + V))
        values = affine(states, by_head).view(*states.shape[:2], M, -1).transpose(1, 2)
        return Memory(states, keys, values.contiguous(), steps)

    def session(self, memory: Memory, width: int = 1) -> DecoderSession:
        """Return a session for a search of ``width`` rows per utterance; evaluation mode only."""
        H = self.cell.start(1)[0].shape[1]
        tokens = torch.arange(self.embedding.num_embeddings, device=memory.states.device)
        with torch.no_grad():
            parts = DecoderParts(
                self.attention,
                self.cell,
                self._token_gates(tokens),
                self.readout.weight[:, :H].t().contiguous(),
                self.readout.bias,
            )
        found = lookup.decoder(self.attention, self.cell, parts.gates)
        return (found.session if found else DecoderSession)(parts, memory, width)

    def _token_gates(self, tokens: Tensor) -> Tensor:
        """Return the tokens' part of the cell's gates: (...) to (..., G)."""
        return self.cell.gates(self.dropout(self.embedding(tokens)))

    def forward(self, tokens: Tensor, lengths: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Score whole transcripts with teacher forcing.

        Args:
            tokens: input characters, <sos> first, (B, L).
            lengths: number of input characters of each utterance, (B,), in main memory.
            memory: encoder output.

        Returns:
            logits (B, L, V), undefined on padding, and attention weights, the mean over the heads,
            (B, L, S).
        """
        gates = self._token_gates(tokens)  # (B, L, G)
        found = lookup.decoder(self.attention, self.cell, gates)
        if found:
            output, weights = found.loop(self.attention, self.cell, gates, lengths, memory)
            context = torch.bmm(weights, memory.states)  # (B, L, D)
        else:
            output, weights, context = self._loop(gates, lengths, memory)
        return self.readout(self.dropout(torch.cat([output, context], dim=-1))), weights

    def _loop(
        self, gates: Tensor, lengths: Tensor, memory: Memory
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the recurrence step by step, from the tokens' part of the gates, (B, L, G).

        Returns:
            outputs of the cell (B, L, H), attention weights (B, L, S), and contexts (B, L, M D).
        """
        values, steps = memory.values[..., : self.cell.gate_width], memory.states.shape[1]
        found: list[Tensor] = []
        gates, values = _ValuesOnce.apply(gates, values, found), values.detach()  # type: ignore[no-untyped-call]
        state = self.cell.start(len(gates))
        attended = self.attention.start(memory.keys, len(gates))
        outputs, alignments = [], []
        for each in gates.unbind(1):
            alignment, attended = self.attention.step(state[0], memory.keys, attended)
            state = self.cell.step(each + alignment.mix(values), state)
            outputs.append(state[0])
            alignments.append(alignment.heads_over(steps))  # (B, M, S)
            found.append(alignments[-1].detach())
        padding = padding_mask(lengths, len(outputs), gates.device)  # (B, L)
        output = torch.stack(outputs, 1).masked_fill(padding.unsqueeze(-1), 0.0)
        heads = torch.stack(alignments, 1)  # (B, L, M, S)
        heads = heads.masked_fill(padding[..., None, None], 0.0)
        contexts = torch.bmm(heads.flatten(1, 2), memory.states).view(*padding.shape, -1)
        weights = heads.mean(2) if heads.shape[2] > 1 else heads[:, :, 0]
        return output, weights, contexts


class _ValuesOnce(torch.autograd.Function):
    """Returns the gates unchanged; backward computes the gradient of the values by one product.

    d values = sum_i alpha_i^T d gates_i. Autograd alone would make a term as large as all values
    for each character. ``found`` gets the weights in the loop, without gradients: a function that
    keeps its own results is never freed.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, values: Tensor, found: list[Tensor]) -> Tensor:
        """Gates (B, L, G) and values (B, M, S, G); ``found`` will have L weights (B, M, S)."""
        ctx.found, ctx.shape = found, values.shape
        return gates.view_as(gates)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_gates: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of the gates and of the values."""
        heads = torch.stack(ctx.found, -1).flatten(1, 2)  # (B, M S, L)
        return d_gates, torch.bmm(heads, d_gates).view(ctx.shape), None
