"""Stepwise monotonic attention: at most a few steps forward (He et al., arXiv:1906.00672, eq. 8).

m_{0,t}     = alpha_{i-1,t}                                     alpha_0 = (1, 0, 0, ...)
m_{k+1,t}   = m_{k,t-1} (1 - p_{i,t-1})                         passed k + 1 steps
alpha_{i,t} = sum_{k<D} m_{k,t} p_{i,t} + m_{D,t}

D is the setting ``window``. In the paper, which goes from characters to speech, D is 1: stay, or
move on by one. Here one character lasts for many steps. After D steps, and on the last encoder step
of the utterance, it stops in any case, so that the weights sum to 1. :mod:`.monotonic`
has the energies and the hard form.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from asr.config import AttentionConfig
from asr.model.attention.monotonic import Monotonic, MonotonicKeys, Position


class StepwiseMonotonic(Monotonic):
    """The module's docstring has the equations."""

    sums_to_one: bool = True

    def __init__(self, query: int, memory: int, config: AttentionConfig) -> None:
        super().__init__(query, memory, config)
        self.window = config.window

    def expected(self, stop: Tensor, go: Tensor, alpha: Tensor, steps: Tensor) -> Tensor:
        """See :meth:`Monotonic.expected`."""
        S = stop.shape[1]
        last = torch.arange(S, device=steps.device) == steps.unsqueeze(1) - 1
        stop, go = stop.masked_fill(last, 1.0), go.masked_fill(last, 0.0)
        moving, stopped = alpha, torch.zeros_like(alpha)
        for _ in range(min(self.window, S)):
            stopped = stopped + moving * stop
            moving = pad((moving * go)[:, :-1], (1, 0))
        return stopped + moving

    def seek(self, query: Tensor, keys: MonotonicKeys, last: Position) -> Position:
        """Return the first step at which it stops as :mod:`.monotonic` says.

        It moves on by at most ``window`` steps.
        """
        rows = torch.arange(len(last.step), device=last.step.device)
        passed, left = self.steps_passed(query, keys, rows, last.step, last.left, self.window)
        return Position(last.step + passed, left)

    def end(self, keys: MonotonicKeys) -> Tensor:
        """Return the last step of each utterance, (B,)."""
        return keys.steps - 1
