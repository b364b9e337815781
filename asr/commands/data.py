"""Check, fix, describe, cut, join, import and shard data directories.

`asr data VERB --help` explains a verb and gives an example.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asr.config.args import number
from asr.config.field import FRACTION, SEED, at_least, between, finite
from asr.config.help import Parser, dispatch
from asr.errors import EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE, counted
from asr.files import check_folder, check_not_read
from asr.terminal import note, print_error, warn
from asr.text.normalize import NORMALIZERS

if TYPE_CHECKING:
    from asr.corpus.columns import Utterances
    from asr.corpus.importing import Imported

COUNTED = {
    "first": "the first N",
    "last": "the last N",
    "random": "N at random",
    "shortest": "the N shortest ones (needs utt2dur or segments)",
}


def main(argv: list[str]) -> int:
    """Run one of the verbs of ``asr data``; return the exit code."""
    verbs = {
        "validate": run_validate,
        "fix": run_fix,
        "check": run_check,
        "stats": run_stats,
        "subset": run_subset,
        "hold-out": run_hold_out,
        "combine": run_combine,
        "split": run_split,
        "import": run_import,
        "shard": run_shard,
        "index": run_index,
    }
    return dispatch("asr data", __doc__, verbs, argv)


def run_validate(argv: list[str]) -> int:
    """List every problem of a data directory.

    Each problem is listed with its file, line and remedy. The checks are stricter than those of
    Kaldi's validator.

    Examples:
        asr data validate data/train --check-audio

    Exit codes: 0 valid, 2 the directory has problems, or bad usage, 70 a mistake in asr itself.
    """
    parser = Parser("asr data validate", description=run_validate.__doc__)
    parser.add_argument("dir", metavar="DIR", help="the data directory")
    for name, file, usual in (
        ("text", "text", "required"),
        ("wav", "wav.scp", "required"),
        ("feats", "feats.scp", "optional"),
    ):
        text = f"whether {file} is required (default: {usual}); if present, it is always checked"
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=text)
    parser.set_defaults(text=True, wav=True, feats=False)
    text = "open every audio file, and compare its length with utt2dur, reco2dur and segments"
    parser.add_argument("--check-audio", action="store_true", help=text)
    args = parser.parse_args(argv)

    from asr.corpus.validate import fix_remedy, inspect, warnings

    problems, found = inspect(
        args.dir, text=args.text, wav=args.wav, feats=args.feats, audio=args.check_audio
    )
    if problems:
        _print_problems(problems, f"{args.dir}{fix_remedy(args.dir, problems)}")
        return EXIT_USAGE
    for warning in warnings(args.dir):
        warn(warning)
    print(f"{args.dir}: valid: {_contents(args.dir, found)}")
    return EXIT_OK


def _print_problems(problems: Sequence[object], where: str) -> None:
    for problem in problems:
        print_error(problem)
    print_error(f"{counted(len(problems), 'problem')} in {where}")


def _contents(path: str, utterances: "Utterances | None") -> str:
    """Return the counts of a valid directory, and its hours if they are known without audio."""
    from asr.corpus.tables import Segment, read_tables

    if utterances is not None:
        found, people = len(utterances), len(utterances.speakers.names)
        total_s = float(utterances.durations_s.sum())  # NaN if it is not known
    else:
        tables = read_tables(path)
        found, people = len(tables["utt2spk"]), len(set(tables["utt2spk"].values()))
        durations = map(float, tables.get("utt2dur", {}).values())
        segments = map(Segment.parse, tables.get("segments", {}).values())
        total_s = sum(durations) or sum(segment.end_s - segment.start_s for segment in segments)
    hours = f", {total_s / 3600:.2f} hours" if total_s > 0 else ""
    return f"{counted(found, 'utterance')}, {counted(people, 'speaker')}{hours}"


def run_fix(argv: list[str]) -> int:
    """Sort the tables of a data directory and keep the utterances that every file has.

    Also removes malformed lines, repeated lines and invisible characters, composes letters (Unicode
    NFC) and derives spk2utt. Prints every line that is removed; the original files are kept in
    DIR/.backup, or in DIR/.backup.2 and so on if it exists.

    Examples:
        asr data fix data/train

    Exit codes: 0 done, 2 some problems have to be fixed by hand, or bad usage, 70 a mistake in asr
    itself.
    """
    parser = Parser("asr data fix", description=run_fix.__doc__)
    parser.add_argument("dir", metavar="DIR", help="the data directory")
    path = parser.parse_args(argv).dir

    from asr.corpus.edit import fix
    from asr.corpus.validate import validate

    print("\n".join(fix(path) or [f"{path}: nothing to change"]))
    if problems := validate(path, text=(Path(path) / "text").is_file()):
        _print_problems(problems, f"{path} could not be fixed; edit the files")
        return EXIT_USAGE
    return EXIT_OK


def run_check(argv: list[str]) -> int:
    """Read all audio of a data directory, and report what harms a training.

    Each kind of problem (unreadable, empty, silent, clipped, stereo, long, fast) has a policy: warn
    (report the utterances), drop (also remove them; the original files are kept in DIR/.backup, or
    in DIR/.backup.2 and so on if it exists) or stop (exit code 1, nothing is removed). A killed
    command continues where it was. A repeated one reads only changed files, or all audio if wav.scp
    has commands.

    Examples:
        asr data check data/train --nj 8
        asr data check data/train --policy silent=drop --out data/train_ok

    Exit codes: 0 done, 1 audio of a kind whose policy is stop, 2 bad input or usage, 70 a mistake
    in asr itself.
    """
    from asr.corpus.check import KINDS, LIMITS, check, policies, show
    from asr.corpus.edit import check_target, drop, subset

    parser = Parser("asr data check", description=run_check.__doc__)
    parser.add_argument("dir", metavar="DIR", help="the data directory")
    parser.add_argument("--nj", type=number(int, between(1, 4096)), default=1, help="processes")
    usual = ",".join(f"{kind}={policy}" for kind, (policy, _) in KINDS.items())
    text = f"policy of each kind of problem: warn, drop or stop (default: {usual})"
    parser.add_argument("--policy", default="", metavar="KIND=POLICY,...", help=text)
    for name, (default, unit, text) in LIMITS.items():
        text = f"{text} (default: {default:g} {unit})"
        kind = number(float, finite() if unit == "dB" else at_least(0))
        parser.add_argument(f"--{name}", type=kind, default=default, metavar="X", help=text)
    parser.add_argument("-o", "--out", metavar="DIR", help="write what is left to another folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    chosen = policies(args.policy)

    from asr.console import progress

    if args.out:
        check_target(args.dir, args.out)
    limits = {name: getattr(args, name) for name in LIMITS}
    with progress(f"audio of {args.dir}") as report:
        found = check(args.dir, limits, chosen, args.nj, report)
    print(json.dumps(found.report, ensure_ascii=False) if args.json else show(found.report))
    if found.stopped:
        kinds, remedy = ", ".join(found.stopped), ",".join(f"{k}=drop" for k in found.stopped)
        print_error(f"{args.dir}: stopped: {kinds}; fix the audio, or --policy {remedy}")
        return EXIT_SOME_FAILED
    dropped = f"{counted(len(found.drop), 'utterance')} dropped"
    if args.out:
        left = counted(subset(args.dir, args.out, found.keep), "utterance")
        note(f"{dropped}: {args.out}: {left}")
    elif found.drop:
        note(f"{dropped}: {drop(args.dir, found.drop)}")
    return EXIT_OK


def run_stats(argv: list[str]) -> int:
    """Describe a data directory, and list transcripts that hardly fit their audio.

    Counts utterances, speakers, hours and words, and shows the distribution of durations and
    speaking rates. Durations come from utt2dur or segments, or else from the headers of the audio
    files.

    Examples:
        asr data stats data/train
    """
    parser = Parser("asr data stats", description=run_stats.__doc__)
    parser.add_argument("dir", metavar="DIR", help="the data directory")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)

    from asr.console import Console
    from asr.corpus.datadir import DataDir
    from asr.corpus.stats import describe, show

    stats = describe(DataDir.load(args.dir, text=(Path(args.dir) / "text").is_file()))
    if args.json:
        print(json.dumps(stats, ensure_ascii=False))
    else:
        show(stats, Console())
    return EXIT_OK


def run_subset(argv: list[str]) -> int:
    """Write a directory with some of the utterances of another one.

    Examples:
        asr data subset data/all data/dev --speakers dev_speakers.txt
        asr data subset data/train data/train_500 --random 500 --seed 1
    """
    parser = Parser("asr data subset", description=run_subset.__doc__)
    parser.add_argument("dir", metavar="IN", help="the directory to choose from")
    parser.add_argument("out", metavar="OUT", help="the directory to write")
    ways = parser.add_mutually_exclusive_group(required=True)
    ways.add_argument("--speakers", metavar="FILE", help="all of the speakers listed in a file")
    ways.add_argument("--utts", metavar="FILE", help="the utterances listed in a file")
    each = {"per-speaker": "the first N of every speaker, or all if there are fewer"}
    for way, text in {**COUNTED, **each}.items():
        ways.add_argument(f"--{way}", type=number(int, at_least(1)), metavar="N", help=text)
    parser.add_argument("--seed", type=number(int, SEED), default=0, help="seed of --random")
    args = parser.parse_args(argv)

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
    """Return the first word of every line: the ids of a list, of text or of utt2spk."""
    from asr.text.transcripts import read_lines

    return [line.split()[0] for line in read_lines(path) if line.strip()]


def run_hold_out(argv: list[str]) -> int:
    """Hold out a dev set whose speakers and sentences do not occur in the rest.

    DEV gets about the given fraction of the utterances, and TRAIN the rest. Sentences are compared
    without case and punctuation.

    Examples:
        asr data hold-out data/all data/train data/dev --share 0.1
        asr data hold-out data/all data/train data/dev --disjoint recording

    Exit codes: 0 done, 2 bad usage, or no split comes near the fraction (the nearest split is
    described and nothing is written), 70 a mistake in asr itself.
    """
    parser = Parser("asr data hold-out", description=run_hold_out.__doc__)
    parser.add_argument("dir", metavar="DIR", help="the directory to cut")
    parser.add_argument("train", metavar="TRAIN", help="the directory to write for training")
    parser.add_argument("dev", metavar="DEV", help="the directory to write with what is held out")
    fraction = number(float, FRACTION)
    parser.add_argument("--share", type=fraction, default=0.1, help="fraction of the utterances")
    text = "what must not occur in both parts: speaker, text or recording, separated by commas"
    parser.add_argument("--disjoint", default="speaker,text", metavar="KEYS", help=text)
    parser.add_argument("--seed", type=number(int, SEED), default=0, help="random seed")
    args = parser.parse_args(argv)

    from asr.corpus.holdout import hold_out

    disjoint = [name.strip() for name in args.disjoint.split(",")]
    train, dev = hold_out(args.dir, args.train, args.dev, args.share, disjoint, args.seed)
    print(f"{args.train}: {counted(train, 'utterance')}")
    share = f"{100 * dev / (train + dev):.1f} %, {100 * args.share:g} % were asked for"
    print(f"{args.dev}: {counted(dev, 'utterance')} ({share})")
    return EXIT_OK


def run_combine(argv: list[str]) -> int:
    """Join directories; the directory to write comes first.

    Files that only some of the directories have are left out, with a warning. An id that stands for
    different contents is an error.

    Examples:
        asr data combine data/train_all data/train_a data/train_b
    """
    parser = Parser("asr data combine", description=run_combine.__doc__)
    parser.add_argument("out", metavar="OUT", help="the directory to write")
    parser.add_argument("dirs", nargs="+", metavar="IN", help="the directories to join")
    args = parser.parse_args(argv)
    if len(args.dirs) < 2:
        parser.error(f"one directory to join, {args.dirs[0]}, expected at least two: OUT IN IN")

    from asr.corpus.edit import combine

    utterances, left_out = combine(args.out, args.dirs)
    if left_out:
        warn(f"left out, because some directories lack them: {', '.join(left_out)}")
    print(f"{args.out}: {counted(utterances, 'utterance')}")
    return EXIT_OK


def run_split(argv: list[str]) -> int:
    """Split a directory into N parts of about the same size for parallel jobs.

    Prints the parts: DIR/split<N>/<n> by speaker, or DIR/split<N>utt/<n> by utterance.

    Examples:
        asr data split data/train 4
    """
    parser = Parser("asr data split", description=run_split.__doc__)
    parser.add_argument("dir", metavar="DIR", help="the data directory")
    parts = number(int, at_least(1))
    parser.add_argument("parts", type=parts, metavar="N", help="number of parts")
    parser.add_argument("--per-utt", action="store_true", help="split by utterance, not by speaker")
    args = parser.parse_args(argv)

    from asr.corpus.edit import split

    print(*split(args.dir, args.parts, by_utterance=args.per_utt), sep="\n")
    return EXIT_OK


def run_import(argv: list[str]) -> int:
    """Make a data directory from a table, a folder of recordings, or another data directory.

    The speaker becomes the prefix of each id, and paths become absolute. If some rows are wrong,
    all of them are listed with their lines, and nothing is written.

    Examples:
        asr data import data/all --table recordings.csv --normalize librispeech
        asr data import data/all --folder recordings --speaker-from folder
        asr data import data/train --kaldi corpus/train --root corpus

    Exit codes: 0 done, 1 written, but the directory has problems, 2 bad input or usage, 70 a
    mistake in asr itself.
    """
    from asr.corpus.validate import fix_remedy, validate, warnings

    args = _import_options(argv)
    result = _imported(args)
    for text in result.notes:
        note(f"note: {text}")
    utterances, speakers = result.utterances, result.speakers
    print(f"{args.out}: {counted(utterances, 'utterance')}, {counted(speakers, 'speaker')}")
    if problems := validate(args.out):
        _print_problems(problems, f"{args.out}{fix_remedy(args.out, problems)}")
        return EXIT_SOME_FAILED
    for warning in warnings(args.out):
        warn(warning)
    return EXIT_OK


def _import_options(argv: list[str]) -> argparse.Namespace:
    from asr.corpus.table_formats import ALIASES, COLUMNS

    parser = Parser("asr data import", description=run_import.__doc__)
    parser.add_argument("out", metavar="OUT", help="the directory to write")
    ways = parser.add_mutually_exclusive_group(required=True)
    text = (
        "CSV (any usual separator), TSV (no quoting), JSON lines (.jsonl) or a manifest (.json); "
        "paths are relative to its folder, or to clips or wavs in it"
    )
    ways.add_argument("--table", metavar="FILE", help=text)
    text = "pairs of recordings and transcripts, such as a.wav and a.txt, also in subfolders"
    ways.add_argument("--folder", metavar="DIR", help=text)
    text = "data directory with wav.scp, text and utt2spk, in any order"
    ways.add_argument("--kaldi", metavar="DIR", help=text)
    text = "for --kaldi: folder of relative paths in wav.scp (default: the current folder)"
    parser.add_argument("--root", metavar="CORPUS", help=text)
    text = (
        "for --folder: folder names the speaker after the folder of the file; none (default) makes "
        "every utterance its own speaker"
    )
    parser.add_argument("--speaker-from", choices=("folder", "none"), help=text)
    text = "normalisation of the transcripts; librispeech: capital letters without punctuation"
    parser.add_argument("--normalize", choices=NORMALIZERS, default="none", help=text)
    for column in COLUMNS:
        others = ", ".join((column, *ALIASES.get(column, ())))
        text = f"for --table: the column of the {column} (default: {others})"
        parser.add_argument(f"--{column}-column", metavar="NAME", help=text)
    args = parser.parse_args(argv)
    for way, names in {
        "kaldi": ("root",),
        "folder": ("speaker_from",),
        "table": tuple(f"{column}_column" for column in COLUMNS),
    }.items():
        for name in names:
            if getattr(args, name) is not None and getattr(args, way) is None:
                parser.error(f"--{name.replace('_', '-')}: only for --{way}; leave it out")
    return args


def _check_target(args: argparse.Namespace) -> None:
    """Check that the import replaces neither its input nor a text that is not a table."""
    from asr.corpus.edit import check_target
    from asr.corpus.tables import refuse_text_of_others

    out = Path(args.out)
    check_folder(args.out)
    if args.kaldi:
        check_target(args.kaldi, out)
    check_not_read([out / name for name in ("text", "wav.scp", "utt2spk")], [args.table])
    refuse_text_of_others(out, {})


def _imported(args: argparse.Namespace) -> "Imported":
    from asr.corpus import importing, table_formats

    _check_target(args)
    normalize = NORMALIZERS[args.normalize]
    if args.kaldi:
        return importing.import_kaldi(args.kaldi, args.out, args.root or ".", normalize)
    if args.table:
        columns = {n: getattr(args, f"{n}_column") or n for n in table_formats.COLUMNS}
        rows = table_formats.read_rows(args.table, columns)
    else:
        by_folder = args.speaker_from == "folder"
        rows = importing.pair_rows(args.folder, speaker_from_folder=by_folder, tell=warn)
    return importing.import_rows(rows, args.out, normalize)


def run_shard(argv: list[str]) -> int:
    """Write a data directory as tar shards, for corpora of millions of files and for servers.

    A shard holds ID.flac or ID.opus and ID.json (text, speaker, duration) of each utterance, in the
    layout of WebDataset, at the sample rate of the features and with one channel. Whole mono files
    in this format, at that sample rate or a lower one, are copied. index.safetensors beside the
    shards has the lengths and the statistics of `asr features`, which need not run before.

    If it is stopped, run the same command again: finished shards are kept.

    Examples:
        asr data shard data/train -o shards/train --config conf/train.yaml --nj 8
        asr train --train 'shards/train/*.tar' ...
        asr train --train 'https://host/train/*.tar' ...
    """
    from asr.commands.features import add_options, read_features
    from asr.corpus.shard_writing import FORMATS, Options, write_shards

    parser = Parser("asr data shard", description=run_shard.__doc__)
    parser.add_argument("dir", metavar="DIR", help="the data directory, with text")
    parser.add_argument("-o", "--out", required=True, metavar="SHARDS", help="the folder to write")
    text = "flac: 16 bits, without loss; opus: smaller, with some loss (default: flac)"
    parser.add_argument("--format", choices=FORMATS, default="flac", help=text)
    count = number(int, between(1, 1_000_000))
    text = "utterances in a shard (default: 1000)"
    parser.add_argument("--utterances", type=count, default=1000, metavar="N", help=text)
    add_options(parser)
    args = parser.parse_args(argv)
    options = Options(read_features(args.config), args.format, args.utterances)
    return _report_shards(args.out, write_shards(args.dir, args.out, options, args.nj))


def run_index(argv: list[str]) -> int:
    """Write the index of tar shards again, for other features or shards of other programs.

    Shards are tar files in the layout of WebDataset. Each utterance has an audio file and a JSON
    file of the same name, which has the text and may have the id and the speaker.

    Examples:
        asr data index shards/train --config conf/train.yaml --nj 8
    """
    from asr.commands.features import add_options, read_features
    from asr.corpus.shard_writing import index_shards

    parser = Parser("asr data index", description=run_index.__doc__)
    parser.add_argument("out", metavar="SHARDS", help="the folder of the shards")
    add_options(parser)
    args = parser.parse_args(argv)
    return _report_shards(args.out, index_shards(args.out, read_features(args.config), args.nj))


def _report_shards(out: str, work: Iterable[tuple[int, int]]) -> int:
    """Do the work, which yields the shards done and all of them; return the exit code."""
    from asr.console import progress
    from asr.corpus.shard_index import INDEX_FILE, open_index

    with progress(f"shards of {out}") as report:
        for done, count in work:
            report(done, count)
    index = open_index(Path(out) / INDEX_FILE)
    hours = float(index.arrays["duration_s"].sum()) / 3600
    found = f"{counted(len(index.shards), 'shard')}, {counted(len(index), 'utterance')}"
    print(f"{out}: {found}, {counted(len(index.texts('speakers')), 'speaker')}, {hours:.2f} h")
    return EXIT_OK
