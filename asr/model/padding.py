"""Padding of batches: masks, and packing of the steps that are not padding."""

from collections.abc import Sequence

import torch
from torch import Tensor


def padding_mask(counts: Tensor, longest: int, device: torch.device) -> Tensor:
    """Return the padding mask of counts (B,) in main memory: (B, longest), True on padding."""
    return torch.arange(longest, device=device) >= counts.to(device, non_blocking=True)[:, None]


def pack(x: Tensor, counts: Sequence[int]) -> Tensor:
    """Concatenate the real steps of all utterances: (B, S, I) to (R, I)."""
    if min(counts) == x.shape[1]:
        return x.flatten(0, 1)
    return torch.cat([row[:count] for row, count in zip(x, counts, strict=True)])


def unpack(rows: Tensor, counts: Sequence[int], steps: int) -> Tensor:
    """Reverse :func:`pack`: (R, I) to (B, S, I), 0 on padding."""
    if min(counts) == steps:
        return rows.view(len(counts), steps, -1)
    x = rows.new_empty(len(counts), steps, rows.shape[1])
    for row, part, count in zip(x, rows.split(counts), counts, strict=True):  # type: ignore[no-untyped-call]
        row[:count] = part
        row[count:] = 0.0
    return x


def reverse(x: Tensor, counts: Tensor) -> Tensor:
    """Reverse the real steps of each row and leave its padding: (B, S, I) and (B,)."""
    step = torch.arange(x.shape[1], device=x.device)
    last = counts.to(x.device, non_blocking=True).unsqueeze(1) - 1  # (B, 1)
    order = torch.where(step > last, step, last - step)  # (B, S)
    return x.gather(1, order.unsqueeze(-1).expand_as(x))
