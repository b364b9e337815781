"""``asr transcribe``: transcribe audio files."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.config import DecodeConfig, SegmentationConfig
from asr.config.args import (
    add_machine_options,
    add_settings,
    from_args,
    make_parser,
    number,
    settings_of,
)
from asr.config.field import FRACTION
from asr.config.help import Page
from asr.errors import EXIT_SOME_FAILED, InputError, first_line
from asr.files import check_folder, check_not_read, write_text
from asr.recognize.confidence import MIN_CONFIDENCE
from asr.recognize.inputs import Input, answers, collect, printable
from asr.recognize.writers import FORMATS, formats_from, outputs, render
from asr.store.find import DEFAULT, default_model, search_settings
from asr.terminal import note, reader_gone

if TYPE_CHECKING:
    from asr.console import Progress
    from asr.recognize.recognizer import Recognizer
    from asr.recognize.transcript import Transcript


def main(argv: list[str]) -> int:
    """Parse the command line and transcribe; 1 if some of the inputs failed."""
    parser = _parser()
    config, args = from_args(DecodeConfig, parser, argv, lambda o: search_settings(o.model))
    segmentation = settings_of(SegmentationConfig, args, parser.prog)
    formats = formats_from(args.format)
    if args.skip_existing and not args.output:
        raise InputError("--skip-existing: needs -o FOLDER, whose files it looks for")
    if args.skip_existing and args.strict and "json" not in formats:
        raise InputError("--strict with --skip-existing: needs -f json, which tells earlier flags")
    if args.output is not None:
        check_folder(args.output)
    with tempfile.TemporaryDirectory(prefix="asr-") as spool:
        inputs = collect(
            args.inputs,
            Path(spool),
            data=args.data,
            lists=args.list,
            recursive=args.recursive,
            channels=args.channels,
        )
        plan = (
            outputs([item.file for item in inputs], Path(args.output), formats)
            if args.output is not None
            else {}
        )
        flagged = 0
        if args.skip_existing:
            everything, inputs = inputs, _without_results(inputs, plan)
            if args.strict:
                flagged = _flagged_before(everything, inputs, plan)
        code = 0
        if plan:
            _tell_cut_names(plan)
            read = (config.lm, config.word_lm, config.hotwords)
            named = [*args.inputs, *args.list, *args.data, *read]
            check_results(plan, inputs, Path(args.output), named)
        elif reader_gone():
            raise InputError("nothing reads standard output; -o FOLDER writes files")
        if inputs:
            with open_recognizer(args, config, segmentation) as recognizer:
                run = _Run(recognizer, inputs, plan, formats)
                code, flagged = run.run(), flagged + run.flagged
        return code or (EXIT_SOME_FAILED if args.strict and flagged else 0)


PAGE = Page(
    {
        "input": "inputs data list recursive channels",
        "output": "format output skip_existing strict",
        "model": "model min_confidence device threads",
        "search": "beam lm lm_weight word_lm hotwords hotword_weight config",
        "audio": "vad pause_s longest_s",
    },
    (
        "asr transcribe talk.mp3 --model exp/mine -f srt",
        "asr transcribe recordings/ --recursive -f txt,json -o out",
    ),
    "0 done, 1 some files failed and the others were written, 2 bad input or usage",
)


def _parser() -> Any:
    parser = make_parser(
        "asr transcribe",
        "Transcribe audio files of any length and almost any format (video with "
        "the extra `media`). Without -o the text goes to standard output.",
        PAGE,
    )
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="FILE",
        help="audio files, folders; - is standard input",
    )
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="DIR",
        help="Kaldi data directory, whose utterances are transcribed; runs the commands in its "
        "wav.scp; may be given more than once",
    )
    parser.add_argument(
        "--list",
        action="append",
        default=[],
        metavar="FILE",
        help="text file with an input in each line; may be given more than once",
    )
    parser.add_argument("--recursive", action="store_true", help="look into folders below")
    parser.add_argument(
        "--channels",
        choices=("mix", "each"),
        default="mix",
        help="mix: the mean of all channels; each: a transcript for every channel",
    )
    parser.add_argument(
        "-f",
        "--format",
        default="txt",
        help=f"of the results: all, or some of {', '.join(FORMATS)}, with commas between them",
    )
    parser.add_argument("-o", "--output", help="folder for the results, a file for each input")
    parser.add_argument(
        "--skip-existing",
        action="store_true",
        help="leave out inputs whose results are there: goes on where a run was interrupted",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit code 1 where a text may be wrong (see --min-confidence and the warnings)",
    )
    add_model_options(parser)
    add_settings(parser, DecodeConfig, SegmentationConfig)
    return parser


def add_model_options(parser: Any) -> None:
    """The options of commands that recognise: which model, where, how sure."""
    parser.add_argument(
        "--model",
        help="folder of a training or of a recipe's only one (exp), a model file, or a name of "
        "`asr models`; by default the model that comes with the package",
    )
    parser.add_argument(
        "--min-confidence",
        type=number(float, FRACTION),
        default=MIN_CONFIDENCE,
        help="text that the model is less sure of is flagged: on standard error, and by the flag "
        "low-confidence in JSON. At 0.5 it is more likely wrong than right. For models that "
        "`asr calibrate` has taught how sure they are",
    )
    add_machine_options(parser)


@contextmanager
def open_recognizer(
    args: Any, config: DecodeConfig, segmentation: SegmentationConfig
) -> Iterator["Recognizer"]:
    """The recogniser that the options of :func:`add_model_options` ask for, and its machine."""
    from asr.commands.machine import machine
    from asr.loading import load

    model = args.model or default_model()
    if not args.model:
        note(f"model: {DEFAULT}, which comes with the package (`asr models`)")
    recognizer = load(model, args.device, config, args.min_confidence, segmentation)
    if recognizer.config.ctc_weight == 0 < config.ctc_weight:
        print("this model was trained without CTC and is searched without it", file=sys.stderr)
    elif config.ctc_weight == 0 and "confidence" in recognizer.header.info:
        print("without CTC (--ctc_weight 0) there is no confidence", file=sys.stderr)
    with machine(args.threads, args.precision):
        yield recognizer


def _tell_cut_names(plan: dict[Path, list[Path]]) -> None:
    for file, targets in plan.items():
        if not targets[0].name.startswith(file.stem):
            print(
                f"note: {printable(file.name)}: with so long a name there can be no "
                f"{targets[0].suffix} beside it; the result is {targets[0].name}",
                file=sys.stderr,
            )


def check_results(
    plan: dict[Path, list[Path]], inputs: Sequence[Input], folder: Path, others: Sequence[str]
) -> None:
    """Refuse, before the work, results that would replace what is not of this command.

    Args:
        plan: of :func:`asr.recognize.writers.outputs`.
        inputs: those that are going to be transcribed.
        folder: that of the results.
        others: what else the command line names to be read: folders, lists, hot words.

    Raises:
        InputError: the folder cannot be written, a result has the name of a file that is read, or
            there is such a file beside the audio, where transcripts are that people made.
    """
    targets = [target for item in inputs for target in plan[item.file]]
    sources = [Path(i.clip.source) for i in inputs if not i.clip.command]  # type: ignore[arg-type]
    check_not_read(targets, [*sources, *others])
    places = {path.parent for path in sources} | set(map(Path, others))
    if not any(answers(partial(place.samefile, folder)) for place in places):
        return
    if found := next((target for target in targets if target.exists()), None):
        raise InputError(
            f"{found}: stands beside the audio and may be made by hand, so it is not replaced; "
            "name another folder with -o, remove it, or keep it with --skip-existing"
        )


def _without_results(inputs: Sequence[Input], plan: dict[Path, list[Path]]) -> list[Input]:
    left = [item for item in inputs if not all(target.exists() for target in plan[item.file])]
    done = len(inputs) - len(left)
    note(f"{done} of {len(inputs)} inputs have their results already")
    return left


def _flagged_before(
    inputs: Sequence[Input], left: Sequence[Input], plan: dict[Path, list[Path]]
) -> int:
    """How many of the inputs that are left out have a flag in their JSON."""
    flagged, todo = 0, {item.file for item in left}
    for item in inputs:
        if item.file in todo:
            continue
        (path,) = (target for target in plan[item.file] if target.suffix == ".json")
        try:
            flags = json.loads(path.read_text(encoding="utf-8"))["flags"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: no result of `asr transcribe` ({first_line(error)}); remove it, and its "
                "input is transcribed again"
            ) from error
        flagged += bool(flags)
    return flagged


@dataclass
class _Run:
    """The inputs of a command on their way to results."""

    recognizer: "Recognizer"
    inputs: Sequence[Input]
    plan: dict[Path, list[Path]]
    """Files of the results by :attr:`Input.file`; empty: standard output."""
    formats: Sequence[str]
    done: int = 0
    failed: int = 0
    flagged: int = 0
    """Those of whose texts some may be wrong."""
    audio_s: float = 0.0
    kept_s: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def run(self) -> int:
        """Transcribe and write each as it comes; returns the exit code."""
        try:
            with _progress(self.inputs) as (bar, task):
                self._all(bar, task)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._what_is_done()) from None
        note(self._summary())
        return EXIT_SOME_FAILED if self.failed else 0

    def _all(self, bar: "Progress", task: Any) -> None:
        from asr.recognize.directory import stats_of_inputs

        found = self.recognizer.transcribe_each(
            (item.clip for item in self.inputs),
            speakers=stats_of_inputs(self.inputs, self.recognizer.header.config.features),
            report=lambda seconds: bar.advance(task, seconds),
        )
        for item, result in zip(self.inputs, found, strict=True):
            try:
                if isinstance(result, InputError):
                    raise result
                self._write(item, result)
                if not self.plan and reader_gone():
                    self._leave_out_the_rest()
                    break
            except InputError as error:
                self.failed += 1
                print(f"asr transcribe: {_named(item.label, first_line(error))}", file=sys.stderr)
            self.done += 1
            bar.update(task, description=f"{self.done} of {len(self.inputs)} files")

    def _leave_out_the_rest(self) -> None:
        """Whatever is printed now is lost."""
        left = len(self.inputs) - self.done
        self.failed, self.done = self.failed + left, len(self.inputs)
        print(
            f"asr transcribe: nothing reads standard output any more; {left} texts are left out",
            file=sys.stderr,
        )

    def _write(self, item: Input, result: "Transcript") -> None:
        self.audio_s += result.duration_s
        self.kept_s += sum(segment.end_s - segment.start_s for segment in result.segments)
        self.flagged += bool(result.flags)
        _warn(item.label, result)
        for target, kind in zip(self.plan.get(item.file, []), self.formats, strict=False):
            write_text(target, render(result, kind, printable(item.file.stem), item.label))
        if not self.plan:
            _print(item, result, self.formats, several=len(self.inputs) > 1)

    def _summary(self) -> str:
        seconds = time.monotonic() - self.started
        line = f"{self.done - self.failed} of {len(self.inputs)} files"
        if self.audio_s == 0:
            return line
        return (
            f"{line}, kept {self.kept_s:.1f} of {self.audio_s:.1f} s of audio, in {seconds:.1f} s"
            f" (real-time factor {seconds / self.audio_s:.3f})"
        )

    def _what_is_done(self) -> str:
        where = "written; --skip-existing goes on with the others" if self.plan else "printed"
        good = self.done - self.failed
        return f"{good} of {len(self.inputs)} files are {where}"


@contextmanager
def _progress(inputs: Sequence[Input]) -> Iterator[tuple["Progress", Any]]:
    """A bar with the time that is left, where standard error is a terminal."""
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    from asr.console import Console, Progress

    console = Console(stderr=True)
    shown = console.is_terminal
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not shown,
        redirect_stdout=sys.stdout.isatty(),  # else it would move the results to standard error
    ) as bar:
        total = sum(map(_seconds, inputs)) if shown else None
        yield bar, bar.add_task(f"0 of {len(inputs)} files", total=total)


def _seconds(item: Input) -> float:
    """Length of an input as far as its header tells; failures are reported when it is read."""
    from asr.audio.clip import info

    clip = item.clip
    if clip.end_s is not None:
        return clip.end_s - clip.start_s
    try:
        return 0.0 if clip.command else info(clip.source).duration_s
    except InputError:
        return 0.0


def _named(label: str, message: str) -> str:
    return message if message.startswith(label) else f"{label}: {message}"


def _warn(label: str, transcript: "Transcript") -> None:
    """Say on standard error that there is no speech, or which segments are suspicious."""
    if not transcript.segments:
        print(f"warning: {label}: no speech found", file=sys.stderr)
    for segment in transcript.segments:
        if segment.flags:
            sure = segment.confidence
            print(
                f"warning: {label}: {segment.start_s:.1f} to {segment.end_s:.1f} s may be wrong: "
                f"{', '.join(segment.flags)}" + ("" if sure is None else f" ({sure:.2f})"),
                file=sys.stderr,
            )


def _print(item: Input, transcript: "Transcript", formats: Sequence[str], *, several: bool) -> None:
    """To standard output: the text, with the file's name where there are several."""
    for kind in formats:
        if kind == "json":
            value = transcript.to_dict(printable(item.file.stem), item.label)
            print(json.dumps(value, ensure_ascii=False), flush=True)
        elif kind == "txt":
            text = transcript.text
            print(f"{item.label}\t{text}" if several else text, flush=True)
        else:
            sys.stdout.write(render(transcript, kind, printable(item.file.stem)))
            sys.stdout.flush()
