"""``asr bench``: speed and memory, beside other toolkits."""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from asr.config import DecodeConfig, SegmentationConfig, TrainConfig
from asr.config.args import number
from asr.config.field import between
from asr.config.help import Parser
from asr.config.read import from_dict, load_yaml
from asr.errors import EXIT_OK, InputError
from asr.terminal import note

if TYPE_CHECKING:
    from asr.bench.shape import Shape

CONTESTANTS = {"espnet": "ESPnet", "speechbrain": "SpeechBrain", "baseline": "plain torch"}
COUNT = number(int, between(1, 1_000_000))
SIZES = {  # of Shape; its defaults are those in parentheses
    "batch": "utterances (16)",
    "frames": "frames of the longest; lengths go down to 70 %% in training (800)",
    "chars": "characters of the longest, in training (100)",
    "layers": "layers of the pyramid; each halves the steps (3)",
    "units": "units per direction, and of the decoder (256)",
    "beam": "hypotheses, in decoding (8)",
}
_CUTTING = ("vad", "pause_s", "padding_s", "longest_s")  # settings of a long recording


def make_parser() -> argparse.ArgumentParser:
    """The options of all benchmarks."""
    parser = Parser(
        prog="asr bench",
        description="Measure speed and memory, with fixed seeds, warm-up and the median of runs.",
    )
    once = Parser(add_help=False)
    once.add_argument("--threads", type=int, default=0, help="0 takes every core")
    once.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    common = Parser(add_help=False, parents=[once])
    common.add_argument("--repeats", type=COUNT, default=5, help="runs of which the median counts")
    sized = Parser(add_help=False, parents=[common])
    for name, text in SIZES.items():
        sized.add_argument(f"--{name}", type=COUNT, default=argparse.SUPPRESS, help=text)
    kinds = parser.add_subparsers(dest="work", required=True)
    _add_networks(kinds, sized)
    for name, option, default, text in (
        ("features", "seconds", 60, "filterbanks of so many seconds, beside torchaudio's"),
        ("loader", "utterances", 120, "reading and changing audio for a training"),
        ("score", "pairs", 2000, "word errors of so many pairs, beside jiwer"),
    ):
        kind = kinds.add_parser(name, parents=[common], help=text, description=text)
        kind.add_argument(f"--{option}", type=COUNT, default=default, help=f"({default})")
    _add_transcribe(kinds, once)
    return parser


def _add_networks(kinds: Any, sized: argparse.ArgumentParser) -> None:
    """Training steps and searches, this project's and others'."""
    for name, text in (("train", "one training step"), ("decode", "a beam search")):
        kind = kinds.add_parser(name, parents=[sized], help=text, description=text)
        kind.add_argument(
            "--who", choices=["asr", *CONTESTANTS], default="asr", help="whose classes run it"
        )
        kind.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:N (cpu)")
        if name == "train":
            text = "settings of a training, whose model and loss are measured instead"
            kind.add_argument("--config", metavar="FILE", help=text)
            text = "losses of 20 small steps and hypotheses of a search, hashed, instead of times"
            kind.add_argument("--fingerprint", action="store_true", help=text)
        kind.add_argument(
            "--precision", choices=["float32", "bfloat16"], default="float32", help="of products"
        )
    text = "the same work through plain torch, and ESPnet and SpeechBrain if installed"
    kinds.add_parser("peers", parents=[sized], help=text, description=text)


def _add_transcribe(kinds: Any, once: argparse.ArgumentParser) -> None:
    text = "a long recording, joined from short ones with pauses and noise between them"
    kind = kinds.add_parser("transcribe", parents=[once], help=text, description=text)
    kind.add_argument("--model", help="as `asr transcribe` takes it")
    kind.add_argument("--data", default="", help="data directory; by default data/mini's test set")
    kind.add_argument("--minutes", type=float, default=60.0, help="of audio (60)")
    text = "loudest noise in the pauses, in dB below full scale (-50)"
    kind.add_argument("--noise_db", type=float, default=-50.0, help=text)
    kind.add_argument("--beam", type=int, default=DecodeConfig().beam, help="hypotheses")
    for name in _CUTTING:
        default = getattr(SegmentationConfig(), name)
        kind.add_argument(f"--{name}", type=type(default), default=default, help=f"({default})")


def main(argv: list[str]) -> int:
    """``asr bench WORK``; returns the exit code."""
    options = make_parser().parse_args(argv)
    from asr.bench import measure
    from asr.commands.machine import machine

    precision = getattr(options, "precision", "float32")
    own = options.work == "train" and options.who == "asr"  # with memory as asr train has it
    with machine(options.threads, precision, keep_memory=own):
        found = compare(options) if options.work == "peers" else run(options)
        facts = measure.machine()
    if options.work == "peers":
        table = {**facts, **found}
        print(json.dumps(table) if options.json else "\n".join(_table(found)))
        return EXIT_OK
    result = {"work": options.work, **found, **facts}
    if options.json:
        print(json.dumps(result))
    else:
        result.pop("hypotheses", None)
        print("\n".join(_line(name, value) for name, value in result.items()))
    return EXIT_OK


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what was asked for."""
    from asr.bench import benchmarks
    from asr.bench.fingerprint import fingerprint

    if options.work == "features":
        return benchmarks.features(options.seconds, options.repeats)
    if options.work == "loader":
        return benchmarks.loader(options.utterances, options.repeats)
    if options.work == "score":
        return benchmarks.score(options.pairs, options.repeats)
    if options.work == "transcribe":
        return _transcribe(options)
    return fingerprint() if getattr(options, "fingerprint", False) else _network(options)


def _shape(options: argparse.Namespace) -> "Shape":
    from asr.bench.shape import Shape

    return Shape(**{name: value for name, value in vars(options).items() if name in SIZES})


def _network(options: argparse.Namespace) -> dict[str, Any]:
    """A training step or a search."""
    from asr.bench import benchmarks
    from asr.model.machine import pick_device

    device, shape = pick_device(options.device), _shape(options)
    if device.type != "cpu" and options.who != "asr":
        raise InputError(f"--who {options.who}: measured on the processor only, with --device cpu")
    if options.work == "decode":
        numbers = benchmarks.decode(shape, options.repeats, options.who, device)
    else:
        config = None
        if options.config:
            if options.who != "asr":
                raise InputError(f"--who {options.who}: does not know the model of --config")
            config = from_dict(TrainConfig, load_yaml(options.config), options.config)
        numbers = benchmarks.train(shape, options.repeats, options.who, device, config)
    return {"who": options.who, "device": str(device), **asdict(shape), **numbers}


def _transcribe(options: argparse.Namespace) -> dict[str, Any]:
    from asr.bench.transcribe import LOWEST_DB, transcribe

    if not 0 < options.minutes <= 600:
        raise InputError(f"--minutes {options.minutes}: expected more than 0, at most 600")
    if not LOWEST_DB <= options.noise_db <= 0:
        raise InputError(f"--noise_db {options.noise_db}: expected {LOWEST_DB:g} to 0")
    search = DecodeConfig(beam=options.beam)
    segmentation = SegmentationConfig(**{name: getattr(options, name) for name in _CUTTING})
    return transcribe(
        options.model, options.data, options.minutes, options.noise_db, search, segmentation
    )


Found = dict[str, dict[str, dict[str, Any]]]
"""The numbers of each job and contestant."""


def compare(options: argparse.Namespace) -> Found:
    """Run a step and two searches through everybody's classes, each in its own process."""
    import torch

    sizes = [f"--{name}={value}" for name, value in asdict(_shape(options)).items()]
    common = [f"--threads={torch.get_num_threads()}", f"--repeats={options.repeats}"]
    jobs = {
        "train": ["train", *sizes, *common],
        "decode": ["decode", *sizes, *common],
        "decode_one": ["decode", *sizes, "--batch=1", *common],
    }
    return {job: _compare(job, arguments) for job, arguments in jobs.items()}


def _compare(job: str, arguments: list[str]) -> dict[str, dict[str, Any]]:
    """The numbers of every contestant in a job, beside this project's."""
    found: dict[str, dict[str, Any]] = {}
    for who in ("asr", *CONTESTANTS):
        if (job == "train" or who != "baseline") and (numbers := _numbers(job, arguments, who)):
            found[who] = numbers
    ours = dict(found["asr"])
    for numbers in found.values():
        numbers["ratio"] = numbers["seconds"] / ours["seconds"]
        numbers["memory_ratio"] = numbers["peak_memory_mb"] / ours["peak_memory_mb"]
        if "hypotheses" in numbers:
            numbers["same_hypotheses"] = numbers.pop("hypotheses") == ours["hypotheses"]
    return found


def _numbers(job: str, arguments: list[str], who: str) -> dict[str, Any] | None:
    """The numbers of one contestant; None where it cannot be measured here."""
    from asr.bench.measure import in_child

    note(f"{job}: {who}")
    try:
        return in_child([*arguments, f"--who={who}"])
    except RuntimeError as error:
        if who == "asr":
            raise
        print(f"  not measured: {error}", file=sys.stderr)
        return None


def _line(name: str, value: Any) -> str:
    return f"{name:28} {value:.4g}" if isinstance(value, float) else f"{name:28} {value}"


def _table(found: Found) -> Iterator[str]:
    titles = {
        "train": "one training step",
        "decode": "beam search, the batch",
        "decode_one": "beam search, one utterance",
    }
    for job, contestants in found.items():
        yield f"{titles[job]:28} {'seconds':>9} {'x asr':>7} {'x real time':>12} {'MB':>7}"
        for who, n in contestants.items():
            note = ""
            if who == "espnet" and "same_hypotheses" in n:
                note = "  same hypotheses" if n["same_hypotheses"] else "  OTHER HYPOTHESES"
            yield (
                f"  {CONTESTANTS.get(who, who):26} {n['seconds']:9.3f} {n['ratio']:7.2f} "
                f"{n['times_real_time']:12.0f} {n['peak_memory_mb']:7.0f}{note}"
            )
