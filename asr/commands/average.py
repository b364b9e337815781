"""Average the weights of several checkpoints of one training.

The mean of the best checkpoints is usually better than each of them. Search settings are kept if
all have the same; `asr export --info` writes a model card. The confidence and the refined times of
words need `asr calibrate`, which measures the new model.

Examples:
    asr average exp/mine/checkpoints/*.safetensors -o mean.safetensors
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from asr.config.help import Parser
from asr.files import check_outputs
from asr.store.average import average_models
from asr.store.find import MODEL, find_model


def main(argv: list[str]) -> int:
    """Run ``asr average``; return the exit code."""
    return join_models("asr average", __doc__, average_models, argv)


def join_models(
    prog: str, description: str, join: Callable[[Sequence[str], str], Any], argv: list[str]
) -> int:
    """Make one model of several by ``join(models, target)``; return the exit code."""
    parser = Parser(prog, description=description)
    parser.add_argument("models", nargs="+", metavar="MODEL", help=MODEL)
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="model file to write")
    args = parser.parse_args(argv)
    check_outputs([args.out], map(find_model, args.models))
    join(args.models, args.out)
    print(json.dumps({"model": args.out, "of": args.models}))
    return 0
