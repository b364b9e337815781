"""Hold out a part of a data directory that has nothing in common with the rest.

Utterances with a common speaker, sentence or recording (as is asked for) belong together, and so
do those that such ones connect. The groups that result are never cut; some of them are held out,
so that the share comes as near as it can to what was asked for.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.corpus.datadir import DataDir, Utterance
from asr.corpus.edit import refuse_same, subset
from asr.corpus.overlap import recordings
from asr.corpus.tables import read_table
from asr.errors import InputError
from asr.files import check_folder
from asr.text.normalize import sentence_key

KEYS: dict[str, Callable[[Iterable[Utterance]], Mapping[str, Hashable]]] = {
    "speaker": lambda utterances: {u.id: u.speaker for u in utterances},
    "text": lambda utterances: {u.id: sentence_key(u.text or "") for u in utterances},
    "recording": recordings,
}
"""What sets may have nothing in common of."""

TOLERANCE = 0.5  # of the share: a cut that is farther from it is refused
TRIES = 20


@dataclass(frozen=True)
class Cut:
    """What was held out."""

    train: int
    """Utterances that are left for training."""
    dev: int
    """Utterances that were held out."""

    @property
    def share(self) -> float:
        """The part that was held out."""
        return self.dev / (self.train + self.dev)


def hold_out(
    source: str | Path,
    train: str | Path,
    dev: str | Path,
    share: float,
    disjoint: Sequence[str] = ("speaker", "text"),
    seed: int = 0,
) -> Cut:
    """Write two directories that together have all utterances and nothing in common.

    Args:
        source: the directory to cut; all its tables follow.
        train: the directory for the larger part.
        dev: the directory for what is held out.
        share: of the utterances to hold out, between 0 and 1.
        disjoint: of which of :data:`KEYS` the two have nothing in common.
        seed: of the draw among cuts that are equally near.

    Raises:
        InputError: there is no such cut; the message tells the nearest one. Nothing is written.
    """
    _check(share, disjoint)
    refuse_same(source, train)
    refuse_same(source, dev)
    if Path(train).resolve() == Path(dev).resolve():
        raise InputError(f"{dev}: is also the directory for training; name another directory")
    check_folder(train)
    check_folder(dev)
    data = DataDir.load(source, text="text" in disjoint)
    if len(data.utterances) < 2:
        raise InputError(f"{source}: {len(data.utterances)} utterances, cannot be cut in two")
    groups = connected(data, disjoint)
    held = _choose(data, groups, share, disjoint, seed)
    subset(source, train, {u.id for u in data.utterances} - held)
    return Cut(len(data.utterances) - subset(source, dev, held), len(held))


def _check(share: float, disjoint: Sequence[str]) -> None:
    if not 0 < share < 1:
        raise InputError(f"share {share}, expected a number between 0 and 1, for example 0.1")
    for key in disjoint:
        if key not in KEYS:
            raise InputError(f'disjoint "{key}", expected some of {", ".join(KEYS)}')


def connected(data: DataDir, disjoint: Iterable[str]) -> list[list[str]]:
    """Ids of the utterances that belong together, a list for each group."""
    tables = [KEYS[key](data.utterances) for key in disjoint]
    if (data.path / "utt2uniq").is_file():  # copies at another speed
        originals = read_table(data.path / "utt2uniq")
        tables.append({u.id: originals.get(u.id, u.id) for u in data.utterances})
    parents = {u.id: u.id for u in data.utterances}
    for table in tables:
        first: dict[Hashable, str] = {}
        for name, value in table.items():
            _root_of(parents, name, to=first.setdefault(value, name))
    groups: dict[str, list[str]] = defaultdict(list)
    for name in parents:
        groups[_root_of(parents, name)].append(name)
    return list(groups.values())


def _root_of(parents: dict[str, str], name: str, to: str | None = None) -> str:
    """The utterance that stands for a group; with ``to``, after joining that one's group."""
    root = name
    while parents[root] != root:
        parents[root] = parents[parents[root]]
        root = parents[root]
    if to is not None:
        parents[root] = root = _root_of(parents, to)
    return root


def _choose(
    data: DataDir, groups: list[list[str]], share: float, disjoint: Sequence[str], seed: int
) -> set[str]:
    """Ids of what is held out."""
    total = len(data.utterances)
    wanted = min(max(1, round(share * total)), total - 1)
    sizes = Counter(map(len, groups))
    goal = nearest_sum(sizes, wanted) if len(groups) > 1 else 0
    if not goal or abs(goal - wanted) > max(1, TOLERANCE * wanted):
        raise InputError(_no_cut(data, groups, goal, wanted, disjoint))
    generator = random.Random(seed)
    for _ in range(TRIES):  # a draw holds out groups of all sizes
        generator.shuffle(groups)
        chosen = _first_fit(groups, goal)
        if sum(map(len, chosen)) == goal:
            break
    else:
        chosen = _of_sizes(groups, sizes_of_sum(sizes, goal))
    return {name for group in chosen for name in group}


def _first_fit(groups: Sequence[list[str]], goal: int) -> list[list[str]]:
    chosen, left = [], goal
    for group in groups:
        if len(group) <= left:
            chosen.append(group)
            left -= len(group)
    return chosen


def _of_sizes(groups: Sequence[list[str]], sizes: Counter[int]) -> list[list[str]]:
    """The first groups of each size, as many as there should be."""
    left = Counter(sizes)
    chosen = []
    for group in groups:
        if left[len(group)] > 0:
            left[len(group)] -= 1
            chosen.append(group)
    return chosen


def nearest_sum(sizes: Counter[int], wanted: int) -> int:
    """The sum of some, but not all, of the sizes that is nearest to what is wanted."""
    total = sum(size * count for size, count in sizes.items())
    reachable = f"{_reachable(sizes)[-1][2]:b}"[::-1]
    sums = (wanted + sign * step for step in range(total) for sign in (-1, 1))
    return next(n for n in sums if 0 < n < total and reachable[n] == "1")


def sizes_of_sum(sizes: Counter[int], goal: int) -> Counter[int]:
    """Sizes that add up to a sum that can be reached."""
    chosen: Counter[int] = Counter()
    steps = _reachable(sizes)
    for (size, count, _), (_, _, before) in zip(steps[:0:-1], steps[-2::-1], strict=True):
        if not before >> goal & 1:
            chosen[size] += count
            goal -= size * count
    return chosen


def _reachable(sizes: Counter[int]) -> list[tuple[int, int, int]]:
    """Bundles (size, how many of it), and the sums that these and those before reach, as bits.

    Bundles of 1, 2, 4, ... and the rest can make every number of groups of a size.
    """
    steps = [(0, 0, 1)]
    for size, left in sorted(sizes.items()):
        count = 1
        while left:
            count = min(count, left)
            sums = steps[-1][2]
            steps.append((size, count, sums | sums << size * count))
            left -= count
            count *= 2
    return steps


def _no_cut(
    data: DataDir, groups: Sequence[Collection[str]], goal: int, wanted: int, keys: Sequence[str]
) -> str:
    """Why no cut fits, and which cuts exist."""
    total = len(data.utterances)
    common = " or ".join(keys)
    head = f"{data.path}: no cut holds out about {_part(wanted, total)} without a common {common}"
    largest = f"the largest of {len(groups)} groups that belong together has "
    largest += _part(max(map(len, groups)), total)
    near = f"the nearest one holds out {_part(goal, total)}" if goal else "no cut exists at all"
    lines = [f"{head}: {near}; {largest}", *_alone(data, wanted, keys)]
    remedy = f"--share {goal / total:.6g} takes the nearest cut; " if goal else ""
    return "\n".join([*lines, f"{remedy}ask for fewer in --disjoint, or another share"])


def _alone(data: DataDir, wanted: int, keys: Sequence[str]) -> list[str]:
    """The nearest cut by each key alone."""
    lines = []
    for key in keys if len(keys) > 1 else ():
        sizes = Counter(map(len, connected(data, [key])))
        near = nearest_sum(sizes, wanted) if sizes.total() > 1 else 0
        found = f"{_part(near, len(data.utterances))}" if near else "none"
        lines.append(f"  apart by {key} alone, the nearest cut: {found}")
    return lines


def _part(number: int, total: int) -> str:
    return f"{number} of {total} utterances ({100 * number / total:.1f} %)"
