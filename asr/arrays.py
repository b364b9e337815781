"""Operations on numpy arrays and torch tensors, chosen by the type of the array.

A search computes with the arrays of its model: numpy on a CPU, which is faster for small steps,
and torch on a GPU. :func:`namespace` returns numpy or torch, for functions with the same name and
meaning in both: exp, log, log1p, logaddexp, where, maximum, minimum, isnan, concatenate, stack,
searchsorted, broadcast_to, zeros_like, ones_like. Operators, indexing, ``@``, ``reshape``,
``tolist``, ``clip`` and, with ``axis=``, ``sum``, ``cumsum``, ``argmax``, ``any`` and ``all`` are
the same, too. The functions below cover what differs. This file does not import torch, since a
caller with a tensor has imported it.
"""

import sys
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = Any
"""A numpy array or a torch tensor."""
FloatArray: TypeAlias = npt.NDArray[np.floating]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
IntArray: TypeAlias = npt.NDArray[np.int64]

_SMALL = 1024  # length up to which sorting is faster than argpartition


def namespace(array: Array) -> Any:
    """Return the module of an array: numpy or torch."""
    return np if isinstance(array, np.ndarray) else sys.modules["torch"]


def is_numpy(array: Array) -> bool:
    """Whether an array is numpy's."""
    return isinstance(array, np.ndarray)


def to_numpy(array: Array) -> npt.NDArray[Any]:
    """Return an array as a numpy array, which shares the memory if possible."""
    return array if is_numpy(array) else array.detach().cpu().numpy()


def all_to_numpy(*arrays: Array) -> list[npt.NDArray[Any]]:
    """Return arrays of one shape in numpy; a GPU is read once, and its arrays become float64."""
    if is_numpy(arrays[0]):
        return list(arrays)
    return list(to_numpy(namespace(arrays[0]).stack([each.double() for each in arrays])))


def on_device(values: npt.NDArray[Any], device: Any) -> Array:
    """Return a numpy array for a search on a device: the array itself on "cpu", else a tensor."""
    if str(device) == "cpu":
        return values
    import torch

    return torch.from_numpy(values).to(device)


def full(shape: int | tuple[int, ...], value: float, other: Array, dtype: str = "") -> Array:
    """Return an array of one value, with the kind, device and default dtype of another array."""
    shape = (shape,) if isinstance(shape, int) else shape
    if is_numpy(other):
        return np.full(shape, value, dtype or other.dtype)
    torch = namespace(other)
    number = getattr(torch, dtype) if dtype else other.dtype
    return torch.full(shape, value, dtype=number, device=other.device)


def arange(count: int, other: Array) -> Array:
    """Return 0, 1, ..., count - 1 as int64, with the kind and device of another array."""
    return np.arange(count) if is_numpy(other) else namespace(other).arange(count).to(other.device)


def cast(array: Array, dtype: str) -> Array:
    """Return an array with a dtype, for example "float32"; it is copied only if it differs."""
    if is_numpy(array):
        return array.astype(dtype, copy=False)
    return array.to(getattr(namespace(array), dtype))


def repeat(array: Array, counts: Any) -> Array:
    """Repeat each row of an array; ``counts`` is one number, or one for each row."""
    return array.repeat(counts, 0) if is_numpy(array) else array.repeat_interleave(counts, 0)


def amax(array: Array, axis: int = -1, *, keepdims: bool = False) -> Array:
    """Return the largest elements along an axis; NaN counts as the largest."""
    return namespace(array).amax(array, axis=axis, keepdims=keepdims)


def broadcast_to(array: Array, shape: tuple[int, ...]) -> Array:
    """Broadcast an array to a shape, without copying."""
    return array if array.shape == shape else namespace(array).broadcast_to(array, shape)


def topk(array: Array, count: int) -> tuple[Array, Array]:
    """Return the largest elements of each row, in descending order, and their positions.

    Args:
        array: (B, N); NaN counts as the largest.
        count: number of elements (K).

    Returns:
        the elements, (B, K), and their positions in the flattened array, (B, K).
    """
    B, N = array.shape
    first = arange(B, array)[:, None] * N
    if not is_numpy(array):
        best, found = array.topk(count, dim=1)
        return best, found + first
    if max(_SMALL, count) < N:
        found = array.argpartition(-count, 1)[:, -count:] + first
        best, order = topk(array.take(found), count)
        return best, found.take(order)
    found = array.argsort(1)[:, : -count - 1 : -1] + first
    return array.take(found), found


def logsumexp(array: Array) -> Array:
    """Return log(sum(exp(array))) along the last axis."""
    if not is_numpy(array):
        return array.logsumexp(-1)
    top = array.max(-1)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(array - top[..., None]).sum(-1)) + top


def logcumsumexp(array: Array) -> Array:
    """Return log(cumsum(exp(array))) along the last axis."""
    if is_numpy(array):
        return np.logaddexp.accumulate(array, axis=-1)
    return array.logcumsumexp(-1)


def prepend(array: Array, value: float) -> Array:
    """Return an array with a value in front of the last axis."""
    edge = full((*array.shape[:-1], 1), value, array)
    return namespace(array).concatenate([edge, array], -1)


def move(holder: object, device: Any) -> None:
    """Move the numpy arrays among the attributes of an object to a device."""
    for name, value in list(vars(holder).items()):
        if is_numpy(value):
            setattr(holder, name, on_device(value, device))
