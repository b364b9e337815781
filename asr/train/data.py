"""Training and dev set of a training, read and checked."""

import hashlib
import math
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from itertools import repeat

from asr.audio.cmvn import CmvnStats
from asr.config import FeatureConfig, TrainConfig
from asr.corpus.datadir import DataDir, Utterance, Utterances
from asr.corpus.feature_statistics import read_speaker_stats
from asr.corpus.shards import Shards, are_shards
from asr.model.batch import Batch
from asr.text.tokenizer import CharTokenizer
from asr.train import checks, shards
from asr.train.plan import EpochPlan, RemainingPlan, largest_batch, plan_batches, shares_of
from asr.train.rank import Rank
from asr.train.utterances import Key, UtteranceSet

SHOWN = 3  # dev utterances whose attention is drawn


def fingerprint(utterances: Sequence[Utterance], tokenizer: CharTokenizer, cmvn: CmvnStats) -> str:
    """Return a hash of ids, transcripts, durations, characters and feature statistics."""
    seen, columns = hashlib.sha256(), Utterances.of(utterances)
    durations = (None if math.isnan(d) else d for d in columns.durations_s.tolist())
    texts = columns.texts or repeat(None, len(columns))
    for name, duration_s, text in zip(columns.ids, durations, texts, strict=True):
        seen.update(f"{name} {duration_s} {text}\n".encode())
    sums = [cmvn.count, cmvn.sum.tolist(), cmvn.square_sum.tolist()]
    seen.update(("\n".join(tokenizer.symbols) + repr(sums)).encode())
    return seen.hexdigest()


def _statistics(directory: str, config: FeatureConfig) -> tuple[dict[str, CmvnStats], CmvnStats]:
    """Return the statistics of the speakers of a data directory, and their sum."""
    speakers = read_speaker_stats(directory, config)
    return speakers, sum(speakers.values(), CmvnStats.zero(config.dim))


class TrainData:
    """Training and dev set of a training, read and checked.

    Args:
        config: configuration of the training.
        train: data directory with text and the files of ``asr features``, or tar shards, see
            :mod:`asr.corpus.shards`.
        dev: data directory of the dev set, with other speakers.
        tokenizer: characters to write.

    Raises:
        InputError: a directory cannot be read, or does not suit the configuration.
    """

    def __init__(self, config: TrainConfig, train: str, dev: str, tokenizer: CharTokenizer) -> None:
        self.config, self.dev_folder, self.tokenizer = config, dev, tokenizer
        if are_shards(train):
            opened, utterances = Shards(train, config.shards), self._load(dev, training=False)
            self.train: UtteranceSet = self._in_shards(opened, utterances)
        else:
            found, utterances = self._load(train, training=True), self._load(dev, training=False)
            self.train = self._in_directory(train, found, utterances)
        if config.loss.ctc_weight > 0:
            self.train.encoder = config.model.encoder
        speakers, total = _statistics(dev, config.features)
        self.dev = UtteranceSet(utterances, self.tokenizer, config.features, self.cmvn, speakers)
        self.dev_fingerprint = fingerprint(utterances, self.tokenizer, total)
        self.references = dict(zip(utterances.ids, utterances.transcripts, strict=True))

    def _in_directory(self, directory: str, train: Utterances, dev: Utterances) -> UtteranceSet:
        """Return the training set of a data directory, checked."""
        config = self.config
        checks.check_separation(train, dev)
        speakers, self.cmvn = _statistics(directory, config.features)
        self.fingerprint = fingerprint(train, self.tokenizer, self.cmvn)
        self.words = {word for _, lines in train.transcripts.blocks() for word in lines.split()}
        common = self.tokenizer, config.features, self.cmvn, speakers
        return UtteranceSet(train, *common, config.augment, config.seed, config.loss.copies)

    def _in_shards(self, train: Shards, dev: Utterances) -> UtteranceSet:
        """Return the training set of shards, checked by their index."""
        config, index = self.config, train.index
        shards.check_shards(train, dev, config, self.tokenizer)
        self.cmvn, self.words = index.total_stats, set(index.texts("words"))
        self.fingerprint = shards.fingerprint(index, self.tokenizer)
        common = self.tokenizer, config.features, self.cmvn
        return shards.ShardSet(train, *common, config.augment, config.seed, config.loss.copies)

    def _load(self, directory: str, *, training: bool) -> Utterances:
        utterances, config = DataDir.load(directory).utterances, self.config
        checks.check_durations(utterances, directory)
        checks.check_characters(utterances, self.tokenizer, directory, strict=training)
        if training or config.loss.ctc_weight > 0:
            fastest = max(config.augment.speeds) if training else 1.0
            checks.check_fit(utterances, self.tokenizer, config, directory, fastest)
        return utterances

    def epoch(self, number: int, rank: Rank) -> EpochPlan:
        """Return the shares of a process in the batches of an epoch (from 0)."""
        return EpochPlan(self.train, self.config, number, rank)

    def remaining(self, epoch: int, batch: int, rank: Rank) -> RemainingPlan:
        """Return the shares of a process from a batch of an epoch on, both from 0."""
        return RemainingPlan(self.train, self.config, rank, epoch, batch)

    def largest_batch(self, rank: Rank) -> list[Batch]:
        """Return the shares of a process in the batch with the most audio, at its lowest speed."""
        durations_s, slow = self.train.durations_s, copy(self.train)
        slow.augment = replace(self.config.augment, speeds=(min(self.config.augment.speeds),))
        keys = largest_batch(durations_s, self.config.batch)
        shares = shares_of(keys, durations_s, self.config, rank.index, rank.count)
        return [slow.batch(share) for share in shares]

    def dev_batches(self, rank: Rank) -> list[list[Key]]:
        """Return the batches of the dev set that a process decodes."""
        return plan_batches(self.dev.durations_s, self.config.batch)[rank.index :: rank.count]

    def shown(self) -> list[str]:
        """Return utterances of the dev set, of several lengths, whose attention is drawn."""
        by_length = sorted(self.dev.utterances, key=lambda u: u.duration_s or 0.0)
        step = max(1, len(by_length) // (SHOWN + 1))
        return [u.id for u in by_length[step::step][:SHOWN]] or [by_length[0].id]
