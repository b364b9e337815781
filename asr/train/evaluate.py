"""Evaluation on the dev set, after each epoch."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from asr.config import DecodeConfig, LossConfig
from asr.explain.metrics import alignment_quality
from asr.model.batch import Batch
from asr.model.las import LAS
from asr.model.runtime import TorchModel
from asr.recognize.plausibility import USELESS, PlausibilityModel, Vocabulary, plausibility
from asr.score import Score, score
from asr.score.wer import errors as wrong_words
from asr.score.wer import reference_words
from asr.search.beam import search
from asr.text.chars import CharTokenizer

# The recipes' search: the order of epochs and the plausibility of hypotheses depend on the search.
SEARCH = DecodeConfig(beam=8, ctc_weight=0.3, length_bonus=0.6)


@dataclass
class Evaluation:
    """Scores of a model on the dev set."""

    attention: float
    """Teacher-forced cross-entropy per character, in nats."""
    ctc: float
    """CTC loss per character, in nats."""
    accuracy: float
    """Share of characters that the teacher-forced decoder predicts."""
    wer: float
    """Word error rate of a beam search with attention and CTC."""
    cer: float
    """Character error rate of the same hypotheses, spaces counted."""
    alignment: float
    """Mean quality of the teacher-forced alignments, 0 to 1."""
    pictures: dict[str, np.ndarray]
    """Attention (U + 1, S) of the utterances to show."""
    plausibility: PlausibilityModel | None
    """Plausibility of correct hypotheses, see :mod:`asr.recognize.plausibility`; None without CTC,
    or if too few hypotheses are correct."""
    errors: list[str]
    """Utterances that could not be read; all their words count as deletions."""

    def dev_scores(self) -> dict[str, Any]:
        """Return the scores that select epochs and flag transcripts, for files."""
        credit = self.plausibility and self.plausibility.to_info()
        return {"dev_wer": self.wer, "dev_cer": self.cer, "credit": credit}


@dataclass
class _Totals:
    """What the batches add up to."""

    characters: int = 0
    losses: np.ndarray = field(default_factory=lambda: np.zeros(3))
    """Attention, CTC and accuracy, times the characters."""
    hypotheses: dict[str, str] = field(default_factory=dict)
    plausibilities: dict[str, float] = field(default_factory=dict)
    qualities: list[float] = field(default_factory=list)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


@torch.no_grad()
def evaluate(
    model: LAS,
    batches: Iterable[Batch],
    references: Mapping[str, str],
    tokenizer: CharTokenizer,
    loss: LossConfig,
    vocabulary: Vocabulary,
    show: Collection[str] = (),
) -> Evaluation:
    """Score a model on the dev set.

    Args:
        model: the network; it is left in evaluation mode.
        batches: the dev set.
        references: the transcript of each utterance.
        tokenizer: maps tokens to text.
        loss: weights of the parts of the loss.
        vocabulary: the words of the training set, and the out-of-vocabulary rate of the dev set.
        show: utterances whose attention is returned.
    """
    runtime = TorchModel(model.eval())
    config = SEARCH if loss.ctc_weight > 0 else replace(SEARCH, ctc_weight=0.0)
    totals = _Totals()
    for batch in batches:
        totals.errors += batch.errors
        if not batch.ids:
            continue
        batch = batch.to(runtime.device)
        memory = model.encode(batch.features, batch.frames)
        part, characters = model.loss(memory, batch, loss, batch.count), int(batch.lengths.sum())
        means = [float(part.attention), float(part.ctc), float(part.accuracy)]
        totals.losses += np.array(means) * characters
        totals.characters += characters
        encoded = runtime.encoded(memory)
        for row, (best, *_) in enumerate(search(runtime, encoded, config)):
            name, text = batch.ids[row], tokenizer.decode(best.tokens)
            totals.hypotheses[name] = text
            totals.plausibilities[name] = plausibility(best, vocabulary.log_prob(text))
            weights = part.weights[row, : int(batch.lengths[row]) + 1, : encoded.steps[row]]
            alignment = weights.cpu().numpy()  # (U + 1, S)
            totals.qualities.append(alignment_quality(alignment))
            if name in show:
                totals.pictures[name] = alignment
    rates = score(list(references.values()), [totals.hypotheses.get(n, "") for n in references])
    attention, ctc, accuracy = (totals.losses / max(1, totals.characters)).tolist()
    return Evaluation(
        attention,
        ctc,
        accuracy,
        rates.wer,
        rates.cer,
        sum(totals.qualities) / max(1, len(totals.qualities)),
        totals.pictures,
        _measure(totals, references, rates, vocabulary) if loss.ctc_weight > 0 else None,
        totals.errors,
    )


def _measure(
    totals: _Totals, references: Mapping[str, str], rates: Score, vocabulary: Vocabulary
) -> PlausibilityModel | None:
    """Measure the plausibility of correct and useless hypotheses; skip unreadable utterances."""
    decoded = np.array([name in totals.plausibilities for name in references])
    wrong, words = wrong_words(rates.word_counts), reference_words(rates.word_counts)
    correct, useless = decoded & (wrong == 0), decoded & (wrong > USELESS * words)
    values = np.array([totals.plausibilities.get(name, 0.0) for name in references])
    return PlausibilityModel.estimate(values[correct], values[useless], vocabulary)
