"""The same training step and search with the classes of ESPnet and SpeechBrain.

ESPnet's decoder has the same equations, but scales energies by 2, so that with this project's
weights it finds the same hypotheses. SpeechBrain's attention reads the decoder state after the
step, so that only its time can be compared.
"""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from asr.bench.baseline import Pyramid, copy_gru
from asr.bench.shape import MEL, VOCAB, Shape
from asr.model.attention.location import Location
from asr.model.cells.gru import GRU
from asr.model.decoder import AttentionDecoder
from asr.model.las import LAS
from asr.model.loss import inputs_and_targets

SOS = VOCAB - 1


def espnet_decoder(ours: AttentionDecoder) -> nn.Module:
    """Return ESPnet's location-aware decoder with the weights of a decoder."""
    from espnet.nets.pytorch_backend.rnn.attentions import AttLoc
    from espnet.nets.pytorch_backend.rnn.decoders import Decoder

    cell, location = ours.cell, ours.attention
    assert isinstance(cell, GRU) and isinstance(location, Location)
    W = torch.cat([cell.input_weights(0), cell.input_weights(1)])
    H, D = len(cell.U), len(cell.input_weights(1))
    A, C = location.U.weight.shape
    K = location.filters.weight.shape[2]
    attention = AttLoc(D, H, A, C, K // 2)
    theirs = Decoder(
        D, VOCAB, "gru", 1, H, SOS, SOS, nn.ModuleList([attention]), context_residual=True,
        char_list=[str(i) for i in range(VOCAB)],
    )  # fmt: skip
    with torch.no_grad():
        attention.mlp_enc.weight.copy_(location.V.weight)
        attention.mlp_enc.bias.copy_(location.V.bias)
        attention.mlp_dec.weight.copy_(location.W.weight)
        attention.mlp_att.weight.copy_(location.U.weight)
        attention.loc_conv.weight.copy_(location.filters.weight.unsqueeze(2))
        attention.gvec.weight.copy_(location.w.weight / 2)
        theirs.embed.weight.copy_(ours.embedding.weight)
        theirs.output.weight.copy_(ours.readout.weight)
        theirs.output.bias.copy_(ours.readout.bias)
    copy_gru(theirs.decoder[0], W, cell.U, cell.b, cell.c, "")
    return theirs


def espnet_step(shape: Shape) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return ESPnet's "bgrup" encoder with its decoder, and a function for the batch's loss."""
    import numpy
    from espnet.nets.pytorch_backend.rnn.encoders import RNNP

    model = shape.model()
    subsample = numpy.array([1] + [2] * shape.layers)
    encoder = RNNP(MEL, shape.layers, shape.units, 2 * shape.units, subsample, 0.0, typ="bgrup")
    decoder: Any = espnet_decoder(model.decoder)
    data = shape.data()
    padding = torch.arange(shape.chars) >= data.lengths.unsqueeze(1)
    padded = data.tokens.masked_fill(padding, -1)

    def loss() -> Tensor:
        states, counts, _ = encoder(data.features, data.frames)
        return decoder(states, counts, padded)[0]

    return nn.ModuleList([encoder, decoder]), loss


def espnet_search(
    shape: Shape, model: LAS, states: Tensor, steps: Tensor
) -> Callable[[], list[list[int]]]:
    """Return ESPnet's batched beam search with a model's decoder: states to best characters."""
    decoder: Any = espnet_decoder(model.decoder).eval()
    options = Namespace(
        beam_size=shape.beam, penalty=0.0, ctc_weight=0.0, maxlenratio=0.0, minlenratio=0.0,
        nbest=1, lm_weight=0.0,
    )  # fmt: skip

    @torch.no_grad()
    def search() -> list[list[int]]:
        found = decoder.recognize_beam_batch(
            states, steps, None, options, decoder.char_list, normalize_score=False
        )
        return [[int(i) for i in best[0]["yseq"][1:-1]] for best in found]

    return search


def speechbrain_decoder(shape: Shape) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return SpeechBrain's embedding, attentional decoder and output layer of the same sizes."""
    from speechbrain.nnet.linear import Linear
    from speechbrain.nnet.RNN import AttentionalRNNDecoder

    decoder = AttentionalRNNDecoder(
        "gru", "location", shape.units, 128, 1, enc_dim=2 * shape.units, input_size=shape.units,
        channels=10, kernel_size=31,
    )  # fmt: skip
    output = Linear(n_neurons=VOCAB, input_size=shape.units)
    return nn.Embedding(VOCAB, shape.units), decoder, output


def speechbrain_step(shape: Shape) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return SpeechBrain's decoder on a packed GRU pyramid, and a function for the batch's loss."""
    model = shape.model()
    encoder = Pyramid(model)
    embedding, decoder, output = speechbrain_decoder(shape)
    data = shape.data()
    inputs, targets = inputs_and_targets(data.tokens, data.lengths, model.eos)

    def loss() -> Tensor:
        states, steps = encoder(data.features, data.frames)
        hidden, _ = decoder(embedding(inputs), states, steps / steps.max())
        return cross_entropy(output(hidden).flatten(0, 1), targets.flatten(), ignore_index=-100)

    return nn.ModuleList([encoder, embedding, decoder, output]), loss


def speechbrain_search(shape: Shape, states: Tensor, steps: Tensor) -> Callable[[], object]:
    """Return SpeechBrain's beam search over as many steps as this project's search takes."""
    from speechbrain.decoders.seq2seq import S2SRNNBeamSearcher

    embedding, decoder, output = speechbrain_decoder(shape)
    searcher = S2SRNNBeamSearcher(
        embedding=embedding, decoder=decoder, linear=output, bos_index=SOS, eos_index=SOS,
        min_decode_ratio=1.0, max_decode_ratio=1.0, beam_size=shape.beam,
    )  # fmt: skip
    searcher.eval()
    return lambda: searcher(states, steps / steps.max())
