"""A smaller model file, to pass on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asr.files import check_outputs
from asr.store.find import find_model, own_settings
from asr.store.model_file import read_model, save_model
from asr.store.weights import Storage, pack, unpack

# What is worth knowing about a model that travels; the rest is about the machine it comes from.
KEPT = ("card", "confidence", "credit", "dev_wer", "dev_cer", "search", "vocabulary")


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
    """The weights that it is in."""
    largest: float
    """Largest of these weights."""


def export_model(
    model: str | Path,
    target: str | Path,
    storage: Storage,
    facts: Mapping[str, str],
    search: Mapping[str, Any] | None = None,
) -> Exported:
    """Write a copy of a model that takes less room.

    Weights are float32 again once it is loaded, so it runs as fast, by the same code. Folders
    of the machine it was trained on and notes about the training are left out.

    Args:
        model: a training folder, a model file or the name of a model that ships.
        target: the file to write.
        storage: float32, float16 or int8.
        facts: added to the model's card; those that are there already are replaced.
        search: settings that `asr transcribe` takes where none are given, see
            :func:`asr.commands.export.search_from`; None keeps those that the model has.

    Raises:
        InputError: there is no such model, or ``target`` is the model itself.
    """
    check_outputs([target], [find_model(model)])
    header, weights = read_model(model)
    info = {key: header.info[key] for key in KEPT if key in header.info}
    if card := {**info.get("card", {}), **facts}:
        info["card"] = card
    if search is not None:
        info["search"] = dict(search)
    if "search" in info:
        info["search"] = own_settings(info["search"], header.path)
    config = header.config
    config = replace(config, device="auto", augment=replace(config.augment, noise_dir=""))
    path = save_model(
        target,
        weights,
        config=config,
        tokenizer=header.tokenizer,
        cmvn=header.cmvn,
        info=info,
        storage=storage,
    )
    stored = unpack(pack(weights, storage), storage, path)
    errors = {name: float(np.abs(stored[name] - value).max()) for name, value in weights.items()}
    worst = max(errors, key=errors.__getitem__)
    sizes = path.stat().st_size, header.path.stat().st_size
    return Exported(path, *sizes, errors[worst], worst, float(np.abs(weights[worst]).max()))
