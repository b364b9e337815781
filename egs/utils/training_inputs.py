"""Print what a training depends on besides its data, one item a line, for stages.sh.

usage: training_inputs.py OPTION...

The options are those of ``asr train``. The first line has the settings that the model depends on,
so that a training is not made anew for another number of threads or because ``--change`` is no
longer there. Models to start from or to imitate and the folder of noise follow.
"""

import json

from recipe import run

from asr.commands.train import read_options
from asr.train.settings import fixed


def main(argv: list[str]) -> int:
    """Print the items."""
    config, args = read_options(argv)
    print(f"settings={json.dumps(fixed(config), sort_keys=True)}")
    models = [args.init or "", *config.teachers.split(",")]
    for name in filter(None, [*models, config.augment.noise_dir]):
        print(name.strip().removesuffix(":encoder"))
    return 0


if __name__ == "__main__":
    run(main, "asr train")
