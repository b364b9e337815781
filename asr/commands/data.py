"""``asr data``: Kaldi data directories."""

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from asr.config.args import number
from asr.config.field import SEED, at_least
from asr.config.help import Parser
from asr.errors import EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE, counted
from asr.files import check_folder, check_not_read

if TYPE_CHECKING:
    from asr.corpus.importing import Imported

DESCRIPTION = "Check, fix, describe, cut, join and import Kaldi data directories."
COUNTED = ("first", "last", "random", "shortest")

Verbs: TypeAlias = "argparse._SubParsersAction[Parser]"


def main(argv: list[str]) -> int:
    """Run one of the verbs below ``asr data``."""
    parser = make_parser()
    if not argv:
        parser.print_help()
        return EXIT_USAGE
    args = parser.parse_args(argv)
    return int(args.run(args))


def make_parser() -> argparse.ArgumentParser:
    """The options of every verb."""
    parser = Parser(
        prog="asr data",
        description=DESCRIPTION,
        epilog="asr data VERB --help explains a verb and gives an example.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for add in (_validate, _fix, _stats, _subset, _hold_out, _combine, _split, _import):
        add(verbs)
    return parser


def _verb(
    verbs: Verbs, run: Callable[[argparse.Namespace], int], summary: str, example: str
) -> argparse.ArgumentParser:
    """Add a verb with the name of its function, whose docstring is the help."""
    verb = verbs.add_parser(
        run.__name__.removeprefix("run_").replace("_", "-"),
        help=summary,
        description=inspect.getdoc(run),
        epilog=f"example:\n  {example}",
    )
    verb.set_defaults(run=run)
    return verb


def _say(message: str) -> None:
    print(message, file=sys.stderr)


# -- validate, fix ---------------------------------------------------------------------------


def _validate(verbs: Verbs) -> None:
    verb = _verb(
        verbs,
        run_validate,
        "list every problem, with file and line",
        "asr data validate data/train --check-audio",
    )
    verb.add_argument("dir", metavar="DIR", help="the data directory")
    for name, file, default in (
        ("text", "text", True),
        ("wav", "wav.scp", True),
        ("feats", "feats.scp", False),
    ):
        usual = "required" if default else "not required"
        verb.add_argument(
            f"--{name}",
            action=argparse.BooleanOptionalAction,
            default=default,
            help=f"whether {file} has to be there ({usual} unless said); it is checked if it is",
        )
    verb.add_argument(
        "--check-audio",
        action="store_true",
        help="open every audio file, and compare its length with utt2dur, reco2dur and segments",
    )


def run_validate(args: argparse.Namespace) -> int:
    """List every problem of a data directory with file, line, and how to fix it.

    Stricter than Kaldi's validator. Exit code 0: valid; 2: it has problems.
    """
    from asr.corpus.validate import validate, warnings

    problems = validate(
        args.dir, text=args.text, wav=args.wav, feats=args.feats, audio=args.check_audio
    )
    if problems:
        return _tell_problems(args.dir, problems)
    for warning in warnings(args.dir):
        _say(f"warning: {warning}")
    print(f"{args.dir}: valid: {_contents(args.dir)}")
    return EXIT_OK


def _tell_problems(path: str, problems: Sequence[object]) -> int:
    for problem in problems:
        _say(str(problem))
    count = counted(len(problems), "problem")
    _say(f"{count} in {path}; `asr data fix {path}` fixes sorting, list mismatches and characters")
    return EXIT_USAGE


def _contents(path: str) -> str:
    """Counts of a valid directory; hours where durations are known without reading audio."""
    from asr.corpus.tables import read_tables

    tables = read_tables(path)
    utterances = counted(len(tables["utt2spk"]), "utterance")
    speakers = counted(len(set(tables["utt2spk"].values())), "speaker")
    seconds = [float(value) for value in tables.get("utt2dur", {}).values()]
    if not seconds:
        times = [segment.split()[1:] for segment in tables.get("segments", {}).values()]
        seconds = [float(end) - float(begin) for begin, end in times]
    hours = f", {sum(seconds) / 3600:.2f} hours" if seconds else ""
    return f"{utterances}, {speakers}{hours}"


def _fix(verbs: Verbs) -> None:
    verb = _verb(
        verbs,
        run_fix,
        "sort, and keep the utterances that every file has",
        "asr data fix data/train",
    )
    verb.add_argument("dir", metavar="DIR", help="the data directory")


def run_fix(args: argparse.Namespace) -> int:
    """Sort the tables and keep the utterances that every file has.

    Removes malformed lines, doubles and invisible characters, composes letters (Unicode NFC) and
    derives spk2utt. Tells every line that it removes; the files as they were are in DIR/.backup.
    Exit code 2: something is left that only you can fix.
    """
    from asr.corpus.edit import fix
    from asr.corpus.validate import validate

    for line in fix(args.dir) or [f"{args.dir}: nothing to fix"]:
        print(line)
    rest = validate(args.dir, text=(Path(args.dir) / "text").is_file())
    for problem in rest:
        _say(str(problem))
    if rest:
        _say(f"{counted(len(rest), 'problem')} in {args.dir} could not be fixed; edit the files")
    return EXIT_USAGE if rest else EXIT_OK


# -- stats -----------------------------------------------------------------------------------


def _stats(verbs: Verbs) -> None:
    verb = _verb(
        verbs,
        run_stats,
        "counts, durations, and transcripts that look wrong",
        "asr data stats data/train",
    )
    verb.add_argument("dir", metavar="DIR", help="the data directory")
    verb.add_argument("--json", action="store_true", help="as one JSON object")


def run_stats(args: argparse.Namespace) -> int:
    """Describe a data directory, and list the transcripts that hardly fit their audio.

    Counts utterances, speakers, hours and words, and shows how durations and speaking rates
    spread. Durations come from utt2dur or segments, else from the headers of the audio files.
    """
    from asr.corpus.datadir import DataDir
    from asr.corpus.stats import describe, show

    text = (Path(args.dir) / "text").is_file()
    stats = describe(DataDir.load(args.dir, text=text))
    if args.json:
        print(json.dumps(stats, ensure_ascii=False))
    else:
        from asr.console import Console

        show(stats, Console())
    return EXIT_OK


# -- subset, combine, split ------------------------------------------------------------------


def _subset(verbs: Verbs) -> None:
    verb = _verb(
        verbs,
        run_subset,
        "some of the utterances",
        "asr data subset data/all data/dev --speakers dev_speakers.txt\n"
        "  asr data subset data/train data/train_500 --random 500 --seed 1",
    )
    verb.add_argument("dir", metavar="IN", help="the directory to choose from")
    verb.add_argument("out", metavar="OUT", help="the directory to write")
    ways = verb.add_mutually_exclusive_group(required=True)
    ways.add_argument("--speakers", metavar="FILE", help="all of the speakers listed in a file")
    ways.add_argument("--utts", metavar="FILE", help="the utterances listed in a file")
    for way, text in (
        ("first", "the first N"),
        ("last", "the last N"),
        ("random", "N drawn at random"),
        ("shortest", "the N shortest (needs utt2dur or segments)"),
        ("per-speaker", "the first N of every speaker, or all if there are fewer"),
    ):
        ways.add_argument(f"--{way}", type=number(int, at_least(1)), metavar="N", help=text)
    verb.add_argument(
        "--seed", type=number(int, SEED), default=0, help="of --random (default: %(default)s)"
    )


def run_subset(args: argparse.Namespace) -> int:
    """Write a directory with some of the utterances of another one; all tables follow."""
    from asr.corpus.datadir import DataDir
    from asr.corpus.edit import choose, first_of_each_speaker, of_speakers, subset

    data = DataDir.load(args.dir, text=False)
    if args.speakers:
        keep = of_speakers(data, _listed(args.speakers))
    elif args.utts:
        keep = _listed(args.utts)
    elif args.per_speaker:
        keep = first_of_each_speaker(data, args.per_speaker)
    else:
        way = next(way for way in COUNTED if getattr(args, way))
        keep = choose(data, way, getattr(args, way), args.seed)
    print(f"{args.out}: {counted(subset(args.dir, args.out, keep), 'utterance')}")
    return EXIT_OK


def _listed(path: str) -> list[str]:
    """Ids in a file: the first word of every line, so that text or utt2spk will do."""
    from asr.text.transcripts import read_lines

    return [line.split()[0] for line in read_lines(path) if line.strip()]


def _hold_out(verbs: Verbs) -> None:
    verb = _verb(
        verbs,
        run_hold_out,
        "a set to test on that has no speaker and no sentence of the rest",
        "asr data hold-out data/all data/train data/dev --share 0.1 --disjoint speaker,text",
    )
    verb.add_argument("dir", metavar="DIR", help="the directory to cut")
    verb.add_argument("train", metavar="TRAIN", help="the directory to write for training")
    verb.add_argument("dev", metavar="DEV", help="the directory to write with what is held out")
    verb.add_argument(
        "--share", type=float, default=0.1, help="of the utterances (default: %(default)s)"
    )
    verb.add_argument(
        "--disjoint",
        type=lambda names: [name.strip() for name in names.split(",")],
        default=["speaker", "text"],
        metavar="KEYS",
        help="what the two have nothing in common of: speaker, text, recording, joined by commas "
        "(default: speaker,text)",
    )
    verb.add_argument(
        "--seed", type=number(int, SEED), default=0, help="of the draw (default: %(default)s)"
    )


def run_hold_out(args: argparse.Namespace) -> int:
    """Cut a directory in two parts without a common speaker or sentence.

    DEV has about the share of the utterances, TRAIN the rest; all tables follow. Sentences are
    compared without case and punctuation. Exit code 2: there is no such cut; the nearest one is
    told, and nothing is written.
    """
    from asr.corpus.holdout import hold_out

    cut = hold_out(args.dir, args.train, args.dev, args.share, args.disjoint, args.seed)
    print(f"{args.train}: {counted(cut.train, 'utterance')}")
    share = f"{100 * cut.share:.1f} %, {100 * args.share:g} % were asked for"
    print(f"{args.dev}: {counted(cut.dev, 'utterance')} ({share})")
    return EXIT_OK


def _combine(verbs: Verbs) -> None:
    verb = _verb(
        verbs,
        run_combine,
        "join directories",
        "asr data combine data/train_all data/train_a data/train_b",
    )
    verb.add_argument("out", metavar="OUT", help="the directory to write")
    verb.add_argument("dirs", nargs="+", metavar="IN", help="the directories to join")


def run_combine(args: argparse.Namespace) -> int:
    """Join directories.

    Files that only some of them have are left out and named; the same id with different
    contents is refused.
    """
    from asr.corpus.edit import combine

    number, left_out = combine(args.out, args.dirs)
    if left_out:
        _say(f"warning: left out, not every directory has them: {', '.join(left_out)}")
    print(f"{args.out}: {counted(number, 'utterance')}")
    return EXIT_OK


def _split(verbs: Verbs) -> None:
    verb = _verb(verbs, run_split, "parts for parallel jobs", "asr data split data/train 4")
    verb.add_argument("dir", metavar="DIR", help="the data directory")
    verb.add_argument("parts", type=number(int, at_least(1)), metavar="N", help="number of parts")
    verb.add_argument("--per-utt", action="store_true", help="speakers may be cut too")


def run_split(args: argparse.Namespace) -> int:
    """Cut a directory into N parts of about the same size, and print them.

    The parts are DIR/split<N>/<n> by speaker, or DIR/split<N>utt/<n> by utterance.
    """
    from asr.corpus.edit import split

    for folder in split(args.dir, args.parts, by_utterance=args.per_utt):
        print(folder)
    return EXIT_OK


# -- import ----------------------------------------------------------------------------------


def _import(verbs: Verbs) -> None:
    from asr.corpus.table_formats import ALIASES, COLUMNS

    verb = _verb(
        verbs,
        run_import,
        "make a directory from a table, a folder, or another directory",
        "asr data import data/all --table recordings.csv --normalize librispeech\n"
        "  asr data import data/all --folder recordings --speaker-from folder\n"
        "  asr data import data/train --kaldi corpus/train --root corpus",
    )
    verb.add_argument("out", metavar="OUT", help="the directory to write")
    ways = verb.add_mutually_exclusive_group(required=True)
    ways.add_argument(
        "--table",
        metavar="FILE",
        help="CSV (any usual separator), TSV (no quoting), JSON lines (.jsonl) or a manifest "
        "(.json); paths are relative to its folder, or to clips or wavs in it",
    )
    ways.add_argument("--folder", metavar="DIR", help="pairs a.wav + a.txt, also in folders below")
    ways.add_argument("--kaldi", metavar="DIR", help="wav.scp, text, utt2spk, in any order")
    verb.add_argument(
        "--root",
        default=".",
        metavar="CORPUS",
        help="for --kaldi: where relative paths in wav.scp start (default: the current folder)",
    )
    verb.add_argument(
        "--speaker-from",
        choices=("folder", "none"),
        default="none",
        help="for --folder: the speaker is the folder that holds the file; none (default): "
        "every utterance is its own speaker",
    )
    verb.add_argument(
        "--normalize",
        default="none",
        metavar="NAME",
        help="what is done to transcripts: none (default), or librispeech (capitals, no marks)",
    )
    for column in COLUMNS:
        others = ", ".join((column, *ALIASES.get(column, ())))
        verb.add_argument(
            f"--{column}-column",
            default=column,
            metavar="NAME",
            help=f"for --table: the column of the {column} (default: {others})",
        )


def run_import(args: argparse.Namespace) -> int:
    """Make a data directory from a table, a folder of a.wav + a.txt, or another directory.

    Ids get the speaker in front, paths become absolute; every bad row is listed with its line,
    and then nothing is written.
    """
    from asr.corpus.validate import validate, warnings

    result = _imported(args)
    for note in result.notes:
        _say(f"note: {note}")
    utterances, speakers = result.utterances, result.speakers
    print(f"{args.out}: {counted(utterances, 'utterance')}, {counted(speakers, 'speaker')}")
    problems = validate(args.out)
    if problems:
        _tell_problems(args.out, problems)
        return EXIT_SOME_FAILED
    for warning in warnings(args.out):
        _say(f"warning: {warning}")
    return EXIT_OK


def _check_target(args: argparse.Namespace) -> None:
    """Refuse, before the work, to replace what is imported, or a text that is no table."""
    from asr.corpus.edit import refuse_same
    from asr.corpus.tables import refuse_text_of_others

    out = Path(args.out)
    check_folder(out)
    if args.kaldi:
        refuse_same(args.kaldi, out)
    check_not_read([out / name for name in ("text", "wav.scp", "utt2spk")], [args.table])
    refuse_text_of_others(out, {})


def _imported(args: argparse.Namespace) -> "Imported":
    from asr.corpus import importing, table_formats
    from asr.text.normalize import find_normalizer

    _check_target(args)
    normalize = find_normalizer(args.normalize)
    if args.kaldi:
        return importing.import_kaldi(args.kaldi, args.out, args.root, normalize)
    if args.table:
        columns = {name: getattr(args, f"{name}_column") for name in table_formats.COLUMNS}
        rows = table_formats.read_rows(args.table, columns)
    else:
        rows = importing.pair_rows(
            args.folder,
            speaker_from_folder=args.speaker_from == "folder",
            tell=lambda note: _say(f"note: {note}"),
        )
    return importing.import_rows(rows, args.out, normalize)
