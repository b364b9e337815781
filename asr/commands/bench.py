"""Measure speed and memory, and compare them with other toolkits.

Seeds are fixed, the first runs are not counted, and the median of the others is reported.

Examples:
    asr bench train
    asr bench transcribe --minutes 60 --json
    asr bench faults --kills 50 --json
    asr bench attention --list
    asr bench attention --help
    asr bench speedrun exp/las_seed1 exp/las_seed2 --target 9 -o curve.png

Exit codes: 0 done; 1 a difference was found (faults), or a training failed (attention);
2 bad input.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from asr.config import DecodeConfig, SegmentationConfig, TrainConfig
from asr.config.args import number
from asr.config.field import THREADS, between, more_than
from asr.config.help import Parser
from asr.config.read import from_dict, load_yaml
from asr.errors import EXIT_OK, EXIT_SOME_FAILED, InputError
from asr.files import check_outputs, plain
from asr.store.find import search_settings
from asr.terminal import note, print_error

BENCHMARKS = {
    "train": "Measure a training step.",
    "decode": "Measure a beam search.",
    "peers": "Measure train and decode here, with plain torch, and with ESPnet and SpeechBrain.",
    "features": "Measure the filterbanks and those of torchaudio.",
    "transcribe": "Measure a long recording, made of short ones with pauses and noise.",
    "scale": "Measure how a training starts with many utterances, in a directory and in shards.",
    "faults": "Kill a small training at random moments; compare its end with an undisturbed one.",
    "attention": "Train and compare kinds of attention, cells or encoders; or list them.",
    "speedrun": "Show in how many minutes trainings reached an error rate on their dev set.",
}
EXITS_OF_FAULTS = """

Exit codes: 0 done, 1 a difference was found, 2 bad input or usage, 70 a mistake in asr itself.
"""
CONTESTANTS = {"espnet": "ESPnet", "speechbrain": "SpeechBrain", "baseline": "plain torch"}
COUNT = number(int, between(1, 1_000_000))
SIZES = {  # the fields of Shape and their defaults
    "batch": (16, "utterances in a batch"),
    "frames": (800, "frames of the longest utterance; others have fewer, down to 0.7 times"),
    "chars": (100, "characters of the longest utterance, in training"),
    "layers": (3, "layers of the pyramid; each halves the number of steps"),
    "units": (256, "units per direction, and of the decoder"),
    "beam": (8, "beam width, in decoding"),
}
UNREAD = {("train", "beam"), ("decode", "chars")}  # sizes without effect
_CUTTING = ("vad", "pause_s", "padding_s", "longest_s")  # settings of a long recording


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all benchmarks."""
    parser = Parser("asr bench", description=__doc__)
    verbs = parser.add_subparsers(dest="work", required=True, metavar="BENCHMARK")
    for name, text in BENCHMARKS.items():
        more = EXITS_OF_FAULTS if name == "faults" else ""
        add = verbs.add_parser(name, help=text.rstrip("."), description=text + more).add_argument
        add("--json", action="store_true", help="print one JSON object")
        if name != "speedrun":
            text = "CPU threads; 0 uses every core"
            add("--threads", type=number(int, THREADS), default=0, help=text)
        if name in ("features", "train", "decode", "peers"):
            add("--repeats", type=COUNT, default=5, help="runs; the median is reported")
        _add_own(add, name)
    return parser


def _add_own(add: Callable[..., object], name: str) -> None:
    """Add the options of a benchmark that others do not have."""
    if name == "features":
        add("--seconds", type=COUNT, default=60, help="seconds of audio")
    elif name == "transcribe":
        _add_transcribe(add)
    elif name == "scale":
        add("--utterances", type=COUNT, default=10_000, help="number of utterances")
    elif name == "faults":
        add("--kills", type=COUNT, default=5, help="number of kills (-9)")
        add("--seed", type=int, default=1, help="seed of the random times of the kills")
        text = "processes of the training, of which one is killed at a time"
        add("--ranks", type=COUNT, default=1, help=text)
    elif name == "attention":
        text = "print kind, paper, form in a search, sum of the weights, title"
        add("--list", action="store_true", required=True, help=text)
    elif name == "speedrun":
        _add_speedrun(add)
    else:
        _add_network(add, name)


def _add_network(add: Callable[..., object], name: str) -> None:
    """Add the options of a training step or a search."""
    for size, (default, text) in SIZES.items():
        if (name, size) not in UNREAD:
            add(f"--{size}", type=COUNT, default=default, help=text)
    if name == "peers":
        return
    others = [who for who in CONTESTANTS if name == "train" or who != "baseline"]
    add("--who", choices=["asr", *others], default="asr", help="the toolkit to measure")
    add("--device", default="cpu", help="auto, cpu, cuda or cuda:N")
    if name == "train":
        text = "training settings, whose model and loss are measured instead"
        add("--config", metavar="FILE", help=text)
        text = "print hashes of the losses of 20 small steps and of the hypotheses of a search"
        add("--fingerprint", action="store_true", help=text)
    text = "number format of the matrix products"
    add("--precision", choices=["float32", "bfloat16", "auto"], default="float32", help=text)


def _add_speedrun(add: Callable[..., object]) -> None:
    add("folders", nargs="+", metavar="FOLDER", help="folder of a training, with train.jsonl")
    text = "word error rate on the dev set in percent"
    add("--target", type=number(float, more_than(0, 100)), default=9.0, help=text)
    add("-o", "--out", metavar="FILE", help="draw the error rates over the minutes, as PNG")


def _add_transcribe(add: Callable[..., object]) -> None:
    add("--model", help="model, as for `asr transcribe`")
    add("--data", default="", help="data directory (default: the test set of data/mini)")
    minutes = number(float, more_than(0, 600))
    add("--minutes", type=minutes, default=60.0, help="length of the recording")
    text = "level of the loudest noise in the pauses, in dB relative to full scale"
    add("--noise_db", type=number(float, between(-90, 0)), default=-50.0, help=text)
    add("--beam", type=COUNT, help="beam width (default: that of the model)")
    for name in _CUTTING:
        default = getattr(SegmentationConfig(), name)
        add(f"--{name}", type=type(default), default=default, help="as for `asr transcribe`")


def main(argv: list[str]) -> int:
    """Run ``asr bench``; return the exit code."""
    if argv[:1] == ["attention"] and "--list" not in argv:
        from asr.commands.comparison import main as compare_trainings

        return compare_trainings(argv[1:])
    options = make_parser().parse_args(argv)
    if options.work == "attention":
        return list_kinds(as_json=options.json)
    if options.work == "speedrun":
        return show_speedrun(options)
    from asr.bench import measure
    from asr.commands.machine import machine

    precision, device = getattr(options, "precision", "float32"), getattr(options, "device", "cpu")
    own = options.work == "train" and options.who == "asr"  # keeps memory as `asr train` does
    with machine(options.threads, precision, device, keep_memory=own):
        found = run(options)
        result = {"work": options.work, **found, **measure.machine()}
    if options.json:
        print(json.dumps(plain(result)))
    elif options.work == "peers":
        print("\n".join(_table(found)))
    else:
        result.pop("hypotheses", None)
        print("\n".join(_line(name, value) for name, value in result.items()))
    return EXIT_OK if found.get("identical", True) else EXIT_SOME_FAILED  # by `asr bench faults`


def list_kinds(*, as_json: bool) -> int:
    """Print the kinds of attention; return the exit code."""
    from asr.bench.attention import kinds, table

    rows = list(kinds())
    print(json.dumps(rows) if as_json else "\n".join(table(rows)))
    return EXIT_OK


def show_speedrun(options: argparse.Namespace) -> int:
    """Print, and draw, the minutes of trainings to an error rate; return the exit code."""
    from asr.bench.speedrun import draw, read_run, table

    if options.out:
        check_outputs([options.out], options.folders)
        if Path(options.out).suffix.lower() != ".png":
            raise InputError(f"-o {options.out}: expected a name that ends in .png")
    target = options.target / 100
    runs = [read_run(folder, target) for folder in options.folders]
    print(json.dumps(plain(runs)) if options.json else "\n".join(table(runs, target)))
    if options.out:
        draw(runs, target, options.out)
    return EXIT_OK


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run a benchmark and return its numbers."""
    from asr.bench import benchmarks
    from asr.bench.fingerprint import fingerprint

    if options.work == "features":
        return benchmarks.features(options.seconds, options.repeats)
    if options.work == "transcribe":
        return _transcribe(options)
    if options.work == "peers":
        return compare(options)
    if options.work == "scale":
        from asr.bench.scale import scale

        return scale(options.utterances)
    if options.work == "faults":
        from asr.bench.faults import faults

        return faults(options.kills, options.seed, options.ranks)
    if not getattr(options, "fingerprint", False):
        return _network(options)
    if options.who != "asr" or options.config:
        raise InputError(
            "--fingerprint: measures asr with models of its own; leave out --who, --config"
        )
    return fingerprint()


def _network(options: argparse.Namespace) -> dict[str, Any]:
    """Measure a training step or a search."""
    from asr.bench import benchmarks
    from asr.bench.shape import Shape
    from asr.model.machine import pick_device

    device = pick_device(options.device)
    sizes = [name for name in SIZES if name in options]
    shape = Shape(**{name: getattr(options, name) for name in sizes})
    if options.who != "asr" and (device.type != "cpu" or options.precision != "float32"):
        found = f"--who {options.who}: measured on the processor in float32 only"
        raise InputError(f"{found}; leave --device and --precision out")
    if options.who in ("espnet", "speechbrain") and find_spec(options.who) is None:
        raise InputError(f"--who {options.who}: not installed; run pip install -e '.[peers]'")
    if options.work == "decode":
        numbers = benchmarks.decode(shape, options.repeats, options.who, device)
    else:
        config = None
        if options.config:
            if options.who != "asr":
                raise InputError(f"--who {options.who}: does not support --config; leave it out")
            config = from_dict(TrainConfig, load_yaml(options.config), options.config)
            layers, units = len(config.model.encoder.stack), config.model.decoder.units
            shape = replace(shape, layers=layers, units=units)  # what is printed
        numbers = benchmarks.train(shape, options.repeats, options.who, device, config)
    used = {name: getattr(shape, name) for name in sizes}
    return {"who": options.who, "device": str(device), **used, **numbers}


def _transcribe(options: argparse.Namespace) -> dict[str, Any]:
    from asr.bench.transcribe import transcribe

    search = DecodeConfig(**search_settings(options.model))
    search = search if options.beam is None else replace(search, beam=options.beam)
    segmentation = SegmentationConfig(**{name: getattr(options, name) for name in _CUTTING})
    return transcribe(
        options.model, options.data, options.minutes, options.noise_db, search, segmentation
    )


def compare(options: argparse.Namespace) -> dict[str, dict[str, dict[str, Any]]]:
    """Measure a step and two searches with all toolkits, each in its own process.

    Returns:
        the numbers by job and toolkit.
    """
    import torch

    common = [f"--threads={torch.get_num_threads()}", f"--repeats={options.repeats}"]
    found = {}
    for job, work, more in (
        ("train", "train", []),
        ("decode", "decode", []),
        ("decode_one", "decode", ["--batch=1"]),
    ):
        sizes = [f"--{n}={getattr(options, n)}" for n in SIZES if (work, n) not in UNREAD]
        found[job] = _compare(job, [work, *sizes, *common, *more])
    return found


def _compare(job: str, arguments: list[str]) -> dict[str, dict[str, Any]]:
    """Return the numbers of every toolkit, with their ratios to those of this project."""
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
    """Return the numbers of a toolkit, or None if it cannot be measured here."""
    from asr.bench.measure import in_child

    note(f"{job}: {who}")
    try:
        return in_child([*arguments, f"--who={who}"])
    except RuntimeError as error:
        if who == "asr":
            raise
        print_error(f"  not measured: {error}")
        return None


def _line(name: str, value: Any) -> str:
    return f"{name:28} {value:.4g}" if isinstance(value, float) else f"{name:28} {value}"


def _table(found: dict[str, Any]) -> Iterator[str]:
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
