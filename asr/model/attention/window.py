"""Attention to a window around a centre; in a search its time does not depend on the steps.

|t - p| <= D                                                    the window; D: setting ``window``
e_t = s_{i-1} . (W h_t) / sqrt(H)                               as in :mod:`.general`

Training computes the energies of all steps and masks those outside the window, because the gradient
of a window that is picked from the keys takes more time than the product.
"""

import torch
from torch import Tensor

from asr.config import AttentionConfig
from asr.model.attention import Alignment, State, owners
from asr.model.attention.energy import EnergyKeys
from asr.model.attention.general import General


class Windowed(General):
    """A kind defines its centre and the weights around it."""

    def __init__(self, query: int, memory: int, config: AttentionConfig) -> None:
        super().__init__(query, memory, config)
        self.window = config.window

    def centre(self, query: Tensor, steps: Tensor, state: State) -> Tensor:
        """Return the middle of the window (p), (N,).

        Args:
            query: decoder states, (N, H).
            steps: real steps of each row's utterance, (N,).
            state: of N rows.
        """
        raise NotImplementedError

    def weigh(self, energies: Tensor, distance: Tensor) -> Tensor:
        """Return the weights of a window from energies and distances t - p, all of them (N, W)."""
        return energies.softmax(-1)

    def moved(self, centre: Tensor, mean: Tensor) -> State:
        """Return the state after a step with this centre and this mean of the weights, (N,)."""
        raise NotImplementedError

    def step(self, query: Tensor, keys: EnergyKeys, state: State) -> tuple[Alignment, State]:
        """See :meth:`Attention.step`."""
        owner = owners(len(query), keys.keys)
        steps = keys.steps[owner]  # (N,)
        centre = self.centre(query, steps, state)
        if self.training:
            first, columns = None, torch.arange(keys.keys.shape[1], device=steps.device)
            queries = query.view(len(keys.keys), -1, query.shape[1])  # (B, K, H)
            energies = self.energies(queries, keys.keys, state).flatten(0, 1)  # (N, S)
        else:
            W = min(2 * self.window + 1, keys.keys.shape[1])
            first = (centre.detach() - self.window).ceil().long()
            first = torch.minimum(first, steps - W).clamp(min=0)
            columns = first.unsqueeze(1) + torch.arange(W, device=first.device)  # (N, W)
            near = keys.keys[owner.unsqueeze(1), columns]  # (N, W, H)
            energies = torch.einsum("nh,nwh->nw", query, near)
        distance = columns - centre.unsqueeze(1)
        outside = (distance.abs() > self.window) | (columns >= steps.unsqueeze(1))
        weights = self.weigh(energies.masked_fill(outside, -torch.inf), distance)
        mean = (weights.detach() * columns).sum(1)
        return Alignment(weights.unsqueeze(1), first), self.moved(centre, mean)
