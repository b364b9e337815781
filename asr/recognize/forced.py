"""Forced alignment of a data directory, and the errors of its times."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.corpus.datadir import Utterance
from asr.errors import InputError
from asr.recognize.directory import read_batches, speaker_stats
from asr.recognize.spelling import tell_lacking
from asr.recognize.transcript import Word
from asr.recognize.utterances import UtteranceRecognizer
from asr.text.timed import CtmWord

_TOO_LONG = (
    "more characters than the audio has encoder steps, so CTC cannot align them; times are from "
    "attention, and of little worth; check the transcript and the segment"
)
NEAR_S = 0.08  # errors up to it are counted as small


@dataclass(frozen=True)
class TimeErrors:
    """Errors of the starts and ends of words."""

    starts_s: np.ndarray
    """Found less expected, a number for each word."""
    ends_s: np.ndarray
    missing: int
    """Reference words without a matching hypothesis word."""

    def render(self) -> str:
        """Lines for people."""
        lines = [f"{len(self.starts_s)} words compared, {self.missing} not found"]
        for name, errors in (("starts", self.starts_s), ("ends", self.ends_s)):
            if len(errors):
                sizes = 1000 * np.abs(errors)
                lines.append(
                    f"{name}: median error {np.median(sizes):.0f} ms, mean {sizes.mean():.0f} ms, "
                    f"95 % below {np.percentile(sizes, 95):.0f} ms, "
                    f"{100 * np.mean(sizes <= 1000 * NEAR_S):.0f} % up to {1000 * NEAR_S:.0f} ms; "
                    f"bias {1000 * np.median(errors):+.0f} ms"
                )
        return "\n".join(lines)


def align(
    recognizer: UtteranceRecognizer,
    data: str | Path,
    utterances: Sequence[Utterance],
    *,
    recognise: bool = False,
    by: str = "ctc",
) -> Iterator[tuple[str, tuple[Word, ...]]]:
    """Words with their times, in seconds from the beginning of the utterance.

    Utterances that cannot be read are left out, and it is said, as it is where the audio is too
    short for CTC and attention tells the times. Words stay as the transcripts have
    them; it is said which characters the model lacks.

    Args:
        recognizer: the model, with search settings.
        data: the data directory.
        utterances: of it, with transcripts, unless they are to be recognised.
        recognise: whether to align what is recognised.
        by: ``ctc`` or ``attention``.

    Raises:
        InputError: the model was not trained with CTC, but that is asked for.
    """
    if by == "ctc" and not recognizer.header.has_ctc:
        raise InputError(
            f"{recognizer.header.path}: trained without CTC, so it cannot align by it; "
            "take --by attention"
        )
    if not recognise:
        texts = {u.id: u.text or "" for u in utterances}
        if lacking := tell_lacking(texts, recognizer.header.tokenizer):
            print(f"asr align: warning: the model lacks {lacking}", file=sys.stderr)
    speakers = speaker_stats(data, utterances, recognizer.header.config.features)
    for batch in read_batches(recognizer, utterances, speakers, _left_out):
        if not batch:
            continue
        features = [chunk.features for _, chunk in batch]
        known = None if recognise else [u.text or "" for u, _ in batch]
        words = recognizer.words(features, known, by_attention=by == "attention")
        for (u, _), each in zip(batch, words, strict=True):
            if by == "ctc" and each and each[0].evidence is None:
                print(f"asr align: warning: {u.id}: {_TOO_LONG}", file=sys.stderr)
            yield u.id, each


def _left_out(utterance: Utterance, reason: str) -> None:
    print(f"asr align: {utterance.id}: {reason}", file=sys.stderr)


def ctm_lines(utterance: str, words: Sequence[Word]) -> str:
    """The CTM of an utterance, a line for each word."""
    return "".join(
        f"{utterance} 1 {w.start_s:.3f} {w.end_s - w.start_s:.3f} {w.text}\n" for w in words
    )


def compare(
    found: Mapping[str, Sequence[Word]], expected: Mapping[str, Sequence[CtmWord]]
) -> TimeErrors:
    """Errors of the words that two CTMs have in common."""
    from asr.score.wer import align as align_words

    names = sorted(found.keys() & expected.keys())
    texts = [" ".join(word.word for word in expected[name]) for name in names]
    recognised = [" ".join(word.text for word in found[name]) for name in names]
    starts, ends, total = [], [], sum(map(len, expected.values()))
    for name, pairs in zip(names, align_words(texts, recognised), strict=True):
        theirs, ours = iter(expected[name]), iter(found[name])
        for reference, hypothesis in pairs:
            right = next(theirs) if reference is not None else None
            word = next(ours) if hypothesis is not None else None
            if right is not None and word is not None and reference == hypothesis:
                starts.append(word.start_s - right.start_s)
                ends.append(word.end_s - right.start_s - right.duration_s)
    return TimeErrors(np.array(starts), np.array(ends), total - len(starts))
