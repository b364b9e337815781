"""A smaller model file, to pass on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.files import check_outputs
from asr.store.find import find_model, own_settings

if TYPE_CHECKING:
    from asr.store.weights import Storage

# What is worth knowing about a model that travels; the rest is about the machine it comes from.
KEPT = ("card", "confidence", "credit", "dev_wer", "dev_cer", "search", "vocabulary")


@dataclass(frozen=True)
class Exported:
    """What became of a model."""

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
    storage: "Storage",
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
    from asr.store.model_file import load_model, save_model
    from asr.store.weights import pack, unpack

    check_outputs([target], [find_model(model)])
    loaded = load_model(model)
    info = {key: loaded.info[key] for key in KEPT if key in loaded.info}
    if card := {**info.get("card", {}), **facts}:
        info["card"] = card
    if search is not None:
        info["search"] = dict(search)
    if "search" in info:
        info["search"] = own_settings(info["search"], loaded.path)
    config = loaded.config
    config = replace(config, device="auto", augment=replace(config.augment, noise_dir=""))
    weights = loaded.model.state_dict()
    path = save_model(
        target,
        weights,
        config=config,
        tokenizer=loaded.tokenizer,
        cmvn=loaded.cmvn,
        info=info,
        storage=storage,
    )
    stored = unpack(pack(weights, storage), storage, path)
    errors = {name: float((stored[name] - value).abs().max()) for name, value in weights.items()}
    worst = max(errors, key=errors.__getitem__)
    sizes = path.stat().st_size, loaded.path.stat().st_size
    return Exported(path, *sizes, errors[worst], worst, float(weights[worst].abs().max()))
