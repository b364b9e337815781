"""Storage types of weights. In memory, weights are always float32.

``float16`` stores 2 bytes a weight. ``int8`` stores a matrix as integers from -127 to 127, with a
scale for each of its outputs (symmetric quantisation per output, arXiv:1806.08342). Biases, vectors
and small matrices stay float32, because they take little space.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from asr.arrays import Array, to_numpy
from asr.errors import InputError
from asr.store.find import damaged

Weights = dict[str, np.ndarray]

Storage = Literal["float32", "float16", "int8"]

SCALE = ":scale"  # suffix of the tensor that holds a matrix's scales
LEVELS = 127
SMALL = 4096  # weights below which a matrix stays float32


@np.errstate(over="ignore")  # overflow in float16 is refused
def pack(weights: Mapping[str, Array], storage: Storage) -> Weights:
    """Convert weights for a file.

    Args:
        weights: float32 weights of a model by name, numpy arrays or tensors.
        storage: storage type.

    Raises:
        InputError: a weight of float16 or int8 is not finite, or too large for float16.
    """
    packed: Weights = {}
    for name, tensor in weights.items():
        value = to_numpy(tensor).astype(np.float32, copy=False)
        stored = value.astype(np.float16) if storage == "float16" else value
        if storage != "float32" and not np.isfinite(stored).all():
            raise InputError(f"{name}: a weight is not finite or too large for {storage}")
        if storage == "int8" and _is_matrix(name, value):
            stored, packed[name + SCALE] = _quantise(name, value)
        packed[name] = stored
    return {name: np.ascontiguousarray(value) for name, value in packed.items()}


def unpack(tensors: Mapping[str, np.ndarray], storage: str, where: str | Path) -> Weights:
    """Convert the weights of a file to float32.

    Args:
        tensors: from :func:`pack`.
        storage: storage type by the file's header.
        where: the file, for messages.

    Raises:
        InputError: the storage type is unknown, or the tensors do not conform to it.
    """
    if storage not in get_args(Storage):
        raise InputError(
            f"{where}: weights stored as {storage!r}, this version reads "
            f"{', '.join(get_args(Storage))}; use the version of asr that wrote it"
        )
    weights: Weights = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE):
            continue
        scale = tensors.get(name + SCALE)
        if tensor.dtype.kind == "f" and scale is None:
            weights[name] = tensor.astype(np.float32, copy=False)
        elif tensor.dtype == np.int8 and scale is not None and _fits(scale, name, tensor):
            weights[name] = tensor.astype(np.float32) * scale.astype(np.float32)
        else:
            found = f"{tensor.dtype} with {'no' if scale is None else 'wrong'} scales"
            raise damaged(where, f"{name} is {found}, which no {storage} file has")
    return weights


def networks_of(weights: Weights) -> list[Weights]:
    """Return the weights of each network of a file: several in one of ``asr ensemble``."""
    networks: dict[str, Weights] = {}
    for name, value in weights.items():
        number, _, inner = name.partition(".")
        place, own = (number, inner) if number.isdecimal() else ("", name)
        networks.setdefault(place, {})[own] = value
    return [networks[place] for place in sorted(networks, key=lambda n: (len(n), n))]


def _is_matrix(name: str, value: np.ndarray) -> bool:
    """Whether int8 storage applies. Biases of bidirectional layers have two dimensions, too."""
    bias = name.rpartition(".")[2] in ("b", "c", "bias")
    return value.ndim > 1 and value.size >= SMALL and not bias


def _inputs(name: str, value: np.ndarray) -> tuple[int, ...]:
    """Return the dimensions that an output sums over: all but the first in torch's own modules,
    whose matrices are named ``weight...``, the last but one in ours, which multiply from the right.
    """
    return tuple(range(1, value.ndim)) if ".weight" in name else (value.ndim - 2,)


def _quantise(name: str, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return integers from -127 to 127, and their scales, of size 1 along the inputs."""
    largest = np.abs(value).max(_inputs(name, value), keepdims=True)
    scale = np.maximum(largest / LEVELS, np.finfo(np.float32).tiny)
    return np.rint(value / scale).clip(-LEVELS, LEVELS).astype(np.int8), scale


def _fits(scale: np.ndarray, name: str, value: np.ndarray) -> bool:
    inputs = _inputs(name, value)
    expected = [1 if i in inputs else size for i, size in enumerate(value.shape)]
    return list(scale.shape) == expected and bool(np.isfinite(scale).all())
