"""Model selection: score the model of each epoch on the dev set, and average the best ones."""

import copy
from contextlib import closing
from typing import Any

from torch import Tensor

from asr.errors import InputError
from asr.files import plain
from asr.model.las import LAS
from asr.model.runtime import TorchModel
from asr.model.weights import tensors
from asr.recognize.forced import estimate_gaussians
from asr.recognize.plausibility import Vocabulary
from asr.recognize.utterances import Scorers, UtteranceRecognizer
from asr.store.average import average_models
from asr.store.model_file import Header, read_model, save_model
from asr.store.weights import Weights
from asr.train.data import TrainData
from asr.train.evaluate import SEARCH, Evaluation, evaluate
from asr.train.folder import RunFolder
from asr.train.loader import load_batches
from asr.train.log import Log, RankLog
from asr.train.rank import Rank

Entry = dict[str, Any]  # losses and scores of an epoch in the history of a training


def best_epochs(history: list[Entry], count: int) -> list[Entry]:
    """Return the epochs with the lowest error rates on the dev set, best first."""
    measured = [entry for entry in history if not entry.get("gone")]
    return sorted(measured, key=lambda e: (e["dev_wer"], e["dev_cer"]))[:count]


class ModelSelection:
    """Scores, writes and averages the models of epochs.

    Args:
        model: the network in training.
        data: training and dev set, with the configuration.
        folder: folder of the training.
        vocabulary: words of the training set, and the out-of-vocabulary rate of the dev set.
        rank: this process, which scores its share of the dev set; rank 0 reads and writes.
    """

    def __init__(
        self, model: LAS, data: TrainData, folder: RunFolder, vocabulary: Vocabulary, rank: Rank
    ) -> None:
        self.model, self.data, self.config, self.rank = model, data, data.config, rank
        self.folder, self.vocabulary = folder, vocabulary

    def evaluate(self, model: LAS | None = None) -> Evaluation:
        """Score a model on the dev set, by default the current one."""
        data, workers = self.data, self.config.batch.workers
        with closing(
            load_batches(data.dev, data.dev_batches(self.rank), workers=workers)
        ) as batches:
            return evaluate(
                model or self.model,
                batches,
                data.references,
                data.tokenizer,
                self.config,
                self.vocabulary,
                data.shown(),
                self.rank,
            )

    def write(self, entry: Entry) -> None:
        """Write the current model as that of an epoch."""
        info = {"data": self.data.fingerprint, "vocabulary": self.vocabulary.to_info()}
        info = {**plain(entry), **info}
        header = Header(self.config, self.data.tokenizer, self.data.cmvn, info)
        save_model(self.folder.model(entry), self.model.state_dict(), header)

    def _weights(self, entry: Entry) -> Weights | None:
        """Return the weights of the model of an epoch, or None if it is missing or damaged."""
        try:
            return read_model(self.folder.model(entry))[1]
        except InputError:
            return None

    def keep(self, history: list[Entry]) -> None:
        """Delete the models of all epochs but the best and the last."""
        wanted = [*best_epochs(history, self.config.average), *history[-1:]]
        self.folder.keep({entry["checkpoint"] for entry in wanted})

    def _dev_scores(self, weights: Weights | None) -> dict[str, Any]:
        """Return the dev scores of other weights, which do not replace those of the training.

        Rank 0 has the weights, and all processes score them; without weights there are no scores.
        """
        state = self.rank.broadcast(tensors(weights or {}))
        return self.evaluate(self._with(state)).dev_scores() if state else {}

    def _with(self, state: dict[str, Tensor]) -> LAS:
        """Return a copy of the network with other weights."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(state)
        return model

    def measure_again(self, history: list[Entry]) -> list[Entry]:
        """Return the history with scores on the current dev set; mark removed models as gone."""
        measured = []
        for entry in history:
            scores = self._dev_scores(None if self.rank.index else self._weights(entry))
            measured.append({**entry, **scores, "gone": not scores})
        return measured

    def _info(self, weights: Weights) -> dict[str, Any]:
        facts = {"vocabulary": self.vocabulary.to_info(), "sounds": self._gaussians(weights)}
        return {**self._dev_scores(weights), **facts}

    def _gaussians(self, weights: Weights) -> dict[str, str] | None:
        """Return the Gaussians of the characters in the dev set, for the times of words."""
        if self.config.loss.ctc_weight == 0:
            return None
        data, model = self.data, self._with(tensors(weights)).eval()
        header = Header(self.config, data.tokenizer, data.cmvn, {})
        recognizer = UtteranceRecognizer(header, TorchModel(model), SEARCH, Scorers())
        found = estimate_gaussians(recognizer, data.dev_folder, data.dev.utterances)
        return None if found is None else found.to_info()

    def average(self, history: list[Entry], log: Log | RankLog) -> None:
        """Write the final model: the mean of the best epochs."""
        if self.rank.index:
            self._dev_scores(None)
            return
        best = self._best_models(history, log)
        final = self.folder.final
        sources = [self.folder.model(entry) for entry in best]
        found = average_models(sources, final, self._info, self.config)
        epochs = ", ".join(str(entry["epoch"]) for entry in best)
        compared = f", that of the best epoch {100 * best[0]['dev_wer']:.1f} %"
        compared = "" if best[0].get("gone") else compared  # its rate is of another dev set
        dev_wer = 100 * found["dev_wer"]
        log.say(f"{final}: the mean of epochs {epochs}; dev WER {dev_wer:.1f} %{compared}")

    def _best_models(self, history: list[Entry], log: Log | RankLog) -> list[Entry]:
        """Return the best epochs with a readable model; write the last model if it is missing."""
        last = history[-1]
        if self._weights(last) is None:
            self.write(last)
        best = best_epochs(history, self.config.average)
        readable = [entry for entry in best if self._weights(entry) is not None]
        if missing := [str(entry["epoch"]) for entry in best if entry not in readable]:
            log.say(
                f"warning: {self.folder.path / 'checkpoints'}: the model of epoch "
                f"{', '.join(missing)} is damaged, or was deleted when it was not among the best "
                "ones; averaging without it"
            )
        return readable or [last]
