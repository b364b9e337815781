r"""Train a model.

Writes final.safetensors, config.yaml, tokens.txt, train.jsonl, log/, pictures/, tensorboard/ and
checkpoints/ into the --out folder. If the folder has an unfinished training, it continues.

Examples:
    asr train --config egs/an4/conf/train.yaml --train data/train \
        --dev data/dev --tokens data/tokens.txt --out exp/mine
    asr train ... --out exp/mine --change epochs --epochs 60
    torchrun --nproc-per-node 4 -m asr train ... --out exp/mine  # a process each
"""

import signal
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from asr.config import TrainConfig
from asr.config.args import add_settings, config_files, from_args, make_parser
from asr.files import check_not_read

GROUPS = {
    "data": "train dev tokens out",
    "start": "init change config seed device threads",
    "length": "epochs passes average",
    "model": "model.encoder.units model.attention.kind model.decoder.cell loss.ctc_weight",
    "optimiser": "optim.learning_rate optim.warmup_steps batch.seconds batch.workers",
}


def read_options(argv: list[str]) -> tuple[TrainConfig, Namespace]:
    """Return the settings and the other options of a command line.

    Raises:
        InputError: a setting or a file of settings is wrong; other mistakes exit with code 2.
    """
    parser = make_parser("asr train", __doc__, GROUPS)
    add = parser.add_argument
    text = (
        "data directory, or tar shards of `asr data shard`: 'shards/*.tar', "
        "'https://host/{000..099}.tar'"
    )
    add("--train", required=True, metavar="DIR", help=text)
    add("--dev", required=True, metavar="DIR", help="data directory to choose the best epochs on")
    text = "tokens.txt of `asr chars`; without it, the characters of the model of --init"
    add("--tokens", metavar="FILE", help=text)
    add("-o", "--out", required=True, metavar="DIR", help="folder of this training")
    text = (
        "start from the weights of this model: a training folder, a model file or a name of `asr "
        "models`; MODEL:encoder takes its encoder alone. Sizes and features must be the same, "
        "characters may differ. With hours of speech, lower optim.learning_rate; with minutes, "
        "take more passes instead. Not needed when a training continues"
    )
    add("--init", metavar="MODEL", help=text)
    text = (
        "continue with new values of these settings, for example `--change epochs --epochs 60`; "
        "the remaining learning rates follow from them. `dev`: continue with another dev set, on "
        "which the best epochs so far are evaluated again"
    )
    add("--change", nargs="+", default=[], metavar="SETTING", help=text)
    add_settings(parser, TrainConfig)
    return from_args(TrainConfig, parser, argv)


def main(argv: list[str]) -> int:
    """Run ``asr train``; return the exit code."""
    from asr.train.launch import processes, told_once

    with told_once():
        config, args = read_options(argv)
        if not (Path(args.out) / "train.jsonl").exists():  # nor is it the one of a training there
            check_not_read([Path(args.out) / "config.yaml"], config_files(args))

    from asr.commands.machine import machine
    from asr.model.machine import usable_cores
    from asr.train.group import joined, quiet
    from asr.train.loop import Training

    change = [name.replace("-", "_") for name in args.change or ()]
    given = (args.train, args.dev, args.tokens, args.out, args.init, change)
    threads = config.threads or max(1, usable_cores() // processes()[1])
    with (
        quiet(Path(args.out)),
        machine(threads, config.precision, config.device, keep_memory=True),
        joined(config.device, config.distributed.timeout_s, Path(args.out)) as rank,
    ):
        training = Training(config, *given, rank)
        with stopped_by_signals(training.stop):
            final = training.run()
        if rank.index == 0:
            print(final)
    return 0


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` at the first Ctrl-C; the second one interrupts as usual.

    TERM, HUP (of a closed terminal) and USR1 (of Slurm before its time limit) also call it, except
    if HUP is ignored (nohup). Outside the main thread, signals cannot be handled.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:  # TERM may come twice: to the group, and forwarded
            signal.signal(number, before[signal.SIGINT])
        stop()

    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")  # Windows has no HUP and USR1
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
