"""Evaluation of a model on the dev set, after each epoch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from asr.config import DecodeConfig, LossConfig
from asr.explain.metrics import alignment_quality
from asr.model.batch import Batch
from asr.model.las import LAS
from asr.model.loss import Loss
from asr.model.runtime import TorchModel
from asr.recognize.plausibility import USELESS, PlausibilityModel, Vocabulary, plausibility
from asr.score import Score, score
from asr.score.wer import errors as wrong_words
from asr.score.wer import totals
from asr.search.beam import search
from asr.text.chars import CharTokenizer

# The recipes' search: it ranks epochs as they will be used, and the plausibility of right texts
# depends on the search. A beam of 4 without a bonus gets so few texts of half-trained models right,
# and such clear ones, that later 10 % of the right ones were flagged.
SEARCH = DecodeConfig(beam=8, ctc_weight=0.3, length_bonus=0.6)


@dataclass
class Evaluation:
    """Scores of a dev set."""

    attention: float
    """Cross-entropy per character, teacher-forced."""
    ctc: float
    """CTC loss per character."""
    accuracy: float
    """Share of characters guessed right, teacher-forced."""
    wer: float
    """Word error rate of a beam search with attention and CTC."""
    cer: float
    """Character error rate of the same, spaces counted."""
    alignment: float
    """Mean quality of the teacher-forced alignments, 0 to 1."""
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    """Attention (U + 1, S) of the utterances asked for."""
    plausibility: PlausibilityModel | None = None
    """That of the texts that are right, see :mod:`asr.recognize.plausibility`; None: too few are
    right, or there is no CTC."""
    errors: tuple[str, ...] = ()
    """Utterances that could not be read; all their words count as deletions."""


@dataclass
class _Found:
    """What the batches of a dev set add up to."""

    characters: int = 0
    losses: np.ndarray = field(default_factory=lambda: np.zeros(3))
    """Attention, CTC and accuracy, times the characters."""
    hypotheses: dict[str, str] = field(default_factory=dict)
    plausibilities: dict[str, float] = field(default_factory=dict)
    qualities: list[float] = field(default_factory=list)
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def add_losses(self, part: Loss, characters: int) -> None:
        """Add those of a batch."""
        values = (float(part.attention), float(part.ctc), float(part.accuracy))
        self.losses += np.array(values) * characters
        self.characters += characters

    def add_alignment(self, name: str, weights: np.ndarray, show: frozenset[str]) -> None:
        """Add the attention (U + 1, S) of an utterance."""
        self.qualities.append(alignment_quality(weights))
        if name in show:
            self.pictures[name] = weights


@torch.no_grad()
def evaluate(
    model: LAS,
    batches: Iterable[Batch],
    references: Mapping[str, str],
    tokenizer: CharTokenizer,
    loss: LossConfig,
    vocabulary: Vocabulary,
    show: frozenset[str] = frozenset(),
) -> Evaluation:
    """Score a dev set.

    Args:
        model: left in evaluation mode.
        batches: the dev set.
        references: transcript of each utterance.
        tokenizer: characters.
        loss: weights of the losses.
        vocabulary: the training's words, and the dev set's rate of others.
        show: utterances whose attention is wanted.
    """
    runtime = TorchModel(model.eval())
    config = SEARCH if loss.ctc_weight > 0 else replace(SEARCH, ctc_weight=0.0)
    device = next(model.parameters()).device
    found = _Found()
    for batch in batches:
        found.errors += batch.errors
        if not batch.ids:
            continue
        batch = batch.to(device)
        part = model(batch, loss, batch.count)
        found.add_losses(part, int(batch.count.characters))
        encoded = runtime.encoded(model.encode(batch.features, batch.frames))
        for row, (best, *_) in enumerate(search(runtime, encoded, config)):
            name = batch.ids[row]
            found.hypotheses[name] = tokenizer.decode(best.tokens)
            found.plausibilities[name] = plausibility(
                best, vocabulary.log_prob(found.hypotheses[name])
            )
            weights = part.weights[row, : int(batch.lengths[row]) + 1, : encoded.steps[row]]
            found.add_alignment(name, weights.cpu().numpy(), show)
    rates = score(list(references.values()), [found.hypotheses.get(n, "") for n in references])
    attention, ctc, accuracy = (found.losses / max(1, found.characters)).tolist()
    return Evaluation(
        attention,
        ctc,
        accuracy,
        rates.wer,
        rates.cer,
        sum(found.qualities) / max(1, len(found.qualities)),
        found.pictures,
        _plausibility(found, references, rates, vocabulary) if loss.ctc_weight > 0 else None,
        tuple(found.errors),
    )


def _plausibility(
    found: _Found, references: Mapping[str, str], rates: Score, vocabulary: Vocabulary
) -> PlausibilityModel | None:
    """Plausibility of right and of useless hypotheses; utterances without audio say nothing."""
    heard = np.array([name in found.plausibilities for name in references])
    wrong, words = wrong_words(rates.word_counts), totals(rates.word_counts)
    right, useless = wrong == 0, wrong > USELESS * words
    values = np.array([found.plausibilities.get(name, 0.0) for name in references])
    return PlausibilityModel.measured(values[heard & right], values[heard & useless], vocabulary)
