"""Planning of batches: which utterances are trained on together, and in which order.

A plan follows from durations, settings, seed and the number of the pass alone. The utterances of a
pass may come in several groups, which are planned one after another (see :mod:`asr.train.shards`).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from asr.config import BatchConfig, TrainConfig
from asr.corpus.columns import Numbers
from asr.train.rank import Rank
from asr.train.utterances import Key, UtteranceSet

LONGEST = 10_000  # utterances among which the largest batch is looked for
BISECTIONS = 30  # halvings that find the largest micro-batch's size, to 2^-30 of the batch


class Planned(NamedTuple):
    """Batches in two arrays, since a million lists would take much memory."""

    order: Numbers
    """The utterances of the first batch, of the second, and so on, (N,)."""
    ends: Numbers
    """End of each batch in ``order``."""

    def batch(self, number: int) -> list[int]:
        """Return the utterances of a batch."""
        start = int(self.ends[number - 1]) if number else 0
        return self.order[start : int(self.ends[number])].tolist()


def plan_group(
    durations_s: Sequence[float] | Numbers, config: BatchConfig, seeds: Sequence[int] | None = None
) -> Planned:
    """Group utterances of similar length; a batch with its padding fits the audio budget.

    Args:
        durations_s: duration of every utterance.
        config: the budget.
        seeds: durations are jittered by up to 10 % before sorting, and the batches are shuffled;
            None sorts the utterances by duration.
    """
    lengths = np.asarray(durations_s, dtype=float)
    rng = None if seeds is None else np.random.default_rng(list(seeds))
    key = lengths if rng is None else lengths * rng.uniform(0.9, 1.1, len(lengths))
    order = np.argsort(key, kind="stable")
    ends, size, longest = [], 0, 0.0
    for place, length in enumerate(lengths[order].tolist()):
        longest = max(longest, length)
        if size and (size >= config.max_utterances or longest * (size + 1) > config.seconds):
            ends.append(place)
            size, longest = 0, length
        size += 1
    if size:
        ends.append(len(order))
    planned = Planned(order, np.array(ends, dtype=np.int64))
    return planned if rng is None else _shuffled(planned, rng)


def _shuffled(planned: Planned, rng: np.random.Generator) -> Planned:
    numbers = list(range(len(planned.ends)))
    rng.shuffle(numbers)
    sizes = np.diff(planned.ends, prepend=0)[numbers]
    ends = np.cumsum(sizes)
    places = np.arange(len(planned.order)) + np.repeat(planned.ends[numbers] - ends, sizes)
    return Planned(planned.order[places], ends)


def plan_batches(durations_s: Sequence[float] | Numbers, config: BatchConfig) -> list[list[Key]]:
    """Return the batches of utterances, the shortest first; see :func:`plan_group`."""
    planned = plan_group(durations_s, config)
    return [[(0, i) for i in planned.batch(each)] for each in range(len(planned.ends))]


def largest_batch(durations_s: Numbers, config: BatchConfig) -> list[Key]:
    """Return the batch with the most audio, padding included, among the longest utterances."""
    rows = np.arange(len(durations_s))
    if len(rows) > LONGEST:
        rows = np.sort(np.argpartition(durations_s, -LONGEST)[-LONGEST:])
    order, ends = plan_group(durations_s[rows], config)
    planned = Planned(rows[order], ends)
    longest_s = durations_s[planned.order[ends - 1]]  # the last one of each batch
    audio_s = np.diff(ends, prepend=0) * longest_s
    return [(0, i) for i in planned.batch(int(audio_s.argmax()))]


def cut_batch(
    keys: list[Key], durations_s: Sequence[float] | Numbers, count: int
) -> list[list[Key]]:
    """Cut a batch into micro-batches so that the largest, with padding, is as short as possible.

    Args:
        keys: the utterances of the batch.
        durations_s: duration of every utterance.
        count: number of micro-batches; some are empty if the batch has fewer utterances.
    """
    if count == 1:
        return [keys]
    ordered = sorted(keys, key=lambda key: durations_s[key[1]])

    def cut(largest: float) -> list[list[Key]]:
        micro_batches: list[list[Key]] = [[]]
        for key in ordered:
            if micro_batches[-1] and (len(micro_batches[-1]) + 1) * durations_s[key[1]] > largest:
                micro_batches.append([])
            micro_batches[-1].append(key)
        return micro_batches

    low, high = 0.0, len(ordered) * durations_s[ordered[-1][1]]
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if len(cut(middle)) <= count else (middle, high)
    found = cut(high)
    return found + [[] for _ in range(count - len(found))]


def micro_batches_of(
    keys: list[Key], durations_s: Numbers, config: TrainConfig, index: int, count: int
) -> list[list[Key]]:
    """Return the micro-batches of process ``index`` of ``count`` in a batch."""
    size = config.batch.accumulate
    return cut_batch(keys, durations_s, count * size)[index * size : (index + 1) * size]


class EpochPlan:
    """The micro-batches of a process in the batches of an epoch.

    The batches do not depend on the number of processes; each is cut into ``rank.count *
    batch.accumulate`` micro-batches, of which every process computes as many. Only one group is
    planned at a time, so that memory does not grow with the corpus.

    Args:
        data: the training set.
        config: configuration of the training.
        number: number of the epoch, from 0.
        rank: the process.
    """

    def __init__(self, data: UtteranceSet, config: TrainConfig, number: int, rank: Rank) -> None:
        self.data, self.config, self.process = data, config, (rank.index, rank.count)
        passes = range(number * config.passes, (number + 1) * config.passes)
        self._groups = [(each, place) for each in passes for place in range(data.groups)]
        self._planned: tuple[int, Planned] | None = None
        self._ends = np.cumsum([len(self._plan(i).ends) for i in range(len(self._groups))])
        self.steps = int(self._ends[-1])
        """Number of batches."""

    def _plan(self, group: int) -> Planned:
        """Return the plan of a group; the last one is kept."""
        if self._planned is None or self._planned[0] != group:
            number, place = self._groups[group]
            utterances, batch = self.data.group(number, place), self.config.batch
            sort = batch.shortest_first and number == place == 0
            seeds = [self.config.seed, number, *([place] if place else [])]
            planned = plan_group(self.data.durations_s[utterances], batch, None if sort else seeds)
            self._planned = group, planned._replace(order=utterances[planned.order])
        return self._planned[1]

    def micro_batches(self, step: int) -> list[list[Key]]:
        """Return the micro-batches of the process in a batch."""
        group = int(np.searchsorted(self._ends, step, side="right"))
        before = int(self._ends[group - 1]) if group else 0
        number = self._groups[group][0]
        keys = [(number, i) for i in self._plan(group).batch(step - before)]
        return micro_batches_of(keys, self.data.durations_s, self.config, *self.process)

    def batches(self, first: int = 0) -> Iterator[list[Key]]:
        """Yield the micro-batches of the process in all batches from ``first`` on, in order."""
        for step in range(first, self.steps):
            yield from self.micro_batches(step)


class RemainingPlan:
    """An iterable of the micro-batches of a process, from some batch to the end of the training.

    Args:
        data, config, rank: see :class:`EpochPlan`.
        epoch: number of the current epoch, from 0.
        batch: batches of it that are done.
    """

    def __init__(
        self, data: UtteranceSet, config: TrainConfig, rank: Rank, epoch: int, batch: int
    ) -> None:
        self.data, self.config, self.rank, self.place = data, config, rank, (epoch, batch)

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, batch = self.place
        yield from EpochPlan(self.data, self.config, epoch, self.rank).batches(batch)
        for number in range(epoch + 1, self.config.epochs):
            yield from EpochPlan(self.data, self.config, number, self.rank).batches()
