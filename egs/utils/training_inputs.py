"""Print what a training depends on besides its data, one item a line, for stages.sh.

usage: training_inputs.py OPTION...

The options are those of ``asr train``. The first line has the settings that the model depends on,
so that a training is not made anew for another number of threads or because ``--change`` is no
longer there. The files of models to start from or to imitate and the folder of noise follow.
"""

import json

from recipe import run

from asr.commands.train import read_options
from asr.store.find import find_model
from asr.train.settings import common_settings


def main(argv: list[str]) -> int:
    """Print the items."""
    config, args = read_options(argv)
    print(f"settings={json.dumps(common_settings(config), sort_keys=True)}")
    if args.init:
        print(find_model(args.init.removesuffix(":encoder")))
    if config.augment.noise_dir:
        print(config.augment.noise_dir)
    return 0


if __name__ == "__main__":
    run(main, "asr train")
