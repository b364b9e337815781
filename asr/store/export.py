"""Smaller copies of model files, to pass on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asr.files import check_outputs
from asr.store.find import describe, find_model, own_settings
from asr.store.model_file import read_model, save_model
from asr.store.weights import Storage, pack, unpack

# The info that others need: "credit" is the plausibility of correct texts, "sounds" the Gaussians
# of the characters. The rest concerns the training and its machine.
KEPT = ("card", "confidence", "credit", "dev_wer", "dev_cer", "search", "sounds", "vocabulary")


@dataclass(frozen=True)
class Exported:
    """Result of an export."""

    path: Path
    size: int
    """Bytes of the file."""
    size_before: int
    """Bytes of the model's own file."""
    error: float
    """Largest difference of a weight."""
    where: str
    """Name of the tensor with this difference."""
    largest: float
    """Largest weight of this tensor."""


def export_model(
    model: str | Path,
    target: str | Path,
    storage: Storage,
    facts: Mapping[str, str],
    search: Mapping[str, Any] | None = None,
) -> Exported:
    """Write a smaller copy of a model.

    Loading converts the weights back to float32, so the copy runs as fast as the model. Paths of
    the training's machine and facts about the training are left out.

    Args:
        model: a training folder, a model file or the name of a bundled model.
        target: the file to write.
        storage: float32, float16 or int8.
        facts: added to the model's card, where they replace facts with the same keys.
        search: default search settings of the model, see :func:`asr.commands.export.search_from`;
            None keeps its own.

    Raises:
        InputError: there is no such model, or ``target`` is the model itself or a training's file.
    """
    check_outputs([target], [find_model(model)])
    header, weights = read_model(model)
    describe(header.path)  # refuses a damaged card
    info = {key: header.info[key] for key in KEPT if key in header.info}
    if card := {**info.get("card", {}), **facts}:
        info["card"] = card
    if search is not None:
        info["search"] = dict(search)
    if "search" in info:
        info["search"] = own_settings(info["search"], header.path)
    augment = replace(header.config.augment, noise_dir="")
    config = replace(header.config, device="auto", augment=augment)
    path = save_model(target, weights, replace(header, config=config, info=info), storage)
    stored = unpack(pack(weights, storage), storage, path)
    errors = {name: float(np.abs(stored[name] - value).max()) for name, value in weights.items()}
    worst = max(errors, key=errors.__getitem__)
    sizes = path.stat().st_size, header.path.stat().st_size
    return Exported(path, *sizes, errors[worst], worst, float(np.abs(weights[worst]).max()))
