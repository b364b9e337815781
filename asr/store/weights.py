"""How weights lie in a file: as they are, or smaller; in memory they are always float32.

``float16`` halves every number. ``int8`` rounds the numbers of a matrix that make up one output
to 255 even steps around zero, from minus to plus their largest (symmetric quantisation with a
scale per output, arXiv:1806.08342); biases, vectors and small matrices stay float32, for they
would save next to nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from asr.errors import InputError

Storage = Literal["float32", "float16", "int8"]

SCALE = ":scale"  # suffix of the tensor that holds a matrix's scales
LEVELS = 127
SMALL = 4096  # numbers below which a matrix stays float32
_DAMAGED = "the file is damaged; copy or export the model again"


def pack(weights: Mapping[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    """Weights as they lie in a file.

    Args:
        weights: a model's state dict.
        storage: how.

    Raises:
        InputError: a weight is not finite, or too large for float16.
    """
    packed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        value = tensor.detach().cpu().float()
        if storage == "int8" and _is_matrix(name, value):
            packed[name], packed[name + SCALE] = _quantise(name, value)
        else:
            packed[name] = value.half() if storage == "float16" else value
        if storage != "float32" and not packed.get(name + SCALE, packed[name]).isfinite().all():
            raise InputError(f"{name}: a weight is not finite or too large for {storage}")
    return {name: value.contiguous() for name, value in packed.items()}


def unpack(tensors: Mapping[str, Tensor], storage: str, where: str | Path) -> dict[str, Tensor]:
    """The float32 weights of what lies in a file.

    Args:
        tensors: from :func:`pack`.
        storage: what the file's header says.
        where: the file, for messages.

    Raises:
        InputError: the storage is unknown, or the tensors are not those of it.
    """
    if storage not in get_args(Storage):
        raise InputError(
            f"{where}: weights stored as {storage!r}, this version reads "
            f"{', '.join(get_args(Storage))}; use the version of asr that wrote it"
        )
    weights: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE):
            continue
        scale = tensors.get(name + SCALE)
        if tensor.is_floating_point() and scale is None:
            weights[name] = tensor.float()
        elif tensor.dtype == torch.int8 and scale is not None and _fits(scale, name, tensor):
            weights[name] = tensor.float() * scale.float()
        else:
            raise InputError(
                f"{where}: {name} is {tensor.dtype} with {'no' if scale is None else 'wrong'} "
                f"scales, which no {storage} file has; {_DAMAGED}"
            )
    return weights


def _is_matrix(name: str, value: Tensor) -> bool:
    """Biases of a layer with two directions have two dimensions too."""
    bias = name.rpartition(".")[2] in ("b", "c", "bias")
    return value.ndim > 1 and value.numel() >= SMALL and not bias


def _inputs(name: str, value: Tensor) -> tuple[int, ...]:
    """The dimensions that an output sums over: the last but one of matrices that multiply from
    the right, all but the first in torch's own modules, whose matrices are named ``weight``."""
    return tuple(range(1, value.ndim)) if name.endswith(".weight") else (value.ndim - 2,)


def _quantise(name: str, value: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers from -127 to 127 and their scales, 1 along the inputs."""
    largest = value.abs().amax(_inputs(name, value), keepdim=True)
    scale = (largest / LEVELS).clamp_min(torch.finfo(torch.float32).tiny)
    return (value / scale).round().clamp(-LEVELS, LEVELS).to(torch.int8), scale


def _fits(scale: Tensor, name: str, value: Tensor) -> bool:
    inputs = _inputs(name, value)
    expected = [1 if i in inputs else size for i, size in enumerate(value.shape)]
    return list(scale.shape) == expected and bool(scale.isfinite().all())
