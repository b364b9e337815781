"""Average the weights of several checkpoints: steadier than the best of them."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.errors import InputError
from asr.files import check_outputs
from asr.model.checkpoint import load_model, save_model
from asr.search.credit import learnt_words


def average_models(
    sources: Sequence[str | Path],
    target: str | Path,
    measure: Callable[[dict[str, Tensor]], Mapping[str, Any]] = lambda weights: {},
) -> dict[str, Any]:
    """Write the mean of several models of one training.

    Args:
        sources: model files with the same configuration and characters.
        target: the model file to write.
        measure: what there is to say of the mean's weights, for its ``info``.

    Returns:
        its ``info``.

    Raises:
        InputError: a file is damaged, or the models differ in more than their weights.
    """
    first = load_model(sources[0])
    total = {k: v.double() for k, v in first.model.state_dict().items()}
    words = [learnt_words(first.info, first.path)]
    for source in sources[1:]:
        other = load_model(source)
        if other.config != first.config or other.tokenizer.symbols != first.tokenizer.symbols:
            raise InputError(
                f"{source}: not of the same training as {sources[0]}; "
                "only checkpoints with one configuration and one set of characters have a mean"
            )
        for key, value in other.model.state_dict().items():
            total[key] += value
        words.append(learnt_words(other.info, other.path))
    mean = {k: (v / len(sources)).to(torch.float32) for k, v in total.items()}
    known = [each for each in words if each is not None]
    learnt = sorted(frozenset[str]().union(*known)) if len(known) == len(words) else None
    names = [Path(s).name for s in sources]
    info = {"average_of": names, "vocabulary": learnt, **measure(mean)}
    save_model(
        target, mean, config=first.config, tokenizer=first.tokenizer, cmvn=first.cmvn, info=info
    )
    return info


def main(argv: list[str]) -> int:
    """``asr average -o OUT MODEL...``."""
    parser = argparse.ArgumentParser(prog="asr average", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="model files of one training")
    parser.add_argument("-o", "--out", required=True, help="model file to write")
    args = parser.parse_args(argv)
    check_outputs([args.out], args.models)
    average_models(args.models, args.out)
    print(json.dumps({"model": args.out, "of": args.models}))
    return 0
