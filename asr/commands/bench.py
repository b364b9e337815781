"""``asr bench``: how fast this is here, and how fast others are."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from asr.bench import benchmarks as workloads
from asr.bench import measure
from asr.bench.fingerprint import fingerprint
from asr.bench.shape import Shape
from asr.config import DecodeConfig, SegmentationConfig, TrainConfig, from_dict, load_yaml
from asr.errors import InputError
from asr.model.fast.product import use_precision
from asr.model.machine import pick_device, use_threads

CONTESTANTS = {"espnet": "ESPnet", "speechbrain": "SpeechBrain", "straight": "straight torch"}
MOST = 1_000_000  # of anything that is counted

_CUTTING = ("vad", "pause_s", "padding_s", "longest_s")  # settings of a long recording


def make_parser() -> argparse.ArgumentParser:
    """The options of all workloads."""
    parser = argparse.ArgumentParser(
        prog="asr bench",
        description="Measure speed and memory, with fixed seeds, warm-up and the median of runs.",
    )
    once = argparse.ArgumentParser(add_help=False)
    once.add_argument("--threads", type=int, default=0, help="0 takes every core")
    once.add_argument("--json", action="store_true", help="one JSON object, nothing else")
    common = argparse.ArgumentParser(add_help=False, parents=[once])
    common.add_argument("--repeats", type=int, default=5, help="runs of which the median counts")
    shape = argparse.ArgumentParser(add_help=False)
    for name, text in (
        ("batch", "utterances"),
        ("frames", "frames of the longest; lengths go down to 70 %% in training"),
        ("chars", "characters of the longest, in training"),
        ("layers", "layers of the pyramid; each halves the steps"),
        ("units", "units per direction, and of the decoder"),
        ("beam", "hypotheses, in decoding"),
    ):
        default = getattr(Shape(), name)
        shape.add_argument(f"--{name}", type=int, default=default, help=f"{text} ({default})")
    kinds = parser.add_subparsers(dest="work", required=True)
    for name, text in (("train", "one training step"), ("decode", "a beam search")):
        kind = kinds.add_parser(name, parents=[common, shape], help=text, description=text)
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
    text = "the same work through straight torch, and ESPnet and SpeechBrain if installed"
    kinds.add_parser("peers", parents=[common, shape], help=text, description=text)
    for name, option, default, text in (
        ("features", "seconds", 60, "filterbanks of so many seconds, beside torchaudio's"),
        ("loader", "utterances", 120, "reading and changing audio for a training"),
        ("score", "pairs", 2000, "word errors of so many pairs, beside jiwer"),
    ):
        kind = kinds.add_parser(name, parents=[common], help=text, description=text)
        kind.add_argument(f"--{option}", type=int, default=default, help=f"({default})")
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
    return parser


def _shape(options: argparse.Namespace) -> Shape:
    shape = Shape(**{name: getattr(options, name) for name in asdict(Shape())})
    for name, value in asdict(shape).items():
        _check_count(name, value)
    return shape


def _check_count(name: str, value: int) -> None:
    if not 1 <= value <= MOST:
        raise InputError(f"--{name} {value}: expected 1 or more, at most {MOST}")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what was asked for."""
    simple: dict[str, tuple[Callable[[int, int], dict[str, Any]], str]] = {
        "features": (workloads.features, "seconds"),
        "loader": (workloads.loader, "utterances"),
        "score": (workloads.score, "pairs"),
    }
    if options.work in simple:
        work, size = simple[options.work]
        _check_count(size, getattr(options, size))
        return work(getattr(options, size), options.repeats)
    if options.work == "transcribe":
        return _transcribe(options)
    if getattr(options, "fingerprint", False):
        return fingerprint()
    shape = _shape(options)
    use_precision(options.precision)
    device = pick_device(options.device)
    if device.type != "cpu" and options.who != "asr":
        raise InputError(f"--who {options.who}: measured on the processor only, with --device cpu")
    if options.work == "decode":
        numbers = workloads.decode(shape, options.repeats, options.who, device)
    else:
        config = None
        if options.config:
            if options.who != "asr":
                raise InputError(f"--who {options.who}: does not know the model of --config")
            config = from_dict(TrainConfig, load_yaml(options.config), options.config)
        numbers = workloads.train(shape, options.repeats, options.who, device, config)
    return {"who": options.who, "device": str(device), **asdict(shape), **numbers}


def _transcribe(options: argparse.Namespace) -> dict[str, Any]:
    from asr.bench import transcribe as long

    if not 0 < options.minutes <= 600:
        raise InputError(f"--minutes {options.minutes}: expected more than 0, at most 600")
    if not long.LOWEST_DB <= options.noise_db <= 0:
        raise InputError(f"--noise_db {options.noise_db}: expected {long.LOWEST_DB:g} to 0")
    search = DecodeConfig(beam=options.beam)
    segmentation = SegmentationConfig(**{name: getattr(options, name) for name in _CUTTING})
    return long.transcribe(
        options.model, options.data, options.minutes, options.noise_db, search, segmentation
    )


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Run a step and two searches through everybody's classes, each in its own process."""
    shape = _shape(options)
    sizes = [f"--{name}={value}" for name, value in asdict(shape).items()]
    common = [f"--threads={torch.get_num_threads()}", f"--repeats={options.repeats}"]
    jobs = {
        "train": ["train", *sizes, *common],
        "decode": ["decode", *sizes, *common],
        "decode_one": ["decode", *sizes, "--batch=1", *common],
    }
    found: dict[str, dict[str, Any]] = {}
    for job, arguments in jobs.items():
        found[job] = {}
        for who in ("asr", *CONTESTANTS):
            if job != "train" and who == "straight":
                continue
            print(f"{job}: {who}", file=sys.stderr)
            try:
                numbers = measure.in_child([*arguments, f"--who={who}"])
            except RuntimeError as error:
                if who == "asr":
                    raise
                print(f"  not measured: {error}", file=sys.stderr)
                continue
            found[job][who] = numbers
        ours = found[job]["asr"]
        for numbers in found[job].values():
            numbers["ratio"] = numbers["seconds"] / ours["seconds"]
            numbers["memory_ratio"] = numbers["peak_memory_mb"] / ours["peak_memory_mb"]
            if "hypotheses" in numbers:
                numbers["same_hypotheses"] = numbers["hypotheses"] == ours["hypotheses"]
        for numbers in found[job].values():
            numbers.pop("hypotheses", None)
    return found


def _show(name: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{name:28} {value:.4g}"
    return f"{name:28} {value}"


def _table(found: dict[str, Any]) -> str:
    titles = {
        "train": "one training step",
        "decode": "beam search, the batch",
        "decode_one": "beam search, one utterance",
    }
    lines = []
    for job, contestants in found.items():
        lines.append(f"{titles[job]:28} {'seconds':>9} {'x asr':>7} {'x real time':>12} {'MB':>7}")
        for who, n in contestants.items():
            same = {True: "  same hypotheses", False: "  OTHER HYPOTHESES"}
            note = same.get(n.get("same_hypotheses"), "") if who == "espnet" else ""
            lines.append(
                f"  {CONTESTANTS.get(who, who):26} {n['seconds']:9.3f} {n['ratio']:7.2f} "
                f"{n['times_real_time']:12.0f} {n['peak_memory_mb']:7.0f}{note}"
            )
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """``asr bench WORK``; returns the exit code."""
    options = make_parser().parse_args(argv)
    use_threads(options.threads)
    _check_count("repeats", getattr(options, "repeats", 1))
    if options.work == "peers":
        found = compare(options)
        print(json.dumps({**measure.machine(), **found}) if options.json else _table(found))
        return 0
    result = {"work": options.work, **run(options), **measure.machine()}
    if options.json:
        print(json.dumps(result))
    else:
        result.pop("hypotheses", None)
        print("\n".join(_show(name, value) for name, value in result.items()))
    return 0
