"""Training and dev set of a training, read and checked."""

import hashlib
import math
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from itertools import repeat
from pathlib import Path

from asr.audio.clip import command_of
from asr.audio.cmvn import CmvnStats
from asr.config import FeatureConfig, TrainConfig
from asr.corpus.datadir import DataDir, Utterance, Utterances
from asr.corpus.feature_statistics import read_speaker_stats
from asr.corpus.shards import Shards, are_shards
from asr.errors import InputError, counted
from asr.model.batch import Batch
from asr.terminal import warn
from asr.text.characters import clean
from asr.text.tokenizer import CharTokenizer
from asr.train import checks, shards
from asr.train.augment import noise_files
from asr.train.plan import EpochPlan, RemainingPlan, largest_batch, micro_batches_of, plan_batches
from asr.train.rank import Rank
from asr.train.utterances import Key, UtteranceSet

SHOWN = 3  # dev utterances whose attention is drawn


def fingerprint(
    utterances: Sequence[Utterance],
    tokenizer: CharTokenizer,
    cmvn: CmvnStats,
    features: FeatureConfig,
) -> str:
    """Return a hash of what a training learns from.

    Args:
        utterances: of which ids, transcripts and durations count.
        tokenizer: characters.
        cmvn: statistics of the features.
        features: their settings; with cmvn ``speaker`` the speakers count, too.
    """
    seen, columns = hashlib.sha256(), Utterances.of(utterances)
    durations = (None if math.isnan(d) else d for d in columns.durations_s.tolist())
    texts = columns.texts or repeat(None, len(columns))
    for name, duration_s, text in zip(columns.ids, durations, texts, strict=True):
        seen.update(f"{name} {duration_s} {text}\n".encode())
    for speaker in columns.speakers if features.cmvn == "speaker" else ():
        seen.update(f"{speaker}\n".encode())
    sums = [cmvn.count, cmvn.sum.tolist(), cmvn.square_sum.tolist()]
    seen.update(("\n".join(tokenizer.symbols) + repr(sums)).encode())
    return seen.hexdigest()


def hashes_of_files(config: TrainConfig) -> dict[str, str]:
    """Return a hash of the names and sizes of the files of noise."""
    found, folder = {}, config.augment.noise_dir
    if config.augment.noise_prob > 0 and folder:
        files = map(Path, noise_files(folder))
        sizes = [(str(f.relative_to(folder)), f.stat().st_size) for f in files]
        found["augment.noise_dir"] = hashlib.sha256(repr(sizes).encode()).hexdigest()
    return found


def _statistics(
    directory: str, config: FeatureConfig, utterances: Utterances
) -> tuple[dict[str, CmvnStats], CmvnStats]:
    """Return the statistics of the speakers of a data directory, and their sum."""
    speakers = read_speaker_stats(directory, config)
    missing = set(utterances.speakers.names).difference(speakers)
    if config.cmvn == "speaker" and missing:
        raise InputError(
            f"{directory}/cmvn.ark: no statistics of {counted(len(missing), 'speaker')}, for "
            f"example {min(missing)}; run `asr features {directory}` again"
        )
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
        speakers, total = _statistics(dev, config.features, utterances)
        self.dev = UtteranceSet(utterances, self.tokenizer, config.features, self.cmvn, speakers)
        self.dev_fingerprint = fingerprint(utterances, self.tokenizer, total, config.features)
        self.files = hashes_of_files(config)
        self.references = dict(zip(utterances.ids, utterances.transcripts, strict=True))

    def _in_directory(self, directory: str, train: Utterances, dev: Utterances) -> UtteranceSet:
        """Return the training set of a data directory, checked."""
        config = self.config
        checks.check_separation(train, dev)
        if train.spans_s is not None and any(map(command_of, train.wavs.names)):
            warn(
                f"{directory}/wav.scp: every segment runs the command of its recording anew in "
                "every epoch; `asr data shard` runs each command once"
            )
        speakers, self.cmvn = _statistics(directory, config.features, train)
        self.fingerprint = fingerprint(train, self.tokenizer, self.cmvn, config.features)
        blocks = train.transcripts.blocks()
        self.words = {word for _, lines in blocks for word in clean(lines).split()}
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
            speed = min(config.augment.speeds) if training else 1.0
            checks.check_fit(utterances, self.tokenizer, config, directory, speed)
        return utterances

    def epoch(self, number: int, rank: Rank) -> EpochPlan:
        """Return the micro-batches of a process in the batches of an epoch (from 0)."""
        return EpochPlan(self.train, self.config, number, rank)

    def remaining(self, epoch: int, batch: int, rank: Rank) -> RemainingPlan:
        """Return the micro-batches of a process from a batch of an epoch on, both from 0."""
        return RemainingPlan(self.train, self.config, rank, epoch, batch)

    def largest_batch(self, rank: Rank) -> list[Batch]:
        """Return the micro-batches of a process in the longest batch, at its lowest speed."""
        durations_s, slow = self.train.durations_s, copy(self.train)
        slow.augment = replace(self.config.augment, speeds=(min(self.config.augment.speeds),))
        if isinstance(slow, shards.ShardSet):
            slow.reported = set()  # what this trial reports must not silence the training
        keys = largest_batch(durations_s, self.config.batch)
        micro_batches = micro_batches_of(keys, durations_s, self.config, rank.index, rank.count)
        return [slow.batch(each) for each in micro_batches]

    def dev_batches(self, rank: Rank) -> list[list[Key]]:
        """Return the batches of the dev set that a process decodes."""
        return plan_batches(self.dev.durations_s, self.config.batch)[rank.index :: rank.count]

    def shown(self) -> list[str]:
        """Return utterances of the dev set, of several lengths, whose attention is drawn."""
        by_length = sorted(self.dev.utterances, key=lambda u: u.duration_s or 0.0)
        step = max(1, len(by_length) // (SHOWN + 1))
        return [u.id for u in by_length[step::step][:SHOWN]] or [by_length[0].id]
