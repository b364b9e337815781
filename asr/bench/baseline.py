"""The baseline of the benchmarks: the same model in plain torch.

It has packed ``nn.GRU`` layers, a ``GRUCell``, and a loop over characters; the weights are copied,
so that the loss is the same.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.config.layers import Recurrent
from asr.model.attention.location import Location
from asr.model.batch import Batch
from asr.model.cells.gru import GRU
from asr.model.encoder import stack_neighbours
from asr.model.encoder.gru import GRU as GRULayer
from asr.model.las import LAS
from asr.model.loss import IGNORE, inputs_and_targets
from asr.model.padding import padding_mask


@torch.no_grad()
def copy_gru(gru: nn.Module, W: Tensor, U: Tensor, b: Tensor, c: Tensor, suffix: str) -> None:
    """Copy weights into torch's GRU, which has them transposed and a second bias."""
    gru.get_parameter(f"weight_ih{suffix}").copy_(W.t())
    gru.get_parameter(f"weight_hh{suffix}").copy_(U.t())
    gru.get_parameter(f"bias_ih{suffix}").copy_(b)
    gru.get_parameter(f"bias_hh{suffix}").zero_()[-len(c) :] = c


class Pyramid(nn.Module):
    """Packed bidirectional GRUs that halve the steps."""

    def __init__(self, model: LAS) -> None:
        super().__init__()
        self.settings, self.layers = list[Recurrent](), nn.ModuleList()
        for layer in model.encoder.layers:
            assert isinstance(layer, GRULayer)
            self.settings.append(layer.config)
            gru = nn.GRU(layer.W.shape[1], layer.U.shape[1], batch_first=True, bidirectional=True)
            for d, suffix in enumerate(("_l0", "_l0_reverse")):
                copy_gru(gru, layer.W[d], layer.U[d], layer.b[d], layer.c[d], suffix)
            self.layers.append(gru)

    def forward(self, x: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Encode frames (B, T, F) and their counts (B,) to states (B, S, D) and their counts."""
        for gru, config in zip(self.layers, self.settings, strict=True):
            x, counts = stack_neighbours(x, config.reduction), config.output_steps(counts)
            packed = pack_padded_sequence(x, counts, batch_first=True, enforce_sorted=False)
            x = pad_packed_sequence(gru(packed)[0], batch_first=True)[0]
        return x, counts


class Baseline(nn.Module):
    """The model; its own encoder and decoder cell are replaced."""

    def __init__(self, model: LAS) -> None:
        super().__init__()
        self.encoder, self.model = Pyramid(model), model
        decoder = model.decoder
        cell, attention = decoder.cell, decoder.attention
        assert isinstance(cell, GRU) and isinstance(attention, Location)
        W = torch.cat([cell.input_weights(0), cell.input_weights(1)])
        self.cell = nn.GRUCell(len(W), len(cell.U))
        copy_gru(self.cell, W, cell.U, cell.b, cell.c, "")
        self.embedding, self.readout, self.attention = decoder.embedding, decoder.readout, attention
        del self.model.encoder, decoder.cell

    def loss(self, batch: Batch) -> Tensor:
        """Return the cross-entropy of the decoder, scalar."""
        states, steps = self.encoder(batch.features, batch.frames)
        padding = padding_mask(steps, states.shape[1], states.device)
        weights = (~padding).float() / steps.unsqueeze(1)
        attention = self.attention
        keys = attention.V(states)
        hidden = states.new_zeros(len(states), self.cell.hidden_size)
        inputs, targets = inputs_and_targets(batch.tokens, batch.lengths, self.model.eos)
        embedded = self.embedding(inputs)
        logits = []
        for i in range(inputs.shape[1]):
            location = attention.U(attention.filters(weights.unsqueeze(1)).transpose(1, 2))
            mix = keys + attention.W(hidden).unsqueeze(1) + location
            energies = attention.w(mix.tanh()).squeeze(-1)
            weights = energies.masked_fill(padding, -torch.inf).softmax(-1)
            context = torch.bmm(weights.unsqueeze(1), states).squeeze(1)
            hidden = self.cell(torch.cat([embedded[:, i], context], -1), hidden)
            logits.append(self.readout(torch.cat([hidden, context], -1)))
        return cross_entropy(
            torch.stack(logits, 1).flatten(0, 1), targets.flatten(), ignore_index=IGNORE
        )
