"""Utterances to batches: augmentation, features and padding.

The random numbers of an utterance follow from (seed, pass, utterance) alone, so that a resumed
training gets the same numbers, with any number of worker processes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.arrays import FloatArray
from asr.audio.clip import read
from asr.audio.cmvn import CmvnStats
from asr.audio.features import FeatureExtractor, normalize
from asr.config import AugmentConfig, EncoderConfig, FeatureConfig
from asr.corpus.columns import Numbers
from asr.corpus.datadir import Utterance, Utterances
from asr.corpus.shards import ShardUtterance
from asr.errors import InputError, first_line
from asr.model.batch import Batch
from asr.text.tokenizer import CharTokenizer, ctc_steps
from asr.train.augment import augment_waveform, draw_factor, spec_augment

Key = tuple[int, int]  # number of the pass over the data, index of the utterance
FLOAT_BYTES = 4
KEPT_BYTES = 1 << 28  # of audio that a process keeps decoded: 70 minutes at 16 kHz


class Example(NamedTuple):
    """An utterance, ready for a batch."""

    id: str
    copies: tuple[Tensor, ...]
    """Features (T, F), each with different masks."""
    tokens: Tensor
    """Characters of its transcript, (U,)."""


class Unread(NamedTuple):
    """An utterance whose audio could not be read."""

    id: str
    error: str


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
        self.tokenizer = tokenizer
        self.durations_s: Numbers = np.nan_to_num(Utterances.of(utterances).durations_s)
        self.groups = 1
        self.overall, self.speakers = overall, speakers or {}
        self.encoder: EncoderConfig | None = None
        """Settings that tell how many encoder steps CTC has for a transcript; None without CTC."""
        self.augment, self.seed, self.copies = augment, seed, copies
        size = float(self.durations_s.sum()) * features.sample_rate * FLOAT_BYTES
        self._keeps = augment is not None and 0 < size <= KEPT_BYTES
        self._kept: dict[str, FloatArray] = {}

    def group(self, number: int, place: int) -> Numbers:
        """Return the utterances of a group of a pass: all of them, see :mod:`asr.train.plan`."""
        return np.arange(len(self.utterances))

    def examples(self, keys: Sequence[Key]) -> list[Example | Unread]:
        """Read utterances."""
        return [self.example(self.utterances[key[1]], key) for key in keys]

    def example(self, utterance: Utterance | ShardUtterance, key: Key) -> Example | Unread:
        """Augment an utterance and compute its features, which follow from (seed, key)."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, *key))
        try:
            tokens = self._tokens(utterance)
            features = self._features(utterance, tokens, generator)
            return Example(utterance.id, self._masked(features, generator), tokens)
        except InputError as error:
            return Unread(utterance.id, first_line(error))
        except Exception as error:  # not bad audio, so it must not be skipped
            raise InputError(
                f"{utterance.id}: {type(error).__name__}: {first_line(error)}; if it is this "
                "utterance alone, take it out of text, then `asr data fix`"
            ) from error

    def _tokens(self, utterance: Utterance | ShardUtterance) -> Tensor:
        return torch.tensor(self.tokenizer.encode(utterance.text or ""))

    def _slow_enough(self, augment: AugmentConfig, samples: int, needed: int) -> AugmentConfig:
        """Leave out the speeds at which CTC cannot write a transcript; the lowest one stays."""
        speeds = np.array(augment.speeds)
        frames = self.extractor.num_frames(np.ceil(samples / speeds).astype(int))
        if self.encoder is None or (fits := self.encoder.output_steps(frames) >= needed).all():
            return augment
        return replace(augment, speeds=tuple(speeds[fits].tolist()) or (min(augment.speeds),))

    def _check_fit(self, frames: int, needed: int) -> None:
        """Raise InputError if CTC needs more steps for a transcript than its frames give."""
        if self.encoder and (steps := self.encoder.output_steps(frames)) < needed:
            raise InputError(
                f"{frames} frames give {steps} encoder steps, its transcript needs "
                f"{needed}; if its audio has changed, run `asr features` again"
            )

    def _masked(self, features: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return the copies of an utterance (T, F)."""
        if self.augment is None:
            return (features,)
        return tuple(spec_augment(features, self.augment, generator) for _ in range(self.copies))

    def _features(
        self, utterance: Utterance | ShardUtterance, tokens: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Read an utterance, augment it and compute its normalised features (T, F)."""
        config, augment = self.features, self.augment
        waveform = self._waveform(utterance)
        needed = ctc_steps(tokens.tolist())
        warp = 1.0
        if augment is not None:
            samples = torch.from_numpy(waveform)
            augment = self._slow_enough(augment, len(samples), needed)
            waveform = augment_waveform(samples, augment, generator, config.sample_rate).numpy()
            warp = draw_factor(augment.vtln, generator)
        noise = None
        if config.dither > 0:
            noise = torch.randn(len(waveform), generator=generator).numpy()
        found = self.extractor(waveform, noise, warp)
        self._check_fit(len(found), needed)
        stats = self.speakers.get(utterance.speaker)
        return torch.from_numpy(normalize(found, config.cmvn, self.overall, stats))

    def _waveform(self, utterance: Utterance | ShardUtterance) -> FloatArray:
        """Read an utterance (N,); those of a small training set are kept for its next passes."""
        clip = utterance.clip
        if not self._keeps or clip.command:  # a command may write other audio each time
            return read(clip, sample_rate=self.features.sample_rate)
        if utterance.id not in self._kept:
            self._kept[utterance.id] = read(clip, sample_rate=self.features.sample_rate)
        return self._kept[utterance.id]

    def batch(self, keys: Sequence[Key]) -> Batch:
        """Read utterances into a padded batch, which is empty if no audio could be read."""
        examples = self.examples(keys)
        good = [e for e in examples if isinstance(e, Example)]
        errors = tuple(f"{e.id}: {e.error}" for e in examples if isinstance(e, Unread))
        if not good:
            nothing, none = torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64)
            return Batch(nothing, none, nothing, none, errors=errors)
        copies = len(good[0].copies)
        features, frames = pad([e.copies[i] for i in range(copies) for e in good])
        tokens, lengths = pad([e.tokens for e in good] * copies)
        audio_s = float(frames.sum()) * self.features.shift_s
        ids = tuple(e.id for e in good) * copies
        return Batch(features, frames, tokens, lengths, ids, audio_s, errors)
