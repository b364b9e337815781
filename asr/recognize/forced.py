"""Forced alignment of a data directory, and the errors of its times."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.corpus.datadir import Utterance
from asr.errors import InputError
from asr.recognize.directory import plan_batches, read_batches, speaker_stats
from asr.recognize.spelling import missing_characters
from asr.recognize.transcript import Word
from asr.recognize.utterances import UtteranceRecognizer
from asr.terminal import print_error, warn
from asr.text.timed import CtmWord

_TOO_LONG = (
    "more characters than the audio has encoder steps, so CTC cannot align them; the times come "
    "from attention and are unreliable; check the transcript and the segment"
)
TOLERANCE_S = 0.08  # the report counts the errors up to it


@dataclass(frozen=True)
class TimeErrors:
    """Errors of the starts and ends of words."""

    starts_s: np.ndarray
    """Hypothesis minus reference for each word, (N,)."""
    ends_s: np.ndarray
    missing: int
    """Reference words without a matching hypothesis word."""

    def render(self) -> str:
        """Return the report for people."""
        lines = [f"{len(self.starts_s)} words compared, {self.missing} not found"]
        for name, errors in (("starts", self.starts_s), ("ends", self.ends_s)):
            if len(errors):
                sizes = 1000 * np.abs(errors)
                lines.append(
                    f"{name}: median error {np.median(sizes):.0f} ms, mean {sizes.mean():.0f} ms, "
                    f"95 % below {np.percentile(sizes, 95):.0f} ms, "
                    f"{100 * np.mean(sizes <= 1000 * TOLERANCE_S):.0f} % up to "
                    f"{1000 * TOLERANCE_S:.0f} ms; bias {1000 * np.median(errors):+.0f} ms"
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
    """Yield the words of each utterance with their times, in seconds from its beginning.

    Words stay as the transcripts have them. Warnings tell which characters the model lacks, which
    utterances cannot be read and are left out, and which audio is too short for CTC, so that the
    times come from attention.

    Args:
        recognizer: the model, with search settings.
        data: the data directory.
        utterances: of the directory; with transcripts, unless they are recognised.
        recognise: whether to align the recognised text instead of the transcript.
        by: ``ctc`` or ``attention``.

    Raises:
        InputError: ``by`` is ``ctc``, but the model was trained without CTC.
    """
    if by == "ctc" and not recognizer.header.has_ctc:
        raise InputError(
            f"{recognizer.header.path}: trained without CTC, so CTC cannot align; "
            "use --by attention"
        )
    if not recognise:
        texts = {u.id: u.text or "" for u in utterances}
        if missing := missing_characters(texts, recognizer.header.tokenizer):
            warn(f"the model lacks {missing}")
    speakers = speaker_stats(data, utterances, recognizer.header.config.features)
    plan = plan_batches(utterances, recognizer.config.batch)
    for batch in read_batches(recognizer, plan, speakers, _left_out):
        features = [chunk.features for _, chunk in batch]
        known = None if recognise else [u.text or "" for u, _ in batch]
        words = recognizer.words(features, known, by_attention=by == "attention")
        for (u, _), each in zip(batch, words, strict=True):
            if by == "ctc" and each and each[0].predictors is None:
                warn(f"{u.id}: {_TOO_LONG}")
            yield u.id, each


def _left_out(utterance: Utterance, reason: str) -> None:
    print_error(f"asr align: {utterance.id}: {reason}")


def ctm_lines(utterance: str, words: Sequence[Word]) -> str:
    """Return the CTM of an utterance, a line for each word."""
    return "".join(
        f"{utterance} 1 {w.start_s:.3f} {w.end_s - w.start_s:.3f} {w.text}\n" for w in words
    )


def compare(
    found: Mapping[str, Sequence[Word]], expected: Mapping[str, Sequence[CtmWord]]
) -> TimeErrors:
    """Return the errors of the words that a CTM has in common with a reference CTM."""
    from asr.score.wer import align as align_words

    names = sorted(found.keys() & expected.keys())
    references = [" ".join(word.word for word in expected[name]) for name in names]
    hypotheses = [" ".join(word.text for word in found[name]) for name in names]
    starts, ends, total = [], [], sum(map(len, expected.values()))
    for name, pairs in zip(names, align_words(references, hypotheses), strict=True):
        true_words, words = iter(expected[name]), iter(found[name])
        for reference, hypothesis in pairs:
            true = next(true_words) if reference is not None else None
            word = next(words) if hypothesis is not None else None
            if true is not None and word is not None and reference == hypothesis:
                starts.append(word.start_s - true.start_s)
                ends.append(word.end_s - true.start_s - true.duration_s)
    return TimeErrors(np.array(starts), np.array(ends), total - len(starts))
