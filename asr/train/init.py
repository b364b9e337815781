"""Initialise a training with the weights of another model (``asr train --init``)."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from asr.config import TrainConfig
from asr.config.read import flatten, to_dict
from asr.errors import InputError, first_line
from asr.model.las import LAS
from asr.store.find import checksum, damaged, find_model
from asr.store.model_file import read_model, read_network
from asr.store.weights import Weights
from asr.text.tokenizer import CharTokenizer

# Weights with a row for each character.
BY_CHARACTER = (
    "decoder.embedding.weight",
    "decoder.readout.weight",
    "decoder.readout.bias",
    "ctc.weight",
    "ctc.bias",
)
ENCODER = "encoder"
"""``--init MODEL:encoder`` copies the encoder alone."""


def initialize(
    init: str, model: LAS, tokenizer: CharTokenizer, config: TrainConfig
) -> tuple[dict[str, str], list[str] | None, list[str]]:
    """Copy the weights of another model, or of its encoder, into a new one.

    Weights of a character that the other model does not have keep their random initial values.

    Args:
        init: a training folder, a model file, or the name of a bundled model; with ``:encoder``
            behind it, all other weights keep their random initial values.
        model: the network of the new training; its weights are overwritten.
        tokenizer: characters of the new training.
        config: configuration of the new training.

    Returns:
        ``model`` and ``sha256`` of the file, for the state of the training; the vocabulary of that
        model, if its file has one; lines for the log.

    Raises:
        InputError: the model does not exist, is damaged, or has other sizes or features.
    """
    name, part = _split(init)
    header, weights = read_network(name)
    _check_settings(init, header.config, config)
    try:
        _copy(weights, header.tokenizer.symbols, model, tokenizer, part)
    except (KeyError, IndexError, RuntimeError) as error:
        message = f"its weights do not fit its settings ({first_line(error)})"
        raise damaged(header.path, message) from error
    origin = {"model": init, "sha256": checksum(header.path)}
    if part:
        return origin, [], [_begins(origin)]
    words = None if header.vocabulary is None else sorted(header.vocabulary)
    return origin, words, _report(origin, header.tokenizer.symbols, tokenizer.symbols)


def read_tokens(tokens: str | None, init: str | None, saved: Path) -> CharTokenizer:
    """Read tokens.txt, or take the characters of the model that a training begins with.

    Args:
        tokens: the file, if it is given.
        init: the model, if it is given.
        saved: tokens.txt of the training, if it goes on.

    Raises:
        InputError: none of the three exists, or the one that is taken cannot be read.
    """
    if tokens or saved.is_file():
        return CharTokenizer.from_file(tokens or saved)
    if init:
        return read_model(_split(init)[0])[0].tokenizer
    raise InputError("--tokens is missing; name the file of `asr chars`, or a model by --init")


def check_origin(origin: dict[str, str], init: str | None, state: Path) -> list[str]:
    """Check that a resumed training was initialised with the model that is named now.

    Args:
        origin: what :func:`initialize` returned; empty if the training began from scratch.
        init: the model that is named now, if any; its file may have been removed.
        state: file of the training's state, for the message.

    Returns:
        lines for the log.

    Raises:
        InputError: the training began with another model, or from scratch.
    """
    remedy = "use another --out folder, or leave --init out to go on with this training"
    if init and not origin:
        raise InputError(f"{state}: this training began from scratch, not with {init}; {remedy}")
    if init and not _is_origin(init, origin):
        raise InputError(
            f"{state}: this training began with the weights of {origin['model']} (SHA-256 "
            f"{origin['sha256'][:12]}...), and {init} is another model; {remedy}"
        )
    return [f"this training began with the weights of {origin['model']}"] if origin else []


def _split(init: str) -> tuple[str, str]:
    """Return the model, and the prefix of the weights to copy: ``encoder.``, or "" for all."""
    name = init.removesuffix(f":{ENCODER}")
    return name, "" if name == init else f"{ENCODER}."


def _is_origin(init: str, origin: dict[str, str]) -> bool:
    (name, part), (_, part_then) = _split(init), _split(origin["model"])
    try:
        return part == part_then and checksum(find_model(name)) == origin["sha256"]
    except InputError:
        if init == origin["model"]:
            return True
        raise


def _check_settings(init: str, theirs: TrainConfig, ours: TrainConfig) -> None:
    there, here = flatten(to_dict(theirs)), flatten(to_dict(ours))
    parts = ("features.", "model.reset", f"model.{_split(init)[1]}")
    keys = [key for key in _decisive(ours) if key.startswith(parts)]
    differing = [key for key in keys if there[key] != here[key]]
    if differing:
        found = ", ".join(f"{key} is {there[key]} there and {here[key]} here" for key in differing)
        options = " ".join(f"--{key} {_as_typed(there[key])}" for key in differing)
        raise InputError(
            f"{init}: its weights do not fit this training: {found}; train with {options}, "
            "or without --init"
        )


def _decisive(config: TrainConfig) -> list[str]:
    """Return the names of the settings that must not differ between the two models."""
    # A training adapts to another scale or level, to noise and to another initial bias.
    without = {"features.cmvn", "features.level", "features.dither"}
    if config.features.kind != "mfcc":
        without.add("features.ceps")
    if config.model.encoder.layers:
        without |= {"model.encoder.units", "model.encoder.pyramid"}
    without |= {f"model.attention.{name}" for name in config.model.attention.unread}
    without |= {"model.attention.bias", "model.attention.noise"}
    keys = [k for k in flatten(to_dict(config)) if k.startswith(("features.", "model."))]
    return [k for k in keys if k not in without and not k.endswith(".dropout")]


def _as_typed(value: Any) -> str:
    """Return a setting's value as it is typed in a shell."""
    return shlex.quote(value if isinstance(value, str) else json.dumps(value))


@torch.no_grad()
def _copy(
    weights: Weights, symbols: Sequence[str], model: LAS, tokenizer: CharTokenizer, part: str
) -> None:
    """Copy the weights whose names begin with ``part``."""
    known = {symbol: row for row, symbol in enumerate(symbols)}
    ours = [row for row, symbol in enumerate(tokenizer.symbols) if symbol in known]
    theirs = [known[tokenizer.symbols[row]] for row in ours]
    wanted = ((n, w) for n, w in model.state_dict().items() if n.startswith(part))
    for name, weight in wanted:
        value = torch.from_numpy(weights[name]).to(weight)
        if name in BY_CHARACTER:
            weight[ours] = value[theirs]
        else:
            weight.copy_(value.reshape(weight.shape))  # a file has (1,) for a scalar


def _begins(origin: dict[str, str]) -> str:
    return f"begins with the weights of {origin['model']} (SHA-256 {origin['sha256'][:12]}...)"


def _report(origin: dict[str, str], theirs: Sequence[str], ours: Sequence[str]) -> list[str]:
    new = [symbol for symbol in ours if symbol not in theirs]
    dropped = [symbol for symbol in theirs if symbol not in ours]
    lost = (
        f"warning: {origin['model']} writes {' '.join(dropped)}, and this model will not, because "
        "they are not in tokens.txt; without --tokens, all characters of the model are kept"
    )
    return [
        _begins(origin),
        f"characters: {len(ours) - len(new)} keep their weights; new, with fresh ones: "
        f"{' '.join(new) or 'none'}",
        *([lost] if dropped else []),
    ]
