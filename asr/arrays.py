"""Operations on numpy arrays and on torch tensors, chosen by the type of the array.

A search computes with the arrays of its model: numpy on a processor, where small steps take less
time, and torch on a GPU. :func:`namespace` returns numpy or torch itself, for the functions that
have one name and one meaning in both: exp, log, log1p, logaddexp, where, maximum, minimum, isnan,
concatenate, stack, searchsorted, broadcast_to, zeros_like, ones_like. The operators, indexing,
``@``, ``reshape``, ``tolist``, ``clip`` and, with ``axis=``, ``sum``, ``cumsum``, ``argmax``,
``any`` and ``all`` are the same, too. The functions below stand for what differs. This file does
not import torch: whoever holds a tensor has done so.
"""

import sys
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = Any
"""A numpy array or a torch tensor."""
FloatArray: TypeAlias = npt.NDArray[np.floating]
IntArray: TypeAlias = npt.NDArray[np.int64]

_SMALL = 1024  # numbers that are sorted sooner than searched for the largest


def namespace(array: Array) -> Any:
    """Return the module of an array: numpy or torch."""
    return np if isinstance(array, np.ndarray) else sys.modules["torch"]


def is_numpy(array: Array) -> bool:
    """Whether an array is numpy's."""
    return isinstance(array, np.ndarray)


def to_numpy(array: Array) -> npt.NDArray[Any]:
    """Return an array as numpy's, in main memory; the memory is shared where that is possible."""
    return array if is_numpy(array) else array.detach().cpu().numpy()


def hand_over(*found: Array) -> list[npt.NDArray[Any]]:
    """Return arrays of one shape as numpy's; a GPU is waited for once, and gives float64."""
    if is_numpy(found[0]):
        return list(found)
    return list(to_numpy(namespace(found[0]).stack([each.double() for each in found])))


def on_device(values: npt.NDArray[Any], device: Any) -> Array:
    """Return a numpy array as a search on a device needs it: itself on "cpu", else a tensor."""
    if str(device) == "cpu":
        return values
    import torch

    return torch.from_numpy(values).to(device)


def full(shape: int | tuple[int, ...], value: float, other: Array, dtype: str = "") -> Array:
    """Return an array of one number, of another's kind, device and (without ``dtype``) type."""
    shape = (shape,) if isinstance(shape, int) else shape
    if is_numpy(other):
        return np.full(shape, value, dtype or other.dtype)
    torch = namespace(other)
    return torch.full(
        shape, value, dtype=getattr(torch, dtype) if dtype else other.dtype, device=other.device
    )


def arange(count: int, other: Array) -> Array:
    """Return 0, 1, ..., count - 1 as int64, of the kind and device of another array."""
    return np.arange(count) if is_numpy(other) else namespace(other).arange(count).to(other.device)


def cast(array: Array, dtype: str) -> Array:
    """Return an array with another type of numbers, as "float32"; itself where it has that."""
    if is_numpy(array):
        return array.astype(dtype, copy=False)
    return array.to(getattr(namespace(array), dtype))


def repeat(array: Array, counts: Any) -> Array:
    """Return each row of an array ``counts`` times (one number, or one of each row), in order."""
    return array.repeat(counts, 0) if is_numpy(array) else array.repeat_interleave(counts, 0)


def amax(array: Array, axis: int = -1, *, keepdims: bool = False) -> Array:
    """Return the largest elements along an axis; NaN where there is one."""
    if is_numpy(array):
        return array.max(axis, keepdims=keepdims)
    return array.amax(axis, keepdim=keepdims)


def broadcast_to(array: Array, shape: tuple[int, ...]) -> Array:
    """Return an array in a larger shape, without copying."""
    return array if array.shape == shape else namespace(array).broadcast_to(array, shape)


def topk(array: Array, count: int) -> tuple[Array, Array]:
    """Return the largest elements of each row, in descending order, and where they are.

    Args:
        array: (B, N); NaN counts as the largest.
        count: how many (K).

    Returns:
        the elements (B, K) and their positions in the flattened array, for ``take``, (B, K).
    """
    B, N = array.shape
    first = arange(B, array)[:, None] * N
    if not is_numpy(array):
        best, found = array.topk(count, dim=1)
        return best, found + first
    if N > _SMALL:
        found = array.argpartition(-count, 1)[:, -count:] + first
        best, order = topk(array.take(found), count)
        return best, found.take(order)
    found = array.argsort(1)[:, : -count - 1 : -1] + first
    return array.take(found), found


def logsumexp(array: Array) -> Array:
    """Return the logarithm of the sum of the exponentials along the last axis."""
    if not is_numpy(array):
        return array.logsumexp(-1)
    top = array.max(-1)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(array - top[..., None]).sum(-1)) + top


def logcumsumexp(array: Array) -> Array:
    """Return the logarithm of the cumulative sum of the exponentials along the last axis."""
    if is_numpy(array):
        return np.logaddexp.accumulate(array, axis=-1)
    return array.logcumsumexp(-1)


def prepend(array: Array, value: float) -> Array:
    """Return an array with one more element at the beginning of the last axis."""
    edge = full((*array.shape[:-1], 1), value, array)
    return namespace(array).concatenate([edge, array], -1)


def move(holder: object, device: Any) -> None:
    """Replace the numpy arrays among the attributes of an object by those of a device."""
    for name, value in list(vars(holder).items()):
        if is_numpy(value):
            setattr(holder, name, on_device(value, device))
