"""Make one model of several trainings: an ensemble.

The trainings are those of one recipe with other seeds. A search reads the mean of the
probabilities of their decoders and of their CTC heads, so all of them compute. Attention, and with
it flags and times, is that of the first model. The confidence, the flag "doubtful" and the refined
times of words need `asr calibrate`, which measures the new model.

Examples:
    asr ensemble exp/las_seed1 exp/las_seed2 -o exp/both.safetensors
"""

import json

from asr.config.help import Parser
from asr.files import check_outputs
from asr.store.average import ensemble_models
from asr.store.find import MODEL, find_model


def main(argv: list[str]) -> int:
    """Run ``asr ensemble``; return the exit code."""
    parser = Parser("asr ensemble", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="MODEL", help=MODEL)
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="model file to write")
    args = parser.parse_args(argv)
    check_outputs([args.out], map(find_model, args.models))
    ensemble_models(args.models, args.out)
    print(json.dumps({"model": args.out, "of": args.models}))
    return 0
