"""Self-attention layers: a block of the Transformer (arXiv:1706.03762, section 3.1).

    x' = V x                                                      x: concatenated neighbours
    y  = norm(x' + W_o softmax(q k^T / sqrt(N / M) + p) v)        q, k, v = W x', in M heads
    y' = norm(y + W_2 relu(W_1 y))

Each head learns a bias p for every distance between two steps; distances above :data:`REACH` have
the same bias (arXiv:1803.02155, section 3.2, with scalars instead of vectors).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from asr.config.layers import SelfAttention as Config
from asr.model.encoder import EncoderLayer, stack_neighbours
from asr.model.padding import padding_mask

REACH = 64  # largest distance with a bias of its own, in steps


class SelfAttention(EncoderLayer):
    """A self-attention layer; the module's docstring has the equations."""

    def __init__(self, inputs: int, config: Config, reset: str) -> None:
        super().__init__()
        self.config, N = config, config.units
        self.V = nn.Linear(config.reduction * inputs, N)
        self.W, self.W_o = nn.Linear(N, 3 * N), nn.Linear(N, N)
        self.W_1, self.W_2 = nn.Linear(N, 4 * N), nn.Linear(4 * N, N)
        self.norm_1, self.norm_2 = nn.LayerNorm(N), nn.LayerNorm(N)
        self.p = nn.Parameter(torch.zeros(config.heads, 2 * REACH + 1))

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        """See :meth:`EncoderLayer.forward`."""
        x = self.V(stack_neighbours(x, self.config.reduction))  # (B, S, N)
        padding = padding_mask(self.config.output_steps(steps), x.shape[1], x.device)
        bias = self._positions(x.shape[1]).masked_fill(padding[:, None, None], -torch.inf)
        q, k, v = self.W(x).unflatten(-1, (3, self.config.heads, -1)).permute(2, 0, 3, 1, 4)
        heads = scaled_dot_product_attention(q, k, v, bias)  # (B, M, S, N / M)
        y = self.norm_1(x + self.W_o(heads.transpose(1, 2).flatten(2)))
        y = self.norm_2(y + self.W_2(self.W_1(y).relu()))
        return y.masked_fill(padding.unsqueeze(-1), 0.0)

    def _positions(self, count: int) -> Tensor:
        """Return p for each pair of steps, (M, S, S)."""
        steps = torch.arange(count, device=self.p.device)
        distance = (steps - steps.unsqueeze(1)).clamp(-REACH, REACH)
        return self.p[:, distance + REACH]
