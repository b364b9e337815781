"""Character language models in safetensors files: weights, settings and characters."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asr.arrays import Array
from asr.config import LMConfig
from asr.errors import InputError
from asr.store.model_file import (
    LM_FORMAT,
    check_weights,
    make_header,
    parse_header,
    read_model_file,
    write_model_file,
)
from asr.store.weights import Weights, pack
from asr.text.chars import CharTokenizer


def save_lm(
    path: str | Path,
    weights: Mapping[str, Array],
    config: LMConfig,
    tokenizer: CharTokenizer,
    info: Mapping[str, Any],
) -> Path:
    """Write a language model atomically; see :func:`asr.store.model_file.save_model`."""
    header = make_header(LM_FORMAT, config, tokenizer, info)
    return write_model_file(path, header, pack(weights, "float32"))


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
        raise InputError(f"{path}: an ARPA file, {expected}; name it with --word_lm")
    header, weights = read_model_file(path, LM_FORMAT)
    config, characters, _ = parse_header(LMConfig, header, path)
    if characters.symbols != tokenizer.symbols:
        differing = sorted(set(characters.symbols) ^ set(tokenizer.symbols))
        raise InputError(
            f"{path}: its characters are not the recogniser's (they differ in "
            f"{' '.join(differing) or 'order'}); train it with the recogniser's tokens.txt"
        )
    least = config.layers * config.units**2 + len(tokenizer) * config.embedding
    check_weights(weights, least, path)
    return config, weights
