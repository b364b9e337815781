"""GRU decoder with attention: encoder states to character log-probabilities.

For character i, with s the decoder state and y the characters::

    alpha_i = attend(s_{i-1}, memory, alpha_{i-1})
    c_i     = sum_t alpha_{i,t} h_t
    s_i     = GRU([embedding(y_{i-1}), c_i], s_{i-1})
    y_i     ~ softmax(readout([s_i, c_i]))

The context enters the gates by a product, c_i W_c, which equals the sum of alpha_{i,t} over
h_t W_c: so that product is taken once for every encoder step (``Memory.values``) instead of
once for every character and hypothesis, and in a search the readout's part likewise.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.config import AttentionConfig, DecoderConfig
from asr.model import native
from asr.model.attention import LocationAttention, Memory, uniform_weights
from asr.model.dropout import Dropout
from asr.model.gru import (
    Reset,
    gru_step,
    gru_weights,
    padding_mask,
    recurrent_gradients,
    spend,
)
from asr.model.product import affine, as_read, product


def blocks(matrix: Tensor) -> Tensor:
    """(..., K, N) as native.cpp reads it fastest, 32 columns at a time: (..., N / 32, K, 32).

    Zeros fill the last columns up.
    """
    padded = nn.functional.pad(matrix, (0, -matrix.shape[-1] % 32))
    return padded.view(*padded.shape[:-1], -1, 32).transpose(-3, -2).contiguous()


@dataclass(frozen=True)
class DecoderState:
    """What one step of the decoder hands to the next."""

    hidden: Tensor
    """s, (N, H)."""
    weights: Tensor
    """alpha of the last character, (N, S)."""

    def select(self, rows: Tensor, steps: int | None = None) -> "DecoderState":
        """The given rows, picked or repeated; weights cut to ``steps`` if it is given."""
        return DecoderState(self.hidden[rows], self.weights[rows, :steps].contiguous())


class _NativeLoop(torch.autograd.Function):
    """The loop over whole transcripts by native.cpp, and its backward pass.

    Each weight's gradient is one product over all steps, after the loop.
    """

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, keys: Tensor, values: Tensor, steps: Tensor, lengths: Tensor,
        W: Tensor, filters: Tensor, location: Tensor, w: Tensor, U: Tensor, c: Tensor,
        reset: Reset,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Gates of the characters (B, L, 3H) to states (B, L, H) and weights (B, L, S)."""
        batch, length, _ = gates.shape
        S, A = keys.shape[1:]
        H, (C, K) = U.shape[0], filters.shape
        sizes = (batch, length, S, H, A, C, K, reset == "before")
        gates = gates.clone()
        keep = any(ctx.needs_input_grad)
        inner = gates.new_empty(batch, length, H) if keep else None
        states, weights = gates.new_empty(batch, length, H), gates.new_empty(batch, length, S)
        attention = (W, filters, location, w)
        native.call(
            "decoder_forward", gates, keys, values, steps, lengths, *attention, U, c, inner,
            states, weights, *sizes,
        )  # fmt: skip
        if keep:
            ctx.reset, ctx.sizes, ctx.spent = reset, sizes, False
            ctx.save_for_backward(
                gates, inner, states, weights, keys, values, steps, lengths, *attention, U
            )
        return states, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, d_weights: Tensor) -> Any:
        """Gradients of all inputs from those of states and weights."""
        spend(ctx)
        gates, inner, states, weights, keys, values, steps, lengths, *attention, U = (
            ctx.saved_tensors
        )
        _, filters, location, w = attention
        d_queries = gates.new_zeros(*gates.shape[:2], keys.shape[2])
        d_keys, d_filters, d_location, d_w = map(torch.zeros_like, (keys, filters, location, w))
        native.call(
            "decoder_backward", d_states.contiguous(), d_weights.contiguous(), keys, values,
            states, weights, steps, lengths, *attention, U, gates, inner, d_queries, d_keys,
            d_filters, d_location, d_w, *ctx.sizes,
        )  # fmt: skip
        before = torch.zeros_like(states)
        before[:, 1:] = states[:, :-1]
        d_W, d_U, d_c = _weight_gradients(before, d_queries, gates, inner, ctx.reset)
        d_values = torch.bmm(weights.transpose(1, 2), gates)
        return (
            gates, d_keys, d_values, None, None, d_W, d_filters, d_location, d_w, d_U, d_c, None
        )  # fmt: skip


class _KernelLoop(torch.autograd.Function):
    """The same on a GPU, by kernels.py."""

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, keys: Tensor, values: Tensor, steps: Tensor, lengths: Tensor,
        first: Tensor, W: Tensor, F: Tensor, w: Tensor, U: Tensor, c: Tensor, reset: Reset,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Gates of the characters (B, L, 3H) and weights before (B, S) to states and weights."""
        batch, length, _ = gates.shape
        gates = gates.clone()
        states = gates.new_zeros(batch, length + 1, U.shape[0])
        weights = gates.new_zeros(batch, length + 1, keys.shape[1])
        weights[:, 0] = first
        before = reset == "before"
        inner, queries = native.kernels().forward(
            gates, keys, values, steps, lengths, W, F, w, U, c, states, weights, before
        )
        if any(ctx.needs_input_grad):
            ctx.reset, ctx.spent = reset, False
            ctx.save_for_backward(
                gates, inner, queries, states, weights, keys, values, steps, lengths, W, F, w, U
            )
        return states[:, 1:], weights[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, d_weights: Tensor) -> Any:
        """Gradients of all inputs from those of states and weights."""
        spend(ctx)
        gates, inner, queries, states, weights, keys, values, steps, lengths, *attention, U = (
            ctx.saved_tensors
        )
        d_queries, d_keys, d_F, d_w = native.kernels().backward(
            d_states.contiguous(), d_weights.contiguous(), keys, values, states, weights, queries,
            steps, lengths, *attention, U, gates, inner, ctx.reset == "before",
        )  # fmt: skip
        d_W, d_U, d_c = _weight_gradients(states[:, :-1], d_queries, gates, inner, ctx.reset)
        d_values = torch.bmm(weights[:, 1:].transpose(1, 2), gates)
        return gates, d_keys, d_values, None, None, None, d_W, d_F, d_w, d_U, d_c, None


def _weight_gradients(
    before: Tensor, d_queries: Tensor, d_gates: Tensor, inner: Tensor, reset: Reset
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of W, U and c, each a product over all characters.

    Args:
        before: states before each character, (B, L, H).
        d_queries: gradients of queries, (B, L, A).
        d_gates: of the gates' activations, (B, L, 3H).
        inner: see :func:`recurrent_gradients`; (B, L, H).
        reset: where the reset gate stands.
    """
    olds, rows = before.flatten(0, 1), inner.flatten(0, 1)
    d_U = recurrent_gradients(olds, d_gates.flatten(0, 1), rows, reset)
    d_c = rows.sum(0) if reset == "after" else torch.zeros_like(rows[0])
    return product(olds.t(), d_queries.flatten(0, 1)), d_U, d_c


class AttentionDecoder(nn.Module):
    """The speller.

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
        self.reset = reset
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
        self.dropout = Dropout(config.dropout)

    def remember(self, states: Tensor, steps: Tensor, padding: Tensor) -> Memory:
        """Prepare encoder states (B, S, D) for being looked at.

        Each step's values are its part of the GRU's gates, h_t W_c, and, for a search, which is
        without dropout, of the logits, h_t R_c.
        """
        W: Tensor = self.W_c
        if not self.training:
            W = torch.cat([W, self.readout.weight[:, self.U.shape[0] :].t()], dim=1)
        return Memory(states, self.attention.keys(states), affine(states, W), steps, padding)

    def start(self, memory: Memory, width: int = 1) -> DecoderState:
        """The state before the first character, with so many rows for each utterance."""
        hidden = memory.states.new_zeros(len(memory.steps) * width, self.U.shape[0])
        return DecoderState(hidden, uniform_weights(memory).repeat_interleave(width, dim=0))

    def _characters(self, tokens: Tensor) -> Tensor:
        """The characters' part of the GRU's input gates: (...) to (..., 3H)."""
        return affine(self.dropout(self.embedding(tokens)), self.W_y, self.b)

    def _looking(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights of the attention as native.cpp takes them: (H, A), (C, K), (C, A) and (A,)."""
        attention = self.attention
        return (
            attention.W.weight.t().contiguous(),
            attention.filters.weight.squeeze(1).contiguous(),
            attention.U.weight.t().contiguous(),
            attention.w.weight.view(-1),
        )

    def _on_gpu(self, *tensors: Tensor) -> bool:
        """Whether kernels.py can compute with these."""
        if not native.on_gpu(*tensors):
            return False
        A, K = self.attention.V.out_features, self.attention.filters.kernel_size[0]
        return bool(native.kernels().fits(A, K, tensors[0].device))

    def _looking_at_once(self) -> tuple[Tensor, Tensor, Tensor]:
        """The same as kernels.py takes them: W (H, A), F = filters^T location (K, A), w (A,)."""
        W, filters, location, w = self._looking()
        return W, filters.t() @ location, w

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
            logits (B, L, V), of no meaning on padding, and attention weights (B, L, S).
        """
        if sampling > 0:
            with torch.no_grad():
                guesses = self.forward(tokens, lengths, memory)[0].argmax(-1)  # (B, L)
            use = torch.rand(tokens.shape, device=tokens.device) < sampling
            guessed = torch.where(use, guesses, tokens.roll(-1, 1))[:, :-1]
            tokens = torch.cat([tokens[:, :1], guessed], dim=1)
        characters = self._characters(tokens)  # (B, L, 3H)
        values = memory.values[..., : 3 * self.U.shape[0]]
        if native.usable(characters, memory.keys, values):
            hidden, weights = _NativeLoop.apply(  # type: ignore[no-untyped-call]
                characters, memory.keys.contiguous(), values.contiguous(),
                native.int32(memory.steps), native.int32(lengths), *self._looking(), self.U,
                self.c, self.reset,
            )  # fmt: skip
        elif self._on_gpu(characters, memory.keys, values):
            hidden, weights = self._kernel_loop(characters, values, lengths, memory)
        else:
            hidden, weights = self._loop(characters, lengths, memory)
        context = torch.bmm(weights, memory.states)  # (B, L, D)
        return self.readout(self.dropout(torch.cat([hidden, context], dim=-1))), weights

    def _kernel_loop(
        self, characters: Tensor, values: Tensor, lengths: Tensor, memory: Memory
    ) -> tuple[Tensor, Tensor]:
        """:meth:`_loop` on a GPU."""
        steps, lengths = (
            counts.to(characters.device, torch.int32, non_blocking=True)
            for counts in (memory.steps, lengths)
        )
        states, weights = _KernelLoop.apply(  # type: ignore[no-untyped-call]
            characters, memory.keys.contiguous(), values.contiguous(), steps, lengths,
            uniform_weights(memory), *self._looking_at_once(), self.U, self.c, self.reset,
        )  # fmt: skip
        return states, weights

    def _loop(
        self, characters: Tensor, lengths: Tensor, memory: Memory
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The recurrence as the equations say it: states (B, L, H) and weights (B, L, S)."""
        values = memory.values[..., : 3 * self.U.shape[0]]
        state = self.start(memory)
        hiddens, looks = [], []
        for i in range(characters.shape[1]):
            weights = self.attention(
                state.hidden.unsqueeze(1), memory, state.weights.unsqueeze(1)
            )  # (B, 1, S)
            gates = characters[:, i] + torch.bmm(weights, values).squeeze(1)  # (B, 3H)
            hidden = gru_step(gates, state.hidden, self.U, self.c, self.reset)
            state = DecoderState(hidden, weights.squeeze(1))
            hiddens.append(hidden)
            looks.append(state.weights)
        padding = padding_mask(lengths, len(hiddens), characters.device).unsqueeze(-1)
        hidden, weights = torch.stack(hiddens, 1), torch.stack(looks, 1)
        return hidden.masked_fill(padding, 0.0), weights.masked_fill(padding, 0.0)


class Speller:
    """The decoder in a search: one character after another, without gradients.

    Args:
        decoder: in evaluation mode.
        memory: encoder output of B utterances.
        width: rows for each utterance (K): those of the first one, then of the next.
    """

    @torch.no_grad()
    def __init__(self, decoder: AttentionDecoder, memory: Memory, width: int = 1) -> None:
        self.decoder, self.width = decoder, width
        H = decoder.U.shape[0]
        every = torch.arange(decoder.embedding.num_embeddings, device=memory.states.device)
        self.gates = decoder._characters(every)  # (V, 3H)
        self.readout = decoder.readout.weight[:, :H].t().contiguous()  # (H, V)
        self._native = native.usable(self.gates, memory.keys)
        if self._native:
            W, *self.looking = decoder._looking()
            first = 2 * H if decoder.reset == "before" else 3 * H  # columns of the first product
            self.laid_out = (
                blocks(W),
                *self.looking,
                blocks(decoder.U[:, :first]),
                blocks(decoder.U[:, first:]),
            )
            self.laid_out_readout = blocks(self.readout)
        self._kernels = decoder._on_gpu(self.gates, memory.keys)
        if self._kernels:
            W, *self.looking = decoder._looking_at_once()
            self.read = [as_read(matrix) for matrix in (W, decoder.U, self.readout)]
        self.enter(memory)

    def enter(self, memory: Memory) -> None:
        """Look at other utterances from now on."""
        if memory.values.shape[2] != self.gates.shape[1] + self.readout.shape[1]:
            raise ValueError("the encoder output was made in training mode, not for a search")
        self.memory = memory
        if self._native:
            self.keys, self.values = memory.keys.contiguous(), blocks(memory.values)
            self.steps = native.int32(memory.steps)
        if self._kernels:
            self.keys, self.values = (as_read(m.contiguous()) for m in (memory.keys, memory.values))
            self.steps = memory.steps.to(memory.keys.device, torch.int32, non_blocking=True)

    def start(self) -> DecoderState:
        """The state before the first character, (B K) rows."""
        return self.decoder.start(self.memory, self.width)

    @torch.no_grad()
    def step(
        self, tokens: Tensor, state: DecoderState, rows: Tensor
    ) -> tuple[Tensor, DecoderState]:
        """Read one character a row and score the next one.

        Args:
            tokens: the last characters, (N,), int32.
            state: from :meth:`start` or the step before.
            rows: the row of ``state`` that each row goes on from, (N,), int32.

        Returns:
            log-probabilities (N, V) and the next state.
        """
        decoder, memory = self.decoder, self.memory
        H, V = self.readout.shape
        batch, S, _ = memory.values.shape
        if self._native:
            N, (C, K), A = len(tokens), self.looking[0].shape, memory.keys.shape[2]
            hidden, weights = state.hidden.new_empty(N, H), state.hidden.new_empty(N, S)
            log_probs = hidden.new_empty(N, V)
            native.call(
                "decoder_step", tokens, rows, state.hidden, state.weights, self.gates, self.keys,
                self.values, self.steps, *self.laid_out, decoder.c, self.laid_out_readout,
                decoder.readout.bias, hidden, weights, log_probs, N, self.width, S, H, A, C, K, V,
                decoder.reset == "before",
            )  # fmt: skip
            return log_probs, DecoderState(hidden, weights)
        if self._kernels:
            W, U, readout = self.read
            log_probs, hidden, weights = native.kernels().step(
                tokens, rows, state.hidden, state.weights, self.gates, self.keys, self.values,
                self.steps, W, *self.looking, U, decoder.c, readout, decoder.readout.bias,
                decoder.reset == "before",
            )  # fmt: skip
            return log_probs, DecoderState(hidden, weights)
        state = state.select(rows)
        queries = state.hidden.view(batch, self.width, H)
        looks = decoder.attention(queries, memory, state.weights.view(batch, self.width, S))
        seen = torch.bmm(looks, memory.values).flatten(0, 1)  # (N, 3H + V)
        gates = self.gates[tokens] + seen[:, : 3 * H]
        hidden = gru_step(gates, state.hidden, decoder.U, decoder.c, decoder.reset)
        logits = torch.addmm(decoder.readout.bias, hidden, self.readout) + seen[:, 3 * H :]
        return logits.log_softmax(-1), DecoderState(hidden, looks.flatten(0, 1))
