"""The model and the batch of a benchmark, the same for all toolkits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from asr.config import AttentionConfig, DecoderConfig, EncoderConfig, LossConfig, ModelConfig
from asr.model.attention.location import Location
from asr.model.batch import Batch
from asr.model.encoder.gru import GRU
from asr.model.las import LAS

MEL, VOCAB = 80, 31
FRAMES_PER_SECOND = 100
LOSS = LossConfig(ctc_weight=0.0, label_smoothing=0.0)  # cross-entropy, as for other toolkits


@dataclass(frozen=True)
class Shape:
    """Sizes of a benchmark."""

    batch: int = 16
    """Utterances."""
    frames: int = 800
    """Frames of the longest utterance; the shortest has 70 % of them."""
    chars: int = 100
    """Characters of the longest utterance; the shortest has 70 % of them."""
    layers: int = 3
    """Layers of the pyramid, each of which halves the steps."""
    units: int = 256
    """Units per direction, and of the decoder."""
    beam: int = 8
    """Beam width."""

    def lengths(self, longest: int) -> Tensor:
        """Return lengths spread evenly from ``longest`` down to 70 % of it, (B,)."""
        return torch.linspace(longest, 0.7 * longest, self.batch).round().long()

    def model(self, config: ModelConfig | None = None) -> LAS:
        """Return a model of these settings, or of this shape, with the same weights every time."""
        torch.manual_seed(1)
        config = config or ModelConfig(
            encoder=EncoderConfig(units=self.units, pyramid=(2,) * self.layers, dropout=0.0),
            attention=AttentionConfig(units=128, filters=10, filter_width=31),
            decoder=DecoderConfig(units=self.units, embedding=self.units, dropout=0.0),
        )
        return LAS(config, MEL, VOCAB)

    def data(self, device: torch.device | None = None) -> Batch:
        """Return a batch of noise, the same every time."""
        random = torch.Generator().manual_seed(1)
        features = torch.randn(self.batch, self.frames, MEL, generator=random)
        tokens = torch.randint(1, VOCAB - 1, (self.batch, self.chars), generator=random)
        frames, lengths = self.lengths(self.frames), self.lengths(self.chars)
        return Batch(features.to(device), frames, tokens.to(device), lengths)

    def audio_seconds(self) -> float:
        """Return the seconds of audio in a batch, without padding."""
        return float(self.lengths(self.frames).sum()) / FRAMES_PER_SECOND

    def step_gflops(self, model: LAS) -> float:
        """Return the floating-point operations of the products of a training step, in 10^9.

        Padding does not count. A product in forward counts three times, since backward computes the
        gradients of both factors; only the features need none.
        """
        steps, U = self.lengths(self.frames).double(), self.lengths(self.chars).double() + 1
        total, N = 0.0, self.units
        for index, layer in enumerate(model.encoder.layers):
            assert isinstance(layer, GRU)
            steps = layer.config.output_steps(steps)
            width = layer.W.shape[1]
            total += float(steps.sum()) * 6 * N * ((3 if index else 2) * width + 3 * N)
        attention = model.decoder.attention
        assert isinstance(attention, Location)
        H, D, (A, C) = N, model.encoder.width, attention.U.weight.shape
        K = attention.filters.weight.shape[2]
        E = model.decoder.embedding.weight.shape[1]
        each_step = D * A + D * 3 * H  # keys and values
        each_character = E * 3 * H + H * 3 * H + H * A + (H + D) * VOCAB  # embedding to readout
        each_pair = C * K + C * A + A + 3 * H + D  # location, energies, gates and context
        pairs = (steps * each_step + U * each_character + steps * U * each_pair).sum()
        total += 3 * float(pairs)
        return 2 * total / 1e9
