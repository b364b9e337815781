"""AdamW without torch.optim, which imports torch's compiler with its first optimiser.

The arithmetic is the same fused kernel.
"""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn


class AdamW:
    """Adam with decoupled weight decay (arXiv:1711.05101), with torch.optim.AdamW's defaults.

    Args:
        parameters: are updated in place.
        lr: learning rate; may be changed before every step.
        weight_decay: each step multiplies the weights by 1 - lr * weight_decay.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.lr, self.weight_decay = lr, weight_decay
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        used = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        torch._fused_adamw_(
            [self.parameters[i] for i in used],
            [cast(Tensor, self.parameters[i].grad) for i in used],
            [self.means[i] for i in used],
            [self.squares[i] for i in used],
            [],
            [self.steps[i].add_(1) for i in used],
            lr=self.lr,
            beta1=0.9,
            beta2=0.999,
            weight_decay=self.weight_decay,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def zero_grad(self) -> None:
        """Set all gradients to None."""
        for p in self.parameters:
            p.grad = None

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Return the moments and step counts, which the next step depends on."""
        return {"means": self.means, "squares": self.squares, "steps": self.steps}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Restore what :meth:`state_dict` returned."""
        for name, ours in self.state_dict().items():
            for mine, value in zip(ours, state[name], strict=True):
                mine.copy_(value)
