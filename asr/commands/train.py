"""``asr train``: train a model, or go on with a training."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from asr.config import TrainConfig
from asr.config.args import add_settings, from_args, make_parser
from asr.config.help import Page

PAGE = Page(
    {
        "data": "train dev tokens out",
        "start": "init change config seed device threads",
        "length": "epochs passes average",
        "model": "model.encoder.units model.attention.kind model.decoder.cell loss.ctc_weight",
        "optimiser": "optim.learning_rate optim.warmup_steps batch.seconds batch.workers",
    },
    (
        "asr train --config egs/an4/conf/train.yaml --train data/train --dev data/dev "
        "--tokens data/tokens.txt --out exp/mine",
        "asr train ... --out exp/mine --change epochs --epochs 60",
    ),
)


def main(argv: list[str]) -> int:
    """Parse the command line and train."""
    parser = make_parser(
        "asr train",
        "Train a model. Started again with the same --out, it goes on where it stood. "
        "Writes final.safetensors, config.yaml, train.jsonl, pictures/, tensorboard/ and "
        "checkpoints/ into the --out folder.",
        PAGE,
    )
    parser.add_argument("--train", required=True, help="data directory to train on")
    parser.add_argument("--dev", required=True, help="data directory to choose the best epochs on")
    parser.add_argument("--tokens", required=True, help="tokens.txt of `asr chars`")
    parser.add_argument("--out", required=True, help="folder of this training")
    parser.add_argument(
        "--init",
        metavar="MODEL",
        help="begin with the weights of this model: a training folder, a model file or a name of "
        "`asr models`. It has to have the same sizes and features; characters may be others. "
        "The learning rate and its warm-up stay as they are set: a lower optim.learning_rate "
        "than from scratch usually suits. Not needed any more once the training goes on",
    )
    parser.add_argument(
        "--change",
        nargs="+",
        default=[],
        metavar="SETTING",
        help="go on with new values of these settings, for example `--change epochs --epochs 60`; "
        "learning rates of the steps to come follow from them. `dev`: go on with another dev set; "
        "the best epochs so far are measured on it again",
    )
    add_settings(parser, TrainConfig)
    config, args = from_args(TrainConfig, parser, argv)

    from asr.commands.machine import machine
    from asr.train.loop import Training

    given = (args.train, args.dev, args.tokens, args.out, args.init, args.change)
    with machine(config.threads, config.precision, keep_memory=True):
        training = Training(config, *given)
        with stopped_by_signals(training.stop):
            print(training.run())
    return 0


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C calls ``stop``, and a second one ends the process as it would otherwise.

    TERM, and HUP of a terminal that is closed, call it too, unless `nohup` has HUP ignored. Outside
    the main thread signals cannot be handled.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:  # TERM may well come twice, to the group and passed on
            signal.signal(number, before[signal.SIGINT])
        stop()

    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
