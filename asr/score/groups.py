"""Where the errors are: by speaker, by length of the sentence, by confidence of the word."""

import bisect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asr.score.wer import Counts, Score, total
from asr.text.sentences import sentence_key
from asr.text.timed import CtmWord

LENGTHS = (0, 1, 2, 4, 7, 11, 21, 41)  # fewest words of each group
CONFIDENCES = 10  # bins


@dataclass(frozen=True)
class Group:
    """Some of the utterances."""

    name: str
    sentences: int
    words: Counts


@dataclass(frozen=True)
class Sureness:
    """Recognised words of about one confidence."""

    low: float
    high: float
    words: int
    right: int
    mean: float
    """Of their confidences; equal to the share of right words if these are calibrated."""


def by_speaker(score: Score, utt2spk: Mapping[str, str]) -> list[Group]:
    """A group for each speaker, the most errors in percent first; those unknown go together."""
    groups = _grouped(score, [utt2spk.get(name, "(unknown)") for name in score.ids])
    return sorted(groups, key=lambda group: (-group.words.rate, group.name))


def by_seen(score: Score, seen: Collection[str]) -> list[Group]:
    """The sentences that a training has seen, and those that it has not.

    Args:
        score: of all.
        seen: the sentences of the training, each by its :func:`sentence_key` after the same
            preparation as the references.
    """
    names = ["seen" if sentence_key(ref) in seen else "unseen" for ref in score.refs]
    return sorted(_grouped(score, names), key=lambda group: group.name)


def by_length(score: Score) -> list[Group]:
    """A group for each range of words in the reference, the shortest first."""
    places = [bisect.bisect_right(LENGTHS, len(ref.split())) - 1 for ref in score.refs]
    groups = {group.name: group for group in _grouped(score, list(map(_range, places)))}
    return [groups[name] for name in map(_range, range(len(LENGTHS))) if name in groups]


def _range(place: int) -> str:
    low, high = LENGTHS[place], (*LENGTHS, None)[place + 1]
    if high is None:
        return f"{low} words and more"
    if high > low + 1:
        return f"{low} to {high - 1} words"
    return "1 word" if low == 1 else f"{low} words"


def _grouped(score: Score, names: Sequence[str]) -> list[Group]:
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    return [
        Group(name, len(chosen), total(score.word_counts[chosen])) for name, chosen in rows.items()
    ]


def by_confidence(score: Score, words: Mapping[str, Sequence[CtmWord]]) -> list[Sureness]:
    """How many of the recognised words are right, by their confidence.

    Utterances whose words a normalizer or a map has split or joined are left out.
    """
    values, right = [], []
    for row, name in enumerate(score.ids):
        said = words.get(name, ())
        hits = [ref == hyp for ref, hyp in score.align(row) if hyp is not None]
        if len(hits) == len(said):
            sure = [(w.confidence, hit) for w, hit in zip(said, hits, strict=True)]
            values += [value for value, _ in sure if value is not None]
            right += [hit for value, hit in sure if value is not None]
    return _bins(np.array(values, float), np.array(right, bool))


def _bins(values: np.ndarray, right: np.ndarray) -> list[Sureness]:
    places = np.minimum((values * CONFIDENCES).astype(int), CONFIDENCES - 1)
    return [
        Sureness(
            place / CONFIDENCES,
            (place + 1) / CONFIDENCES,
            int((places == place).sum()),
            int(right[places == place].sum()),
            float(values[places == place].mean()),
        )
        for place in range(CONFIDENCES)
        if (places == place).any()
    ]


def calibration_error(sureness: Sequence[Sureness]) -> float:
    """Expected calibration error: mean distance of confidence and share of right words."""
    words = sum(s.words for s in sureness)
    return sum(abs(s.mean * s.words - s.right) for s in sureness) / max(1, words)
