"""A recogniser that also explains what it wrote."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from asr.arrays import FloatArray
from asr.audio.clip import CommandOutputs
from asr.audio.cmvn import CmvnStats
from asr.config import ExplainConfig
from asr.explain.curves import curves
from asr.explain.explanation import (
    Explanation,
    SegmentExplanation,
    WordEvidence,
    alternatives,
    overlap,
)
from asr.explain.relevance import Occluder, Relevance, relevance, smoothed
from asr.recognize.recognizer import Recognizer, Source
from asr.recognize.timing import word_spans
from asr.recognize.transcript import Segment, Transcript
from asr.recognize.utterances import Chunk
from asr.search.beam import search
from asr.search.protocol import Encoded


class Explainer(Recognizer):
    """The recogniser that :func:`asr.load` returns."""

    def explain(
        self,
        source: Source,
        config: ExplainConfig | None = None,
        *,
        speaker: CmvnStats | None = None,
        name: str = "",
    ) -> Explanation:
        """Recognise audio, and measure what each character depends on.

        Args:
            source: see :meth:`transcribe`.
            config: how the relevance is measured.
            speaker: statistics of the speaker, for a model that normalises by speaker.
            name: of the recording, for the page.

        Raises:
            InputError: see :meth:`transcribe`.

        Example:
            >>> import asr
            >>> from asr.explain.page import write_page
            >>> recognizer = asr.load("exp/las")
            >>> explanation = recognizer.explain("talk.wav")
            >>> path = write_page("talk.html", [explanation])
            >>> explanation.transcript.text == recognizer.transcribe("talk.wav").text
            True
        """
        waveform = np.concatenate(
            [np.zeros(0, np.float32), *self._blocks(source, CommandOutputs())]
        )
        chunks = self.chunks((waveform, self.rate), speaker)
        segments = self._recognized(chunks)
        explained = [
            self._explained(segment, chunk, config or ExplainConfig())
            for segment, chunk in zip(segments, chunks, strict=True)
            if segment.text
        ]
        transcript = Transcript(len(waveform) / self.rate, tuple(segments))
        return Explanation(waveform, self.rate, transcript, tuple(explained), name)

    def _recognized(self, chunks: Sequence[Chunk]) -> list[Segment]:
        """Return the segment of each chunk with its attention and the whole beam."""
        size, found = self.config.batch, list[Segment]()
        for first in range(0, len(chunks), size):
            batch = chunks[first : first + size]
            found += self.utterance_recognizer.recognize(
                batch, attention=True, nbest=self.config.beam
            )
        return found

    def _explained(
        self, segment: Segment, chunk: Chunk, config: ExplainConfig
    ) -> SegmentExplanation:
        assert segment.attention is not None
        shift_s = self.header.config.features.shift_s
        tokenizer = self.header.tokenizer
        with self.utterance_recognizer.turn:
            occluder = Occluder(self.utterance_recognizer.model, chunk.features, segment.tokens)
            found = relevance(occluder, config, shift_s)
            count, length = len(segment.tokens), config.stretch_s / shift_s
            attention = self._over_frames(segment.attention, len(chunk.features))
            missing = count + 1 - len(attention)  # 1 if the search never reached the end
            attention = np.pad(attention, ((0, missing), (0, 0)))
            smooth = smoothed(attention[:count], config.masks, length)
            importance = {
                "attention": smooth.sum(0),
                "relevance": np.maximum(found.sound[:count], 0.0).sum(0),
            }
            removed = curves(
                occluder, self._texts, segment.text, importance, max(1, round(length / 2))
            )
        text = tokenizer.decode(segment.tokens)
        return SegmentExplanation(
            segment=replace(segment, attention=None),
            text=text,
            shift_s=shift_s,
            attention=attention.astype(np.float32),
            relevance=replace(found, sound=found.sound.astype(np.float32)),
            curves=removed,
            overlap=overlap(smooth, found.sound[:count]),
            words=_words(segment, text, found, len(tokenizer)),
        )

    def _texts(self, encoded: Encoded) -> list[str]:
        """Return the text of each utterance of a batch, without the fallback search."""
        utterances = self.utterance_recognizer
        config, scorers = utterances.config, utterances.scorers
        found = search(utterances.model, encoded, config, scorers.lm, scorers.hotwords)
        decode = self.header.tokenizer.decode
        return [" ".join(decode(hypotheses[0].tokens).split()) for hypotheses in found]

    def _over_frames(self, weights: FloatArray, frames: int) -> FloatArray:
        """Spread attention over the frames of each encoder step, (U, S) to (U, frames)."""
        width = self.header.config.model.encoder.frames_per_step
        steps = np.minimum(np.arange(frames) // width, weights.shape[1] - 1)
        return weights[:, steps] / np.bincount(steps, minlength=weights.shape[1])[steps]


def _words(
    segment: Segment, text: str, found: Relevance, characters: int
) -> tuple[WordEvidence, ...]:
    spans, others = word_spans(text), alternatives(segment)
    return tuple(
        WordEvidence(
            word,
            first,
            end,
            probability=_mean(found.log_probs[first:end]),
            without_sound=_mean(found.without_sound[first:end]),
            uniform=1.0 / characters,
            alternatives=other,
        )
        for word, (first, end), other in zip(segment.words, spans, others, strict=True)
    )


def _mean(log_probs: FloatArray) -> float:
    """Return the geometric mean of probabilities."""
    return float(np.exp(log_probs.mean()))
