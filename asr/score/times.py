"""Errors of the times of words, compared with those of another CTM."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.score.wer import align
from asr.text.characters import clean
from asr.text.timed import CtmWord

TOLERANCE_S = 0.1  # a word is in time if its start and its end are wrong by at most this

Words = Mapping[str, Sequence[CtmWord]]
"""Words in the order of time, by utterance."""


@dataclass(frozen=True)
class TimeErrors:
    """Errors of the starts and ends of the words that are right."""

    starts_s: np.ndarray
    """Hypothesis minus reference for each word, (N,)."""
    ends_s: np.ndarray
    missing: int
    """Reference words without a matching hypothesis word."""

    @property
    def in_time(self) -> float:
        """Share of the reference words that are right with both ends within 100 ms."""
        near = (np.abs(self.starts_s) <= TOLERANCE_S) & (np.abs(self.ends_s) <= TOLERANCE_S)
        return float(near.sum()) / max(1, len(near) + self.missing)

    def render(self) -> str:
        """Return the report for people."""
        lines = [f"{len(self.starts_s)} words compared, {self.missing} not found"]
        for name, errors in (("starts", self.starts_s), ("ends", self.ends_s)):
            if len(errors):
                sizes = 1000 * np.abs(errors)
                lines.append(
                    f"{name}: median error {np.median(sizes):.0f} ms, mean {sizes.mean():.0f} ms, "
                    f"95 % below {np.percentile(sizes, 95):.0f} ms; "
                    f"bias {1000 * np.median(errors):+.0f} ms"
                )
        if len(self.starts_s):
            near = f"{1000 * TOLERANCE_S:.0f} ms"
            lines.append(f"{100 * self.in_time:.1f} % of the words have both ends within {near}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON, in seconds and fractions."""
        found: dict[str, Any] = {"words": len(self.starts_s), "missing": self.missing}
        if len(self.starts_s):
            for name, errors in (("start", self.starts_s), ("end", self.ends_s)):
                found[f"{name}_median_s"] = float(np.median(np.abs(errors)))
                found[f"{name}_mean_s"] = float(np.abs(errors).mean())
                found[f"{name}_bias_s"] = float(np.median(errors))
        return {**found, "both_ends_within_100_ms": self.in_time}


def compare_times(
    found: Words, expected: Words, prepare: Callable[[str], str] = lambda text: text
) -> TimeErrors:
    """Return the errors of the words that a CTM has in common with a reference CTM.

    Args:
        found: hypotheses.
        expected: references.
        prepare: normalises a word; if it becomes several words or none, it stays as it is.
    """

    def spelled(word: CtmWord) -> str:
        prepared = prepare(clean(word.word))
        return prepared if len(prepared.split()) == 1 else word.word

    names = sorted(found.keys() & expected.keys())
    references, hypotheses = (
        [" ".join(map(spelled, words[name])) for name in names] for words in (expected, found)
    )
    starts, ends, total = [], [], sum(map(len, expected.values()))
    for name, pairs in zip(names, align(references, hypotheses), strict=True):
        true_words, words = iter(expected[name]), iter(found[name])
        for reference, hypothesis in pairs:
            true = next(true_words) if reference is not None else None
            word = next(words) if hypothesis is not None else None
            if true is not None and word is not None and reference == hypothesis:
                starts.append(word.start_s - true.start_s)
                ends.append(word.end_s - true.end_s)
    return TimeErrors(np.array(starts), np.array(ends), total - len(starts))
