"""Error rates by speaker, by sentence length and by confidence."""

import bisect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asr.score.calibration import ConfidenceBin, confidence_bins
from asr.score.wer import Counts, Score, total
from asr.text.sentences import sentence_key
from asr.text.timed import CtmWord

LENGTHS = (0, 1, 2, 4, 7, 11, 21, 41)  # fewest words of each group


@dataclass(frozen=True)
class Group:
    """Some of the utterances."""

    name: str
    sentences: int
    words: Counts


def by_speaker(score: Score, utt2spk: Mapping[str, str]) -> list[Group]:
    """Return a group for each speaker, the highest WER first; unknown speakers form one group."""
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
    positions = [bisect.bisect_right(LENGTHS, len(ref.split())) - 1 for ref in score.refs]
    groups = {group.name: group for group in _grouped(score, list(map(_range, positions)))}
    return [groups[name] for name in map(_range, range(len(LENGTHS))) if name in groups]


def _range(position: int) -> str:
    low, high = LENGTHS[position], (*LENGTHS, None)[position + 1]
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


def by_confidence(score: Score, words: Mapping[str, Sequence[CtmWord]]) -> list[ConfidenceBin]:
    """Return the share of correct words in each bin of confidence.

    Utterances whose words a normalizer or a map has split or joined are left out.
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
