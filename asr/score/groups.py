"""Error rates by speaker, by sentence length and by confidence."""

import bisect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asr.errors import counted
from asr.grouping import grouped
from asr.score.calibration import ConfidenceBin, confidence_bins
from asr.score.wer import Counts, Score, total
from asr.text.normalize import sentence_key
from asr.text.timed import CtmWord

LENGTHS = (0, 1, 2, 4, 7, 11, 21, 41)  # minimum number of words in each group


@dataclass(frozen=True)
class Group:
    """A group of utterances and its word counts."""

    name: str
    sentences: int
    words: Counts


def by_speaker(score: Score, utt2spk: Mapping[str, str]) -> list[Group]:
    """Return a group for each speaker, the highest WER first; unknown speakers form one group."""
    groups = _grouped(score, [utt2spk.get(name, "(unknown)") for name in score.ids])
    return sorted(groups, key=lambda group: (-group.words.rate, group.name))


def by_seen(score: Score, seen: Collection[str]) -> list[Group]:
    """Return a group for the sentences of the training set, and one for all others.

    Args:
        score: the error rates of the test set.
        seen: the :func:`sentence_key` of each training sentence, after the same preparation as
            that of the references.
    """
    names = ["seen" if sentence_key(ref) in seen else "unseen" for ref in score.refs]
    return sorted(_grouped(score, names), key=lambda group: group.name)


def by_length(score: Score) -> list[Group]:
    """Return a group for each range of reference lengths, the shortest first."""
    names = [_range(bisect.bisect_right(LENGTHS, len(ref.split()))) for ref in score.refs]
    order = list(map(_range, range(1, len(LENGTHS) + 1)))
    return sorted(_grouped(score, names), key=lambda group: order.index(group.name))


def _range(end: int) -> str:
    """Name of the range from ``LENGTHS[end - 1]`` to below ``LENGTHS[end]``."""
    low = LENGTHS[end - 1]
    if end == len(LENGTHS):
        return f"{low} words and more"
    high = LENGTHS[end] - 1
    return f"{low} to {high} words" if high > low else counted(low, "word")


def _grouped(score: Score, names: Sequence[str]) -> list[Group]:
    rows = grouped(range(len(names)), names.__getitem__)
    return [
        Group(name, len(chosen), total(score.word_counts[chosen])) for name, chosen in rows.items()
    ]


def by_confidence(score: Score, words: Mapping[str, Sequence[CtmWord]]) -> list[ConfidenceBin]:
    """Return the bins of confidence, with the share of correct words in each.

    Utterances whose words were split or joined by a normalizer or a map are left out.
    """
    values, right = [], []
    for row, name in enumerate(score.ids):
        recognised = words.get(name, ())
        hits = [ref == hyp for ref, hyp in score.align(row) if hyp is not None]
        if len(hits) == len(recognised):
            for word, hit in zip(recognised, hits, strict=True):
                if word.confidence is not None:
                    values.append(word.confidence)
                    right.append(hit)
    return confidence_bins(np.array(values, float), np.array(right, bool))
