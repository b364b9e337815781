"""Open the files of models with the runtime that computes with them."""

import json
from pathlib import Path

import torch

from asr.config import DecodeConfig, LMConfig
from asr.config.read import from_dict
from asr.errors import InputError, first_line
from asr.lm.lookahead import load_word_lm
from asr.lm.protocol import LanguageModel
from asr.model.char_lm import VERSION, CharLM
from asr.store.find import DAMAGED
from asr.store.model_file import LM_FORMAT, check_weights, read_model_file
from asr.text.chars import CharTokenizer


def open_lm(
    config: DecodeConfig, tokenizer: CharTokenizer, device: str | torch.device = "cpu"
) -> LanguageModel | None:
    """The language model of the settings; None where there is none, or where it has no weight.

    Args:
        config: search settings.
        tokenizer: the recogniser's characters.
        device: where the language model works.

    Raises:
        InputError: a file is missing or damaged, or was made for other characters.
    """
    if config.lm_weight == 0 or not (config.lm or config.word_lm):
        return None
    characters = load_lm(config.lm, tokenizer, device) if config.lm else None
    if not config.word_lm:
        return characters
    share = config.lm_share if characters is not None else 0.0
    return load_word_lm(config.word_lm, tokenizer, characters, config.oov_penalty, share, device)


def load_lm(
    path: str | Path, tokenizer: CharTokenizer, device: str | torch.device = "cpu"
) -> CharLM:
    """Load a language model for a recogniser.

    Args:
        path: a file of ``asr lm train``.
        tokenizer: the recogniser's characters.
        device: where the weights go.

    Raises:
        InputError: the file is missing, damaged, another kind of model, or has other characters.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such language model; expected a file made by `asr lm train`")
    header, tensors = read_model_file(path, LM_FORMAT, VERSION)
    try:
        config = from_dict(LMConfig, json.loads(header["config"]), f"{path}: config")
        symbols = CharTokenizer(json.loads(header["symbols"]), str(path)).symbols
    except DAMAGED as error:
        raise InputError(
            f"{path}: its header is damaged ({first_line(error)}); copy or train the model again"
        ) from error
    if symbols != tokenizer.symbols:
        differing = sorted(set(symbols) ^ set(tokenizer.symbols))
        raise InputError(
            f"{path}: its characters are not the recogniser's (they differ in: "
            f"{' '.join(differing) or 'their order'}); train it with the recogniser's tokens.txt"
        )
    least = config.layers * config.units**2 + len(symbols) * config.embedding
    check_weights(tensors, least, path)
    lm = CharLM(config, len(tokenizer))
    try:
        lm.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{path}: the weights do not fit the configuration: {error}") from error
    return lm.to(device).eval()
