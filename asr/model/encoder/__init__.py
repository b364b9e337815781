"""The encoder: a stack of layers that turn frames into fewer, wider steps (arXiv:1508.01211).

Each kind of layer is one file of this folder and one line of :data:`asr.config.kinds.LAYERS`.
Other code uses :class:`EncoderLayer` only.
"""

from pkgutil import resolve_name
from typing import Any, ClassVar

from torch import Tensor, nn

from asr.config import EncoderConfig
from asr.config.kinds import LAYERS
from asr.config.layers import LayerConfig
from asr.model.cells.gru import Reset
from asr.model.dropout import Dropout
from asr.model.padding import padding_mask


class EncoderLayer(nn.Module):
    """Base class of the encoder's layers.

    A kind is constructed from the width of its input (I), its settings, and the place of the reset
    gate in a GRU.
    """

    config: Any
    """Its settings, a :class:`LayerConfig`."""
    has_dropout: ClassVar[bool] = True
    """Whether the encoder applies dropout to its output."""

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        """Run the layer over a padded batch.

        Args:
            x: (B, S, I); 0 on padding.
            steps: number of steps of each utterance, (B,), in main memory; at least 1.

        Returns:
            (B, S', O), with ``config.output_steps(steps)`` steps of each utterance; 0 on padding.
        """
        raise NotImplementedError


def make_layer(inputs: int, config: LayerConfig, reset: Reset = "after") -> EncoderLayer:
    """Return a layer of the kind that its settings name; see :class:`EncoderLayer`."""
    made: EncoderLayer = resolve_name(LAYERS[config.kind][1])(inputs, config, reset)
    return made


def stack_neighbours(x: Tensor, factor: int) -> Tensor:
    """Concatenate ``factor`` neighbouring steps: (B, S, I) to (B, S / factor, factor * I)."""
    if missing := -x.shape[1] % factor:
        x = nn.functional.pad(x, (0, 0, 0, missing))
    return x.reshape(len(x), -1, factor * x.shape[2])


class Encoder(nn.Module):
    """A stack of layers, with dropout.

    Args:
        inputs: width of a feature frame (F).
        config: settings of the layers.
        reset: where the reset gate of a GRU stands.
    """

    def __init__(self, inputs: int, config: EncoderConfig, reset: Reset = "after") -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for settings in config.stack:
            self.layers.append(make_layer(inputs, settings, reset))
            inputs = settings.width(inputs)
        self.width = inputs  # D
        self.dropout = Dropout(config.dropout)

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a padded batch.

        Args:
            features: normalised frames, (B, T, F).
            frames: number of frames of each utterance, (B,), in main memory; at least 1.

        Returns:
            encoder states (B, S, D), 0 on padding, and numbers of steps (B,), in main memory.
        """
        x, steps = features, frames
        x = x.masked_fill(padding_mask(steps, x.shape[1], x.device).unsqueeze(-1), 0.0)
        for layer in self.layers:
            assert isinstance(layer, EncoderLayer)
            x, steps = layer(x, steps), layer.config.output_steps(steps)
            if layer.has_dropout:
                x = self.dropout(x)
        return x, steps
