"""Make one model of several: the mean of their weights, or an ensemble."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from asr.config import TrainConfig
from asr.config.read import NETWORK, flatten, is_fixed, to_dict
from asr.errors import InputError
from asr.store.find import MODEL_FILE, damaged
from asr.store.model_file import Header, read_network, save_model
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
        InputError: a file is damaged or named twice, or the models are not of one training.
    """
    first, weights = read_network(sources[0])
    total = {name: value.astype(np.float64) for name, value in weights.items()}
    headers = [first]
    for source in sources[1:]:
        other, weights = read_network(source)
        check_same(first, other, ("seed", *NETWORK), "average only models of one training")
        headers.append(other)
        if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in total.items()}:
            raise damaged(source, f"its weights have other names or sizes than in {first.path}")
        for name, value in weights.items():
            total[name] += value
    _refuse_twice(headers)
    mean = {name: (value / len(sources)).astype(np.float32) for name, value in total.items()}
    info = {"average_of": list(map(_name, sources)), **common_info(headers), **measure(mean)}
    save_model(target, mean, replace(first, config=config or first.config, info=info))
    return info


def ensemble_models(sources: Sequence[str | Path], target: str | Path) -> None:
    """Write one file with several networks, whose probabilities a search averages.

    Args:
        sources: models of one recipe: they agree in sizes, features, characters and data.
        target: the model file to write.

    Raises:
        InputError: a file is damaged or named twice, or the models do not agree.
    """
    headers, networks = zip(*map(read_network, sources), strict=True)
    if len(headers) < 2:
        raise InputError(f"{sources[0]}: one model; name two or more trainings of one recipe")
    _refuse_twice(headers)
    for other in headers[1:]:
        remedy = "train all of them by one recipe, with other seeds"
        check_same(headers[0], other, (*NETWORK, "loss.ctc_weight"), remedy)
    named = ((i, *item) for i, own in enumerate(networks) for item in own.items())
    weights = {f"{i}.{name}": value for i, name, value in named}
    info = {"ensemble_of": list(map(_name, sources)), **common_info(headers)}
    save_model(target, weights, replace(headers[0], info=info))


def _name(path: str | Path) -> str:
    """Return the name of a model, or of the folder of its training."""
    path = Path(path).resolve()
    return path.parent.name if path.name == MODEL_FILE else path.name


def _refuse_twice(headers: Sequence[Header]) -> None:
    """Raise InputError if two models are the same file."""
    found: set[Path] = set()
    for header in headers:
        if (path := Path(header.path).resolve()) in found:
            raise InputError(f"{header.path}: named twice; name it once")
        found.add(path)


def common_info(headers: Sequence[Header]) -> dict[str, Any]:
    """Return the words of all trainings, and their data and search settings if these agree."""
    first, *others = (header.info for header in headers)
    common = ("data", "search")
    same = [k for k in common if k in first and all(i.get(k) == first[k] for i in others)]
    return {"vocabulary": known_words(headers), **{key: first[key] for key in same}}


def known_words(headers: Sequence[Header]) -> list[str] | None:
    """Return the words of the training transcripts; None if a model does not list its own."""
    known = [words for header in headers if (words := header.vocabulary) is not None]
    return sorted(set().union(*known)) if len(known) == len(headers) else None


def check_same(first: Header, other: Header, fixed: tuple[str, ...], remedy: str) -> None:
    """Raise InputError if two models differ in settings, characters or data.

    Args:
        first: header of a model.
        other: header of another one.
        fixed: beginnings of the settings that must agree; dropout need not.
        remedy: for the message.
    """
    here, there = flatten(to_dict(first.config)), flatten(to_dict(other.config))
    keys = {key for key in here if is_fixed(key, fixed) and here[key] != there[key]}
    keys -= {f"model.attention.{name}" for name in first.config.model.attention.unread}
    differing = [f"{key} is {there[key]}, not {here[key]}" for key in sorted(keys)]
    if other.tokenizer.symbols != first.tokenizer.symbols:
        differing.append("its characters differ")
    sums = [np.zeros(0) if header.cmvn is None else header.cmvn.sum for header in (first, other)]
    if not np.array_equal(sums[0], sums[1]):
        differing.append("its statistics of the features differ")
    ours, theirs = first.info.get("data"), other.info.get("data")
    if ours and theirs and ours != theirs:  # exported models lack it
        differing.append("its training data differ")
    if differing:
        raise InputError(
            f"{other.path}: does not fit {first.path}: {', '.join(differing)}; {remedy}"
        )
