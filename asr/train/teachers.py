"""Models that a training imitates (knowledge distillation, arXiv:1503.02531)."""

import torch
from torch import Tensor

from asr.errors import InputError
from asr.model.batch import Batch
from asr.model.las import LAS
from asr.model.loss import inputs_and_targets
from asr.model.weights import make_network
from asr.store.model_file import Header, read_network
from asr.train.data import TrainData


class Teachers:
    """Models whose mean posteriors are targets of the decoder.

    Args:
        names: folders of trainings or model files.
        data: data and settings of the training, which the models must share.
        device: where they compute.

    Raises:
        InputError: a model cannot be read, or has other features, characters or statistics.
    """

    def __init__(self, names: list[str], data: TrainData, device: torch.device) -> None:
        self.models = [_load(name, data).to(device).eval() for name in names]

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        """Return the mean posteriors after the true characters of a batch, (B, U + 1, V)."""
        posteriors = [_posteriors(model, batch) for model in self.models]
        return torch.stack(posteriors).mean(0)


def _posteriors(model: LAS, batch: Batch) -> Tensor:
    inputs, _ = inputs_and_targets(batch.tokens, batch.lengths, model.eos)
    memory = model.encode(batch.features, batch.frames)
    return model.decoder(inputs, batch.lengths + 1, memory)[0].softmax(-1)


def _load(name: str, data: TrainData) -> LAS:
    header, weights = read_network(name)
    if different := _differences(header, data):
        raise InputError(
            f"teachers: {name} has other {different} than this training; name models that were "
            "trained on the same data with the same features and characters"
        )
    return make_network(header, weights)


def _differences(header: Header, data: TrainData) -> str:
    """Name what a model does not share with a training."""
    ours = data.config.features
    same = {
        "features": header.config.features == ours,
        "characters": header.tokenizer.symbols == data.tokenizer.symbols,
        "feature statistics": ours.cmvn != "global"
        or (header.cmvn is not None and header.cmvn.count == data.cmvn.count),
    }
    return ", ".join(name for name, equal in same.items() if not equal)
