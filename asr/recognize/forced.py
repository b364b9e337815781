"""Forced alignment of a data directory."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from asr.arrays import FloatArray
from asr.corpus.datadir import Utterance
from asr.errors import InputError, first_line
from asr.recognize.directory import read_batches
from asr.recognize.refine import CharacterGaussians
from asr.recognize.spelling import missing_characters
from asr.recognize.transcript import Word
from asr.recognize.utterances import Chunk, UtteranceRecognizer
from asr.terminal import print_error, warn
from asr.text.timed import CtmWord

_TOO_LONG = (
    "more characters than the audio has encoder steps, so CTC cannot align them; the times come "
    "from attention and are unreliable; check the transcript and the segment"
)
ENOUGH = 30  # fewest utterances that suffice to estimate the Gaussians of the characters
ESTIMATE_S = 600.0  # seconds of audio that they are estimated from

Timed = tuple[str, FloatArray, tuple[Word, ...]]
"""Id, features (T, F) and words of an utterance."""


def align(
    recognizer: UtteranceRecognizer,
    data: str | Path,
    utterances: Sequence[Utterance],
    *,
    recognize: bool = False,
    by: str = "ctc",
    refined: bool = True,
) -> Iterator[tuple[str, tuple[Word, ...]]]:
    """Yield the words of each utterance with their times, in seconds from its beginning.

    Words stay as the transcripts have them. Warnings tell which characters the model lacks, which
    utterances cannot be read and are left out, and which audio is too short for CTC, so that the
    times come from attention.

    Args:
        recognizer: the model, with search settings.
        data: the data directory.
        utterances: of the directory; with transcripts, unless they are recognised.
        recognize: whether to align the recognised text instead of the transcript.
        by: ``ctc`` or ``attention``.
        refined: whether Gaussians refine the times, see :class:`CharacterGaussians`. They are
            estimated from these utterances if the model has none, or if :data:`ENOUGH` of them
            have transcripts, because the model's own may be those of other voices.

    Raises:
        InputError: ``by`` is ``ctc``, but the model was trained without CTC.
    """
    if by == "ctc" and not recognizer.header.has_ctc:
        raise InputError(
            f"{recognizer.header.path}: trained without CTC, so CTC cannot align; "
            "use --by attention"
        )
    if not recognize:
        texts = {u.id: u.text or "" for u in utterances}
        if missing := missing_characters(texts, recognizer.header.tokenizer):
            warn(f"the model lacks {missing}")
    gaussians = recognizer.gaussians if refined else None
    if refined and (gaussians is None or (len(utterances) >= ENOUGH and not recognize)):
        gaussians = estimate_gaussians(recognizer, data, utterances, recognize, by)
    first = _first_times(recognizer, data, utterances, recognize, by, _left_out)
    for name, features, words in first:
        yield name, gaussians.refine(features, words, recognizer.shift_s) if gaussians else words


def estimate_gaussians(
    recognizer: UtteranceRecognizer,
    data: str | Path,
    utterances: Sequence[Utterance],
    recognize: bool = False,
    by: str = "ctc",
) -> CharacterGaussians | None:
    """Return the Gaussians of the characters in a data directory; see :func:`align`.

    About :data:`ESTIMATE_S` of audio are aligned, spread over the directory.
    """
    total_s = sum(u.duration_s or 0.0 for u in utterances)
    some = utterances[:: max(1, math.ceil(total_s / ESTIMATE_S))]
    first = _first_times(recognizer, data, some, recognize, by, lambda *_: None)
    return CharacterGaussians.estimate([(f, words) for _, f, words in first], recognizer.shift_s)


def _first_times(
    recognizer: UtteranceRecognizer,
    data: str | Path,
    utterances: Sequence[Utterance],
    recognize: bool,
    by: str,
    failed: Callable[[Utterance, str], None],
) -> Iterator[Timed]:
    """Yield the utterances with times by CTC or attention; see :func:`align`."""

    def timed(batch: Sequence[tuple[Utterance, Chunk]]) -> Iterator[Timed]:
        features = [chunk.features for _, chunk in batch]
        known = None if recognize else [u.text or "" for u, _ in batch]
        try:
            words = recognizer.words(features, known, by_attention=by == "attention")
        except InputError as error:  # a score is not finite: each utterance alone
            if len(batch) == 1:
                failed(batch[0][0], first_line(error))
                return
            for each in batch:
                yield from timed([each])
            return
        for (u, chunk), found in zip(batch, words, strict=True):
            if by == "ctc" and found and found[0].predictors is None:
                failed(u, _TOO_LONG)
            yield u.id, chunk.features, found

    for batch in read_batches(recognizer, data, utterances, failed):
        yield from timed(batch)


def _left_out(utterance: Utterance, reason: str) -> None:
    print_error(f"asr align: {utterance.id}: {reason}")


def ctm_words(utterance: str, words: Sequence[Word]) -> list[CtmWord]:
    """Return the words of an utterance as those of a CTM."""
    return [CtmWord(utterance, "1", w.start_s, w.end_s - w.start_s, w.text, None) for w in words]
