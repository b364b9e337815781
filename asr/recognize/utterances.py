"""Recognition of a batch of utterances: search, fallback, flags, times and confidence."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from asr.arrays import BoolArray, FloatArray, to_numpy
from asr.audio.cmvn import CmvnStats
from asr.audio.features import FeatureExtractor, normalize
from asr.config import DecodeConfig
from asr.config.field import FRACTION, require
from asr.config.settings import MOST_HYPOTHESES
from asr.errors import InputError
from asr.lm.lookahead import WordLM
from asr.lm.protocol import LanguageModel
from asr.recognize.confidence import (
    LOW_CONFIDENCE,
    MIN_CONFIDENCE,
    Calibration,
    text_predictors,
    word_predictors,
)
from asr.recognize.flags import failures, flags
from asr.recognize.metrics import alignment_statistics
from asr.recognize.plausibility import plausibility_from
from asr.recognize.refine import CharacterGaussians
from asr.recognize.spelling import spell
from asr.recognize.timing import CTC_DELAY, loud_frames, time_words, word_spans
from asr.recognize.transcript import Candidate, Segment, Word
from asr.search.alignment import CTCAlignment, attention_positions, ctc_align
from asr.search.beam import search
from asr.search.hotwords import HotWords
from asr.search.hypothesis import Hypothesis
from asr.search.protocol import Encoded, Model
from asr.store.model_file import Header
from asr.text.tokenizer import CharTokenizer

FALLBACK_COVERAGE_WEIGHT = 0.5


@dataclass(frozen=True)
class Scorers:
    """Language model and hot words of a search, see :func:`asr.search.scorers.make_scorers`."""

    lm: LanguageModel | None = None
    hotwords: HotWords | None = None

    def words(self, tokenizer: CharTokenizer) -> frozenset[str]:
        """Return the words of a word n-gram and the hot words."""
        listed = self.lm.ngram.words if isinstance(self.lm, WordLM) else ()
        words = set(map(tokenizer.normalize, listed))
        for spelling in () if self.hotwords is None else self.hotwords.values:
            words.update(tokenizer.decode(spelling).split())
        return frozenset(words)


@dataclass(frozen=True)
class Chunk:
    """Features of a stretch of a recording."""

    features: FloatArray
    """Normalised, (T, F); see :meth:`UtteranceRecognizer.features`."""
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Recognition:
    """The hypotheses of an utterance and the alignment of the best one."""

    hypotheses: Sequence[Hypothesis]
    """Best first."""
    alignment: CTCAlignment | None
    """By CTC; None without CTC, or if the text has more characters than the audio has steps."""

    @cached_property
    def flags(self) -> tuple[str, ...]:
        """The flags of the best hypothesis, by the rules for all models."""
        return flags(self.hypotheses[0], self.alignment)

    def positions(self) -> np.ndarray:
        """Return the encoder step of each character of the best one, by CTC or else attention."""
        if self.alignment is not None:
            return self.alignment.positions - CTC_DELAY
        best = self.hypotheses[0]
        return attention_positions(best.attention[: len(best.tokens)])


class UtteranceRecognizer:
    """Recognises utterances in batches.

    Args:
        header: of the model file.
        model: the network.
        config: search settings.
        scorers: the language model and the hot words of the settings.
        min_confidence: segments with a lower confidence get the flag ``low-confidence``.

    Raises:
        InputError: min_confidence is not between 0 and 1, or the model's calibration is damaged.
    """

    def __init__(
        self,
        header: Header,
        model: Model,
        config: DecodeConfig,
        scorers: Scorers,
        min_confidence: float = MIN_CONFIDENCE,
    ) -> None:
        require("min_confidence", min_confidence, FRACTION)
        self.header, self.model = header, model
        if not header.has_ctc:
            config = replace(config, ctc_weight=0.0)
        self.config, self.scorers, self.min_confidence = config, scorers, min_confidence
        self.extractor = FeatureExtractor(header.config.features)
        self.shift_s = header.config.features.shift_s
        self.gaussians = CharacterGaussians.from_info(
            header.info, header.config.features.dim, header.path
        )
        self.turn = threading.Lock()
        """Threads that share the model hold this lock while they use it."""
        self.calibration = self.word_calibration = self.plausibility = None
        if config.ctc_weight > 0:  # all three need the CTC score
            self.calibration = Calibration.from_info(header.info, header.path)
            self.word_calibration = Calibration.from_info(header.info, header.path, "words")
            found = plausibility_from(header)
            self.plausibility = found and found.with_words(scorers.words(header.tokenizer))

    @property
    def fallback(self) -> DecodeConfig:
        """Settings against loops and gaps: twice the beam, and a bonus for attended steps."""
        coverage = max(self.config.coverage_weight, FALLBACK_COVERAGE_WEIGHT)
        beam = min(2 * self.config.beam, MOST_HYPOTHESES)
        return replace(self.config, beam=beam, coverage_weight=coverage)

    def features(self, waveform: FloatArray, speaker: CmvnStats | None = None) -> FloatArray:
        """Return the normalised features (T, F) of a waveform (N,).

        Args:
            waveform: mono at the model's rate.
            speaker: statistics of the speaker, for a model that normalises by speaker; by default
                those of the waveform.
        """
        kind = self.header.config.features.cmvn
        return normalize(self.extractor(waveform), kind, self.header.cmvn, speaker)

    def recognize(
        self, chunks: Sequence[Chunk], *, attention: bool = False, nbest: int = 1
    ) -> list[Segment]:
        """Recognise a batch; threads take turns.

        Args:
            chunks: of any recordings.
            attention: whether the segments carry their attention weights.
            nbest: fewest hypotheses of each segment, if the search finds as many.
        """
        with self.turn:
            found = self._search_all([chunk.features for chunk in chunks], nbest)
            return [self._segment(*each, attention) for each in zip(found, chunks, strict=True)]

    def recognize_each(
        self, chunks: Sequence[Chunk], *, attention: bool = False
    ) -> Iterator[Segment | InputError]:
        """Recognise a batch; if one of its scores is not finite, each chunk alone.

        Args:
            chunks: of any recordings.
            attention: whether the segments carry their attention weights.

        Yields:
            the segment of each chunk, or why it has none.
        """
        try:
            yield from self.recognize(chunks, attention=attention)
        except InputError as error:
            if len(chunks) == 1:
                yield error
                return
            for chunk in chunks:
                yield from self.recognize_each([chunk], attention=attention)

    def words(
        self,
        features: Sequence[FloatArray],
        texts: Sequence[str] | None = None,
        *,
        by_attention: bool = False,
    ) -> list[tuple[Word, ...]]:
        """Return the words with their times, in seconds from the beginning of each utterance.

        The times are those of CTC or attention alone; :attr:`gaussians` can refine them.

        Args:
            features: of the utterances, (T_i, F).
            texts: transcripts, whose words are kept even if the model lacks some of their
                characters (:mod:`asr.recognize.spelling`); by default the audio is recognised.
            by_attention: whether the times come from attention and not from CTC.
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
        loud = [loud_frames(each, self.header.config.features) for each in features]
        words = [self._words(*each) for each in zip(found, loud, forms, strict=True)]
        if texts is None:
            return words
        names = [text.split() for text in texts]
        return [
            tuple(replace(w, text=name) for w, name in zip(*each, strict=True))
            for each in zip(words, names, strict=True)
        ]

    def _search_all(self, features: Sequence[FloatArray], nbest: int = 1) -> list[Recognition]:
        """Encode and search; search a second time, with the fallback, where the first failed."""
        nbest = max(nbest, self.config.nbest)
        encoded = self.model.encode(features)
        found = self._search(encoded, replace(self.config, nbest=nbest))
        failed = [i for i, each in enumerate(found) if failures(each.flags)]
        if failed:
            again = self._search(encoded.select(failed), replace(self.fallback, nbest=nbest))
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
        """Return a single hypothesis for each utterance, its known characters."""
        encoded = self.model.encode(features)
        found = []
        for text, forced in zip(texts, self.model.teacher_force(encoded, texts), strict=True):
            score, log_probs = sum(forced.log_probs), tuple(forced.log_probs)
            scores = {"decoder": score}
            found.append([Hypothesis(text, score, scores, forced.attention, True, log_probs)])
        return _with_alignments(encoded, found)

    def _segment(self, found: Recognition, chunk: Chunk, attention: bool) -> Segment:
        best, decode = found.hypotheses[0], self.header.tokenizer.decode
        text, flags, confidence = decode(best.tokens), found.flags, None
        if self.plausibility is not None:
            flags = self.plausibility.apply(flags, best, text)
        if self.calibration is not None:
            confidence = self.calibration(text_predictors(best))
            flags += (LOW_CONFIDENCE,) if confidence < self.min_confidence else ()
        loud = loud_frames(chunk.features, self.header.config.features)
        weights = best.attention[: len(best.tokens)]  # (U, S)
        words = self._words(found, loud, text, chunk.start_s)
        if self.gaussians is not None and found.alignment is not None:
            words = self.gaussians.refine(chunk.features, words, self.shift_s, chunk.start_s)
        return Segment(
            start_s=chunk.start_s,
            end_s=chunk.end_s,
            text=" ".join(text.split()),
            score=best.score,
            scores=best.scores,
            flags=flags,
            tokens=best.tokens,
            nbest=tuple(Candidate(decode(h.tokens), h.score, h.scores) for h in found.hypotheses),
            attention=best.attention if attention else None,
            alignment=alignment_statistics(weights, loud, self.header.step_s),
            confidence=confidence,
            words=words,
        )

    def _words(
        self, found: Recognition, loud: BoolArray, text: str, start_s: float = 0.0
    ) -> tuple[Word, ...]:
        """Return the words with their times; ``text`` has a character for each token."""
        step_s, shift_s = self.header.step_s, self.shift_s
        words = time_words(text, found.positions(), step_s, loud, shift_s, start_s)
        if found.alignment is None:
            return words
        predictors = word_predictors(found.hypotheses[0], found.alignment, word_spans(text))
        fit = self.word_calibration
        return tuple(
            replace(word, predictors=each, confidence=None if fit is None else fit(each))
            for word, each in zip(words, predictors, strict=True)
        )


def _with_alignments(encoded: Encoded, found: Sequence[Sequence[Hypothesis]]) -> list[Recognition]:
    """Align the best hypothesis of each utterance by CTC, if the model has it."""
    if encoded.ctc is None:
        return [Recognition(hypotheses, None) for hypotheses in found]
    log_probs = to_numpy(encoded.ctc)  # (B, S, V)
    return [
        Recognition(hypotheses, ctc_align(each[:steps], hypotheses[0].tokens))
        for hypotheses, each, steps in zip(found, log_probs, encoded.steps, strict=True)
    ]
