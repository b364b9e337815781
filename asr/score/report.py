"""The report of error rates, printed or as JSON."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from asr.console import Console
from asr.errors import counted
from asr.files import plain
from asr.score.alignment import Correlation
from asr.score.calibration import ConfidenceBin, calibration_error
from asr.score.compare import MIN_SEGMENTS, Comparison
from asr.score.groups import Group
from asr.score.kaldi import GAP
from asr.score.times import TimeErrors
from asr.score.wer import Counts, Pair, Score, operation, total

Cells = tuple[str, ...]

_PLAIN_WIDTH = 100  # of an output that is not a terminal
_STYLES = {"C": "", "S": "yellow", "I": "green", "D": "red"}
_BY_CONFIDENCE = "By confidence"
_INDENT = 7  # width of "  REF  "
_MISSING = {"all": "all their words counted as deleted", "present": "left out"}


@dataclass(frozen=True)
class Report:
    """The results on a test set: printed, written as JSON or shown as a page."""

    score: Score
    set_name: str
    files: Sequence[tuple[str, str]]
    """Name and format of the references and of the hypotheses."""
    groups: Mapping[str, Sequence[Group]] = field(default_factory=dict)
    """Error rates of groups of utterances, by the title of their table, such as "By speaker"."""
    bins: Sequence[ConfidenceBin] = ()
    """The recognised words, binned by confidence."""
    comparison: Comparison | None = None
    """Comparison with another system."""
    notes: Sequence[str] = ()
    """Differences between the names in the hypotheses and those in the references."""
    speakers: Mapping[str, str] | None = None
    """Speaker of each utterance, if known."""
    alignment: Sequence[Correlation] = ()
    """The statistics of the alignments, from the ``results.jsonl`` of ``asr decode``."""
    times: TimeErrors | None = None
    """Errors of the times of the words, if both files are CTMs."""


def print_report(report: Report, worst: int, groups: Collection[str], *, color: bool) -> None:
    """Print the rates and the worst utterances to standard output.

    Args:
        report: the results to print.
        worst: the number of utterances to show.
        groups: titles of the tables of ``report.groups`` to print.
        color: whether to use colours in a terminal.
    """
    console, score = _make_console(color), report.score
    title = f"{report.set_name}: {counted(len(score.ids), 'sentence')}"
    console.print(Text(f"{title}, {counted(score.words.total, 'word')}\n", style="bold"))
    console.print(_summary_table(score))
    console.print(f"\n{conditions(report)}")
    _print_worst(console, score, worst)
    for title, columns, rows in tables(report, groups):
        table = _table(f"\n{title}", *(f"\n{column}" for column in columns))
        for row in rows:
            table.add_row(*row)
        console.print(table)
        if title == _BY_CONFIDENCE:
            error = calibration_error(report.bins)
            console.print(f"expected calibration error {100 * error:.1f} %")
    if report.times:
        console.print(f"\nTimes: {report.times.render()}", soft_wrap=True)
    if report.comparison:
        console.print(f"\n{describe_comparison(report.comparison)}", soft_wrap=True)


def _print_worst(console: Console, score: Score, worst: int) -> None:
    indices = score.worst(worst)
    if indices:
        wrong = counted(score.wrong_sentences, "wrong utterance")
        console.print(f"\nMost word errors ({len(indices)} of {wrong}):")
    for index in indices:
        console.print(Text(f"\n{_heading(score, index)}", style="bold"))
        for line in side_by_side(score.align(index), console.width - _INDENT):
            console.print(line, soft_wrap=True)


def _table(first: str, *columns: str) -> Table:
    """Return a borderless table; all columns but the first are aligned to the right."""
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def tables(report: Report, groups: Iterable[str]) -> Iterator[tuple[str, Cells, Iterable[Cells]]]:
    """Yield the tables of some groups, of the confidences and of the alignments.

    Yields:
        the title, the names of all columns but the first, and the rows.
    """
    for title in groups:
        columns = ("WER %", "Total", "Corr", "Sub", "Del", "Ins", "Sentences")
        yield title, columns, map(_group_row, report.groups[title])
    if report.bins:
        yield _BY_CONFIDENCE, ("Words", "Right %"), map(_confidence_row, report.bins)
    if report.alignment:
        yield "Alignment", ("Mean", "Correlation to WER"), map(_alignment_row, report.alignment)


def _group_row(group: Group) -> Cells:
    rate, _, *counts = _row(group.words)
    return group.name, rate, *counts, str(group.sentences)


def _confidence_row(b: ConfidenceBin) -> Cells:
    return f"{b.low:.1f} to {b.high:.1f}", str(b.count), f"{100 * b.share:.1f}"


def _alignment_row(found: Correlation) -> Cells:
    shown = "-" if found.correlation is None else f"{found.correlation:+.2f}"
    return found.name, f"{found.mean:.3f}", shown


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return asdict(comparison) | {"difference": comparison.difference}


def _make_console(color: bool) -> Console:
    """Return a console on standard output; if that is a file, wide enough for all columns."""
    console = Console(
        color_system="auto" if color else None, highlight=False, markup=False, emoji=False
    )
    if not console.is_terminal:
        console.width = max(console.width, _PLAIN_WIDTH)
    return console


def _summary_table(score: Score) -> Table:
    table = _table("", "%", "95 % interval", "Total", "Corr", "Sub", "Del", "Ins")
    table.add_row("WER", *_row(score.words, _interval(score)), style="bold")
    table.add_row("CER (spaces counted)", *_row(score.characters))
    table.add_row("CER (no spaces)", *_row(total(score.no_space_counts)))
    right = len(score.ids) - score.wrong_sentences
    table.add_row("SER", f"{100 * score.ser:.2f}", "", str(len(score.ids)), str(right))
    return table


def _row(counts: Counts, interval: str = "") -> Cells:
    numbers = (counts.correct, counts.substitutions, counts.deletions, counts.insertions)
    return f"{100 * counts.rate:.2f}", interval, str(counts.total), *map(str, numbers)


def _interval(score: Score) -> str:
    if len(score.ids) < 2:  # every bootstrap replicate of one utterance is that utterance
        return "-"
    low, high = score.interval
    return f"{100 * low:.2f} - {100 * high:.2f}"


def describe_comparison(c: Comparison) -> str:
    """Return the comparison of this system (A) with another (B) in one sentence."""
    if not math.isfinite(c.difference):
        return "the other system: no words in the references, so nothing can be compared"
    low, high = c.interval
    test = f"z = {c.z:.2f}, p = {c.p:.3f}"
    if math.isnan(c.z):
        test = f"too few for the test ({MIN_SEGMENTS} or more)"
    elif math.isinf(c.z):
        test = "all with the same difference"
    return (
        f"the other system: WER {100 * c.wer_b:.2f} %; difference {100 * c.difference:+.2f} "
        f"(95 % bootstrap interval {100 * low:+.2f} to {100 * high:+.2f}); matched pairs: "
        f"{counted(c.segments, 'segment')}, {test}"
    )


def conditions(report: Report) -> str:
    """Return the conditions of the rates: normalizer, files, treatment of missing hypotheses."""
    score = report.score
    files = ", ".join(f"{name} ({file_format})" for name, file_format in report.files)
    parts = [f"normalizer {score.normalizer}", files]
    if score.missing:
        parts.append(f"{len(score.missing)} without a hypothesis, {_MISSING[score.mode]}")
    return "; ".join(parts)


def _heading(score: Score, index: int) -> str:
    sums = total(score.word_counts[index : index + 1])
    numbers = f"{counted(sums.errors, 'error')}, {counted(sums.total, 'word')}"
    absent = " (no hypothesis)" if score.ids[index] in score.missing else ""
    return f"{score.ids[index]}: {numbers}{absent}"


def side_by_side(pairs: tuple[Pair, ...], width: int) -> Iterator[Text]:
    """Yield three lines for as many pairs as fit: reference, hypothesis, and S, D or I.

    The letters distinguish the errors where colours are missing.
    """
    row: list[tuple[Pair, int]] = []
    used = 0
    for pair in pairs:
        cells = max(cell_len(word or GAP) for word in pair)
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
            shown = word or GAP
            line.append(shown, style=_STYLES[op])
            line.append(" " * (cells + 1 - cell_len(shown)))
        marks.append(f"{'' if op == 'C' else op:{cells + 1}}", style=_STYLES[op])
    for line in (refs, hyps, marks):
        line.rstrip()
        yield line


def to_dict(report: Report, worst: int) -> dict[str, Any]:
    """Return the report for JSON; rates are fractions, and an infinite rate is None."""
    score, bins, comparison = report.score, report.bins, report.comparison
    found = {
        "set": report.set_name,
        "sentences": len(score.ids),
        "wrong_sentences": score.wrong_sentences,
        "missing": list(score.missing),
        "unknown": list(score.unknown),
        "normalizer": score.normalizer,
        "mode": score.mode,
        "wer": score.wer,
        "wer_interval_95": score.interval if len(score.ids) > 1 else None,
        "cer_spaces_counted": score.cer,
        "cer_no_spaces": total(score.no_space_counts).rate,
        "ser": score.ser,
        "words": _counts(score.words),
        "characters_spaces_counted": _counts(score.characters),
        "characters_no_spaces": _counts(total(score.no_space_counts)),
        "worst": [_utterance(score, index) for index in score.worst(worst)],
        "formats": [file_format for _, file_format in report.files],
        "notes": list(report.notes),
        "groups": {title: list(map(_group, groups)) for title, groups in report.groups.items()},
        "confidence": [
            {"low": b.low, "high": b.high, "words": b.count, "right": b.right, "mean": b.mean}
            for b in bins
        ],
        "calibration_error": calibration_error(bins) if bins else None,
        "alignment": [asdict(each) for each in report.alignment],
        "times": report.times.to_dict() if report.times else None,
        "against": _comparison(comparison) if comparison else None,
    }
    return {key: plain(value) for key, value in found.items()}


def _group(group: Group) -> dict[str, Any]:
    wer, words = group.words.rate, _counts(group.words)
    return {"name": group.name, "sentences": group.sentences, "wer": wer, "words": words}


def _counts(counts: Counts) -> dict[str, int]:
    return {"total": counts.total, **asdict(counts)}


def _utterance(score: Score, index: int) -> dict[str, Any]:
    pairs = score.align(index)
    return {
        "id": score.ids[index],
        "ref": score.refs[index],
        "hyp": score.hyps[index],
        "errors": sum(ref != hyp for ref, hyp in pairs),
        "alignment": pairs,
    }
