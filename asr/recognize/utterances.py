"""From what a model hears to segments: text, times, confidence, and marks where it failed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from asr.config import DecodeConfig
from asr.config.field import require, share
from asr.recognize.confidence import (
    LOW,
    LOW_CONFIDENCE,
    Calibration,
    evidence,
    word_evidence,
)
from asr.recognize.directory import (
    Reading,
    fitting,
    force_features,
    language_model,
    open_hotwords,
    open_standard,
    read_features,
)
from asr.recognize.plausibility import DOUBTFUL
from asr.recognize.spelling import spell
from asr.recognize.timing import (
    ATTENTION_DELAY,
    CTC_DELAY,
    sounding,
    time_words,
    word_spans,
)
from asr.recognize.transcript import Segment, Word
from asr.search.alignment import FloatArray, attention_places
from asr.store.model_file import LoadedModel

# A second search is twice as wide and rewards every step that gets attention. Texts of half-trained
# models on AN4 that failed (75 of 500) had 459 wrong words after the first search and 433 after
# that; with twice the CTC weight instead of the reward, 452.
SECOND_COVERAGE_WEIGHT = 0.5


class Interpreter:
    """Reads features with a model.

    Args:
        loaded: the model.
        config: search settings.
        min_confidence: segments below it get the flag ``low-confidence``.

    Raises:
        InputError: min_confidence is no share, or a file that a setting names cannot be used.
    """

    def __init__(
        self, loaded: LoadedModel, config: DecodeConfig, min_confidence: float = LOW
    ) -> None:
        require("min_confidence", min_confidence, share())
        config = fitting(config, loaded)
        self.loaded, self.config, self.min_confidence = loaded, config, min_confidence
        self.calibration = self.word_calibration = None
        if config.ctc_weight > 0:  # needs CTC's score
            self.calibration = Calibration.from_info(loaded.info, loaded.path)
            self.word_calibration = Calibration.from_info(loaded.info, loaded.path, "words")
        self.lm = language_model(loaded, config)
        self.hotwords = open_hotwords(loaded, config)
        self.standard = open_standard(loaded, config, self.lm, self.hotwords)
        self.shift_s = loaded.config.features.frame_shift_ms / 1000
        self.step_s = self.shift_s * loaded.config.model.encoder.frames_per_step

    def __call__(
        self,
        features: Sequence[np.ndarray],
        spans: Sequence[tuple[float, float]],
        *,
        attention: bool = False,
    ) -> list[Segment]:
        """Recognise stretches of audio side by side.

        Args:
            features: of each stretch, (T_i, F).
            spans: where each begins and ends in its recording, in seconds.
            attention: whether the segments carry their attention weights.
        """
        readings = self.read(features)
        return [
            self._segment(reading, frames, span, attention)
            for reading, frames, span in zip(readings, features, spans, strict=True)
        ]

    def read(self, features: Sequence[np.ndarray]) -> list[Reading]:
        """Hypotheses for utterances (T_i, F), those that failed searched a second time."""
        readings = read_features(self.loaded, list(features), self.config, self.lm, self.hotwords)
        failed = [i for i, reading in enumerate(readings) if failures(reading)]
        if failed:
            again = [features[i] for i in failed]
            found = read_features(self.loaded, again, self._stronger(), self.lm, self.hotwords)
            for i, second in zip(failed, found, strict=True):
                if len(failures(second)) <= len(failures(readings[i])):
                    readings[i] = second
        return readings

    def words(
        self,
        features: Sequence[np.ndarray],
        texts: Sequence[str | None],
        *,
        by_attention: bool = False,
    ) -> list[tuple[Word, ...]]:
        """Words with their times, in seconds from the beginning of each utterance.

        Args:
            features: of the utterances, (T_i, F).
            texts: what was said in them; None where it is to be recognised. Their words are kept,
                also where the model lacks some of the characters (:mod:`asr.recognize.spelling`).
            by_attention: whether attention tells the times, and not CTC.
        """
        tokenizer = self.loaded.tokenizer
        given = {i: text for i, text in enumerate(texts) if text is not None}
        forms = {i: tokenizer.form(spell(text, tokenizer)) for i, text in given.items()}
        readings = dict(zip(given, self._force(features, forms), strict=True))
        others = [i for i in range(len(texts)) if i not in readings]
        if others:
            readings.update(zip(others, self.read([features[i] for i in others]), strict=True))
        if by_attention:
            readings = {i: replace(each, alignment=None) for i, each in readings.items()}
        found = [
            self._words(readings[i], each, 0.0, forms.get(i)) for i, each in enumerate(features)
        ]
        return [_named(words, given.get(i)) for i, words in enumerate(found)]

    def _force(self, features: Sequence[np.ndarray], texts: Mapping[int, str]) -> list[Reading]:
        tokens = [tuple(self.loaded.tokenizer.encode(text)) for text in texts.values()]
        return force_features(self.loaded, [features[i] for i in texts], tokens)

    def _stronger(self) -> DecodeConfig:
        """Settings that leave a search less room for loops and holes."""
        coverage = max(self.config.coverage_weight, SECOND_COVERAGE_WEIGHT)
        return replace(self.config, beam=2 * self.config.beam, coverage_weight=coverage)

    def _segment(
        self, reading: Reading, features: np.ndarray, span: tuple[float, float], attention: bool
    ) -> Segment:
        best, tokenizer = reading.hypotheses[0], self.loaded.tokenizer
        segment = Segment(
            start_s=span[0],
            end_s=span[1],
            text=" ".join(tokenizer.decode(best.tokens).split()),
            score=best.score,
            scores=best.scores,
            flags=reading.flags,
            tokens=best.tokens,
            nbest=tuple(tokenizer.decode(h.tokens) for h in reading.hypotheses),
            attention=best.weights if attention else None,
            words=self._words(reading, features, span[0]),
        )
        if self.standard is not None:
            judged = self.standard.judge(segment.flags, segment, segment.text)
            segment = replace(segment, flags=judged)
        if self.calibration is None:
            return segment
        confidence = self.calibration(evidence(segment))
        low = (LOW_CONFIDENCE,) if confidence < self.min_confidence else ()
        return replace(segment, confidence=confidence, flags=segment.flags + low)

    def _words(
        self, reading: Reading, features: np.ndarray, start_s: float, text: str | None = None
    ) -> tuple[Word, ...]:
        """Words of a reading; ``text``, where it is given, has a character for each token."""
        best = reading.hypotheses[0]
        text = self.loaded.tokenizer.decode(best.tokens) if text is None else text
        sound = sounding(features, self.loaded.config.features)
        words = time_words(text, _places(reading), self.step_s, sound, self.shift_s)
        moved = [_moved(word, start_s) for word in words]
        if reading.alignment is None:
            return tuple(moved)
        evidences = word_evidence(best, reading.alignment, word_spans(text))
        sure = self.word_calibration
        return tuple(
            replace(word, evidence=each, confidence=None if sure is None else sure(each))
            for word, each in zip(moved, evidences, strict=True)
        )


def failures(reading: Reading) -> list[str]:
    """What another search may mend: all flags but those that speak of doubt."""
    return [flag for flag in reading.flags if flag != DOUBTFUL]


def _places(reading: Reading) -> FloatArray:
    """The encoder step that each character belongs to: by CTC, or else by attention."""
    if reading.alignment is not None:
        return reading.alignment.places - CTC_DELAY
    best = reading.hypotheses[0]
    weights = best.weights[: len(best.tokens)].cpu().numpy()
    return attention_places(weights) - ATTENTION_DELAY


def _named(words: tuple[Word, ...], text: str | None) -> tuple[Word, ...]:
    """The same words as a text writes them."""
    if text is None:
        return words
    return tuple(replace(w, text=name) for w, name in zip(words, text.split(), strict=True))


def _moved(word: Word, by_s: float) -> Word:
    """The same word in a recording in which its segment begins later."""
    characters = tuple((c, a + by_s, b + by_s) for c, a, b in word.characters)
    return replace(
        word, start_s=word.start_s + by_s, end_s=word.end_s + by_s, characters=characters
    )
