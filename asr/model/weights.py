"""Weights of model files in networks."""

from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from asr.model.las import LAS
from asr.store.find import damaged
from asr.store.model_file import Header
from asr.store.weights import Weights

Network = TypeVar("Network", bound=nn.Module)


def tensors(weights: Weights) -> dict[str, Tensor]:
    """Return weights as tensors, which share their memory."""
    return {name: torch.from_numpy(value) for name, value in weights.items()}


def fill(network: Network, weights: Weights, path: str | Path) -> Network:
    """Return a network after copying the weights of a model file into it.

    Raises:
        InputError: they do not fit the network.
    """
    try:
        network.load_state_dict(tensors(weights))
    except RuntimeError as error:
        cause = str(error).splitlines()[-1].strip()  # the first line names only the class
        raise damaged(path, f"its weights do not fit its settings ({cause})") from error
    return network


def make_network(header: Header, weights: Weights) -> LAS:
    """Build the network of a model file.

    Raises:
        InputError: the weights do not fit its settings.
    """
    network = LAS(header.config.model, header.config.features.dim, len(header.tokenizer))
    return fill(network, weights, header.path)
