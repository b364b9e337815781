"""Data directory to batches: planning by duration, augmentation, features and padding.

Whatever is random about an utterance follows from (seed, pass, utterance) and nothing else,
so that a training that was interrupted goes on with the very same numbers, however many
processes read the audio.
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
from asr.config import AugmentConfig, BatchConfig, FeatureConfig, TrainConfig
from asr.corpus.datadir import DataDir, Utterance
from asr.corpus.feature_statistics import read_speaker_stats
from asr.errors import InputError, first_line
from asr.model.batch import Batch
from asr.text.chars import CharTokenizer
from asr.train import checks
from asr.train.augment import augment_waveform, draw_factor, spec_augment
from asr.train.rank import Rank

Key = tuple[int, int]  # number of the pass over the data, index of the utterance
SHOWN = 3  # dev utterances whose attention is drawn


@dataclass(frozen=True)
class Example:
    """One utterance, ready for a batch; ``error`` says why it is not."""

    id: str
    copies: tuple[Tensor, ...]
    """Features (T, F), masked differently if there are several."""
    tokens: Tensor
    error: str = ""


def seed_of(*numbers: int) -> int:
    """One well-mixed seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def pad(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Put sequences (T_i, ...) side by side: (B, T, ...), 0 on padding, and lengths (B,)."""
    lengths = torch.tensor([len(s) for s in sequences])
    return torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True), lengths


def plan_batches(
    durations_s: Sequence[float], config: BatchConfig, *, seed: int = 0, number: int | None = None
) -> list[list[Key]]:
    """Group utterances of similar length; as many as fit the audio budget with padding.

    Args:
        durations_s: length of every utterance.
        config: the budget.
        seed: of the training.
        number: of the pass over the training set, from 0; None gives the plain order, shortest
            first, as for a dev set. The first pass of training does the same if
            ``shortest_first`` is set; in the others lengths are jittered by up to 10 % before
            sorting and the batches are shuffled.

    Returns:
        (pass, index into ``durations_s``) of each utterance, a list for each batch.
    """
    lengths = np.asarray(durations_s, dtype=float)
    key, generator = lengths, None
    if number is not None and not (number == 0 and config.shortest_first):
        generator = np.random.default_rng([seed, number])
        key = lengths * generator.uniform(0.9, 1.1, len(lengths))
    batches: list[list[Key]] = []
    longest = 0.0
    for index in np.argsort(key, kind="stable").tolist():
        longest = max(longest, lengths[index]) if batches else lengths[index]
        full = not batches or len(batches[-1]) >= config.max_utterances
        if full or longest * (len(batches[-1]) + 1) > config.seconds:
            batches.append([])
            longest = lengths[index]
        batches[-1].append((number or 0, index))
    if generator is not None:
        generator.shuffle(batches)
    return batches


class UtteranceSet:
    """Utterances by (pass, index): audio is read, augmented and turned into features.

    Args:
        utterances: with text.
        tokenizer: characters to ids.
        features: how features are made and normalised.
        overall: statistics of the training set.
        speakers: statistics of each speaker, for ``features.cmvn: speaker``.
        augment: random changes; None leaves the audio as it is.
        seed: of the training.
        copies: how often each utterance is in its batch, under other masks.
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
        self.utterances = utterances
        self.extractor = FeatureExtractor(features)
        self.kind = features.cmvn
        self.sample_rate = features.sample_rate
        self.tokens = [torch.tensor(tokenizer.encode(u.text or "")) for u in utterances]
        self.overall, self.speakers = overall, speakers or {}
        self.augment, self.seed, self.copies = augment, seed, copies

    @property
    def durations_s(self) -> list[float]:
        """Length of every utterance in seconds."""
        return [u.duration_s or 0.0 for u in self.utterances]

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, key: Key) -> Example:
        number, index = key
        utterance, tokens = self.utterances[index], self.tokens[index]
        try:
            return Example(utterance.id, self._features(utterance, number, index), tokens)
        except InputError as error:
            return Example(utterance.id, (), tokens, first_line(error))
        except Exception as error:  # none of its audio: it has to be told apart from bad input
            raise InputError(
                f"{utterance.id}: {type(error).__name__}: {first_line(error)}; if it is this "
                "utterance alone, take it out of text, then `asr data fix`"
            ) from error

    def _features(self, utterance: Utterance, number: int, index: int) -> tuple[Tensor, ...]:
        waveform = read(utterance.clip, sample_rate=self.sample_rate)
        generator = torch.Generator().manual_seed(seed_of(self.seed, number, index))
        warp = tempo = 1.0
        if self.augment is not None:
            samples = torch.from_numpy(waveform)
            waveform = augment_waveform(samples, self.augment, generator, self.sample_rate).numpy()
            warp = draw_factor(self.augment.vtln, generator)
            tempo = draw_factor(self.augment.tempo, generator)
        noise = None
        if self.extractor.config.dither > 0:
            noise = torch.randn(len(waveform), generator=generator).numpy()
        found = self.extractor(waveform, noise, warp, tempo)
        stats = self.speakers.get(utterance.speaker)
        features = torch.from_numpy(normalize(found, self.kind, self.overall, stats))
        if self.augment is None:
            return (features,)
        return tuple(spec_augment(features, self.augment, generator) for _ in range(self.copies))

    def batch(self, keys: Sequence[Key]) -> Batch:
        """Read utterances and put them side by side."""
        return self.collate([self[key] for key in keys])

    def collate(self, examples: list[Example]) -> Batch:
        """Pad examples into a batch, which is empty if no audio could be read."""
        good = [e for e in examples if not e.error]
        errors = tuple(f"{e.id}: {e.error}" for e in examples if e.error)
        if not good:
            nothing, none = torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64)
            return Batch(nothing, none, nothing, none, errors=errors)
        copies = len(good[0].copies)
        features, frames = pad([e.copies[i] for i in range(copies) for e in good])
        tokens, lengths = pad([e.tokens for e in good] * copies)
        audio_s = float(frames.sum()) * self.extractor.config.frame_shift_ms / 1000
        ids = tuple(e.id for e in good) * copies
        return Batch(features, frames, tokens, lengths, ids, audio_s, errors)


def fingerprint(utterances: Sequence[Utterance], tokenizer: CharTokenizer, cmvn: CmvnStats) -> str:
    """A checksum of what training sees of its data.

    Ids, transcripts and durations, what the characters are, and what is taken from the features.
    """
    lines = (f"{u.id} {u.duration_s} {u.text}\n" for u in utterances)
    sums = [cmvn.count, cmvn.sum.tolist(), cmvn.square_sum.tolist()]
    seen = "".join(lines) + "\n".join(tokenizer.symbols) + repr(sums)
    return hashlib.sha256(seen.encode()).hexdigest()


class TrainData:
    """Training and dev set of a training, read and checked.

    Args:
        config: of the training.
        train: data directory with text and the files of ``asr features``.
        dev: another one, with other speakers.
        tokens: tokens.txt of ``asr chars``.

    Raises:
        InputError: a directory cannot be read, or does not suit the configuration.
    """

    def __init__(self, config: TrainConfig, train: str, dev: str, tokens: str) -> None:
        self.config = config
        self.tokenizer = CharTokenizer.from_file(tokens)
        sets = self._load(train, learnt=True), self._load(dev, learnt=False)
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

    def _load(self, directory: str, *, learnt: bool) -> tuple[Utterance, ...]:
        utterances, config = DataDir.load(directory).utterances, self.config
        checks.check_durations(utterances, directory)
        checks.check_characters(utterances, self.tokenizer, directory, strict=learnt)
        if learnt or config.loss.ctc_weight > 0:
            fastest = max(config.augment.speeds) * (1 + config.augment.tempo) if learnt else 1.0
            checks.check_fit(utterances, self.tokenizer, config, directory, fastest)
        return utterances

    def epoch(self, number: int, rank: Rank) -> list[list[Key]]:
        """The batches of an epoch (from 0) that a process trains on, equally many for each."""
        config, passes = self.config, self.config.passes
        plan = [
            batch
            for each in range(number * passes, (number + 1) * passes)
            for batch in plan_batches(
                self.train.durations_s, config.batch, seed=config.seed, number=each
            )
        ]
        return plan[rank.index : len(plan) - len(plan) % rank.count : rank.count]

    def largest_batch(self) -> list[Key]:
        """The batch with most padded audio."""
        durations = self.train.durations_s
        plan = plan_batches(durations, self.config.batch)
        return max(plan, key=lambda keys: len(keys) * max(durations[i] for _, i in keys))

    def dev_batches(self) -> list[list[Key]]:
        """The whole dev set."""
        return plan_batches(self.dev.durations_s, self.config.batch)

    def shown(self) -> list[str]:
        """Utterances of the dev set, of several lengths, whose attention is drawn."""
        by_length = sorted(self.dev.utterances, key=lambda u: u.duration_s or 0.0)
        step = max(1, len(by_length) // (SHOWN + 1))
        return [u.id for u in by_length[step::step][:SHOWN]] or [by_length[0].id]
