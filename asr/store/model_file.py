"""A model in one file: weights, settings, characters and feature statistics.

The file is in safetensors format, which holds numbers and text and cannot run code. Its
header carries the format's name and version, how the weights are stored, and as JSON the
configuration, the characters and what is worth knowing about the model.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from asr.arrays import Array
from asr.audio.cmvn import CmvnStats
from asr.config import TrainConfig
from asr.config.read import Config, from_dict, to_dict
from asr.errors import InputError, first_line
from asr.files import write_atomically
from asr.store.find import DAMAGED, FORMAT, find_model, own_settings
from asr.store.weights import Storage, Weights, pack, unpack
from asr.text.chars import CharTokenizer

LM_FORMAT = "asr-lm"
MADE_BY = {FORMAT: "asr train", LM_FORMAT: "asr lm train"}
VERSION = "1"
_STATISTICS = ("cmvn.count", "cmvn.sum", "cmvn.square_sum")


@dataclass(frozen=True)
class Header:
    """All that a model's file holds besides the weights."""

    path: Path
    config: TrainConfig
    tokenizer: CharTokenizer
    cmvn: CmvnStats | None
    """Statistics of the training set; None where the features are not normalised globally."""
    info: dict[str, Any]
    """How it was trained (epoch, dev scores), its ``card`` of facts, how sure it is."""

    @property
    def has_ctc(self) -> bool:
        """Whether the CTC head was trained."""
        return self.config.loss.ctc_weight > 0

    @property
    def step_s(self) -> float:
        """Seconds of an encoder step."""
        return (
            self.config.features.frame_shift_ms / 1000 * self.config.model.encoder.frames_per_step
        )

    @property
    def search(self) -> dict[str, Any]:
        """Search settings that the model brings; raises InputError where they are of no use."""
        return own_settings(self.info.get("search", {}), self.path)

    @property
    def vocabulary(self) -> frozenset[str] | None:
        """Words of the training's transcripts; None where the file does not tell."""
        words = self.info.get("vocabulary")
        if words is not None and not (
            isinstance(words, list) and all(isinstance(word, str) for word in words)
        ):
            raise InputError(
                f"{self.path}: its vocabulary is no list of words; copy or train it again"
            )
        return None if words is None else frozenset(words)


def save_model(
    path: str | Path,
    weights: Mapping[str, Array],
    *,
    config: TrainConfig,
    tokenizer: CharTokenizer,
    cmvn: CmvnStats | None,
    info: Mapping[str, Any],
    storage: Storage = "float32",
) -> Path:
    """Write a model file atomically.

    Args:
        path: ends in .safetensors by convention.
        weights: of the network, by their names; numpy arrays or tensors.
        config: the resolved configuration of the training.
        tokenizer: the characters.
        cmvn: statistics of the training set, if the features are normalised with them.
        info: anything worth knowing, as JSON can hold it.
        storage: how the weights lie in the file.

    Raises:
        InputError: the file cannot be written, or a weight cannot be stored.
    """
    tensors = pack(weights, storage)
    if cmvn is not None:
        values = (np.array([cmvn.count]), cmvn.sum, cmvn.square_sum)
        tensors |= zip(_STATISTICS, values, strict=True)
    header = make_header(FORMAT, VERSION, config, tokenizer, info)
    return write_model_file(path, {**header, "storage": storage}, tensors)


def make_header(
    form: str, version: str, config: Any, tokenizer: CharTokenizer, info: Mapping[str, Any]
) -> dict[str, str]:
    """Return the header of a file; :func:`parse_header` reads it."""
    return {
        "format": form,
        "version": version,
        "config": json.dumps(to_dict(config)),
        "symbols": json.dumps(tokenizer.symbols),
        "info": json.dumps(dict(info)),
    }


def copy_with_info(source: Path, target: str | Path, info: Mapping[str, Any]) -> Path:
    """Write a copy of a model file that differs in its ``info`` alone."""
    header, tensors = read_model_file(source)
    return write_model_file(target, {**header, "info": json.dumps(dict(info))}, tensors)


def write_model_file(path: str | Path, header: dict[str, str], tensors: Weights) -> Path:
    """Write header and arrays as one safetensors file, atomically."""
    blob = to_safetensors(tensors, metadata=header)
    return write_atomically(path, lambda file: file.write(blob))


def read_model_file(
    path: Path, form: str = FORMAT, version: str = VERSION
) -> tuple[dict[str, str], Weights]:
    """Header and arrays of a model file, as they lie in it.

    Args:
        path: the file.
        form: the format that its header has to name.
        version: of that format.

    Raises:
        InputError: it is empty, cut short, not a model, or of another version.
    """
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes); copy or train the model again")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: not a model file or cut short ({error}); copy or train the model again"
        ) from error
    if header.get("format") != form:
        raise InputError(
            f"{path}: a safetensors file of format {header.get('format', 'unknown')}, expected "
            f"{form}; name a file that `{MADE_BY[form]}` made"
        )
    if header.get("version") != version:
        raise InputError(
            f"{path}: model format {header.get('version')}, this version reads {version}; "
            "use the version of asr that made it, or train it again"
        )
    return header, tensors


def read_model(path: str | Path) -> tuple[Header, Weights]:
    """Read a model as header and float32 weights.

    Args:
        path: a model file, the folder of a finished training, or the name of a model that
            ships.

    Raises:
        InputError: the file is missing, damaged, or of another version.
    """
    path = find_model(path)
    header, tensors = read_model_file(path)
    config, tokenizer, info = parse_header(TrainConfig, header, path)
    cmvn = _statistics(tensors, config.features.dim, path)
    weights = unpack(tensors, header.get("storage", "float32"), path)
    check_weights(weights, _least(config, len(tokenizer)), path)
    return Header(path, config, tokenizer, cmvn, info), weights


def check_weights(weights: Weights, least: int, path: Path) -> None:
    """Refuse weights that a network cannot compute with, before memory is taken for it.

    Args:
        weights: of a file.
        least: numbers that a network of the configuration has in any case.
        path: of the file.

    Raises:
        InputError: there are too few for the sizes that the header claims, or some are not finite.
    """
    found = sum(value.size for value in weights.values())
    if found < least:
        raise InputError(
            f"{path}: {found} weights, and its configuration has {least} or more; the file is "
            "damaged; copy or train the model again"
        )
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise InputError(
                f"{path}: {name} has weights that are not finite, so that no text would come of "
                "it; its training failed or the file is damaged; copy or train the model again"
            )


def _least(config: TrainConfig, characters: int) -> int:
    """Weights of the largest parts of a network, without all that they are multiplied by."""
    model, F = config.model, config.features.dim
    encoder, attention, decoder = model.encoder, model.attention, model.decoder
    outputs = encoder.width(F) * attention.heads * (decoder.units + characters)
    recurrent = encoder.fewest_weights(F) + decoder.units**2
    return attention.fewest_weights() + recurrent + outputs + characters * decoder.embedding


def _statistics(tensors: Weights, dim: int, path: Path) -> CmvnStats | None:
    """Take the statistics of the training set out of the tensors of a file; None: it has none."""
    found = [tensors.pop(name).astype(np.float64) for name in _STATISTICS if name in tensors]
    if not found:
        return None
    shapes = [list(value.shape) for value in found]
    finite = all(np.isfinite(value).all() for value in found)
    if shapes != [[1], [dim], [dim]] or not finite or found[0].item() <= 0:
        raise InputError(
            f"{path}: its feature statistics are not those of {dim} features; the file is damaged; "
            "copy or train the model again"
        )
    return CmvnStats(found[0].item(), found[1], found[2])


def parse_header(
    cls: type[Config], header: dict[str, str], path: Path
) -> tuple[Config, CharTokenizer, dict[str, Any]]:
    """Return the settings, of the class ``cls``, the characters and the info of a header.

    Raises:
        InputError: it is damaged.
    """
    try:
        config = from_dict(cls, json.loads(header["config"]), f"{path}: config")
        info = dict(json.loads(header["info"]))
        return config, CharTokenizer(json.loads(header["symbols"]), str(path)), info
    except DAMAGED as error:
        raise InputError(
            f"{path}: its header is damaged ({first_line(error)}); copy or train the model again"
        ) from error
