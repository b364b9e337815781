"""Transcribe audio files of any length and almost any format.

m4a, webm and video need the extra `media`. Without -o, the text goes to standard output. The times
of words come from CTC and are refined by Gaussians of the characters, which a training estimates.

Examples:
    asr transcribe talk.mp3 --model exp/mine -f srt
    asr transcribe recordings/ --recursive -f txt,json -o out

Exit codes: 0 done, 1 some files failed and the others were written, 2 bad input or usage, 70 a
mistake in asr itself.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.config import DecodeConfig, SegmentationConfig
from asr.config.args import (
    add_machine_options,
    add_settings,
    config_files,
    from_args,
    make_parser,
    number,
    settings_of,
)
from asr.config.field import FRACTION
from asr.errors import EXIT_OK, EXIT_SOME_FAILED, InputError, counted, first_line, listed
from asr.files import check_folder, check_not_read, write_text
from asr.recognize.confidence import MIN_CONFIDENCE
from asr.recognize.inputs import Input, collect, printable, probe
from asr.recognize.writers import FORMATS, WHOLE_FILES, formats_from, one_word, outputs, render
from asr.store.find import DEFAULT, default_model, find_model, search_settings
from asr.terminal import note, print_error, reader_gone, warn

if TYPE_CHECKING:
    from asr.console import Progress
    from asr.explain.explainer import Explainer
    from asr.recognize.recognizer import Recognizer
    from asr.recognize.transcript import Transcript


GROUPS = {
    "input": "inputs data list recursive channels",
    "output": "format out skip_existing strict",
    "model": "model min_confidence device threads",
    "search": "beam lm lm_weight word_lm hotwords hotword_weight config",
    "audio": "vad pause_s longest_s",
}


def main(argv: list[str]) -> int:
    """Run ``asr transcribe``; return the exit code."""
    args, config, segmentation = parse_recognition(_parser(), argv)
    formats = formats_from(args.format)
    if args.skip_existing and not args.out:
        raise InputError("--skip-existing: needs -o FOLDER, where it looks for results")
    if args.skip_existing and args.strict and "json" not in formats:
        raise InputError("--strict with --skip-existing: needs -f json, to read earlier flags")
    if args.out is not None:
        _check_folder(args.out)
    with tempfile.TemporaryDirectory(prefix="asr-") as spool:
        inputs, plan = _plan(args, Path(spool), formats)
        code = flagged = 0
        if args.skip_existing:
            inputs, flagged = _skip_existing(inputs, plan, strict=args.strict)
        if plan:
            _note_cut_names(plan)
            others = [*args.inputs, *args.list, *args.data, *files_read(args, config)]
            _check_results(plan, inputs, list(filter(None, others)), args.skip_existing)
        elif len(inputs) * len(formats) > 1 and (whole := set(formats) & set(WHOLE_FILES)):
            found = f"-f {args.format}: {min(whole)} needs a file of its own"
            raise InputError(f"{found}; name a folder with -o")
        elif reader_gone():
            raise InputError("nothing reads standard output; write files with -o FOLDER")
        else:
            _check_names(inputs, formats)
        if inputs:
            with open_recognizer(args, config, segmentation) as recognizer:
                run = _Run(recognizer, inputs, plan, formats)
                code, flagged = run.run(), flagged + run.flagged
        return code or (EXIT_SOME_FAILED if args.strict and flagged else EXIT_OK)


def _check_folder(name: str) -> None:
    """Check the folder for the results, and that its name is not meant to be that of a file."""
    if name == "-":
        raise InputError("-o -: expected a folder; leave -o out for standard output")
    kinds = [kind for kind, (end, _) in FORMATS.items() if name.lower().endswith(end.lower())]
    if kinds and not probe(Path(name).is_dir):
        raise InputError(f"-o {name}: expected a folder; did you mean `-f {kinds[0]} -o FOLDER`?")
    check_folder(name)


def _parser() -> Any:
    parser = make_parser("asr transcribe", __doc__, GROUPS)
    add = parser.add_argument
    add_input_options(parser, "transcribed")
    text = "mix: average all channels; each: transcribe every channel"
    add("--channels", choices=("mix", "each"), default="mix", help=text)
    text = f"formats of the results, separated by commas: all, {', '.join(FORMATS)}"
    add("-f", "--format", default="txt", help=text)
    text = "folder for the results, with one file for each input and format"
    add("-o", "--out", metavar="FOLDER", help=text)
    text = "skip inputs whose results exist, to continue an interrupted run"
    add("--skip-existing", action="store_true", help=text)
    text = "exit with code 1 if a text is flagged (see --min-confidence and the warnings)"
    add("--strict", action="store_true", help=text)
    return parser


def add_input_options(parser: Any, treated: str) -> None:
    """Add the options of verbs that read audio files, which are ``treated``."""
    add = parser.add_argument
    add("inputs", nargs="*", metavar="FILE", help="audio files or folders; - is standard input")
    text = (
        f"Kaldi data directory, whose utterances are {treated}; the commands in its wav.scp are "
        "run; may be repeated"
    )
    add("--data", action="append", default=[], metavar="DIR", help=text)
    text = "text file with one input per line; may be repeated"
    add("--list", action="append", default=[], metavar="FILE", help=text)
    text = "include subfolders" + (", also in the folder of -o" if treated == "transcribed" else "")
    add("--recursive", action="store_true", help=text)


def parse_recognition(
    parser: Any, argv: list[str], *more: type
) -> tuple[Any, DecodeConfig, SegmentationConfig]:
    """Parse the command line of a verb that recognises; its model has the defaults of the search.

    Adds the options of such verbs to the parser: model, threshold of confidence, device, and the
    settings of search and segmentation; ``more`` are further classes of settings.
    """
    text = (
        "folder of a training, folder that contains a single training (exp), model file, or a name "
        "of `asr models`; by default the model that comes with the package"
    )
    parser.add_argument("--model", help=text)
    text = (
        "flag text of lower confidence, on standard error and as low-confidence in JSON; at 0.5, "
        "it is more likely wrong than right. Needs a model with confidences (`asr calibrate`)"
    )
    fraction = number(float, FRACTION)
    parser.add_argument("--min-confidence", type=fraction, default=MIN_CONFIDENCE, help=text)
    config, args = parse_search(parser, argv, SegmentationConfig, *more)
    return args, config, settings_of(SegmentationConfig, args, parser.prog)


def parse_search(parser: Any, argv: list[str], *more: type) -> tuple[DecodeConfig, Any]:
    """Parse the command line of a verb that searches; ``more`` are further classes of settings."""
    add_machine_options(parser)
    add_settings(parser, DecodeConfig, *more)
    return from_args(DecodeConfig, parser, argv, lambda o: search_settings(o.model))


def files_read(args: Any, config: DecodeConfig) -> list[str | Path | None]:
    """Return the files of model, search and settings, which no result may replace."""
    model = find_model(args.model) if args.model else None
    return [config.lm, config.word_lm, config.hotwords, *config_files(args), model]


def _plan(
    args: Any, spool: Path, formats: Sequence[str]
) -> tuple[list[Input], dict[Path, list[Path]]]:
    """Return the inputs, and the files of their results by :attr:`Input.file`, if any."""
    where = {"data": args.data, "lists": args.list, "recursive": args.recursive}
    inputs = collect(args.inputs, spool, **where, channels=args.channels)
    if args.out is None:
        return inputs, {}
    return inputs, outputs(inputs, Path(args.out), formats)


@contextmanager
def open_recognizer(
    args: Any, config: DecodeConfig, segmentation: SegmentationConfig
) -> Iterator["Explainer"]:
    """Open the recogniser of the options of :func:`parse_recognition`, on their device."""
    from asr.commands.machine import machine
    from asr.loading import load

    model = args.model or default_model()
    if not args.model:
        note(f"model: {DEFAULT}, which comes with the package (`asr models`)")
    recognizer = load(model, args.device, config, args.min_confidence, segmentation)
    if recognizer.config.ctc_weight == 0 < config.ctc_weight:
        warn("the model was trained without CTC: searching without it")
    elif config.ctc_weight == 0 and "confidence" in recognizer.header.info:
        warn("no confidences, because they need CTC (--ctc-weight)")
    with machine(args.threads, args.precision, args.device):
        yield recognizer


def _note_cut_names(plan: dict[Path, list[Path]]) -> None:
    for file, (target, *_) in plan.items():
        if not target.name.startswith(file.stem):
            name = printable(file.name)
            note(f"note: {name}: too long for a {target.suffix}; the result is {target.name}")


def _check_results(
    plan: dict[Path, list[Path]], inputs: Sequence[Input], others: Sequence[str | Path], skip: bool
) -> None:
    """Check that no result would replace a file that is read, or a transcript beside the audio."""
    targets = [target for item in inputs for target in plan[item.file]]
    sources = [Path(i.clip.source) for i in inputs if not i.clip.command]  # type: ignore[arg-type]
    check_not_read(targets, [*sources, *others])
    places = {path.parent.resolve() for path in sources} | {Path(each).resolve() for each in others}
    existing = (target for target in targets if target.exists())
    if found := next((target for target in existing if target.parent.resolve() in places), None):
        remedy = "remove the file, or choose another folder with -o"
        if not skip:
            remedy += ", or keep it with --skip-existing"
        raise InputError(
            f"{found}: exists beside the audio and may be a reference, so it is not replaced; "
            f"{remedy}"
        )


def _skip_existing(
    inputs: Sequence[Input], plan: dict[Path, list[Path]], *, strict: bool
) -> tuple[list[Input], int]:
    """Return the inputs without results, and if strict, how many of the others have flags."""
    existing = {file for file, targets in plan.items() if all(t.exists() for t in targets)}
    done = [item for item in inputs if item.file in existing]
    note(f"{len(done)} of {len(inputs)} inputs already have results")
    flagged = sum(_is_flagged(plan[item.file]) for item in done) if strict else 0
    return [item for item in inputs if item.file not in existing], flagged


def _is_flagged(results: Sequence[Path]) -> bool:
    """Return whether the JSON among the results of an input has flags."""
    (path,) = (result for result in results if result.suffix == ".json")
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["flags"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a result of `asr transcribe` ({first_line(error)}); remove it to "
            "transcribe its input again"
        ) from error


@dataclass
class _Run:
    """Transcribes inputs and writes the results."""

    recognizer: "Recognizer"
    inputs: Sequence[Input]
    plan: dict[Path, list[Path]]
    """Files of the results by :attr:`Input.file`; if empty, standard output."""
    formats: Sequence[str]
    done: int = 0
    failed: list[str] = field(default_factory=list)
    """Names of the inputs without results."""
    flagged: int = 0
    """Number of inputs with flags."""
    audio_s: float = 0.0
    kept_s: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def run(self) -> int:
        """Transcribe the inputs and write each result at once; return the exit code."""
        try:
            with _progress(self.inputs) as (bar, task):
                self._all(bar, task)
        except KeyboardInterrupt:
            where = "written; continue with --skip-existing" if self.plan else "printed"
            raise KeyboardInterrupt(f"{self._counts()} {where}") from None
        note(self._summary())
        if self.plan:
            files = counted((self.done - len(self.failed)) * len(self.formats), "file")
            folder = os.path.commonpath([target.parent for target, *_ in self.plan.values()])
            note(f"wrote {files} into {folder or '.'}/")
        if self.failed and self.done > 1:
            print_error(f"asr transcribe: failed: {listed(self.failed, 10)}")
        return EXIT_SOME_FAILED if self.failed else EXIT_OK

    def _counts(self) -> str:
        return f"{self.done - len(self.failed)} of {len(self.inputs)} files"

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
                self.failed.append(item.label)
                message = first_line(error).removeprefix(f"{item.label}: ")
                print_error(f"asr transcribe: {item.label}: {message}")
            self.done += 1
            bar.update(task, description=f"{self.done} of {len(self.inputs)} files")

    def _leave_out_the_rest(self) -> None:
        """Count the other inputs as failed, because nobody would read their texts."""
        left = [item.label for item in self.inputs[self.done :]]
        self.failed, self.done = self.failed + left, len(self.inputs)
        print_error(f"asr transcribe: standard output is closed; {len(left)} texts are missing")

    def _write(self, item: Input, result: "Transcript") -> None:
        self.audio_s += result.duration_s
        self.kept_s += sum(segment.end_s - segment.start_s for segment in result.segments)
        self.flagged += bool(result.flags)
        _warn(item.label, result)
        for target, kind in zip(self.plan.get(item.file, []), self.formats, strict=False):
            name, channel = _name(item), item.clip.channel or 0
            write_text(target, render(result, kind, name, item.label, channel))
        if not self.plan:
            _print(item, result, self.formats, several=len(self.inputs) > 1)

    def _summary(self) -> str:
        seconds = time.monotonic() - self.started
        if self.audio_s == 0:
            return self._counts()
        return (
            f"{self._counts()}, kept {self.kept_s:.1f} of {self.audio_s:.1f} s of audio, in "
            f"{seconds:.1f} s (real-time factor {seconds / self.audio_s:.3f})"
        )


@contextmanager
def _progress(inputs: Sequence[Input]) -> Iterator[tuple["Progress", Any]]:
    """Show a progress bar with the remaining time, if standard error is a terminal."""
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
        redirect_stdout=sys.stdout.isatty(),  # else results would go to standard error
    ) as bar:
        total = sum(map(_seconds, inputs)) if shown else None
        yield bar, bar.add_task(f"0 of {len(inputs)} files", total=total)


def _seconds(item: Input) -> float:
    """Return the length of an input by its header, or 0; later, reading it reports errors."""
    from asr.audio.clip import info

    clip = item.clip
    if clip.end_s is not None:
        return clip.end_s - clip.start_s
    try:
        return 0.0 if clip.command else info(clip.source).duration_s
    except InputError:
        return 0.0


def _warn(label: str, transcript: "Transcript") -> None:
    """Warn on standard error of missing speech and of flagged segments."""
    if not transcript.text:
        warn(f"{label}: {transcript.why_empty}")
    flagged = [segment for segment in transcript.segments if segment.flags]
    if len(flagged) > 1:
        shares = f"{len(flagged)} of {len(transcript.segments)} segments are flagged"
        warn(f"{label}: {shares}: {', '.join(transcript.flags)}; -f json tells which")
    else:
        for segment in flagged:
            sure = "" if segment.confidence is None else f" ({segment.confidence:.2f})"
            flags = ", ".join(segment.flags)
            times = f"{segment.start_s:.1f} to {segment.end_s:.1f} s"
            warn(f"{label}: {times} flagged: {flags}{sure}")


def _name(item: Input) -> str:
    """Return the name of a result in its text: the id in a data directory, or else the file's."""
    whole = item.utterance and item.clip.channel is None
    return printable(item.utterance if whole else item.file.stem)


def _check_names(inputs: Sequence[Input], formats: Sequence[str]) -> None:
    """Refuse results on standard output whose lines would have the same name."""
    first: dict[str, Input] = {}
    for item in inputs if {"ctm", "stm", "trn"}.intersection(formats) else ():
        if (other := first.setdefault(one_word(_name(item)), item)) is not item:
            raise InputError(
                f"{other.label} and {item.label}: both would be called {one_word(_name(item))} on "
                "standard output; name a folder with -o, rename one, or name it once"
            )


def _print(item: Input, transcript: "Transcript", formats: Sequence[str], *, several: bool) -> None:
    """Print a result to standard output; a text is one line with its name if there are several."""
    name = _name(item)
    for kind in formats:
        if kind == "json":
            value = transcript.to_dict(name, item.label)
            print(json.dumps(value, ensure_ascii=False), flush=True)
        elif kind == "txt":
            lines = render(transcript, kind).rstrip("\n")
            print(f"{item.label}\t{transcript.text}" if several else lines, flush=True)
        else:
            print(render(transcript, kind, name, "", item.clip.channel or 0), end="", flush=True)
