"""The files that Kaldi's scoring scripts write into a decoding folder, character for character.

``wer_<lm-weight>_<penalty>`` and ``cer_...`` have the format of compute-wer, ``scoring_kaldi/``
that of score_kaldi_wer.sh. Two things differ: among alignments with the same number of errors,
align-text may choose another one, and the words of utterances without a hypothesis count as
deleted unless the mode of the score is "present".
"""

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from asr.errors import InputError
from asr.files import write_text
from asr.grouping import grouped
from asr.score.wer import CountArray, Pair, Score, align, operation, total, wrong_sentences
from asr.terminal import warn

GAP = "***"
_SPEAKER_WIDTH = 15
_WORD_WIDTH = 16  # largest width of a column of words in ops
_NAMES = {"C": "correct", "S": "substitution", "I": "insertion", "D": "deletion"}


def write_scores(
    score: Score, folder: str | Path, tag: str = "0_0.0", utt2spk: Mapping[str, str] | None = None
) -> Path:
    """Write ``wer_<tag>``, ``cer_<tag>`` and ``scoring_kaldi/`` into a decoding folder.

    ``best_wer`` and ``best_cer`` choose among all tags in the folder. The details belong to the
    best WER: they are written if this tag has it, and left as they are otherwise.

    Args:
        score: the error rates of one decoding.
        folder: the decoding folder, ``decode_<set>_<tag>``.
        tag: ``<lm-weight>_<penalty>`` of the decoding.
        utt2spk: speaker of each utterance; without it every utterance is its own speaker.

    Returns:
        The path of ``wer_<tag>``.

    Raises:
        InputError: the tag has another form, an utterance has no speaker, or the folder
            cannot be written.
    """
    folder = Path(folder)
    parts = re.fullmatch(r"(-?[0-9][^_/\s]*)_(-?[0-9][^_/\s]*)", tag)
    if parts is None:
        raise InputError(f"tag {tag!r}: expected <lm-weight>_<penalty>, such as 0_0.0 or 10_0.5")
    speakers = _speakers(score.ids, utt2spk)
    wer_file = write_text(folder / f"wer_{tag}", result_lines(score, score.word_counts))
    write_text(folder / f"cer_{tag}", result_lines(score, score.no_space_counts))
    scoring = folder / "scoring_kaldi"
    write_text(scoring / "best_cer", _line_with_path(best_result(folder, "cer")))
    best = best_result(folder, "wer")
    write_text(scoring / "best_wer", _line_with_path(best))
    details = scoring / "wer_details"
    if best == wer_file:
        write_text(details / "lmwt", f"{parts[1]}\n")
        write_text(details / "wip", f"{parts[2]}\n")
        write_details(score, details, speakers)
    elif (details / "wip").exists() and _tag(details) == tag:  # it was the best one before
        shutil.rmtree(details)
        warn(f"{best.name} is the best now; score that decoding again for {details}")
    return wer_file


def _tag(details: Path) -> str:
    return "_".join(_first_line(details / name) for name in ("lmwt", "wip"))


def write_details(score: Score, folder: Path, speakers: Mapping[str, str]) -> None:
    """Write ``per_utt``, ``per_spk``, ``ops`` and ``wer_bootci`` into a folder."""
    order = sorted(range(len(score.ids)), key=lambda i: score.ids[i])
    operations: Counter[Pair] = Counter()
    lines: list[str] = []
    alignments = align([score.refs[i] for i in order], [score.hyps[i] for i in order])
    for i, pairs in zip(order, alignments, strict=True):
        operations.update(pairs)
        lines += utterance_lines(score.ids[i], pairs)
    write_text(folder / "per_utt", _text(lines))
    write_text(folder / "per_spk", _text(speaker_lines(score, speakers)))
    write_text(folder / "ops", _text(operation_lines(operations)))
    mean, half = (100 * value for value in score.spread)
    interval = f"[ {mean - half:.2f}, {mean + half:.2f} ]"
    write_text(folder / "wer_bootci", f"Set1: %WER {mean:.2f} 95% Conf Interval {interval}\n")


def result_lines(score: Score, counts: CountArray) -> str:
    """Return the three lines of compute-wer."""
    sums, wrong, sentences = total(counts), wrong_sentences(counts), len(counts)
    partial = " [PARTIAL]" if score.missing else ""
    return (
        f"%WER {100 * sums.rate:.2f} [ {sums.errors} / {sums.total}, {sums.insertions} ins, "
        f"{sums.deletions} del, {sums.substitutions} sub ]{partial}\n"
        f"%SER {100 * wrong / sentences:.2f} [ {wrong} / {sentences} ]\n"
        f"Scored {sentences} sentences, {len(score.missing)} not present in hyp.\n"
    )


def best_result(folder: Path, kind: str) -> Path:
    """Return the ``wer_*`` (or ``cer_*``) file of a folder with the lowest rate."""
    files = [path for path in sorted(folder.glob(f"{kind}_[-0-9]*_[-0-9]*")) if path.is_file()]
    return min(files, key=_rate)


def _rate(path: Path) -> float:
    match = re.match(r"%WER (\S+) ", _first_line(path))
    if match is None:
        raise InputError(f'{path}:1: expected "%WER <percent> [ ..."; remove the file')
    return float(match[1])


def _line_with_path(path: Path) -> str:
    return f"{_first_line(path)} {path}\n"


def _first_line(path: Path) -> str:
    return path.read_bytes().partition(b"\n")[0].decode("utf-8", "replace")


def utterance_lines(name: str, pairs: Iterable[Pair]) -> Iterator[str]:
    """Yield the four lines of ``per_utt``: words centred in columns (wer_per_utt_details.pl)."""
    columns = [(ref or GAP, hyp or GAP, operation((ref, hyp))) for ref, hyp in pairs]
    centred = [[_centre(cell, max(map(len, column))) for cell in column] for column in columns]
    refs, hyps, ops = zip(*centred, strict=True) if centred else ((), (), ())
    yield f"{name} ref  {'  '.join(refs)}"
    yield f"{name} hyp  {'  '.join(hyps)}"
    yield f"{name} op   {'  '.join(ops)}"
    counts = Counter(op for _, _, op in columns)
    yield f"{name} #csid {' '.join(str(counts[op]) for op in 'CSID')}"


def _centre(text: str, width: int) -> str:
    right = (width - len(text)) // 2
    return " " * (width - len(text) - right) + text + " " * right


def speaker_lines(score: Score, speakers: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of ``per_spk``: counts (raw) and percent (sys) (wer_per_spk_details.pl)."""
    width = max(_SPEAKER_WIDTH, *map(len, speakers.values()))
    titles = ("#SENT", "#WORD", "Corr", "Sub", "Ins", "Del", "Err", "S.Err")
    yield f"{'SPEAKER':{width}} id  {_fields(titles)}"
    rows = grouped(range(len(score.ids)), lambda i: speakers[score.ids[i]])
    for speaker in sorted(rows):
        yield from _speaker_rows(speaker, score.word_counts[rows[speaker]], width)
    yield from _speaker_rows("SUM", score.word_counts, width)


def _speaker_rows(speaker: str, counts: CountArray, width: int) -> Iterator[str]:
    sums, sentences, wrong = total(counts), len(counts), wrong_sentences(counts)
    numbers = (sums.correct, sums.substitutions, sums.insertions, sums.deletions, sums.errors)
    yield f"{speaker:{width}} raw {_fields((sentences, sums.total, *numbers, wrong))}"
    if sums.total:
        percent = [f"{100 * n / sums.total:.2f}" for n in numbers]
        wrong_percent = f"{100 * wrong / sentences:.2f}"
        yield f"{speaker:{width}} sys {_fields((sentences, sums.total, *percent, wrong_percent))}"


def _fields(values: Iterable[object]) -> str:
    return " ".join(f"{value!s:>10}" for value in values)


def operation_lines(operations: Mapping[Pair, int]) -> list[str]:
    """Return the lines of ``ops``: word pairs, the most frequent first (wer_ops_details.pl)."""
    rows = sorted(
        (_NAMES[operation(pair)], -count, pair[0] or GAP, pair[1] or GAP)
        for pair, count in operations.items()
    )
    width = min(_WORD_WIDTH, max((len(word) for row in rows for word in row[2:]), default=0))
    digits = len(str(max(operations.values(), default=0)))
    return [
        f"{name:12}  {ref:>{width}}    {hyp:>{width}}    {-negative:>{digits}}"
        for name, negative, ref, hyp in rows
    ]


def _speakers(ids: Iterable[str], utt2spk: Mapping[str, str] | None) -> Mapping[str, str]:
    if utt2spk is None:
        return {name: name for name in ids}
    for name in ids:
        if name not in utt2spk:
            raise InputError(f"utt2spk: utterance {name} has no speaker; add its line")
    return utt2spk


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
