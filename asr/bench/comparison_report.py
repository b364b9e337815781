"""Tables and a picture of a comparison of trainings."""

import math
import os
import platform
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from asr.bench import measure
from asr.bench.accuracy import JOINED, PAUSE_S
from asr.bench.comparison import GOAL_WER
from asr.bench.speed import SEGMENTS
from asr.figures import own_settings, write_png
from asr.files import write_json, write_text
from asr.model.machine import proc

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Numbers = Mapping[str, Any]


_ABOUT_ERRORS = (
    "WER: the recipes' beam search with CTC; alone: greedy search by attention alone. x2, x4, x8: "
    f"so many utterances in one segment, with pauses of {PAUSE_S:g} s. epochs: the first one with "
    f"a WER of {100 * GOAL_WER:g} % or less. words: median distance of the starts and ends of "
    "words by attention from those of {reference}. delay: median time from the end of a word to "
    "the end of the last encoder step that its last character reads."
)
_ABOUT_SPEED = (
    "Times are processor seconds of one thread; the machine had a load of up to {load} on {cores} "
    "cores. step, memory: `asr bench train --config`. RTF: encoder and beam search of "
    f"{SEGMENTS} segments in seconds per second of audio. decoder: the decoder alone, which reads "
    "the transcripts."
)


class Column(NamedTuple):
    """A column of a table."""

    title: str
    path: str
    """Keys of the number in the numbers of a training; FORM stands for the form of attention."""
    factor: float = 1.0
    digits: int = 0


def _errors(search: str, title: str) -> list[Column]:
    root = f"accuracy.forms.FORM.{search}"
    return [Column(title if n == 1 else f"x{n}", f"{root}.{n}.wer", 100, 1) for n in JOINED]


ERRORS = (
    *_errors("with_ctc", "WER %"),
    *_errors("attention", "alone %"),
    Column("epochs", "accuracy.epochs_to_goal"),
    Column("words ms", "accuracy.places.FORM.error_ms"),
    Column("delay ms", "accuracy.places.FORM.delay_ms"),
    Column("parameters M", "accuracy.parameters", 1e-6, 2),
)
SPEED = (
    Column("step s", "speed.step_s", 1, 2),
    Column("memory MB", "speed.peak_memory_mb"),
    Column("RTF", "speed.forms.FORM.rtf.1", 1, 4),
    Column("x2", "speed.forms.FORM.rtf.2", 1, 4),
    Column("x4", "speed.forms.FORM.rtf.4", 1, 4),
    Column("decoder ms/s", "speed.forms.FORM.decoder.1", 1000, 1),
    Column("x2", "speed.forms.FORM.decoder.2", 1000, 1),
    Column("x4", "speed.forms.FORM.decoder.4", 1000, 1),
)


class Line(NamedTuple):
    """The trainings of one label, in one form of attention."""

    label: str
    form: str
    runs: Sequence[Numbers]

    def value(self, column: Column) -> float | None:
        """Return the mean of a number over the seeds; None if it was not measured."""
        found = [each for run in self.runs if (each := self._of(run, column)) is not None]
        return column.factor * statistics.mean(found) if found else None

    def _of(self, run: Numbers, column: Column) -> float | None:
        value: Any = run
        for key in column.path.split("."):
            value = value.get(self.form if key == "FORM" else key) if value else None
        return value


def lines(runs: Sequence[Numbers]) -> list[Line]:
    """Return a line for each label and form, the fewest errors first."""
    found = []
    for label in dict.fromkeys(run["label"] for run in runs):
        same = [run for run in runs if run["label"] == label]
        parts = [run.get("accuracy") or run.get("speed") or {} for run in same]
        forms = dict.fromkeys(form for part in parts for form in part.get("forms", {}))
        found += [Line(label, form, same) for form in forms]
    firsts = (ERRORS[0], ERRORS[len(JOINED)])

    def rank(line: Line) -> tuple[float, ...]:
        first = next(each for each in found if each.label == line.label)
        return tuple(v if (v := first.value(c)) is not None else 1e9 for c in firsts)

    return sorted(found, key=rank)


def table(found: Sequence[Line], columns: Sequence[Column]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    shown = [c for c in columns if any(line.value(c) is not None for line in found)]
    cells = [["", "form", "seeds", *(c.title for c in shown)]]
    for line in found:
        values = [_cell(line.value(c), c.digits) for c in shown]
        cells.append([line.label, line.form, str(len(line.runs)), *values])
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * n if i < 2 else "-" * (n - 1) + ":" for i, n in enumerate(widths)])
    for row in cells:
        pairs = list(zip(row, widths, strict=True))
        texts = [t.ljust(n) for t, n in pairs[:2]] + [t.rjust(n) for t, n in pairs[2:]]
        yield f"| {' | '.join(texts)} |"


def _cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def text(data: Mapping[str, Any]) -> str:
    """Return the tables, with sentences that say what their numbers mean."""
    found, where = lines(data["rows"]), data["machine"]
    parts = [
        f"Trained on {data['train']}, measured on {data['dev']} with commit {where['commit']}, "
        f"{where['processor']}.",
        _ABOUT_ERRORS.format(reference=_references(data["rows"])),
        "\n".join(table(found, ERRORS)),
    ]
    if speeds := [run["speed"] for run in data["rows"] if "speed" in run]:
        load, cores = max(each["load"] for each in speeds), os.cpu_count() or 1
        parts += [
            _ABOUT_SPEED.format(load=f"{load:.1f}", cores=cores),
            "\n".join(table(found, SPEED)),
        ]
    return "\n\n".join(parts) + "\n"


def _references(runs: Sequence[Numbers]) -> str:
    names = {run["accuracy"]["reference"] for run in runs if "accuracy" in run}
    return " or ".join("the CTM" if name == "CTM" else "the model's CTC" for name in sorted(names))


def write(data: Mapping[str, Any], out: str | Path) -> str:
    """Write comparison.json, comparison.md and comparison.png; return the tables."""
    out, tables = Path(out), text(data)
    write_json(out / "comparison.json", data)
    write_text(out / "comparison.md", tables)
    draw(lines(data["rows"]), out / "comparison.png")
    return tables


@own_settings()
def draw(found: Sequence[Line], path: Path) -> None:
    """Draw error rates and the time of the decoder as dots, a row for each line of the table."""
    from matplotlib.figure import Figure

    panels = [
        ("WER with CTC, %", ERRORS[: len(JOINED)]),
        ("WER by attention alone, %", ERRORS[len(JOINED) : 2 * len(JOINED)]),
        ("decoder, ms per second of audio", SPEED[-3:]),
    ]
    panels = [(t, c) for t, c in panels if any(line.value(c[0]) is not None for line in found)]
    size = (4.2 * len(panels) + 1.4, 1.6 + 0.26 * len(found))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for each, (title, columns) in zip(axes, panels, strict=True):
        _dots(each, found, columns, 100.0 if "%" in title else math.inf)
        each.set_title(title, fontsize=10)
    labels = [line.label for line in found]
    names = [
        f"{n} ({line.form})" if labels.count(n) > 1 else n
        for n, line in zip(labels, found, strict=True)
    ]
    axes[0].set_yticks(range(len(found)), names)
    axes[0].set_ylim(len(found) - 0.5, -0.5)
    handles, titles = axes[0].get_legend_handles_labels()
    figure.legend(handles, titles, loc="outside lower center", ncols=len(JOINED), fontsize=9)
    write_png(figure, path)


def _dots(axes: "Axes", found: Sequence[Line], columns: Sequence[Column], top: float) -> None:
    """Draw a column in each colour; numbers above ``top`` stand at the edge."""
    from matplotlib import colormaps

    colors = colormaps["viridis"]([0.0, 0.4, 0.7, 0.92])
    for column, color, count in zip(columns, colors, JOINED, strict=False):
        values = [line.value(column) for line in found]
        xs = [math.nan if v is None else min(top, v) for v in values]
        name = "one utterance" if count == 1 else f"{count} utterances joined"
        axes.scatter(xs, range(len(xs)), color=[color], s=36, label=name, zorder=3, clip_on=False)
    axes.grid(alpha=0.3)
    axes.set_xlim(0, top if top < math.inf else None)


def machine() -> dict[str, Any]:
    """Return the machine, the commit and the versions of a comparison."""
    name = proc("cpuinfo", r"^model name\s*:\s*(.+)$")
    processor = name or platform.processor() or platform.machine()
    return {**measure.machine(), "processor": processor, "commit": _commit()}


def _commit() -> str:
    """Return the commit of the code, or "unknown" outside a repository."""
    with suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return "unknown"
