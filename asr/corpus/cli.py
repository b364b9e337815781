"""``asr data``: validate, fix, describe, cut, join and import Kaldi data directories."""

import argparse
import json
import sys
from pathlib import Path

from asr.errors import EXIT_USAGE, InputError

COLUMNS = ("audio", "text", "speaker", "id", "start", "end", "gender")


def main(argv: list[str]) -> int:
    """Run one of the verbs below ``asr data``."""
    args = _parser().parse_args(argv)
    return int(args.run(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="asr data", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    verb = verbs.add_parser("validate", help="list every problem, with file and line")
    verb.add_argument("dir", metavar="DIR")
    for name, default in (("text", True), ("wav", True), ("feats", False)):
        verb.add_argument(
            f"--{name}",
            action=argparse.BooleanOptionalAction,
            default=default,
            help=f"whether {name if name == 'text' else name + '.scp'} must be there",
        )
    verb.add_argument("--check-audio", action="store_true", help="open every audio file")
    verb.set_defaults(run=_validate)

    verb = verbs.add_parser("fix", help="sort and keep common utterances; originals in .backup/")
    verb.add_argument("dir", metavar="DIR")
    verb.set_defaults(run=_fix)

    verb = verbs.add_parser("stats", help="counts, durations, suspicious transcripts")
    verb.add_argument("dir", metavar="DIR")
    verb.add_argument("--json", action="store_true", help="as one JSON object")
    verb.set_defaults(run=_stats)

    verb = verbs.add_parser(
        "subset", help="some of the utterances: asr data subset IN OUT --first 100"
    )
    verb.add_argument("dir", metavar="IN")
    verb.add_argument("out", metavar="OUT")
    ways = verb.add_mutually_exclusive_group(required=True)
    ways.add_argument("--speakers", metavar="FILE", help="all of the speakers listed in a file")
    ways.add_argument("--utts", metavar="FILE", help="the utterances listed in a file")
    for way, text in (
        ("first", "the first N"),
        ("last", "the last N"),
        ("shortest", "the N shortest (needs utt2dur)"),
        ("random", "N drawn at random"),
        ("per-speaker", "the first N of every speaker"),
    ):
        ways.add_argument(f"--{way}", type=int, default=0, metavar="N", help=text)
    verb.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    verb.set_defaults(run=_subset)

    verb = verbs.add_parser("combine", help="join directories: asr data combine OUT IN IN...")
    verb.add_argument("out", metavar="OUT")
    verb.add_argument("dirs", nargs="+", metavar="IN")
    verb.set_defaults(run=_combine)

    verb = verbs.add_parser("split", help="split<N>/<n> by speaker, or split<N>utt/<n>")
    verb.add_argument("dir", metavar="DIR")
    verb.add_argument("parts", type=int, metavar="N")
    verb.add_argument("--per-utt", action="store_true", help="by utterance")
    verb.set_defaults(run=_split)

    verb = verbs.add_parser("import", help="make a directory from a table, a folder, another one")
    verb.add_argument("out", metavar="OUT")
    ways = verb.add_mutually_exclusive_group(required=True)
    ways.add_argument("--table", metavar="FILE", help="CSV, TSV or JSON lines with audio and text")
    ways.add_argument("--folder", metavar="DIR", help="pairs a.wav + a.txt, also in folders below")
    ways.add_argument("--kaldi", metavar="DIR", help="a Kaldi-like directory")
    verb.add_argument(
        "--root", default=".", help="what paths in wav.scp are relative to, for --kaldi"
    )
    verb.add_argument(
        "--speaker-from", choices=("folder", "none"), default="none", help="for --folder"
    )
    verb.add_argument(
        "--normalize", default="none", help="none or librispeech (capitals, no marks)"
    )
    for column in COLUMNS:
        verb.add_argument(f"--{column}-column", default=column, metavar="NAME", help="for --table")
    verb.set_defaults(run=_import)
    return parser


def _validate(args: argparse.Namespace) -> int:
    from asr.corpus.datadir import DataDir
    from asr.corpus.validate import validate, warnings

    problems: list[str] = [
        str(p) for p in validate(args.dir, text=args.text, wav=args.wav, feats=args.feats)
    ]
    if not problems and args.check_audio:
        problems = _check_audio(DataDir.load(args.dir, text=args.text))
    if problems:
        print("\n".join(problems), file=sys.stderr)
        print(
            f"{args.dir}: {len(problems)} problems; `asr data fix {args.dir}` mends order, doubles "
            "and lists that differ",
            file=sys.stderr,
        )
        return EXIT_USAGE
    for warning in warnings(args.dir):
        print(f"warning: {warning}", file=sys.stderr)
    if not args.wav:
        print(f"{args.dir}: valid")
        return 0
    data = DataDir.load(args.dir, text=args.text).utterances
    seconds = [u.duration_s for u in data]
    hours = f", {sum(s or 0 for s in seconds) / 3600:.2f} h" if all(seconds) else ""
    speakers = len({u.speaker for u in data})
    print(f"{args.dir}: valid: {len(data)} utterances, {speakers} speakers{hours}")
    return 0


def _check_audio(data) -> list[str]:  # type: ignore[no-untyped-def]
    """Open every audio file and compare its length with what the directory says."""
    from asr.audio.io import info

    problems = []
    for u in data.utterances:
        if u.wav.endswith("|"):
            continue
        try:
            length = info(u.wav).duration_s
        except InputError as error:
            problems.append(f"{data.path}/wav.scp: {u.id}: {error}")
            continue
        end = u.end_s if u.end_s is not None else u.duration_s
        if end is not None and end > length + 0.05:
            problems.append(f"{data.path}: {u.id}: ends at {end:g} s, {u.wav} has {length:.2f} s")
    return problems


def _fix(args: argparse.Namespace) -> int:
    from asr.corpus.edit import fix
    from asr.corpus.validate import validate

    for line in fix(args.dir) or [f"{args.dir}: nothing to mend"]:
        print(line)
    rest = validate(args.dir, text=(Path(args.dir) / "text").is_file())
    for problem in rest:
        print(problem, file=sys.stderr)
    return EXIT_USAGE if rest else 0


def _stats(args: argparse.Namespace) -> int:
    from asr.corpus.datadir import DataDir
    from asr.corpus.stats import describe, report

    text = (Path(args.dir) / "text").is_file()
    stats = describe(DataDir.load(args.dir, text=text))
    print(json.dumps(stats, ensure_ascii=False) if args.json else report(stats))
    return 0


def _ids(path: str | None) -> list[str]:
    if not path:
        return []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror})") from error
    return [line.split()[0] for line in lines if line.strip()]


def _subset(args: argparse.Namespace) -> int:
    from asr.corpus.edit import choose, subset

    keep = choose(
        args.dir,
        utterances=_ids(args.utts),
        speakers=_ids(args.speakers),
        first=args.first,
        last=args.last,
        shortest=args.shortest,
        drawn=args.random,
        per_speaker=args.per_speaker,
        seed=args.seed,
    )
    print(f"{args.out}: {subset(args.dir, args.out, keep)} utterances")
    return 0


def _combine(args: argparse.Namespace) -> int:
    from asr.corpus.edit import combine

    print(f"{args.out}: {combine(args.out, args.dirs)} utterances")
    return 0


def _split(args: argparse.Namespace) -> int:
    from asr.corpus.edit import split

    for folder in split(args.dir, args.parts, by_utterance=args.per_utt):
        print(folder)
    return 0


def _import(args: argparse.Namespace) -> int:
    from asr.corpus import importing
    from asr.text.normalize import NORMALIZERS

    if args.normalize not in NORMALIZERS:
        raise InputError(f"--normalize {args.normalize}: expected one of {', '.join(NORMALIZERS)}")
    normalize = NORMALIZERS[args.normalize]
    if args.kaldi:
        counts = importing.import_kaldi(args.kaldi, args.out, args.root, normalize)
    else:
        if args.table:
            columns = {c: getattr(args, f"{c}_column") for c in COLUMNS}
            rows = importing.read_rows(args.table, columns)
        else:
            rows = importing.pair_rows(
                args.folder, speaker_from_folder=args.speaker_from == "folder"
            )
        counts = importing.import_rows(rows, args.out, normalize)
    print(f"{args.out}: {counts[0]} utterances, {counts[1]} speakers")
    return 0
