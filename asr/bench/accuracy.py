"""How well a model recognises a dev set: error rates, also of joined utterances, and word times."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asr.arrays import FloatArray
from asr.audio.clip import read
from asr.config import DecodeConfig
from asr.corpus.datadir import DataDir
from asr.errors import InputError
from asr.model.runtime import TorchModel
from asr.model.weights import make_network
from asr.recognize.timing import word_spans
from asr.recognize.transcript import Word
from asr.recognize.utterances import Scorers, UtteranceRecognizer
from asr.score import score
from asr.search.beam import search
from asr.store.model_file import Header, read_network
from asr.text.timed import read_ctm
from asr.train.evaluate import SEARCH, WITHOUT_CTC

JOINED = (1, 2, 4, 8)  # utterances in a segment
PAUSE_S = 0.3  # between joined utterances
BATCH = 16  # segments that are decoded together

Times = Sequence[tuple[float, float]]
"""Start and end of each word of an utterance in seconds."""


class Spoken(NamedTuple):
    """An utterance of the dev set, or several in a row."""

    id: str
    waveform: FloatArray
    text: str


@dataclass(frozen=True)
class Trained:
    """A trained model."""

    header: Header
    model: TorchModel

    @classmethod
    def from_folder(cls, folder: str | Path) -> "Trained":
        """Read the model of a finished training."""
        header, weights = read_network(folder)
        network = make_network(header, weights).eval()
        return cls(header, TorchModel(network, has_ctc=header.has_ctc))

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms that its attention can take in a search, the usual one first."""
        return ("hard", "soft") if self.model.las.decoder.attention.has_hard_form else ("soft",)

    def use_form(self, form: str) -> None:
        """Use the hard or the soft form of attention from now on."""
        self.model.las.decoder.hard = form == "hard"

    def recognize(self, features: Sequence[FloatArray], config: DecodeConfig) -> list[str]:
        """Return the best text of each segment; there is no second search if the first fails."""
        texts, decode = [""] * len(features), self.header.tokenizer.decode
        for rows in batches(features):
            encoded = self.model.encode([features[i] for i in rows])
            for i, (best, *_) in zip(rows, search(self.model, encoded, config), strict=True):
                texts[i] = decode(best.tokens)
        return texts

    def recognizer(self) -> UtteranceRecognizer:
        """Return a recogniser with this model."""
        return UtteranceRecognizer(self.header, self.model, SEARCH, Scorers())

    @property
    def searches(self) -> dict[str, DecodeConfig]:
        """The recipes' search, and one by attention alone, because CTC hides errors of attention.

        The latter is greedy, because a bonus that suits one kind makes another insert words or stop
        early.
        """
        alone = {"attention": WITHOUT_CTC}
        return {"with_ctc": SEARCH, **alone} if self.model.has_ctc else alone


def read_dev(data: str | Path, sample_rate: int) -> list[Spoken]:
    """Return the utterances of a data directory, those of a speaker in a row."""
    utterances = sorted(DataDir.load(data).utterances, key=lambda u: (u.speaker, u.id))
    return [Spoken(u.id, read(u.clip, sample_rate=sample_rate), u.text or "") for u in utterances]


def join(spoken: Sequence[Spoken], count: int, sample_rate: int) -> list[Spoken]:
    """Join each ``count`` utterances in a row, with silence between them; the rest is left out."""
    silence = np.zeros(round(PAUSE_S * sample_rate), np.float32)
    found = []
    for start in range(0, len(spoken) - count + 1, count):
        group = spoken[start : start + count]
        parts = [part for each in group for part in (silence, each.waveform)]
        text = " ".join(each.text for each in group)
        found.append(Spoken(group[0].id, np.concatenate(parts[1:]), text))
    return found


def batches(features: Sequence[FloatArray]) -> Iterator[list[int]]:
    """Yield the indices of batches of similar length."""
    order = sorted(range(len(features)), key=lambda i: len(features[i]))
    yield from (order[start : start + BATCH] for start in range(0, len(order), BATCH))


def error_rates(trained: Trained, spoken: Sequence[Spoken]) -> dict[str, dict[str, Any]]:
    """Return WER and CER for each form, search and number of joined utterances."""
    found: dict[str, dict[str, Any]] = {form: {} for form in trained.forms}
    recognizer, rate = trained.recognizer(), trained.header.config.features.sample_rate
    for count in JOINED:
        segments = join(spoken, count, rate)
        features = [recognizer.features(each.waveform) for each in segments]
        for form in trained.forms if segments else ():
            trained.use_form(form)
            for name, config in trained.searches.items():
                texts = trained.recognize(features, config)
                rates = score([each.text for each in segments], texts)
                rows = found[form].setdefault(name, {})
                rows[str(count)] = {"wer": rates.wer, "cer": rates.cer}
    return found


def times_of_ctm(path: str | Path, spoken: Sequence[Spoken]) -> dict[str, Times]:
    """Return the times of the words of each utterance from a CTM file.

    Raises:
        InputError: an utterance is missing or has another number of words.
    """
    words = read_ctm(path)
    found: dict[str, Times] = {}
    for each in spoken:
        times = [(w.start_s, w.start_s + w.duration_s) for w in words.get(each.id, [])]
        if len(times) != len(each.text.split()):
            raise InputError(
                f"{path}: {len(times)} words of {each.id}, expected the {len(each.text.split())} "
                "of its transcript; name a CTM of the dev set with utterances as files"
            )
        found[each.id] = times
    return found


def word_time_errors(
    trained: Trained, spoken: Sequence[Spoken], ctm: str | None
) -> dict[str, dict[str, float]]:
    """Compare where attention looks with the times of the words.

    Args:
        trained: the model; it is given the transcripts.
        spoken: utterances.
        ctm: times of their words; by default those of the model's CTC.

    Returns:
        for each form, ``error_ms``: median distance of the starts and ends of words by attention
        from the reference; and for the hard form ``delay_ms``: median time from the end of a word
        to the end of the last encoder step that its last character reads.
    """
    recognizer = trained.recognizer()
    features = [recognizer.features(each.waveform) for each in spoken]
    texts = [each.text for each in spoken]
    if ctm:
        times = times_of_ctm(ctm, spoken)
        reference = [times[each.id] for each in spoken]
    elif trained.model.has_ctc:
        reference = [_times(words) for words in _words(recognizer, features, texts)]
    else:
        return {}
    found: dict[str, dict[str, float]] = {}
    for form in trained.forms:
        trained.use_form(form)
        words = _words(recognizer, features, texts, by_attention=True)
        pairs = zip(map(_times, words), reference, strict=True)
        errors = [np.abs(np.subtract(a, b)).ravel() for a, b in pairs if len(a)]
        found[form] = {"error_ms": 1000 * float(np.median(np.concatenate(errors)))}
        if form == "hard":
            delays = list(_delays(trained, features, texts, reference))
            if delays:
                found[form]["delay_ms"] = 1000 * float(np.median(delays))
    return found


def _words(
    recognizer: UtteranceRecognizer,
    features: Sequence[FloatArray],
    texts: Sequence[str],
    *,
    by_attention: bool = False,
) -> list[tuple[Word, ...]]:
    found: list[tuple[Word, ...]] = [()] * len(texts)
    for rows in batches(features):
        chosen = [features[i] for i in rows], [texts[i] for i in rows]
        words = recognizer.words(*chosen, by_attention=by_attention)
        for i, each in zip(rows, words, strict=True):
            found[i] = each
    return found


def _times(words: Sequence[Word]) -> Times:
    return [(word.start_s, word.end_s) for word in words]


def _delays(
    trained: Trained,
    features: Sequence[FloatArray],
    texts: Sequence[str],
    reference: Sequence[Times],
) -> Iterator[float]:
    """Yield the delay in seconds of each word whose last character reads a step; hard form."""
    model, encode, step_s = trained.model, trained.header.tokenizer.encode, trained.header.step_s
    for rows in batches(features):
        encoded = model.encode([features[i] for i in rows])
        forced = model.teacher_force(encoded, [encode(texts[i]) for i in rows])
        for i, each in zip(rows, forced, strict=True):
            read = each.attention > 0  # (U + 1, S)
            last = read.shape[1] - read[:, ::-1].argmax(1)  # one after the last step read
            for (_, end), (_, end_s) in zip(word_spans(texts[i]), reference[i], strict=True):
                if read[end - 1].any():
                    yield float(last[end - 1]) * step_s - end_s


def measure(folder: str | Path, dev: str | Path, ctm: str | None = None) -> Mapping[str, Any]:
    """Measure a finished training on a dev set.

    Args:
        folder: of the training.
        dev: data directory of the dev set.
        ctm: times of its words, see :func:`word_time_errors`.
    """
    trained = Trained.from_folder(folder)
    spoken = read_dev(dev, trained.header.config.features.sample_rate)
    parameters = sum(p.numel() for p in trained.model.las.parameters())
    return {
        "parameters": parameters,
        "forms": error_rates(trained, spoken),
        "places": word_time_errors(trained, spoken, ctm),
        "reference": "CTM" if ctm else "CTC",
    }
