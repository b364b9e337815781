"""Models and character language models in safetensors files.

The safetensors format holds numbers and text and cannot run code. The header contains the format's
name and version, the storage type of the weights and, as JSON, the configuration, the characters
and the ``info`` about the model.
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
from asr.config import LMConfig, TrainConfig
from asr.config.read import Config, from_dict, only_known, to_dict
from asr.errors import InputError, first_line
from asr.files import write_atomically
from asr.store.find import (
    FORMAT,
    HEADER_ERRORS,
    LM_FORMAT,
    check_format,
    damaged,
    find_model,
    own_settings,
)
from asr.store.weights import Storage, Weights, networks_of, pack, unpack
from asr.text.tokenizer import CharTokenizer

VERSION = "1"
WEIGHTS_NEED = ("features", "model")  # sections of the settings
_STATISTICS = ("cmvn.count", "cmvn.sum", "cmvn.square_sum")


@dataclass(frozen=True)
class Header:
    """The contents of a model file without the weights."""

    config: TrainConfig
    tokenizer: CharTokenizer
    cmvn: CmvnStats | None
    """Statistics of the training set; needed if the features are normalised globally."""
    info: Mapping[str, Any]
    """Facts about the training (epoch, dev scores), its ``card``, calibration of confidence."""
    path: Path = Path()
    """The file it was read from."""

    @property
    def has_ctc(self) -> bool:
        """Whether the CTC head was trained."""
        return self.config.loss.ctc_weight > 0

    @property
    def step_s(self) -> float:
        """Seconds of an encoder step."""
        return self.config.step_s

    @property
    def search(self) -> dict[str, Any]:
        """The model's search settings; raises InputError if they are invalid."""
        return own_settings(self.info.get("search", {}), self.path)

    @property
    def vocabulary(self) -> frozenset[str] | None:
        """Words of the training transcripts; None if the file does not list them."""
        words = self.info.get("vocabulary")
        if words is None:
            return None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise damaged(self.path, "its vocabulary is not a list of words")
        return frozenset(words)


def save_model(
    path: str | Path, weights: Mapping[str, Array], header: Header, storage: Storage = "float32"
) -> Path:
    """Write a model file atomically.

    Args:
        path: ends in .safetensors by convention.
        weights: parameters of the network by name, numpy arrays or tensors.
        header: settings, characters, feature statistics and info of the model.
        storage: storage type of the weights.

    Raises:
        InputError: the file cannot be written, or a weight cannot be stored.
    """
    tensors = pack(weights, storage)
    if cmvn := header.cmvn:
        values = (np.array([cmvn.count]), cmvn.sum, cmvn.square_sum)
        tensors |= zip(_STATISTICS, values, strict=True)
    texts = _make_header(FORMAT, header.config, header.tokenizer, header.info)
    return _write_file(path, {**texts, "storage": storage}, tensors)


def _make_header(
    form: str, config: Any, tokenizer: CharTokenizer, info: Mapping[str, Any]
) -> dict[str, str]:
    """Return the header of a file, which :func:`_parse_header` reads."""
    return {
        "format": form,
        "version": VERSION,
        "config": json.dumps(to_dict(config)),
        "symbols": json.dumps(tokenizer.symbols),
        "info": json.dumps(dict(info)),
    }


def copy_with_info(source: Path, target: str | Path, info: Mapping[str, Any]) -> Path:
    """Write a copy of a model file with another ``info``."""
    header, tensors = _read_file(source)
    return _write_file(target, {**header, "info": json.dumps(dict(info))}, tensors)


def _write_file(path: str | Path, header: dict[str, str], tensors: Weights) -> Path:
    """Write header and arrays as one safetensors file, atomically."""
    blob = to_safetensors(tensors, metadata=header)
    return write_atomically(path, lambda file: file.write(blob))


def _read_file(path: Path, form: str = FORMAT) -> tuple[dict[str, str], Weights]:
    """Return the header and the arrays of a file; raises InputError if it is not of this format."""
    if path.stat().st_size == 0:
        raise damaged(path, "the file is empty (0 bytes)")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise damaged(path, f"not a model file or cut short ({error})") from error
    check_format(path, header, form)
    if header.get("version") != VERSION:
        raise InputError(
            f"{path}: model format {header.get('version')}, this version reads {VERSION}; "
            "use the version of asr that made it, or train it again"
        )
    return header, tensors


def read_model(path: str | Path) -> tuple[Header, Weights]:
    """Read a model as header and float32 weights.

    Args:
        path: a model file, the folder of a finished training, or the name of a bundled model.

    Raises:
        InputError: the file is missing, damaged, or of another version.
    """
    path = find_model(path)
    header, tensors = _read_file(path)
    config, tokenizer, info = _parse_header(TrainConfig, header, path)
    cmvn = _statistics(tensors, config.features.dim, path)
    if cmvn is None and config.features.cmvn == "global":
        raise damaged(path, "no statistics of the features, which its settings ask for")
    weights = unpack(tensors, header.get("storage", "float32"), path)
    _check_weights(weights, _fewest_weights(config, len(tokenizer)), path)
    return Header(config, tokenizer, cmvn, info, path), weights


def read_network(path: str | Path) -> tuple[Header, Weights]:
    """Read a model as :func:`read_model` does, but only one with a single network.

    Raises:
        InputError: as in :func:`read_model`, or the file is an ensemble of several networks.
    """
    header, weights = read_model(path)
    first, *others = networks_of(weights)
    if others:
        number = 1 + len(others)
        raise InputError(f"{header.path}: an ensemble of {number} networks; name one of its models")
    return header, first


def _check_weights(weights: Weights, least: int, path: Path) -> None:
    """Refuse weights that are not finite, or fewer than the settings require at least.

    This precedes making the network, because a damaged header could ask for any amount of memory.
    """
    found = sum(value.size for value in weights.values())
    if found < least:
        raise damaged(path, f"{found} weights, expected {least} or more by its settings")
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise damaged(path, f"{name} is not finite; the training failed or the file is damaged")


def _fewest_weights(config: TrainConfig, characters: int) -> int:
    """Return a lower bound of the number of weights, from the largest parts of the network."""
    model, F = config.model, config.features.dim
    encoder, attention, decoder = model.encoder, model.attention, model.decoder
    outputs = encoder.width(F) * attention.heads * (decoder.units + characters)
    recurrent = encoder.fewest_weights(F) + decoder.units**2
    return attention.fewest_weights() + recurrent + outputs + characters * decoder.embedding


def _statistics(tensors: Weights, dim: int, path: Path) -> CmvnStats | None:
    """Remove the feature statistics from the tensors of a file; return them, or None."""
    found = [tensors.pop(name).astype(np.float64) for name in _STATISTICS if name in tensors]
    if not found:
        return None
    shapes = [list(value.shape) for value in found]
    finite = all(np.isfinite(value).all() for value in found)
    if shapes != [[1], [dim], [dim]] or not finite or found[0].item() <= 0:
        raise damaged(path, f"its feature statistics are not those of {dim} features")
    return CmvnStats(found[0].item(), found[1], found[2])


def _parse_header(
    cls: type[Config], header: dict[str, str], path: Path
) -> tuple[Config, CharTokenizer, dict[str, Any]]:
    """Return the settings (of class ``cls``), the characters and the info of a header."""
    try:
        # other versions have other settings: the weights need those of the network that are not off
        settings = only_known(cls, json.loads(header["config"]), WEIGHTS_NEED)
        config = from_dict(cls, settings, f"{path}: config")
        info = dict(json.loads(header["info"]))
        return config, CharTokenizer(json.loads(header["symbols"]), str(path)), info
    except HEADER_ERRORS as error:
        raise damaged(path, f"its header is damaged ({first_line(error)})") from error


def save_lm(
    path: str | Path,
    weights: Mapping[str, Array],
    config: LMConfig,
    tokenizer: CharTokenizer,
    info: Mapping[str, Any],
) -> Path:
    """Write a character language model atomically; see :func:`save_model`."""
    header = _make_header(LM_FORMAT, config, tokenizer, info)
    return _write_file(path, header, pack(weights, "float32"))


def read_lm_header(path: Path) -> tuple[LMConfig, dict[str, Any]]:
    """Return settings and info of a character language model; raises OSError or InputError."""
    config, _, info = _parse_header(LMConfig, _read_file(path, LM_FORMAT)[0], path)
    return config, info


def read_lm(path: str | Path, tokenizer: CharTokenizer) -> tuple[LMConfig, Weights]:
    """Read a language model for a recogniser.

    Args:
        path: a file of ``asr lm train``.
        tokenizer: the recogniser's characters.

    Raises:
        InputError: the file is missing or damaged, or the model is of another kind or for other
            characters.
    """
    path = Path(path)
    expected = "expected a file made by `asr lm train`"
    if not path.is_file():
        raise InputError(f"{path}: no such language model; {expected}")
    if ".arpa" in path.suffixes:
        raise InputError(f"{path}: an ARPA file, {expected}; name it with --word-lm")
    header, weights = _read_file(path, LM_FORMAT)
    config, characters, _ = _parse_header(LMConfig, header, path)
    if characters.symbols != tokenizer.symbols:
        differing = sorted(set(characters.symbols) ^ set(tokenizer.symbols))
        raise InputError(
            f"{path}: its characters are not the recogniser's (they differ in "
            f"{' '.join(differing) or 'order'}); train it with the recogniser's tokens.txt"
        )
    least = config.layers * config.units**2 + len(tokenizer) * config.embedding
    _check_weights(weights, least, path)
    return config, weights
