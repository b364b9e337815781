"""Data directories to batches: augmentation, features and padding.

The random numbers of an utterance follow from (seed, pass, utterance) alone, so that a resumed
training gets the same numbers, with any number of worker processes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asr.audio.clip import read
from asr.audio.cmvn import CmvnStats
from asr.audio.features import FeatureExtractor, normalize
from asr.config import AugmentConfig, FeatureConfig, TrainConfig
from asr.corpus.columns import Numbers
from asr.corpus.datadir import DataDir, Utterance, Utterances
from asr.corpus.feature_statistics import read_speaker_stats
from asr.errors import InputError, first_line
from asr.model.batch import Batch
from asr.text.tokenizer import CharTokenizer
from asr.train import checks
from asr.train.augment import augment_waveform, draw_factor, spec_augment
from asr.train.plan import EpochPlan, Key, largest_batch, plan_batches, shares_of
from asr.train.rank import Rank

SHOWN = 3  # dev utterances whose attention is drawn


@dataclass(frozen=True)
class Example:
    """An utterance, ready for a batch."""

    id: str
    copies: tuple[Tensor, ...]
    """Features (T, F), each with other masks."""
    tokens: Tensor
    error: str = ""
    """Why the audio could not be read."""


def seed_of(*numbers: int) -> int:
    """Hash several numbers to a seed."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def pad(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pad sequences (T_i, ...) with 0 to (B, T, ...); return them and their lengths (B,)."""
    lengths = torch.tensor([len(s) for s in sequences])
    return torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True), lengths


class UtteranceSet:
    """Utterances by (pass, index): read audio, augment it and compute features.

    Args:
        utterances: utterances with text.
        tokenizer: characters to ids.
        features: settings of features and their normalisation.
        overall: statistics of the training set.
        speakers: statistics of each speaker, for ``features.cmvn: speaker``.
        augment: settings of the augmentation; None leaves the audio unchanged.
        seed: seed of the training.
        copies: copies of each utterance in its batch, with different masks.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        tokenizer: CharTokenizer,
        features: FeatureConfig,
        overall: CmvnStats | None,
        speakers: dict[str, CmvnStats] | None = None,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        copies: int = 1,
    ) -> None:
        self.utterances, self.features = utterances, features
        self.extractor = FeatureExtractor(features)
        self.tokens = [torch.tensor(tokenizer.encode(u.text or "")) for u in utterances]
        self.overall, self.speakers = overall, speakers or {}
        self.augment, self.seed, self.copies = augment, seed, copies

    @property
    def durations_s(self) -> Numbers:
        """Duration of every utterance in seconds, (N,)."""
        return np.array([u.duration_s or 0.0 for u in self.utterances])

    groups = 1

    def group(self, number: int, place: int) -> Numbers:
        """Return the utterances of a group of a pass: all of them, see :mod:`asr.train.plan`."""
        return np.arange(len(self.utterances))

    def __getitem__(self, key: Key) -> Example:
        utterance, tokens = self.utterances[key[1]], self.tokens[key[1]]
        try:
            return Example(utterance.id, self._features(utterance, key), tokens)
        except InputError as error:
            return Example(utterance.id, (), tokens, first_line(error))
        except Exception as error:  # not bad audio, so it must not be skipped
            raise InputError(
                f"{utterance.id}: {type(error).__name__}: {first_line(error)}; if it is this "
                "utterance alone, take it out of text, then `asr data fix`"
            ) from error

    def _features(self, utterance: Utterance, key: Key) -> tuple[Tensor, ...]:
        config, augment = self.features, self.augment
        waveform = read(utterance.clip, sample_rate=config.sample_rate)
        generator = torch.Generator().manual_seed(seed_of(self.seed, *key))
        warp = tempo = 1.0
        if augment is not None:
            samples = torch.from_numpy(waveform)
            waveform = augment_waveform(samples, augment, generator, config.sample_rate).numpy()
            warp = draw_factor(augment.vtln, generator)
            tempo = draw_factor(augment.tempo, generator)
        noise = None
        if config.dither > 0:
            noise = torch.randn(len(waveform), generator=generator).numpy()
        found = self.extractor(waveform, noise, warp, tempo)
        stats = self.speakers.get(utterance.speaker)
        features = torch.from_numpy(normalize(found, config.cmvn, self.overall, stats))
        if augment is None:
            return (features,)
        return tuple(spec_augment(features, augment, generator) for _ in range(self.copies))

    def batch(self, keys: Sequence[Key]) -> Batch:
        """Read utterances into a padded batch, which is empty if no audio could be read."""
        examples = [self[key] for key in keys]
        good = [e for e in examples if not e.error]
        errors = tuple(f"{e.id}: {e.error}" for e in examples if e.error)
        if not good:
            nothing, none = torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64)
            return Batch(nothing, none, nothing, none, errors=errors)
        copies = len(good[0].copies)
        features, frames = pad([e.copies[i] for i in range(copies) for e in good])
        tokens, lengths = pad([e.tokens for e in good] * copies)
        audio_s = float(frames.sum()) * self.features.frame_shift_ms / 1000
        ids = tuple(e.id for e in good) * copies
        return Batch(features, frames, tokens, lengths, ids, audio_s, errors)


def fingerprint(utterances: Sequence[Utterance], tokenizer: CharTokenizer, cmvn: CmvnStats) -> str:
    """Return a hash of ids, transcripts, durations, characters and feature statistics."""
    lines = (f"{u.id} {u.duration_s} {u.text}\n" for u in utterances)
    sums = [cmvn.count, cmvn.sum.tolist(), cmvn.square_sum.tolist()]
    seen = "".join(lines) + "\n".join(tokenizer.symbols) + repr(sums)
    return hashlib.sha256(seen.encode()).hexdigest()


class TrainData:
    """Training and dev set of a training, read and checked.

    Args:
        config: configuration of the training.
        train: data directory with text and the files of ``asr features``.
        dev: the same for the dev set, with other speakers.
        tokens: tokens.txt of ``asr chars``.

    Raises:
        InputError: a directory cannot be read, or does not suit the configuration.
    """

    def __init__(self, config: TrainConfig, train: str, dev: str, tokens: str) -> None:
        self.config = config
        self.tokenizer = CharTokenizer.from_file(tokens)
        sets = self._load(train, training=True), self._load(dev, training=False)
        checks.check_separation(*sets)
        speakers = [read_speaker_stats(directory, config.features) for directory in (train, dev)]
        sums = [sum(s.values(), CmvnStats.zero(config.features.dim)) for s in speakers]
        self.cmvn = sums[0]
        self.fingerprint, self.dev_fingerprint = (
            fingerprint(utterances, self.tokenizer, cmvn)
            for utterances, cmvn in zip(sets, sums, strict=True)
        )
        common = (self.tokenizer, config.features, self.cmvn)
        copies = 2 if config.loss.consistency > 0 else 1
        self.train = UtteranceSet(
            sets[0], *common, speakers[0], config.augment, config.seed, copies
        )
        self.dev = UtteranceSet(sets[1], *common, speakers[1])
        self.references = {u.id: u.text or "" for u in sets[1]}
        self.words = {word for u in sets[0] for word in (u.text or "").split()}

    def _load(self, directory: str, *, training: bool) -> Utterances:
        utterances, config = DataDir.load(directory).utterances, self.config
        checks.check_durations(utterances, directory)
        checks.check_characters(utterances, self.tokenizer, directory, strict=training)
        if training or config.loss.ctc_weight > 0:
            fastest = max(config.augment.speeds) * (1 + config.augment.tempo) if training else 1.0
            checks.check_fit(utterances, self.tokenizer, config, directory, fastest)
        return utterances

    def epoch(self, number: int, rank: Rank) -> EpochPlan:
        """Return the shares of a process in the batches of an epoch (from 0)."""
        return EpochPlan(self.train, self.config, number, rank)

    def largest_batch(self, rank: Rank) -> list[list[Key]]:
        """Return the shares of a process in the batch with the most audio, padding included."""
        durations_s = self.train.durations_s
        batch = largest_batch(durations_s, self.config.batch)
        return shares_of(batch, durations_s, self.config, rank.index, rank.count)

    def dev_batches(self, rank: Rank) -> list[list[Key]]:
        """Return the batches of the dev set that a process decodes."""
        return plan_batches(self.dev.durations_s, self.config.batch)[rank.index :: rank.count]

    def shown(self) -> list[str]:
        """Return utterances of the dev set, of several lengths, whose attention is drawn."""
        by_length = sorted(self.dev.utterances, key=lambda u: u.duration_s or 0.0)
        step = max(1, len(by_length) // (SHOWN + 1))
        return [u.id for u in by_length[step::step][:SHOWN]] or [by_length[0].id]
