"""Average the weights of several checkpoints: steadier than the best of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr.config import TrainConfig
from asr.config.read import flatten, is_fixed, to_dict
from asr.errors import InputError
from asr.store.model_file import Header, read_model, save_model
from asr.store.weights import Weights


def average_models(
    sources: Sequence[str | Path],
    target: str | Path,
    measure: Callable[[Weights], Mapping[str, Any]] = lambda weights: {},
    config: TrainConfig | None = None,
) -> dict[str, Any]:
    """Write the mean of several models of one training.

    Args:
        sources: model files of one training: sizes, features, characters, seed and data are the
            same; all other settings may have changed while it went on.
        target: the model file to write.
        measure: what there is to say of the mean's weights, for its ``info``.
        config: the training's settings, for the file; by default those of the first model.

    Returns:
        its ``info``.

    Raises:
        InputError: a file is damaged, or the models differ in more than their weights.
    """
    first, weights = read_model(sources[0])
    total = {name: value.astype(np.float64) for name, value in weights.items()}
    words = [first.vocabulary]
    for source in sources[1:]:
        other, weights = read_model(source)
        _check_same_training(first, other)
        for name, value in weights.items():
            total[name] += value
        words.append(other.vocabulary)
    mean = {name: (value / len(sources)).astype(np.float32) for name, value in total.items()}
    known = [each for each in words if each is not None]
    learnt = sorted(frozenset[str]().union(*known)) if len(known) == len(words) else None
    names = [Path(s).name for s in sources]
    info = {"average_of": names, "vocabulary": learnt, **measure(mean)}
    save_model(
        target,
        mean,
        config=config or first.config,
        tokenizer=first.tokenizer,
        cmvn=first.cmvn,
        info=info,
    )
    return info


def _check_same_training(first: Header, other: Header) -> None:
    """Refuse a mean of weights that do not mean the same; raises InputError."""
    here, there = flatten(to_dict(first.config)), flatten(to_dict(other.config))
    differing = [f"{k} is {there[k]}, not {here[k]}" for k in here if _bars(k, here, there)]
    if other.tokenizer.symbols != first.tokenizer.symbols:
        differing.append("its characters are others")
    if first.info.get("data") != other.info.get("data"):
        differing.append("its training data are others")
    if differing:
        raise InputError(
            f"{other.path}: not of the same training as {first.path}: {', '.join(differing)}; "
            "only the models of one training have a mean"
        )


def _bars(key: str, here: dict[str, Any], there: dict[str, Any]) -> bool:
    return is_fixed(key) and key != "optim.kind" and here[key] != there[key]
