"""Make one model of several trainings: an ensemble.

The trainings are those of one recipe with other seeds. A search reads the mean of the
probabilities of their decoders and of their CTC heads, so it runs all networks. Attention is that
of the first model; times of words are those of CTC. Search settings are kept if all have the same;
`asr export --info` writes a model card. The confidence and the refined times of words need `asr
calibrate`, which measures the new model.

Examples:
    asr ensemble exp/las_seed1 exp/las_seed2 -o exp/both.safetensors
"""

from asr.commands.average import join_models
from asr.store.average import ensemble_models


def main(argv: list[str]) -> int:
    """Run ``asr ensemble``; return the exit code."""
    return join_models("asr ensemble", __doc__, ensemble_models, argv)
