"""A batch of utterances: encode, search, search again what failed, and tell how good it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from asr.arrays import FloatArray, to_numpy
from asr.audio.cmvn import CmvnStats
from asr.audio.features import FeatureExtractor, normalize
from asr.config import DecodeConfig
from asr.config.field import FRACTION, require
from asr.lm.lookahead import WordLM
from asr.lm.protocol import LanguageModel
from asr.recognize.confidence import (
    LOW,
    LOW_CONFIDENCE,
    Calibration,
    evidence,
    word_evidence,
)
from asr.recognize.flags import failures, flags
from asr.recognize.plausibility import plausibility_from
from asr.recognize.spelling import spell
from asr.recognize.timing import (
    ATTENTION_DELAY,
    CTC_DELAY,
    sounding,
    time_words,
    word_spans,
)
from asr.recognize.transcript import Candidate, Segment, Word
from asr.search.alignment import CTCAlignment, attention_positions, ctc_align
from asr.search.beam import search
from asr.search.hotwords import HotWords
from asr.search.hypothesis import Hypothesis
from asr.search.protocol import Encoded, Model
from asr.store.model_file import Header
from asr.text.chars import CharTokenizer

# The fallback search is twice as wide and rewards every step that gets attention. Texts of
# half-trained models on AN4 that failed (75 of 500) had 459 wrong words after the first search and
# 433 after that; with twice the CTC weight instead of the reward, 452.
FALLBACK_COVERAGE_WEIGHT = 0.5


@dataclass(frozen=True)
class LoadedModel:
    """A network and what its file says about it."""

    header: Header
    model: Model


@dataclass(frozen=True)
class Scorers:
    """What takes part in a search besides the network."""

    lm: LanguageModel | None = None
    hotwords: HotWords | None = None

    def words(self, tokenizer: CharTokenizer) -> frozenset[str]:
        """The words of a word n-gram and of the hot words."""
        words = set(self.lm.ngram.words) if isinstance(self.lm, WordLM) else set()
        for spelling in () if self.hotwords is None else self.hotwords.values:
            words.update(tokenizer.decode(spelling).split())
        return frozenset(words)


@dataclass(frozen=True)
class Chunk:
    """A stretch of a recording, ready for the model."""

    features: FloatArray
    """Normalised, (T, F); see :meth:`UtteranceRecognizer.features`."""
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Recognition:
    """What a search found for an utterance."""

    hypotheses: Sequence[Hypothesis]
    """Best first."""
    alignment: CTCAlignment | None
    """Of the best one with CTC; None where there is none: the model was not trained with CTC, or
    the text has more characters than the audio has steps."""
    flags: tuple[str, ...] = field(init=False)
    """What is suspicious about the best one, by the rules for all models."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "flags", flags(self.hypotheses[0], self.alignment))

    def positions(self) -> np.ndarray:
        """The encoder step of each character of the best one: by CTC, or else by attention."""
        if self.alignment is not None:
            return self.alignment.positions - CTC_DELAY
        best = self.hypotheses[0]
        return attention_positions(best.weights[: len(best.tokens)]) - ATTENTION_DELAY


class UtteranceRecognizer:
    """Recognises utterances side by side.

    Args:
        loaded: the model.
        config: search settings.
        scorers: those of the settings, opened.
        min_confidence: segments below it get the flag ``low-confidence``.

    Raises:
        InputError: min_confidence is no share, or what the model's file tells is damaged.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        config: DecodeConfig,
        scorers: Scorers,
        min_confidence: float = LOW,
    ) -> None:
        require("min_confidence", min_confidence, FRACTION)
        header = loaded.header
        self.header, self.model = header, loaded.model
        if not header.has_ctc:
            config = replace(config, ctc_weight=0.0)
        self.config, self.scorers, self.min_confidence = config, scorers, min_confidence
        self.extractor = FeatureExtractor(header.config.features)
        self.calibration = self.word_calibration = self.plausibility = None
        if config.ctc_weight > 0:  # they need CTC's score
            self.calibration = Calibration.from_info(header.info, header.path)
            self.word_calibration = Calibration.from_info(header.info, header.path, "words")
            found = plausibility_from(header)
            self.plausibility = found and found.knowing(scorers.words(header.tokenizer))

    @property
    def fallback(self) -> DecodeConfig:
        """Settings that leave a search less room for loops and holes."""
        coverage = max(self.config.coverage_weight, FALLBACK_COVERAGE_WEIGHT)
        return replace(self.config, beam=2 * self.config.beam, coverage_weight=coverage)

    def features(self, waveform: FloatArray, speaker: CmvnStats | None = None) -> FloatArray:
        """Normalised features (T, F) of a waveform (N,).

        Args:
            waveform: mono at the model's rate.
            speaker: statistics of the speaker, for a model trained with them; by default those of
                the waveform.
        """
        kind = self.header.config.features.cmvn
        return normalize(self.extractor(waveform), kind, self.header.cmvn, speaker)

    def recognize(self, chunks: Sequence[Chunk], *, attention: bool = False) -> list[Segment]:
        """Recognise stretches of audio side by side.

        Args:
            chunks: of any recordings.
            attention: whether the segments carry their attention weights.
        """
        found = self._search_all([chunk.features for chunk in chunks])
        return [self._segment(*each, attention) for each in zip(found, chunks, strict=True)]

    def words(
        self,
        features: Sequence[FloatArray],
        texts: Sequence[str] | None = None,
        *,
        by_attention: bool = False,
    ) -> list[tuple[Word, ...]]:
        """Words with their times, in seconds from the beginning of each utterance.

        Args:
            features: of the utterances, (T_i, F).
            texts: what was said in them; None: it is to be recognised. Their words are kept, also
                where the model lacks some of the characters (:mod:`asr.recognize.spelling`).
            by_attention: whether attention tells the times, and not CTC.
        """
        tokenizer = self.header.tokenizer
        if texts is None:
            found = self._search_all(features)
            forms = [tokenizer.decode(each.hypotheses[0].tokens) for each in found]
        else:
            forms = [tokenizer.normalize(spell(text, tokenizer)) for text in texts]
            found = self._force(features, [tuple(tokenizer.encode(form)) for form in forms])
        if by_attention:
            found = [Recognition(each.hypotheses, None) for each in found]
        words = [self._words(*each) for each in zip(found, features, forms, strict=True)]
        return words if texts is None else [_named(*e) for e in zip(words, texts, strict=True)]

    def _search_all(self, features: Sequence[FloatArray]) -> list[Recognition]:
        """Encode once and search; search a second time, with the fallback, what failed."""
        encoded = self.model.encode(features)
        found = self._search(encoded, self.config)
        failed = [i for i, each in enumerate(found) if failures(each.flags)]
        if failed:
            again = self._search(encoded.select(failed), self.fallback)
            for i, second in zip(failed, again, strict=True):
                if len(failures(second.flags)) <= len(failures(found[i].flags)):
                    found[i] = second
        return found

    def _search(self, encoded: Encoded, config: DecodeConfig) -> list[Recognition]:
        found = search(self.model, encoded, config, self.scorers.lm, self.scorers.hotwords)
        return _with_alignments(encoded, found)

    def _force(
        self, features: Sequence[FloatArray], texts: Sequence[tuple[int, ...]]
    ) -> list[Recognition]:
        """The same for utterances whose characters are known."""
        encoded = self.model.encode(features)
        found = []
        for text, forced in zip(texts, self.model.teacher_force(encoded, texts), strict=True):
            score, log_probs = sum(forced.log_probs), tuple(forced.log_probs)
            scores = {"decoder": score}
            found.append([Hypothesis(text, score, scores, forced.attention, True, log_probs)])
        return _with_alignments(encoded, found)

    def _segment(self, found: Recognition, chunk: Chunk, attention: bool) -> Segment:
        best, decode = found.hypotheses[0], self.header.tokenizer.decode
        text = decode(best.tokens)
        segment = Segment(
            start_s=chunk.start_s,
            end_s=chunk.end_s,
            text=" ".join(text.split()),
            score=best.score,
            scores=best.scores,
            flags=found.flags,
            tokens=best.tokens,
            nbest=tuple(Candidate(decode(h.tokens), h.score, h.scores) for h in found.hypotheses),
            attention=best.weights if attention else None,
            words=tuple(_moved(w, chunk.start_s) for w in self._words(found, chunk.features, text)),
        )
        if self.plausibility is not None:
            found_flags = self.plausibility.apply(segment.flags, segment, segment.text)
            segment = replace(segment, flags=found_flags)
        if self.calibration is None:
            return segment
        confidence = self.calibration(evidence(segment))
        low = (LOW_CONFIDENCE,) if confidence < self.min_confidence else ()
        return replace(segment, confidence=confidence, flags=segment.flags + low)

    def _words(self, found: Recognition, features: FloatArray, text: str) -> tuple[Word, ...]:
        """Words with their times; ``text`` has a character for each token."""
        step_s, config = self.header.step_s, self.header.config.features
        sound = sounding(features, config)
        words = time_words(text, found.positions(), step_s, sound, config.frame_shift_ms / 1000)
        if found.alignment is None:
            return words
        evidences = word_evidence(found.hypotheses[0], found.alignment, word_spans(text))
        sure = self.word_calibration
        return tuple(
            replace(word, evidence=each, confidence=None if sure is None else sure(each))
            for word, each in zip(words, evidences, strict=True)
        )


def _with_alignments(encoded: Encoded, found: Sequence[Sequence[Hypothesis]]) -> list[Recognition]:
    """Align the best hypothesis of each utterance with CTC, where the model has it."""
    if encoded.ctc is None:
        return [Recognition(hypotheses, None) for hypotheses in found]
    log_probs = to_numpy(encoded.ctc)  # (B, S, V)
    return [
        Recognition(hypotheses, ctc_align(each[:steps], hypotheses[0].tokens))
        for hypotheses, each, steps in zip(found, log_probs, encoded.steps, strict=True)
    ]


def _named(words: tuple[Word, ...], text: str) -> tuple[Word, ...]:
    """The same words as a text writes them."""
    return tuple(replace(w, text=name) for w, name in zip(words, text.split(), strict=True))


def _moved(word: Word, by_s: float) -> Word:
    """The same word in a recording in which its segment begins later."""
    characters = tuple((c, a + by_s, b + by_s) for c, a, b in word.characters)
    return replace(
        word, start_s=word.start_s + by_s, end_s=word.end_s + by_s, characters=characters
    )
