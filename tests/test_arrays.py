"""The operations of asr/arrays.py give the same for numpy and for torch."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from asr import arrays
from asr.arrays import Array

CHANCE = np.random.default_rng(1)
X = CHANCE.standard_normal((3, 7)).astype(np.float32)
INDICES = CHANCE.integers(0, 7, (3, 2))


@pytest.mark.parametrize(
    "operation",
    [
        lambda x, i: arrays.broadcast_to(x[0], (2, 7)),
        lambda x, i: arrays.topk(arrays.repeat(x, 1000).reshape(3, 7000), 1)[0],
        lambda x, i: arrays.amax(x, keepdims=True),
        lambda x, i: arrays.amax(x, 0),
        lambda x, i: arrays.topk(x, 3)[0],
        lambda x, i: arrays.topk(x, 3)[1],
        lambda x, i: arrays.topk(x, 7)[1],
        lambda x, i: arrays.logsumexp(x),
        lambda x, i: arrays.logsumexp(x - math.inf),
        lambda x, i: arrays.logcumsumexp(x),
        lambda x, i: arrays.prepend(x, 2.0),
        lambda x, i: arrays.repeat(x, 2),
        lambda x, i: arrays.repeat(x, i[:, 0]),
        lambda x, i: arrays.cast(x, "float64"),
        lambda x, i: arrays.cast(x > 0, "int64"),
        lambda x, i: arrays.full((2, 1), 3, x, "bool"),
        lambda x, i: arrays.full(2, 3, x),
        lambda x, i: arrays.arange(4, x),
        lambda x, i: arrays.namespace(x).where(x > 0, x, 0.0),
        lambda x, i: x.sum(axis=1, keepdims=True),
    ],
)
def test_numpy_and_torch_agree(operation: Callable[[Array, Array], Array]) -> None:
    ours = operation(X, INDICES)
    theirs = operation(torch.from_numpy(X), torch.from_numpy(INDICES))
    assert isinstance(ours, np.ndarray) and isinstance(theirs, torch.Tensor)
    assert ours.dtype == theirs.numpy().dtype and ours.shape == tuple(theirs.shape)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-6)


def test_to_and_from_devices() -> None:
    assert arrays.on_device(X, "cpu") is X
    assert arrays.on_device(X, "meta").device.type == "meta"
    assert np.shares_memory(arrays.to_numpy(torch.from_numpy(X)), X)


def test_positions_of_topk() -> None:
    for x in (X, CHANCE.standard_normal((2, 5000))):
        found, positions = arrays.topk(x, 3)
        assert (found == -np.sort(-x)[:, :3]).all() and (x.take(positions) == found).all()


def test_topk_of_many() -> None:
    x = CHANCE.standard_normal((2, 3000))
    found, _ = arrays.topk(x, 2000)
    assert (found == -np.sort(-x)[:, :2000]).all()


def test_all_to_numpy() -> None:
    ours = arrays.all_to_numpy(X, INDICES)
    theirs = arrays.all_to_numpy(*map(torch.from_numpy, (X, X)))
    assert ours[0] is X and ours[1] is INDICES
    assert isinstance(theirs[1], np.ndarray) and (theirs[1] == X).all()
