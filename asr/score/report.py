"""One table of error rates, and the worst utterances with their words side by side."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from asr.console import Console
from asr.score.compare import Comparison
from asr.score.groups import Group, Sureness, calibration_error
from asr.score.kaldi import GAP, operation
from asr.score.page import describe_comparison
from asr.score.wer import Counts, Pair, Score, errors, total

_PLAIN_WIDTH = 100  # where the output is not a terminal
_STYLES = {"C": "", "S": "yellow", "I": "green", "D": "red"}
_INDENT = 7  # width of "  REF  "
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MISSING = {"all": "all their words counted as deleted", "present": "left out"}


def print_report(score: Score, name: str, formats: str, worst: int, *, color: bool = True) -> None:
    """Print the table and the worst utterances to standard output.

    Args:
        score: what to print.
        name: of the set.
        formats: how the files were read, for the line below the table.
        worst: how many utterances to show.
        color: False leaves colours out in a terminal too.
    """
    console = make_console(color)
    title = f"{_printable(name)}: {_count(len(score.ids), 'sentence')}"
    console.print(Text(f"{title}, {_count(score.words.total, 'word')}\n", style="bold"))
    console.print(summary_table(score))
    console.print(f"\n{_printable(conditions(score, formats))}")
    indices = score.worst(worst)
    if indices:
        wrong = _count(score.wrong_sentences, "wrong utterance")
        console.print(f"\nMost word errors ({len(indices)} of {wrong}):")
    for index in indices:
        console.print(Text(f"\n{_printable(heading(score, index))}", style="bold"))
        for line in side_by_side(score.align(index), console.width - _INDENT):
            console.print(line, soft_wrap=True)


def print_parts(
    tables: Mapping[str, Sequence[Group]],
    sureness: Sequence[Sureness],
    comparison: Comparison | None,
) -> None:
    """Print rates of groups, words by confidence, and the comparison with another system."""
    console = make_console(False)
    for title, groups in tables.items():
        table = Table(box=None, pad_edge=False)
        table.add_column(f"\n{title}")
        for column in ("\nWER %", "\nTotal", "\nCorr", "\nSub", "\nDel", "\nIns", "\nSentences"):
            table.add_column(column, justify="right", no_wrap=True)
        for group in groups:
            rate, _, *counts = _row(group.words)
            table.add_row(_printable(group.name), rate, *counts, str(group.sentences))
        console.print(table)
    if sureness:
        table = Table(box=None, pad_edge=False)
        for column in ("\nBy confidence", "\nWords", "\nRight %"):
            table.add_column(column, justify="right", no_wrap=True)
        for s in sureness:
            share = f"{100 * s.right / s.words:.1f}"
            table.add_row(f"{s.low:.1f} to {s.high:.1f}", str(s.words), share)
        console.print(table)
        console.print(f"expected calibration error {100 * calibration_error(sureness):.1f} %")
    if comparison:
        console.print(f"\n{describe_comparison(comparison)}", soft_wrap=True)


def parts_to_dict(
    tables: Mapping[str, Sequence[Group]],
    sureness: Sequence[Sureness],
    comparison: Comparison | None,
) -> dict[str, Any]:
    """The same as JSON can hold it."""
    return {
        "groups": {
            title: [
                {
                    "name": g.name,
                    "sentences": g.sentences,
                    "wer": _finite(g.words.rate),
                    "words": _counts(g.words),
                }
                for g in groups
            ]
            for title, groups in tables.items()
        },
        "confidence": [asdict(s) for s in sureness],
        "calibration_error": calibration_error(sureness) if sureness else None,
        "against": _comparison(comparison) if comparison else None,
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    values = asdict(comparison) | {"difference": comparison.difference}
    return {
        name: _finite(value) if isinstance(value, float) else value
        for name, value in values.items()
    }


def make_console(color: bool) -> Console:
    """A console on standard output; wide enough for every number when it is a file."""
    console = Console(
        color_system="auto" if color else None, highlight=False, markup=False, emoji=False
    )
    if not console.is_terminal:
        console.width = max(console.width, _PLAIN_WIDTH)
    return console


def summary_table(score: Score) -> Table:
    """Rates in percent, and the counts that they come from."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for column in ("%", "95 % interval", "Total", "Corr", "Sub", "Del", "Ins"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_row("WER", *_row(score.words, _interval(score)), style="bold")
    table.add_row("CER (spaces counted)", *_row(score.characters))
    table.add_row("CER (no spaces)", *_row(score.characters_no_space))
    right = len(score.ids) - score.wrong_sentences
    table.add_row("SER", f"{100 * score.ser:.2f}", "", str(len(score.ids)), str(right))
    return table


def _row(counts: Counts, interval: str = "") -> tuple[str, ...]:
    numbers = (counts.correct, counts.substitutions, counts.deletions, counts.insertions)
    return f"{100 * counts.rate:.2f}", interval, str(counts.total), *map(str, numbers)


def _interval(score: Score) -> str:
    if len(score.ids) < 2:  # resampling one utterance always gives that utterance
        return "-"
    low, high = score.interval
    return f"{100 * low:.2f} - {100 * high:.2f}"


def conditions(score: Score, formats: str) -> str:
    """Under which the rates hold: normalizer, files, what was done about missing ones."""
    parts = [f"normalizer {score.normalizer}", formats]
    if score.missing:
        parts.append(f"{len(score.missing)} without a hypothesis, {_MISSING[score.mode]}")
    return "; ".join(parts)


def heading(score: Score, index: int) -> str:
    """Name and number of errors of an utterance."""
    sums = total(score.word_counts[index : index + 1])
    numbers = f"{_count(sums.errors, 'error')}, {_count(sums.total, 'word')}"
    absent = " (no hypothesis)" if score.ids[index] in score.missing else ""
    return f"{score.ids[index]}: {numbers}{absent}"


def side_by_side(pairs: tuple[Pair, ...], width: int) -> Iterator[Text]:
    """Three lines for as many pairs as fit: reference, hypothesis, and S, D or I.

    The letters tell the errors apart without colours too.
    """
    row: list[tuple[Pair, int]] = []
    used = 0
    for pair in pairs:
        cells = max(cell_len(_printable(word or GAP)) for word in pair)
        if row and used + cells > width:
            yield from _three_lines(row)
            row, used = [], 0
        row.append((pair, cells))
        used += cells + 1
    yield from _three_lines(row)


def _three_lines(row: list[tuple[Pair, int]]) -> Iterator[Text]:
    refs, hyps, marks = Text("  REF  "), Text("  HYP  "), Text("       ")
    for pair, cells in row:
        op = operation(pair)
        for line, word in zip((refs, hyps), pair, strict=True):
            shown = _printable(word or GAP)
            line.append(shown, style=_STYLES[op])
            line.append(" " * (cells + 1 - cell_len(shown)))
        marks.append(f"{'' if op == 'C' else op:{cells + 1}}", style=_STYLES[op])
    for line in (refs, hyps, marks):
        line.rstrip()
        yield line


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _printable(text: str) -> str:
    """Control characters could play tricks on the terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def to_dict(score: Score, name: str, worst: int) -> dict[str, Any]:
    """The same as JSON can hold it; rates are fractions, None where they are infinite."""
    interval = [_finite(value) for value in score.interval]
    return {
        "set": name,
        "sentences": len(score.ids),
        "wrong_sentences": score.wrong_sentences,
        "missing": list(score.missing),
        "unknown": list(score.unknown),
        "normalizer": score.normalizer,
        "mode": score.mode,
        "wer": _finite(score.wer),
        "wer_interval_95": interval if len(score.ids) > 1 else None,
        "cer_spaces_counted": _finite(score.cer),
        "cer_no_spaces": _finite(score.cer_no_space),
        "ser": score.ser,
        "words": _counts(score.words),
        "characters_spaces_counted": _counts(score.characters),
        "characters_no_spaces": _counts(score.characters_no_space),
        "worst": [_utterance(score, index) for index in score.worst(worst)],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _counts(counts: Counts) -> dict[str, int]:
    return {
        "total": counts.total,
        "correct": counts.correct,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
    }


def _utterance(score: Score, index: int) -> dict[str, Any]:
    return {
        "id": score.ids[index],
        "ref": score.refs[index],
        "hyp": score.hyps[index],
        "errors": int(errors(score.word_counts)[index]),
        "alignment": [list(pair) for pair in score.align(index)],
    }
