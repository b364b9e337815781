"""Average the weights of several checkpoints of one training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from asr.config import TrainConfig
from asr.config.read import flatten, is_fixed, to_dict
from asr.errors import InputError
from asr.store.find import damaged
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
        sources: model files of one training: they agree in sizes, features, characters, seed and
            data, but other settings may have changed during the training.
        target: the model file to write.
        measure: evaluates the averaged weights; its results are added to the ``info``.
        config: settings for the file; by default those of the first model.

    Returns:
        the ``info`` of the file.

    Raises:
        InputError: a file is damaged, or the models are not of one training.
    """
    first, weights = read_model(sources[0])
    total = {name: value.astype(np.float64) for name, value in weights.items()}
    vocabularies = [first.vocabulary]
    for source in sources[1:]:
        other, weights = read_model(source)
        _check_same_training(first, other)
        if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in total.items()}:
            raise damaged(source, f"its weights have other names or sizes than in {first.path}")
        for name, value in weights.items():
            total[name] += value
        vocabularies.append(other.vocabulary)
    mean = {name: (value / len(sources)).astype(np.float32) for name, value in total.items()}
    known = [words for words in vocabularies if words is not None]
    vocabulary = sorted(set().union(*known)) if len(known) == len(sources) else None
    names = [Path(s).name for s in sources]
    info = {"average_of": names, "vocabulary": vocabulary, **measure(mean)}
    save_model(target, mean, replace(first, config=config or first.config, info=info))
    return info


def _check_same_training(first: Header, other: Header) -> None:
    """Raise InputError if two models are not of the same training."""
    here, there = flatten(to_dict(first.config)), flatten(to_dict(other.config))
    fixed = [key for key in here if is_fixed(key)]
    differing = [f"{k} is {there[k]}, not {here[k]}" for k in fixed if here[k] != there[k]]
    if other.tokenizer.symbols != first.tokenizer.symbols:
        differing.append("its characters differ")
    if first.info.get("data") != other.info.get("data"):
        differing.append("its training data differ")
    if differing:
        raise InputError(
            f"{other.path}: not of the same training as {first.path}: {', '.join(differing)}; "
            "average only models of one training"
        )
