"""How good the model is on the dev set, after each epoch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from asr.config import DecodeConfig, LossConfig
from asr.explain.metrics import alignment_quality
from asr.model.batch import Batch
from asr.model.las import LAS
from asr.model.runtime import TorchModel
from asr.recognize.plausibility import USELESS, PlausibilityModel, Vocabulary, plausibility
from asr.score import score
from asr.score.wer import errors as wrong_words
from asr.score.wer import totals
from asr.search.beam import search
from asr.text.chars import CharTokenizer

# The recipes' own: it ranks epochs as they will be used, and what speaks for right texts has to be
# measured by a search like the one that asks. A beam of 4 without a bonus gets so few texts of
# half-trained models right, and such clear ones, that later 10 % of the right ones were doubted.
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
    """Why utterances could not be read; nothing was heard in them, and all their words lack."""


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
    characters, attention, ctc, accuracy = 0, 0.0, 0.0, 0.0
    hypotheses: dict[str, str] = {}
    plausibilities: dict[str, float] = {}
    qualities: list[float] = []
    pictures: dict[str, np.ndarray] = {}
    errors: list[str] = []
    for batch in batches:
        errors += batch.errors
        if not batch.ids:
            continue
        batch = batch.to(device)
        part = model(batch, loss, batch.count)
        count = int(batch.lengths.sum())
        characters += count
        attention, ctc = attention + float(part.attention) * count, ctc + float(part.ctc) * count
        accuracy += float(part.accuracy) * count
        encoded = runtime.encoded(model.encode(batch.features, batch.frames))
        for row, found in enumerate(search(runtime, encoded, config)):
            name = batch.ids[row]
            hypotheses[name] = tokenizer.decode(found[0].tokens)
            plausibilities[name] = plausibility(found[0], vocabulary.log_prob(hypotheses[name]))
            weights = part.weights[row, : int(batch.lengths[row]) + 1, : encoded.steps[row]]
            weights = weights.cpu().numpy()
            qualities.append(alignment_quality(weights))
            if name in show:
                pictures[name] = weights
    rates = score(list(references.values()), [hypotheses.get(name, "") for name in references])
    heard = np.array([name in plausibilities for name in references])
    wrong, words = wrong_words(rates.word_counts), totals(rates.word_counts)
    right, useless = wrong == 0, wrong > USELESS * words
    values = np.array([plausibilities.get(name, 0.0) for name in references])
    model_of_right = PlausibilityModel.measured(
        values[heard & right], values[heard & useless], vocabulary
    )
    n = max(1, characters)
    return Evaluation(
        attention / n,
        ctc / n,
        accuracy / n,
        rates.wer,
        rates.cer,
        sum(qualities) / max(1, len(qualities)),
        pictures,
        model_of_right if loss.ctc_weight > 0 else None,
        tuple(errors),
    )
