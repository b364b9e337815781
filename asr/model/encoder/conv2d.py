"""Convolutions over time and frequency in front of other layers (arXiv:1706.02737)."""

from dataclasses import replace

from torch import Tensor, nn

from asr.config.layers import Convolutions
from asr.model.encoder import EncoderLayer
from asr.model.padding import padding_mask


class Conv2d(EncoderLayer):
    """3x3 convolutions with ReLU and stride 2 in time and frequency."""

    has_dropout = False

    def __init__(self, inputs: int, config: Convolutions, reset: str) -> None:
        super().__init__()
        self.config, self.halving = config, replace(config, reduction=2)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(config.channels if number else 1, config.channels, 3, stride=2, padding=1)
            for number in range(config.count)
        )

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        """See :meth:`EncoderLayer.forward`."""
        x = x.unsqueeze(1)  # (B, 1, S, F)
        for convolution in self.convolutions:
            x, steps = convolution(x).relu(), self.halving.output_steps(steps)  # (B, C, S/2, F/2)
            padding = padding_mask(steps, x.shape[2], x.device)
            x = x.masked_fill(padding[:, None, :, None], 0.0)
        return x.transpose(1, 2).flatten(2)
