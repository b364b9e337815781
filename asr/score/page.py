"""The report as one self-contained HTML page that shows and plays the errors."""

import html
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from asr.audio.clip import Clip
from asr.errors import counted
from asr.files import write_text
from asr.score.report import Report, conditions, describe_comparison, tables
from asr.score.wer import Pair, Score, errors, operation, total

PLAYABLE = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a"}  # formats that browsers play
CONFUSIONS = 20  # rows of the table of confusions
GAP = "\N{MIDDLE DOT}"


def write_page(path: str | Path, report: Report, audio: Mapping[str, Clip]) -> Path:
    """Write the page.

    Args:
        path: the HTML file.
        report: the results to show.
        audio: the audio of the utterances, by id; those without audio have no player.

    Raises:
        InputError: the file cannot be written.
    """
    folder, score = Path(path).resolve().parent, report.score
    sounds = {name: sound for name, clip in audio.items() if (sound := _sound(clip, folder))}
    style, script = (Path(__file__).with_suffix(end).read_text("utf-8") for end in (".css", ".js"))
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{_text(report.set_name)}: word errors</title>",
        f"<style>\n{style}</style></head><body>",
        *_summary(report),
        '<div class="tables">',
        *_tables(report),
        "</div>",
        '<h2>Utterances</h2><div class="bar"><label><input type="checkbox" id="wrong" checked> '
        'only wrong ones</label> <input type="search" id="search" placeholder="id or words"></div>',
        *_utterances(score, sounds),
        f"<script>\n{script}</script></body></html>",
    ]
    return write_text(path, "\n".join(parts) + "\n")


def _text(value: object) -> str:
    return html.escape(str(value))


def _summary(report: Report) -> Iterator[str]:
    score = report.score
    low, high = score.interval
    yield f"<h1>{_text(report.set_name)}</h1>"
    yield (
        f'<div><span class="rate">{100 * score.wer:.2f} %</span> of {score.words.total} words are '
        f"wrong (95 % interval {100 * low:.2f} to {100 * high:.2f})</div>"
    )
    words, cer = score.words, total(score.no_space_counts).rate
    yield (
        f"<div>{words.substitutions} substituted, {words.deletions} deleted, {words.insertions} "
        f"inserted; characters {100 * cer:.2f} % without spaces; {score.wrong_sentences} of "
        f"{len(score.ids)} sentences wrong ({100 * score.ser:.1f} %)</div>"
    )
    if report.comparison:
        yield f"<div>{_text(describe_comparison(report.comparison))}</div>"
    yield f'<div class="note">{_text(conditions(report))}</div>'


def _tables(report: Report) -> Iterator[str]:
    for title, columns, cells in tables(report, report.groups):
        yield from _table(title, ("", *columns), cells)
    words = confusions(report.score)[:CONFUSIONS]
    rows = ((ref or GAP, hyp or GAP, count) for (ref, hyp), count in words)
    yield from _table("Confusions", ("Reference", "Hypothesis", "Count"), rows)


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield f"<div><h2>{_text(title)}</h2><table><tr>"
    yield "".join(f"<th>{_text(head)}</th>" for head in heads) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>"
    yield "</table></div>"


def confusions(score: Score) -> list[tuple[Pair, int]]:
    """Return the misrecognised word pairs and their counts, the most frequent first."""
    counts = Counter(
        pair
        for row in map(int, errors(score.word_counts).nonzero()[0])
        for pair in score.align(row)
        if pair[0] != pair[1]
    )
    return sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))


def _utterances(score: Score, sounds: Mapping[str, str]) -> Iterator[str]:
    wrong, ids = errors(score.word_counts), score.ids
    for row in sorted(range(len(ids)), key=lambda row: (-wrong[row], ids[row])):
        words = _text(f"{ids[row]} {score.refs[row]} {score.hyps[row]}")
        sound = sounds.get(ids[row])
        player = f'<audio controls preload="none" src="{_text(sound)}"></audio>' if sound else ""
        count = int(wrong[row])
        label = counted(count, "error") if count else "right"
        yield f'<div class="u" data-errors="{count}" data-text="{words}">'
        yield f'<header><code>{_text(ids[row])}</code><span class="note">{label}</span>'
        yield f"{player}</header>{''.join(map(_pair, score.align(row)))}</div>"


def _pair(pair: Pair) -> str:
    words = "".join(f"<span>{_text(GAP if word is None else word)}</span>" for word in pair)
    return f'<span class="p {operation(pair)}">{words}</span> '


def _sound(clip: Clip, folder: Path) -> str | None:
    """Return the URL of a recording relative to the page, with the part of the file to play.

    A command in wav.scp is not run.
    """
    file = Path(os.fsdecode(clip.source))
    if clip.command or file.suffix.lower() not in PLAYABLE or not file.is_file():
        return None
    place = quote(os.path.relpath(file.resolve(), folder).replace(os.sep, "/"))
    if clip.start_s == 0 and clip.end_s is None:
        return place
    times = (clip.start_s,) if clip.end_s is None else (clip.start_s, clip.end_s)
    return f"{place}#t={','.join(f'{each:.12g}' for each in times)}"
