"""``asr average``: the mean of the weights of several checkpoints."""

import json

from asr.config.help import Parser
from asr.files import check_outputs
from asr.store.average import average_models


def main(argv: list[str]) -> int:
    """``asr average -o OUT MODEL...``."""
    parser = Parser(
        prog="asr average",
        description="Average the weights of several checkpoints of one training, which is "
        "steadier than the best of them.",
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="model files of one training")
    parser.add_argument("-o", "--out", required=True, help="model file to write")
    args = parser.parse_args(argv)
    check_outputs([args.out], args.models)
    average_models(args.models, args.out)
    print(json.dumps({"model": args.out, "of": args.models}))
    return 0
