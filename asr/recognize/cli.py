"""``asr transcribe``: write down what is said in audio files."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asr.config import DecodeConfig, add_settings, from_args, make_parser
from asr.errors import EXIT_SOME_FAILED, InputError, first_line
from asr.files import write_text
from asr.model.find import DEFAULT, default_model, search_settings
from asr.recognize.confidence import LOW
from asr.recognize.writers import outputs, render

if TYPE_CHECKING:
    from asr.recognize.transcript import Transcript

SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".sph"}


def collect(inputs: Sequence[str], *, recursive: bool) -> list[Path]:
    """Audio files of the inputs, folders opened.

    Raises:
        InputError: a folder holds no audio.
    """
    files: list[Path] = []
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            inside = path.rglob("*") if recursive else path.glob("*")
            found = sorted(p for p in inside if p.suffix.lower() in SUFFIXES)
            if not found:
                hint = "" if recursive else "; --recursive looks into folders below"
                raise InputError(
                    f"{path}: no audio file ({', '.join(sorted(SUFFIXES))}) in it{hint}"
                )
            files += found
        else:
            files.append(path)
    return files


def main(argv: list[str]) -> int:
    """Parse the command line and transcribe; 1 if some of the inputs failed."""
    parser = make_parser(
        "asr transcribe",
        "Write down what is said in audio files (wav, flac, ogg, opus, mp3, NIST SPHERE; any rate, "
        "any number of channels). Without -o the text goes to standard output. Audio longer than "
        "30 s is cut at quiet places. Exit code 1: some files failed, the others were written.",
    )
    parser.add_argument("inputs", nargs="+", metavar="FILE", help="audio files and folders")
    parser.add_argument(
        "--model",
        help="folder of a training, a model file, or a name of `asr models`; by default the "
        "model that comes with the package",
    )
    parser.add_argument(
        "-f", "--format", choices=("txt", "json", "all"), default="txt", help="of the results"
    )
    parser.add_argument("-o", "--output", help="folder for the results, a file for each input")
    parser.add_argument("--recursive", action="store_true", help="look into folders below")
    parser.add_argument(
        "--min-confidence",
        type=float,
        default=LOW,
        help="text that the model is less sure of is marked: on standard error, and by the flag "
        "low-confidence in JSON. At 0.5 it is more likely wrong than right. For models that "
        "`asr calibrate` has taught how sure they are",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit code 1 where a text may be wrong (see --min-confidence and the warnings)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes every core")
    add_settings(parser, DecodeConfig)
    config, args = from_args(DecodeConfig, parser, argv, lambda o: search_settings(o.model))

    formats = ("txt", "json") if args.format == "all" else (args.format,)
    files = collect(args.inputs, recursive=args.recursive)
    plan = outputs(files, Path(args.output), formats) if args.output else {}

    from asr.device import use_threads
    from asr.recognize import load

    use_threads(args.threads)
    model = args.model or default_model()
    if not args.model:
        print(f"model: {DEFAULT}, which comes with the package (`asr models`)", file=sys.stderr)
    recognizer = load(model, args.device, config, args.min_confidence)
    if config.ctc_weight == 0 and "confidence" in recognizer.loaded.info:
        print("without CTC (--ctc_weight 0) there is no confidence", file=sys.stderr)
    failed, marked, audio_s, started = 0, 0, 0.0, time.monotonic()
    for file, result in zip(files, recognizer.transcribe_each(files), strict=True):
        if isinstance(result, InputError):
            failed += 1
            print(f"asr transcribe: {_named(file, first_line(result))}", file=sys.stderr)
            continue
        audio_s += result.duration_s
        marked += bool(result.flags)
        _warn(file, result)
        for target in plan.get(file, []):
            write_text(target, render(result, target.suffix[1:]))
        if not plan:
            _print(file, result, formats, several=len(files) > 1)
    seconds = time.monotonic() - started
    if audio_s:
        print(
            f"{len(files) - failed} of {len(files)} files, {audio_s:.1f} s of audio in "
            f"{seconds:.1f} s"
            f" (real-time factor {seconds / audio_s:.3f})",
            file=sys.stderr,
        )
    return EXIT_SOME_FAILED if failed or (args.strict and marked) else 0


def _named(file: Path, message: str) -> str:
    return message if message.startswith(str(file)) else f"{file}: {message}"


def _warn(file: Path, transcript: "Transcript") -> None:
    """Say on standard error which segments are suspicious."""
    for segment in transcript.segments:
        if segment.flags:
            sure = segment.confidence
            print(
                f"warning: {file}: {segment.start_s:.1f} to {segment.end_s:.1f} s may be wrong: "
                f"{', '.join(segment.flags)}" + ("" if sure is None else f" ({sure:.2f})"),
                file=sys.stderr,
            )


def _print(file: Path, transcript: "Transcript", formats: Sequence[str], *, several: bool) -> None:
    """To standard output: the text, with the file's name where there are several."""
    for kind in formats:
        if kind == "json":
            value = {"file": str(file), **transcript.to_dict()}
            print(json.dumps(value, ensure_ascii=False), flush=True)
        else:
            print(f"{file}\t{transcript.text}" if several else transcript.text, flush=True)
