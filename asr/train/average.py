"""Average the weights of several checkpoints: steadier than the best of them."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from asr.errors import InputError
from asr.model.checkpoint import load_model, save_model


def average_models(sources: Sequence[str | Path], target: str | Path) -> Path:
    """Write the mean of several models of one training.

    Args:
        sources: model files with the same configuration and characters.
        target: the model file to write.

    Raises:
        InputError: a file is damaged, or the models differ in more than their weights.
    """
    first = load_model(sources[0])
    total = {k: v.double() for k, v in first.model.state_dict().items()}
    for source in sources[1:]:
        other = load_model(source)
        if other.config != first.config or other.tokenizer.symbols != first.tokenizer.symbols:
            raise InputError(
                f"{source}: not of the same training as {sources[0]}; "
                "only checkpoints with one configuration and one set of characters have a mean"
            )
        for key, value in other.model.state_dict().items():
            total[key] += value
    mean = {k: (v / len(sources)).to(torch.float32) for k, v in total.items()}
    return save_model(
        target,
        mean,
        config=first.config,
        tokenizer=first.tokenizer,
        cmvn=first.cmvn,
        info={"average_of": [Path(s).name for s in sources]},
    )


def main(argv: list[str]) -> int:
    """``asr average -o OUT MODEL...``."""
    parser = argparse.ArgumentParser(prog="asr average", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="model files of one training")
    parser.add_argument("-o", "--out", required=True, help="model file to write")
    args = parser.parse_args(argv)
    print(json.dumps({"model": str(average_models(args.models, args.out)), "of": args.models}))
    return 0
