"""What a data directory holds, and which utterances look wrong."""

from collections import Counter
from typing import Any

import numpy as np

from asr.corpus.datadir import DataDir
from asr.errors import InputError

OUTLIERS = 5
PERCENTILES = (0, 5, 25, 50, 75, 95, 100)


def describe(data: DataDir) -> dict[str, Any]:
    """Counts, durations, speaking rates and outliers, as JSON can hold them.

    Raises:
        InputError: a duration cannot be found out.
    """
    seconds = _durations(data)
    texts = {u.id: u.text for u in data.utterances if u.text is not None}
    words = Counter(word for text in texts.values() for word in text.split())
    rates = {name: len(text) / seconds[name] for name, text in texts.items()}
    by_rate = sorted(rates, key=rates.__getitem__)
    by_length = sorted(seconds, key=seconds.__getitem__)
    values = np.array(list(seconds.values()))
    return {
        "path": str(data.path),
        "utterances": len(data.utterances),
        "speakers": len({u.speaker for u in data.utterances}),
        "hours": float(values.sum() / 3600),
        "seconds": {str(p): float(np.percentile(values, p)) for p in PERCENTILES},
        "histogram": _histogram(values),
        "words": sum(words.values()),
        "vocabulary": len(words),
        "characters": sorted(set().union(*texts.values())) if texts else [],
        "longest": {n: seconds[n] for n in by_length[-OUTLIERS:][::-1]},
        "shortest": {n: seconds[n] for n in by_length[:OUTLIERS]},
        "characters_per_second": {
            "median": float(np.median(list(rates.values()))) if rates else 0.0,
            "fastest": {n: rates[n] for n in by_rate[-OUTLIERS:][::-1]},
            "slowest": {n: rates[n] for n in by_rate[:OUTLIERS]},
        },
    }


def _histogram(values: np.ndarray) -> list[tuple[float, int]]:
    counts, edges = np.histogram(values, bins=10)
    return [(float(edge), int(count)) for edge, count in zip(edges, counts, strict=False)]


def _durations(data: DataDir) -> dict[str, float]:
    from asr.audio.io import info

    result = {}
    for utterance in data.utterances:
        seconds = utterance.duration_s
        if seconds is None:
            if utterance.wav.endswith("|"):
                raise InputError(
                    f"{data.path}: {utterance.id} is a pipe without a duration; "
                    f"run `asr features {data.path}` first"
                )
            seconds = info(utterance.wav).duration_s
        result[utterance.id] = max(seconds, 1e-3)
    return result


def report(stats: dict[str, Any]) -> str:
    """The same for people."""
    lines = [
        f"{stats['path']}: {stats['utterances']} utterances, {stats['speakers']} speakers, "
        f"{stats['hours']:.2f} h, {stats['words']} words, {stats['vocabulary']} different ones, "
        f"{len(stats['characters'])} characters",
        "seconds: " + ", ".join(f"{p} % {v:.2f}" for p, v in stats["seconds"].items()),
    ]
    most = max(count for _, count in stats["histogram"])
    for edge, count in stats["histogram"]:
        lines.append(f"  {edge:7.2f} s {'#' * round(50 * count / most)} {count}")
    rates = stats["characters_per_second"]
    lines.append(
        f"characters per second: median {rates['median']:.1f}; far from it, look at these:"
    )
    for kind in ("fastest", "slowest"):
        found = ", ".join(f"{name} ({rate:.1f})" for name, rate in rates[kind].items())
        lines.append(f"  {kind}: {found}")
    found = ", ".join(f"{name} ({s:.2f} s)" for name, s in stats["longest"].items())
    return "\n".join([*lines, f"longest: {found}"])
