"""Average the weights of several checkpoints of one training.

The mean of the best checkpoints is usually better than each of them. The confidence, the flag
"doubtful" and the refined times of words need `asr calibrate`, which measures the new model.

Examples:
    asr average exp/mine/checkpoints/*.safetensors -o mean.safetensors
"""

import json

from asr.config.help import Parser
from asr.files import check_outputs
from asr.store.average import average_models


def main(argv: list[str]) -> int:
    """Run ``asr average``; return the exit code."""
    parser = Parser("asr average", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="model files of one training")
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="model file to write")
    args = parser.parse_args(argv)
    check_outputs([args.out], args.models)
    average_models(args.models, args.out)
    print(json.dumps({"model": args.out, "of": args.models}))
    return 0
