"""Hard monotonic attention (Raffel et al., arXiv:1704.00784, eq. 9 to 14).

q_{i,t}     = (1 - p_{i,t-1}) q_{i,t-1} + alpha_{i-1,t}         t is reached; alpha_0 = (1, 0, ...)
alpha_{i,t} = p_{i,t} q_{i,t}                                   and taken

:mod:`.monotonic` has the energies and the hard form. If a character stops at no step, its weights
and those of all later characters are 0. The weights of a character sum to 0 or 1 in the hard form,
and in training to the probability that it stops.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from asr.model.attention.monotonic import BLOCK, Monotonic, MonotonicKeys, Position, scan


class HardMonotonic(Monotonic):
    """The module's docstring has the equations."""

    def expected(self, stop: Tensor, go: Tensor, alpha: Tensor, steps: Tensor) -> Tensor:
        """See :meth:`Monotonic.expected`."""
        return stop * scan(pad(go[:, :-1], (1, 0)), alpha)

    def seek(self, query: Tensor, keys: MonotonicKeys, last: Position) -> Position:
        """Return the first step, from the last stop on, by which it stops with probability 0.6."""
        step, left = last.step.clone(), last.left.clone()
        looking = torch.arange(len(step), device=step.device)
        while len(looking):
            rows = looking, step[looking], left[looking]
            passed, left[looking] = self.steps_passed(query, keys, *rows, BLOCK)
            step[looking] += passed
            looking = looking[passed == BLOCK]
        return Position(step, left)
