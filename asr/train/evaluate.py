"""Evaluation on the dev set, after each epoch."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
import torch

from asr.arrays import FloatArray
from asr.config import DecodeConfig, TrainConfig
from asr.model.batch import Batch
from asr.model.las import LAS
from asr.model.machine import is_no_memory
from asr.model.runtime import TorchModel
from asr.recognize.metrics import (
    AlignmentStatistics,
    alignment_quality,
    alignment_statistics,
    mean_statistics,
)
from asr.recognize.plausibility import USELESS, PlausibilityModel, Vocabulary, plausibility
from asr.recognize.timing import loud_frames
from asr.score import Score, score
from asr.score.wer import errors as wrong_words
from asr.score.wer import reference_words
from asr.search.beam import search
from asr.text.tokenizer import CharTokenizer
from asr.train.rank import Rank
from asr.train.step import OutOfMemory

# The recipes' search: the order of epochs and the plausibility of hypotheses depend on the search.
SEARCH = DecodeConfig(beam=8, ctc_weight=0.3, length_bonus=0.6)
# without CTC greedy, for no length bonus suits all models
WITHOUT_CTC = replace(SEARCH, beam=1, ctc_weight=0.0, length_bonus=0.0)


@dataclass
class Evaluation:
    """Scores of a model on the dev set."""

    attention: float
    """Teacher-forced cross-entropy per character and <eos>, in nats."""
    ctc: float
    """CTC loss per character, in nats."""
    accuracy: float
    """Share of characters and <eos> that the teacher-forced decoder predicts."""
    wer: float
    """Word error rate of a beam search with CTC; without CTC, of a greedy search."""
    cer: float
    """Character error rate of the same hypotheses, spaces counted."""
    alignment: float
    """Mean quality of the teacher-forced alignments, 0 to 1."""
    statistics: AlignmentStatistics | None
    """Means of the statistics of these alignments; None if no utterance could be read."""
    pictures: dict[str, np.ndarray]
    """Attention (U + 1, S) of the utterances to show."""
    plausibility: PlausibilityModel | None
    """Plausibility of correct hypotheses, see :mod:`asr.recognize.plausibility`; None without CTC,
    or if too few hypotheses are correct."""
    errors: list[str]
    """Utterances that could not be read; all their words count as deletions."""

    def dev_scores(self) -> dict[str, Any]:
        """Return the scores that select epochs and flag transcripts, for files.

        The plausibility has the key ``credit`` in model files.
        """
        credit = self.plausibility and self.plausibility.to_info()
        return {"dev_wer": self.wer, "dev_cer": self.cer, "credit": credit}


class _Result(NamedTuple):
    """Hypothesis of an utterance, its plausibility, and the quality of its forced alignment."""

    text: str
    plausibility: float
    quality: float
    statistics: AlignmentStatistics


@dataclass
class _Decoded:
    """What a process has found in its share of the dev set."""

    losses: FloatArray = field(default_factory=lambda: np.zeros(5))
    """Sums of attention and accuracy over characters and <eos>, and of CTC over characters; the
    numbers of both."""
    results: dict[str, _Result] = field(default_factory=dict)
    """By utterance."""
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    """Attention (U + 1, S) of the utterances to show."""
    errors: list[str] = field(default_factory=list)
    """Utterances that could not be read."""


def evaluate(
    model: LAS,
    batches: Iterable[Batch],
    references: Mapping[str, str],
    tokenizer: CharTokenizer,
    settings: TrainConfig,
    vocabulary: Vocabulary,
    show: Collection[str] = (),
    rank: Rank | None = None,
) -> Evaluation:
    """Score a model on the dev set.

    Args:
        model: the network; it is left in evaluation mode.
        batches: the dev set, or the share of this process.
        references: the transcript of each utterance.
        tokenizer: maps tokens to text.
        settings: of the training.
        vocabulary: the words of the training set, and the out-of-vocabulary rate of the dev set.
        show: utterances whose attention is returned.
        rank: this process among several, which all return the scores of the whole set.

    Raises:
        Interrupted: a process was asked to stop.
    """
    rank = rank or Rank(torch.device("cpu"))
    going = takewhile(lambda _: not rank.stopped, batches)
    found = _decode(model, going, tokenizer, settings, vocabulary, show)
    rank.check_stop()
    found = found if rank.count == 1 else _gathered(found, rank)
    results = found.results
    hypotheses = [results[name].text if name in results else "" for name in references]
    rates = score(list(references.values()), hypotheses)
    attention, accuracy, ctc, written, characters = found.losses.tolist()
    return Evaluation(
        attention / max(1.0, written),
        ctc / max(1.0, characters),
        accuracy / max(1.0, written),
        rates.wer,
        rates.cer,
        sum(each.quality for each in results.values()) / max(1, len(results)),
        mean_statistics(each.statistics for each in results.values()),
        found.pictures,
        _measure(results, references, rates, vocabulary) if settings.loss.ctc_weight > 0 else None,
        found.errors,
    )


def _decode(
    model: LAS,
    batches: Iterable[Batch],
    tokenizer: CharTokenizer,
    settings: TrainConfig,
    vocabulary: Vocabulary,
    show: Collection[str],
) -> _Decoded:
    """Decode batches and compute their losses; a batch that is too large for memory in parts."""
    runtime, found = TorchModel(model.eval()), _Decoded()
    for batch in batches:
        found.errors += batch.errors
        parts = [batch] if batch.ids else []
        while parts:
            part = parts.pop()
            try:
                _decode_batch(runtime, part, tokenizer, settings, vocabulary, show, found)
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_no_memory(error):
                    raise
                if len(part.ids) == 1:
                    raise OutOfMemory(0, part, error) from error
            torch.cuda.empty_cache()  # what the failed part held is free only after the exception
            parts += part.halves(1)
    return found


@torch.no_grad()
def _decode_batch(
    runtime: TorchModel,
    batch: Batch,
    tokenizer: CharTokenizer,
    settings: TrainConfig,
    vocabulary: Vocabulary,
    show: Collection[str],
    found: _Decoded,
) -> None:
    """Decode a batch and compute its losses; if that fails, ``found`` counts no losses."""
    config = SEARCH if settings.loss.ctc_weight > 0 else WITHOUT_CTC
    batch = batch.to(runtime.device)
    memory = runtime.las.encode(batch.features, batch.frames)
    part = runtime.las.loss(memory, batch, settings.loss, batch.count)
    means = [float(part.attention), float(part.accuracy), float(part.ctc), 1.0, 1.0]
    encoded = runtime.encoded(memory)
    hypotheses = search(runtime, encoded, config)
    written, characters = sum(batch.count), batch.count.characters
    for row, (best, *_) in enumerate(hypotheses):
        name, text = batch.ids[row], tokenizer.decode(best.tokens)
        weights = part.weights[row, : int(batch.lengths[row]) + 1, : encoded.steps[row]]
        alignment = weights.cpu().numpy()  # (U + 1, S)
        frames = batch.features[row, : batch.frames[row]].cpu().numpy()  # normalised, (T, F)
        loud = loud_frames(frames, settings.features)
        statistics = alignment_statistics(alignment[:-1], loud, settings.step_s)
        value = plausibility(best, vocabulary.log_prob(text))
        found.results[name] = _Result(text, value, alignment_quality(alignment), statistics)
        if name in show:
            found.pictures[name] = alignment
    # Last, so that a batch is counted once if memory runs out before.
    found.losses += np.array(means) * (written, written, characters, written, characters)


def _gathered(found: _Decoded, rank: Rank) -> _Decoded:
    """Return what all processes have found."""
    pictures = {name: alignment.tolist() for name, alignment in found.pictures.items()}
    results = {name: (*each[:3], asdict(each.statistics)) for name, each in found.results.items()}
    plain = {"losses": found.losses.tolist(), "results": results, "pictures": pictures}
    whole = _Decoded()
    for part in rank.gather({**plain, "errors": found.errors}):
        whole.losses += part["losses"]
        for name, (text, value, quality, statistics) in part["results"].items():
            whole.results[name] = _Result(text, value, quality, AlignmentStatistics(**statistics))
        whole.pictures |= {name: np.array(rows) for name, rows in part["pictures"].items()}
        whole.errors += part["errors"]
    return whole


def _measure(
    results: dict[str, _Result], references: Mapping[str, str], rates: Score, vocabulary: Vocabulary
) -> PlausibilityModel | None:
    """Measure the plausibility of correct and useless hypotheses; skip unreadable utterances."""
    wrong, words = wrong_words(rates.word_counts), reference_words(rates.word_counts)
    decoded = np.array([name in results for name in references])
    values = np.array([results[name].plausibility for name in references if name in results])
    correct, useless = (wrong == 0)[decoded], (wrong > USELESS * words)[decoded]
    return PlausibilityModel.estimate(values[correct], values[useless], vocabulary)
