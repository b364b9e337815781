"""The models of a training's epochs: scored on the dev set, and the best ones averaged."""

from contextlib import closing
from typing import Any

import torch

from asr.config import TrainConfig
from asr.errors import InputError
from asr.model.las import LAS
from asr.recognize.plausibility import Vocabulary
from asr.store.average import average_models
from asr.store.model_file import read_model, save_model
from asr.store.weights import Weights
from asr.train.data import TrainData
from asr.train.evaluate import Evaluation, evaluate
from asr.train.folder import RunFolder
from asr.train.loader import load_batches
from asr.train.log import Log, plain

Entry = dict[str, Any]  # what the history of a training tells of an epoch


def best_epochs(history: list[Entry], count: int) -> list[Entry]:
    """The epochs with the lowest dev error rates, best first."""
    measured = [entry for entry in history if not entry.get("gone")]
    return sorted(measured, key=lambda e: (e["dev_wer"], e["dev_cer"]))[:count]


class ModelSelection:
    """Scores, writes and averages the models of epochs.

    Args:
        model: that is trained.
        config: of the training.
        data: its data.
        folder: where the models are.
        vocabulary: the training's words, and the dev set's rate of others.
    """

    def __init__(
        self,
        model: LAS,
        config: TrainConfig,
        data: TrainData,
        folder: RunFolder,
        vocabulary: Vocabulary,
    ) -> None:
        self.model, self.config, self.data = model, config, data
        self.folder, self.vocabulary = folder, vocabulary

    def evaluate(self) -> Evaluation:
        """Score the model as it is now on the dev set."""
        data, workers = self.data, self.config.batch.workers
        with closing(load_batches(data.dev, data.dev_batches(), workers=workers)) as batches:
            return evaluate(
                self.model,
                batches,
                data.references,
                data.tokenizer,
                self.config.loss,
                self.vocabulary,
                frozenset(data.shown()),
            )

    def write(self, entry: Entry) -> None:
        """Write the weights as the model of an epoch."""
        info = {"data": self.data.fingerprint, "vocabulary": self.vocabulary.to_info()}
        save_model(
            self.folder.model(entry),
            self.model.state_dict(),
            config=self.config,
            tokenizer=self.data.tokenizer,
            cmvn=self.data.cmvn,
            info={**plain(entry), **info},
        )

    def is_whole(self, entry: Entry) -> bool:
        """Whether the model of an epoch is there and undamaged."""
        try:
            read_model(self.folder.model(entry))
        except InputError:
            return False
        return True

    def keep(self, history: list[Entry]) -> None:
        """Delete the models that are neither among the best nor the last one."""
        wanted = [*best_epochs(history, self.config.average), *history[-1:]]
        self.folder.keep({entry["checkpoint"] for entry in wanted})

    def measure(self, weights: Weights) -> dict[str, Any]:
        """Dev scores of other weights than the model's."""
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        try:
            self.model.load_state_dict({k: torch.from_numpy(w) for k, w in weights.items()})
            scores = self.evaluate()
        finally:
            self.model.load_state_dict(own)
        return {
            "dev_wer": scores.wer,
            "dev_cer": scores.cer,
            "credit": scores.plausibility and scores.plausibility.to_info(),
            "vocabulary": self.vocabulary.to_info(),
        }

    def measure_again(self, history: list[Entry]) -> list[Entry]:
        """The history with scores on the dev set of today; models that are gone are out."""
        measured = []
        for entry in history:
            found: dict[str, Any] = {"gone": not self.is_whole(entry)}
            if not found["gone"]:
                scores = self.measure(read_model(self.folder.model(entry))[1])
                found |= {key: scores[key] for key in ("dev_wer", "dev_cer", "credit")}
            measured.append(entry | found)
        return measured

    def average(self, history: list[Entry], log: Log) -> None:
        """Write the final model, the mean of the best epochs."""
        best = self._best_models(history, log)
        final = self.folder.final
        sources = [self.folder.model(entry) for entry in best]
        found = average_models(sources, final, self.measure, self.config)
        epochs = ", ".join(str(entry["epoch"]) for entry in best)
        log.say(
            f"{final}: the mean of epochs {epochs}; dev WER {100 * found['dev_wer']:.1f} %, "
            f"of the best one {100 * best[0]['dev_wer']:.1f} %"
        )

    def _best_models(self, history: list[Entry], log: Log) -> list[Entry]:
        """The best epochs whose models are there; the last one's can be written again."""
        last = history[-1]
        if not self.is_whole(last):
            self.write(last)
        best = best_epochs(history, self.config.average)
        there = [entry for entry in best if self.is_whole(entry)]
        if gone := [str(entry["epoch"]) for entry in best if entry not in there]:
            log.say(
                f"warning: {self.folder.path / 'checkpoints'}: no whole model of epoch "
                f"{', '.join(gone)}; going on without"
            )
        return there or [last]
