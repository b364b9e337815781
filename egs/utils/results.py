"""Gather the error rates of trainings, with the commands that gave them.

usage: results.py [--command TEXT] [--out FILE] TRAINING...

A TRAINING is a folder with scored ``decode_*`` folders in it. Decodings with the same name in
several trainings, which differ in their seed, are summarised by mean and range. The interval comes
from a bootstrap over utterances. FILE gets the commands (from the logs) above the lines that
``asr score`` wrote; a summary is printed.
"""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from recipe import run

from asr.errors import InputError
from asr.files import write_text
from asr.score.bootstrap import wer_spread
from asr.text.transcripts import read_lines

HEADING = """\
# Error rates in percent: (insertions + deletions + substitutions) / length of the references,
# summed over the set. wer_*: words, cer_*: characters without spaces, %SER: sentences with an
# error. Above the rates: the commands.
"""


@dataclass(frozen=True)
class Decoding:
    """A scored ``decode_<set>_<tag>`` folder."""

    wer: str
    """First line of its best_wer."""
    cer: str
    """First line of its best_cer."""
    ser: str
    """``%SER`` line of the file with the best WER."""
    counts: dict[str, tuple[int, int]]
    """Utterance to word errors and words of the reference."""

    @classmethod
    def load(cls, folder: Path) -> "Decoding":
        """Read the files of ``asr score --out``.

        Raises:
            InputError: a file is missing or damaged.
        """
        scoring = folder / "scoring_kaldi"
        wer = _line(scoring / "best_wer", r"%WER \S+ \[ \d+ / \d+, .*\].* \S.*")
        cer = _line(scoring / "best_cer", r"%WER \S+ \[ \d+ / \d+, .*\].* \S.*")
        ser = _line(folder / wer.rpartition("/")[2], r"%SER \S+ \[ \d+ / \d+ \]")
        return cls(wer, cer, ser, read_counts(scoring / "wer_details" / "per_utt"))


def _line(path: Path, pattern: str) -> str:
    """Return the first line of a file that matches a pattern."""
    for line in read_lines(path):
        if re.fullmatch(pattern, line):
            return line
    raise InputError(f"{path}: no line {pattern.split()[0]} ...; score again (--force true)")


def read_counts(path: Path) -> dict[str, tuple[int, int]]:
    """Utterance to word errors and reference words, from ``<utt> #csid C S I D`` lines.

    Raises:
        InputError: the file is damaged.
    """
    counts = {}
    for number, line in enumerate(read_lines(path), 1):
        fields = line.split()
        if fields[1:2] != ["#csid"]:
            continue
        if len(fields) != 6 or not all(field.isdecimal() for field in fields[2:]):
            raise InputError(f'{path}:{number}: {line!r}, expected "<utt> #csid C S I D"')
        correct, substituted, inserted, deleted = map(int, fields[2:])
        errors = substituted + inserted + deleted
        counts[fields[0]] = (errors, correct + substituted + deleted)
    if not counts:
        raise InputError(f"{path}: no utterance in it; score again (--force true)")
    return counts


def percent(line: str) -> float:
    """Return the rate in a ``%WER`` or ``%SER`` line."""
    return float(line.split()[1])


def interval(decodings: Sequence[Decoding]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean WER, in percent.

    Each bootstrap sample takes the same utterances from all decodings.

    Raises:
        InputError: the decodings have different utterances.
    """
    first = decodings[0]
    for other in decodings:
        if _lengths(other) != _lengths(first):
            raise InputError(
                f"{first.wer.rpartition(' ')[2]} and {other.wer.rpartition(' ')[2]}: not the same "
                "references; decode and score again"
            )
    counts = np.array([[d.counts[name] for name in first.counts] for d in decodings])
    mean, half = wer_spread(counts[..., 0].sum(0), counts[..., 1].sum(0))
    return 100 * max(0.0, mean - half), 100 * (mean + half)


def _lengths(decoding: Decoding) -> dict[str, int]:
    return {name: words for name, (_, words) in decoding.counts.items()}


def summary(decodings: Sequence[Decoding]) -> str:
    """Return WER with its interval, CER and SER in one line; means and ranges of several."""
    low, high = interval(decodings)
    wer, cer, ser = (
        _mean_and_range([percent(line) for line in lines])
        for lines in zip(*((d.wer, d.cer, d.ser) for d in decodings), strict=True)
    )
    several = f"mean of {len(decodings)} trainings: " if len(decodings) > 1 else ""
    return f"{several}WER {wer}, 95 % interval {low:.2f} to {high:.2f}; CER {cer}; SER {ser}"


def _mean_and_range(rates: Sequence[float]) -> str:
    mean = f"{sum(rates) / len(rates):.2f}"
    return mean if len(rates) == 1 else f"{mean} ({min(rates):.2f} to {max(rates):.2f})"


def logged_command(log: Path) -> list[str]:
    """Return the command at the head of a log, as a comment line; nothing without a log.

    The local job runner and Kaldi's cluster scripts all write it there.
    """
    lines = read_lines(log) if log.is_file() else []
    return [line for line in lines if re.match(r"# (utils/torchrun\.sh \d+ \d+ )?asr ", line)][:1]


def decoded(log: Path) -> list[str]:
    """Return the command of a decoding, without the part if it had several."""
    logs = [path for path in (log / "decode.log", log / "decode.1.log") if path.is_file()]
    newest = max(logs, key=mtime, default=log / "decode.log")
    return [re.sub(r" --part 1/\d+", "", line) for line in logged_command(newest)]


def by_another_model(decoding: Path) -> list[str]:
    """Return a comment if the model was written again after a decoding."""
    text, model = decoding / "text", decoding.parent / "final.safetensors"
    if not (text.is_file() and model.is_file()) or mtime(text) >= mtime(model):
        return []
    return [f"# by an earlier model: {model} is newer; decode again, or delete {decoding}"]


def mtime(path: Path) -> int:
    """Return when a file was written."""
    return path.stat().st_mtime_ns


def trained(training: Path) -> list[str]:
    """Return the command of a training and its duration."""
    command = logged_command(training / "log" / "train.log")
    try:
        last = json.loads(read_lines(training / "train.jsonl")[-1])
        return [*command, f"# {training}: {float(last['elapsed_s']) / 60:.1f} minutes"]
    except (
        InputError,
        ValueError,
        LookupError,
        TypeError,
    ):  # no log yet, or the training has not ended
        return command


def find_decodings(trainings: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the scored decodings by their name.

    Raises:
        InputError: no decoding has been scored.
    """
    found: dict[str, list[Path]] = {}
    for training in trainings:
        for scoring in sorted(training.glob("decode_*/scoring_kaldi")):
            found.setdefault(scoring.parent.name, []).append(scoring.parent)
    if not found:
        names = ", ".join(map(str, trainings))
        raise InputError(f"{names}: no decode_*/scoring_kaldi there; run the scoring first")
    return dict(sorted(found.items()))


def section(folders: Sequence[Path]) -> tuple[list[str], str]:
    """Return the lines of one decoding in all its trainings, and their summary."""
    decodings = [Decoding.load(folder) for folder in folders]
    lines = [""]
    for folder, decoding in zip(folders, decodings, strict=True):
        lines += decoded(folder / "log")
        lines += by_another_model(folder)
        lines += [decoding.wer, decoding.cer, decoding.ser]
    total = f"{folders[0].name}: {summary(decodings)}"
    return [*lines, f"# {total}"], total


def main(argv: list[str]) -> int:
    """``results.py [--command TEXT] [--out FILE] TRAINING...``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--command", metavar="TEXT", help="how the recipe was called")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the lines are written")
    parser.add_argument("trainings", nargs="+", type=Path, metavar="TRAINING")
    args = parser.parse_args(argv)
    lines = [HEADING]
    lines += [f"# {args.command}"] if args.command else []
    for training in args.trainings:
        lines += trained(training)
    for folders in find_decodings(args.trainings).values():
        more, total = section(folders)
        lines += more
        print(total)
    if args.out:
        write_text(args.out, "".join(f"{line}\n" for line in lines))
        print(f"{args.out}: the rates with their commands")
    return 0


if __name__ == "__main__":
    run(main)
