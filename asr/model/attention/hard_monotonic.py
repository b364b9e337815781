"""Hard monotonic attention (Raffel et al., arXiv:1704.00784, eq. 9 to 14).

q_{i,t}     = (1 - p_{i,t-1}) q_{i,t-1} + alpha_{i-1,t}         t is reached; alpha_0 = (1, 0, ...)
alpha_{i,t} = p_{i,t} q_{i,t}                                   and taken

Energies and the hard form: :mod:`.monotonic`. A character that stops nowhere looks at nothing, and
neither does any after it: the weights sum to 0 or 1, and in training to the chance that it stops.
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
        """Return the step by which it has stopped with probability 0.6, from the last stop on."""
        step, left = last.step.clone(), last.left.clone()
        looking = torch.arange(len(step), device=step.device)
        while len(looking):
            rows = looking, step[looking], left[looking]
            passed, left[looking] = self.passed(query, keys, *rows, BLOCK)
            step[looking] += passed
            looking = looking[passed == BLOCK]
        return Position(step, left)
