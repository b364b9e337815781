"""Pyramidal bidirectional GRU: frames to fewer, wider steps (arXiv:1508.01211)."""

from torch import Tensor, nn

from asr.config import EncoderConfig
from asr.model.cells.gru import Reset
from asr.model.dropout import Dropout
from asr.model.gru import BiGRU
from asr.model.padding import padding_mask


def reduce_steps(count: Tensor | int, config: EncoderConfig) -> Tensor | int:
    """How many encoder steps come of so many frames; the last step may be part padding."""
    factors = ((2, 2) if config.frontend == "conv" else ()) + config.pyramid
    for factor in factors:
        count = (count + factor - 1) // factor
    return count


class ConvFrontend(nn.Module):
    """Two 3x3 convolutions that halve time and frequency twice."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.width = channels * ((inputs + 3) // 4)

    def forward(self, x: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, T, F) to (B, T/4, width), with the counts (B,) of both."""
        x = x.unsqueeze(1)  # (B, 1, T, F)
        for conv in (self.first, self.second):
            x = conv(x).relu()  # (B, channels, T/2, F/2)
            counts = (counts + 1) // 2
            padding = padding_mask(counts, x.shape[2], x.device)
            x = x.masked_fill(padding[:, None, :, None], 0.0)
        return x.transpose(1, 2).flatten(2), counts


def stack_neighbours(x: Tensor, factor: int) -> Tensor:
    """Put ``factor`` neighbouring steps side by side: (B, S, D) to (B, S / factor, factor * D)."""
    batch, steps, width = x.shape
    missing = -steps % factor
    if missing:
        x = nn.functional.pad(x, (0, 0, 0, missing))
    return x.reshape(batch, (steps + missing) // factor, factor * width)


class PyramidEncoder(nn.Module):
    """A pile of bidirectional GRU layers, each of which may halve the steps.

    Args:
        inputs: width of a feature frame (F).
        config: sizes.
        reset: form of the GRU.
    """

    def __init__(self, inputs: int, config: EncoderConfig, reset: Reset = "after") -> None:
        super().__init__()
        self.config = config
        self.frontend = None
        if config.frontend == "conv":
            self.frontend = ConvFrontend(inputs, config.frontend_channels)
            inputs = self.frontend.width
        self.width = 2 * config.units
        widths = [inputs] + [self.width] * (len(config.pyramid) - 1)
        self.layers = nn.ModuleList(
            BiGRU(width * factor, config.units, reset)
            for width, factor in zip(widths, config.pyramid, strict=True)
        )
        self.dropout = Dropout(config.dropout)

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a padded batch.

        Args:
            features: normalised frames, (B, T, F).
            frames: real frames of each utterance, (B,), in main memory; at least 1.

        Returns:
            encoder states (B, S, D), 0 on padding, and real steps (B,), in main memory.
        """
        x, counts = features, frames
        x = x.masked_fill(padding_mask(counts, x.shape[1], x.device).unsqueeze(-1), 0.0)
        if self.frontend is not None:
            x, counts = self.frontend(x, counts)
        for index, (layer, factor) in enumerate(zip(self.layers, self.config.pyramid, strict=True)):
            x = stack_neighbours(x if index == 0 else self.dropout(x), factor)
            counts = (counts + factor - 1) // factor
            x = layer(x, counts)
        return self.dropout(x), counts
