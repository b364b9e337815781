"""Write the lengths and the CMVN statistics of data directories.

Writes utt2dur, utt2num_frames, cmvn.ark with the sums of each speaker, whose total gives the global
mean and variance (CMVN), and features.json with the settings of the features. A killed command goes
on where it was when it is started again.

Examples:
    asr features data/train data/dev --config conf/train.yaml
    asr features data/train --nj 8
"""

from argparse import ArgumentParser
from dataclasses import fields

from asr.audio.features import FeatureExtractor
from asr.config import FeatureConfig, TrainConfig
from asr.config.args import number
from asr.config.field import between
from asr.config.help import Parser
from asr.config.read import from_dict, load_yaml, unfold
from asr.corpus.feature_statistics import gather
from asr.errors import counted


def main(argv: list[str]) -> int:
    """Run ``asr features``; return the exit code."""
    parser = Parser("asr features", description=__doc__)
    parser.add_argument("data", nargs="+", metavar="DATA_DIR", help="Kaldi data directories")
    add_options(parser)
    args = parser.parse_args(argv)
    from asr.console import progress

    config = read_features(args.config)
    for directory in args.data:
        with progress(f"features of {directory}") as report:
            durations_s, frames = gather(directory, config, args.nj, report)
        hours = sum(durations_s) / 3600
        print(
            f"{directory}: {counted(len(frames), 'utterance')}, {hours:.2f} h, {sum(frames)} frames"
        )
    return 0


def add_options(parser: ArgumentParser) -> None:
    """Add the options of a verb that computes features: ``--config`` and ``--nj``."""
    text = "training configuration, of which only the features section is used"
    parser.add_argument("--config", metavar="FILE", help=text)
    parser.add_argument("--nj", type=number(int, between(1, 4096)), default=1, help="processes")


def read_features(path: str | None) -> FeatureConfig:
    """Return the settings of the features in a training configuration, or the defaults."""
    settings = {field.name for field in fields(TrainConfig)}
    values = unfold(load_yaml(path)) if path else {}
    # What is no table may be an option of `asr train`, such as the name of a data directory.
    sections = {k: v for k, v in values.items() if k in settings or isinstance(v, dict)}
    config = from_dict(TrainConfig, sections, path or "").features
    FeatureExtractor(config)  # raises an error for empty filters before data are read
    return config
