r"""Compare kinds of attention, cells or encoders: train each on the same data, and measure it.

Each training is a folder OUT/LABEL-SEED of `asr train`; finished ones are only measured, and an
interrupted comparison continues. After each training, OUT/comparison.md, .json and .png are
written: word error rates, also of joined utterances and by attention alone; how well attention
finds the words; time and memory. All settings of `asr train` are options here, too.
`asr bench attention --list` prints the kinds without training.

Examples:
    asr bench attention --config egs/an4/conf/train.yaml --train data/train \
        --dev data/dev --tokens data/tokens.txt --out exp/kinds --passes 1
    asr bench attention ... --kinds location,location:heads=4,local_m:window=5
    asr bench attention ... --cells gru,lstm --seeds 1,2,3

Exit codes: 0 done; 1 a training failed; 2 bad input.
"""

import json
from typing import TYPE_CHECKING, Any

from asr.config import TrainConfig
from asr.config.args import add_settings, from_args, make_parser
from asr.errors import EXIT_OK, EXIT_SOME_FAILED, InputError
from asr.terminal import note, warn
from asr.text.timed import read_ctm

if TYPE_CHECKING:
    from asr.bench.comparison import Row

GROUPS = {
    "data": "train dev tokens ctm out",
    "comparison": "kinds cells encoders seeds measure again json",
    "training": "config epochs passes threads",
}
AXES = {
    "kinds": "kinds of attention, such as location,dot,mocha; a kind may have settings of its own: "
    "location:heads=4 (by default all kinds)",
    "cells": "cells of the decoder: gru,lstm",
    "encoders": "gru and lstm: the pyramid; one_directional: GRUs without future context; conv2d: "
    "convolutions reduce the steps; attention: self-attention on top",
}


def main(argv: list[str]) -> int:
    """Run ``asr bench attention``; return the exit code."""
    parser = make_parser("asr bench attention", __doc__, GROUPS)
    add = parser.add_argument
    add("--train", required=True, metavar="DIR", help="data directory to train on")
    text = "data directory to choose epochs and measure on"
    add("--dev", required=True, metavar="DIR", help=text)
    add("--tokens", required=True, metavar="FILE", help="tokens.txt of `asr chars`")
    add("-o", "--out", required=True, metavar="DIR", help="folder of the trainings")
    for name, text in AXES.items():
        add(f"--{name}", metavar="A,B,...", help=text)
    add("--seeds", metavar="N,N,...", help="seeds of the trainings (default: that of --seed)")
    text = "CTM of the dev set: true times of words, instead of those by CTC"
    add("--ctm", metavar="FILE", help=text)
    text = "accuracy or speed: measure only this part"
    add("--measure", metavar="PART", choices=["accuracy", "speed"], help=text)
    add("--again", action="store_true", help="measure again, for example speed on an idle machine")
    add("--json", action="store_true", help="print one JSON object")
    add_settings(parser, TrainConfig)
    config, args = from_args(TrainConfig, parser, argv)
    return compare(config, args)


def compare(config: TrainConfig, args: Any) -> int:
    """Train and measure all rows; return the exit code."""
    from asr.bench import comparison, comparison_report
    from asr.commands.machine import machine
    from asr.train.loop import Diverged

    if args.ctm:
        read_ctm(args.ctm)  # refuses a bad file before the first training
    axis, variants = _axis(args)
    rows = comparison.make_rows(config, axis, variants, _seeds(args, config), args.out, args.dev)
    parts = [args.measure] if args.measure else list(comparison.PARTS)
    data = {"axis": axis, "train": args.train, "dev": args.dev}
    data["machine"] = comparison_report.machine()
    failed, tables = 0, ""
    for number, row in enumerate(rows, 1):
        left = parts if args.again else row.missing(parts, args.ctm)
        if left:
            note(f"{row.folder} ({number} of {len(rows)}): {', '.join(left)}")
            try:
                _train(row, args)
            except Diverged as error:
                warn(f"{row.folder}: {error}")
                failed += 1
                continue
            # so that times are those of one thread
            with machine(1, config.precision, config.device):
                row.measure(left, args.ctm)
        data["rows"] = list(comparison.numbers(rows[:number]))
        tables = comparison_report.write(data, args.out)
    print(json.dumps(data) if args.json else tables)
    return EXIT_SOME_FAILED if failed else EXIT_OK


def _train(row: "Row", args: Any) -> None:
    """Train, unless the training is finished."""
    from asr.commands.machine import machine
    from asr.commands.train import stopped_by_signals
    from asr.train.loop import Training

    config = row.config
    with machine(config.threads, config.precision, config.device, keep_memory=True):
        training = Training(config, args.train, args.dev, args.tokens, row.folder)
        with stopped_by_signals(training.stop):
            training.run()


def _axis(args: Any) -> tuple[str, list[str]]:
    """Return what is compared, and its variants."""
    from asr.config.kinds import ATTENTIONS

    given = {name: getattr(args, name) for name in AXES if getattr(args, name)}
    if len(given) > 1:
        both = " and ".join(f"--{name}" for name in given)
        raise InputError(f"{both}: one thing is compared at a time; leave one of them out")
    for name, text in given.items():
        return name, text.split(",")
    return "kinds", list(ATTENTIONS)


def _seeds(args: Any, config: TrainConfig) -> list[int]:
    try:
        return [int(each) for each in args.seeds.split(",")] if args.seeds else [config.seed]
    except ValueError:
        raise InputError(f"--seeds {args.seeds}: expected numbers, such as 1,2,3") from None
