"""Statistics of a data directory, and transcripts that are probably wrong."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.audio.clip import command_of
from asr.corpus.datadir import DataDir, Utterance
from asr.corpus.validate import audio_duration_s
from asr.errors import InputError, counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SHOWN = 5
PERCENTILES = {"min": 0, "5 %": 5, "25 %": 25, "median": 50, "75 %": 75, "95 %": 95, "max": 100}
BINS = 12
FAR = 5.0  # robust standard deviations of the logarithm
LEAST = 0.1  # of such a deviation: in a small set, the rates may be nearly equal by chance

_BLOCKS = " ▏▎▍▌▋▊▉█"  # eighths of a cell


def describe(data: DataDir) -> dict[str, Any]:
    """Return counts, durations, speaking rates and outliers, for JSON.

    Raises:
        InputError: a duration cannot be determined.
    """
    seconds = {u.id: u.duration_s or _duration(data, u) for u in data.utterances}
    texts = {u.id: u.text for u in data.utterances if u.text is not None}
    words = Counter(word for text in texts.values() for word in text.split())
    rates = {name: len(text) / seconds[name] for name, text in texts.items()}
    return {
        "path": str(data.path),
        "utterances": len(data.utterances),
        "speakers": len({u.speaker for u in data.utterances}),
        "hours": sum(seconds.values()) / 3600,
        "words": words.total(),
        "vocabulary": len(words),
        "characters": sorted(set().union(*texts.values())),
        "duration_s": _spread(list(seconds.values())),
        "words_per_utterance": _spread([len(text.split()) for text in texts.values()]),
        "characters_per_utterance": _spread([len(text) for text in texts.values()]),
        "characters_per_second": _spread(list(rates.values())),
        "histogram_s": _histogram(list(seconds.values())),
        "longest": _extremes(seconds, largest=True),
        "shortest": _extremes(seconds, largest=False),
        "fastest": _extremes(rates, largest=True),
        "slowest": _extremes(rates, largest=False),
        "suspicious": suspicious(rates),
    }


def suspicious(rates: dict[str, float]) -> dict[str, float]:
    """Return utterances with an unusual rate, whose transcripts probably do not fit the audio.

    Args:
        rates: characters per second of each utterance.

    Returns:
        The rates whose logarithm is more than FAR robust standard deviations (1.4826 times the
        median absolute deviation, at least LEAST) from the median, the farthest first.
    """
    if not rates:
        return {}
    logs = np.log(np.array(list(rates.values())))
    distance = np.abs(logs - np.median(logs))
    deviation = max(LEAST, 1.4826 * float(np.median(distance)))
    far = [(d, name) for name, d in zip(rates, distance, strict=True) if d > FAR * deviation]
    return {name: rates[name] for _, name in sorted(far, reverse=True)}


def _spread(values: list[float]) -> dict[str, float]:
    """Return percentiles by name; empty if there are no values."""
    if not values:
        return {}
    found = np.percentile(values, list(PERCENTILES.values()))
    return dict(zip(PERCENTILES, map(float, found), strict=True))


def _extremes(values: dict[str, float], *, largest: bool) -> dict[str, float]:
    names = sorted(values, key=values.__getitem__, reverse=largest)
    return {name: values[name] for name in names[:SHOWN]}


def _histogram(values: list[float]) -> list[tuple[float, float, int]]:
    """Return the lower edge, upper edge and count of each bin."""
    microseconds = np.round(values, 6)  # rounding errors alone are too narrow a range for bins
    counts, edges = np.histogram(microseconds, bins=BINS)
    bins = zip(edges[:-1], edges[1:], counts, strict=True)
    return [(float(low), float(high), int(count)) for low, high, count in bins]


def _duration(data: DataDir, utterance: Utterance) -> float:
    if command_of(utterance.wav) is not None:
        raise InputError(
            f"{data.path}/wav.scp: {utterance.id} is a command, so its duration is not known; "
            f"run `asr features {data.path}`, which writes utt2dur"
        )
    duration_s = audio_duration_s(utterance.wav) - utterance.start_s
    if duration_s <= 0:
        raise InputError(
            f"{data.path}/segments: {utterance.id} begins at {utterance.start_s:g} s, expected a "
            f"time before the end of {utterance.wav}; fix the line"
        )
    return duration_s


def show(stats: dict[str, Any], console: "Console") -> None:
    """Print the statistics of :func:`describe`."""

    def line(text: str, style: str = "") -> None:  # an id may look like markup of rich
        console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    spoken = (counted(stats[f"{noun}s"], noun) for noun in ("utterance", "speaker", "word"))
    line(
        f"{stats['path']}: {stats['hours']:.2f} h, {', '.join(spoken)} "
        f"({stats['vocabulary']} different), {len(stats['characters'])} characters",
        "bold",
    )
    console.print(_spreads(stats))
    for bar in _bars(stats["histogram_s"]):
        line(bar)
    for title, key, unit in (
        ("longest", "longest", " s"),
        ("shortest", "shortest", " s"),
        ("most characters per second", "fastest", ""),
        ("fewest characters per second", "slowest", ""),
    ):
        if stats[key]:
            line(f"{title}: {_listed(stats[key], unit)}")
    unusual = stats["suspicious"]
    if unusual:
        count = counted(len(unusual), "transcript")
        line(f"{count} may not fit the audio (characters per second):", "yellow")
        line(_listed(dict(list(unusual.items())[: 4 * SHOWN])))


def _spreads(stats: dict[str, Any]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for name in PERCENTILES:
        table.add_column(name, justify="right")
    for title, key, digits in (
        ("seconds", "duration_s", 2),
        ("words", "words_per_utterance", 0),
        ("characters", "characters_per_utterance", 0),
        ("characters per second", "characters_per_second", 1),
    ):
        if stats[key]:
            table.add_row(title, *(f"{stats[key][name]:.{digits}f}" for name in PERCENTILES))
    return table


def _bars(bins: list[tuple[float, float, int]], width: int = 50) -> list[str]:
    """Return a line for each bin of the durations."""
    most = max(count for _, _, count in bins)
    lines = []
    for low, high, count in bins:
        eighths = round(8 * width * count / most)
        bar = _BLOCKS[8] * (eighths // 8) + _BLOCKS[eighths % 8].strip()
        lines.append(f"{low:7.2f} to {high:6.2f} s {bar} {count}")
    return lines


def _listed(values: dict[str, float], unit: str = "") -> str:
    return ", ".join(f"{name} ({value:.2f}{unit})" for name, value in values.items())
