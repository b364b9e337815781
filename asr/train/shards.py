"""A training set in tar shards, planned and checked by its index alone.

A pass permutes the shards and cuts them into groups of about ``shards.group``; the batches of a
group are planned as those of a data directory are. So order and batches follow from the seed and
the number of the pass, and with one group they are those of the data directory.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence

import numpy as np

from asr.audio.cmvn import CmvnStats
from asr.config import AugmentConfig, FeatureConfig, TrainConfig
from asr.corpus.columns import Numbers
from asr.corpus.datadir import Utterance
from asr.corpus.feature_statistics import check_settings
from asr.corpus.shard_index import AGAIN, ShardIndex, hashed
from asr.corpus.shards import Shards
from asr.text.normalize import sentence_key
from asr.text.tokenizer import CharTokenizer
from asr.train import checks
from asr.train.utterances import Example, Key, Unread, UtteranceSet


class ShardSet(UtteranceSet):
    """The utterances of shards, see :class:`asr.train.utterances.UtteranceSet`.

    Args:
        shards: the shards.
    """

    def __init__(
        self,
        shards: Shards,
        tokenizer: CharTokenizer,
        features: FeatureConfig,
        overall: CmvnStats,
        augment: AugmentConfig,
        seed: int,
        copies: int,
    ) -> None:
        speakers = shards.index.speaker_stats() if features.cmvn == "speaker" else {}
        super().__init__((), tokenizer, features, overall, speakers, augment, seed, copies)
        self.shards, self.durations_s = shards, shards.durations_s
        self.groups = math.ceil(len(shards.index.shards) / shards.config.group)
        self.reported: set[tuple[int, str]] = set()
        """Pass and message of each missing shard that was reported."""

    def group(self, number: int, place: int) -> Numbers:
        """Return the utterances of a group of a pass, sorted."""
        first = self.shards.index.first
        order = np.arange(len(first) - 1)
        if self.groups > 1:
            order = np.random.default_rng([self.seed, number, 0, 1]).permutation(order)
        chosen = sorted(np.array_split(order, self.groups)[place].tolist())
        return np.concatenate([np.arange(first[shard], first[shard + 1]) for shard in chosen])

    def examples(self, keys: Sequence[Key]) -> list[Example | Unread]:
        """Read utterances; of a missing shard, only the first one in a pass is reported."""
        found: list[Example | Unread] = []
        for key, read in zip(keys, self.shards.fetch([i for _, i in keys]), strict=True):
            if not isinstance(read, str):
                found.append(self.example(read, key))
            elif (key[0], read) not in self.reported:
                self.reported.add((key[0], read))
                name = self.shards.index.id_of(key[1])
                error = f"{read}; its other utterances are missing, too"
                found.append(Unread(name, error))
        return found


def fingerprint(index: ShardIndex, tokenizer: CharTokenizer) -> str:
    """Return a hash of the shards, characters and feature statistics."""
    sums = index.arrays["cmvn_total"].tolist()
    seen = "\n".join([*index.texts("digests"), *tokenizer.symbols, repr(sums)])
    return hashlib.sha256(seen.encode()).hexdigest()


def check_shards(
    shards: Shards, dev: Sequence[Utterance], config: TrainConfig, tokenizer: CharTokenizer
) -> None:
    """Check shards as :mod:`asr.train.checks` does directories, except for common recordings.

    Raises:
        InputError: features or characters differ, a transcript is too long for its audio, or an
            utterance is in the dev set, too.
    """
    index, where = shards.index, shards.pattern
    again = f"{AGAIN} with --config FILE, the configuration of the training"
    check_settings(index.info.get("settings", {}), config.features, index.where, again)
    characters = index.info["characters"].items()
    unknown = {c: name for c, name in characters if tokenizer.unknown(c)}
    checks.report_unknown(unknown, where, strict=True)
    speed = min(config.augment.speeds)
    checks.report_misfits(list(_misfits(index, config, speed)), where, speed)
    known = index.has("id_hash", (hashed(u.id) for u in dev))
    checks.report_common_ids({u.id for u, same in zip(dev, known, strict=True) if same})
    checks.warn_of_speakers({u.speaker for u in dev}.intersection(index.texts("speakers")))
    keys = (hashed(sentence_key(u.text or "")) for u in dev)
    checks.warn_of_sentences(int(index.has("sentence", keys).sum()), len(dev))


def _misfits(index: ShardIndex, config: TrainConfig, speed: float) -> Iterable[str]:
    """Describe the utterances whose transcript is too long for CTC."""
    for rows in index.rows():
        needed, durations_s = index.arrays["steps"][rows], index.arrays["duration_s"][rows]
        for i, why in checks.too_long(needed, durations_s, config, speed):
            yield f"  {index.id_of(rows.start + i)}: {why}"
