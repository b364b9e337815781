"""Hold out a part of a data directory that has nothing in common with the rest.

Utterances with a common speaker, sentence or recording (as requested) form a group, together with
all utterances that share one with them in turn. Groups are never cut; some are held out, so that
their share is as near as possible to the requested one.
"""

import random
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from asr.corpus.datadir import DataDir, Utterance
from asr.corpus.edit import check_target, replace_tables
from asr.corpus.overlap import recordings
from asr.corpus.tables import first_word, read_table, read_tables, refuse_text_of_others, restrict
from asr.errors import InputError, counted
from asr.grouping import grouped
from asr.text.normalize import sentence_key

KEYS: dict[str, Callable[[Iterable[Utterance]], Mapping[str, Hashable]]] = {
    "speaker": lambda utterances: {u.id: u.speaker for u in utterances},
    "text": lambda utterances: {u.id: sentence_key(u.text or "") for u in utterances},
    "recording": recordings,
}
"""For each property that the two sets must not have in common, its value for each utterance."""

TOLERANCE = 0.5  # largest accepted difference from the requested share, relative to it
TRIES = 20


def hold_out(
    source: str | Path,
    train: str | Path,
    dev: str | Path,
    share: float,
    disjoint: Sequence[str] = ("speaker", "text"),
    seed: int = 0,
) -> tuple[int, int]:
    """Write two directories that together have all utterances and nothing in common.

    Args:
        source: the directory to cut, with all its tables.
        train: the directory to write for training.
        dev: the directory to write for the held-out part.
        share: the share of the utterances to hold out, between 0 and 1.
        disjoint: the keys of :data:`KEYS` whose values the two must not have in common.
        seed: seed of the random choice among equally near cuts.

    Returns:
        The numbers of utterances in ``train`` and in ``dev``.

    Raises:
        InputError: there is no such cut; the message names the nearest one. Nothing is written.
    """
    if not 0 < share < 1:
        raise InputError(f"share {share}, expected a number between 0 and 1, for example 0.1")
    if unknown := [key for key in disjoint if key not in KEYS]:
        raise InputError(f'disjoint "{unknown[0]}", expected some of {", ".join(KEYS)}')
    if Path(train).resolve() == Path(dev).resolve():
        raise InputError(f"{dev}: also the directory for training; name another directory")
    for target in (train, dev):
        check_target(source, target)
    data = DataDir.load(source, text="text" in disjoint)
    if len(data.utterances) < 2:
        raise InputError(f"{source}: {len(data.utterances)} utterances, cannot be cut in two")
    groups = connected(data, disjoint)
    held = _choose(data, groups, share, disjoint, seed)
    rest = set(data.utterances.ids) - held
    tables = read_tables(source)
    parts = {Path(train): restrict(tables, rest), Path(dev): restrict(tables, held)}
    for path, part in parts.items():
        refuse_text_of_others(path, part)
    for path, part in parts.items():
        replace_tables(path, part)
    return len(rest), len(held)


def connected(data: DataDir, disjoint: Collection[str]) -> list[list[str]]:
    """Return the groups of utterances that must stay together, as lists of ids."""
    tables = [KEYS[key](data.utterances) for key in disjoint]
    if (data.path / "utt2uniq").is_file():  # copies at another speed
        originals = read_table(data.path / "utt2uniq")
        tables.append({u.id: originals.get(u.id, u.id) for u in data.utterances})
    if "recording" in disjoint and (data.path / "reco2file_and_channel").is_file():
        files = read_table(data.path / "reco2file_and_channel")  # both sides of a call
        of = read_table(data.path / "segments") if (data.path / "segments").is_file() else {}
        recording = {u.id: first_word(of.get(u.id, u.id)) for u in data.utterances}
        tables.append({u: first_word(files.get(r, r)) for u, r in recording.items()})
    groups = {u.id: [u.id] for u in data.utterances}
    for table in tables:
        first: dict[Hashable, str] = {}
        for name, value in table.items():
            small, large = sorted((groups[name], groups[first.setdefault(value, name)]), key=len)
            if small is not large:
                large += small
                groups.update(dict.fromkeys(small, large))
    return list(grouped(groups, lambda name: id(groups[name])).values())


def _choose(
    data: DataDir, groups: list[list[str]], share: float, disjoint: Sequence[str], seed: int
) -> set[str]:
    """Return the ids of the utterances to hold out."""
    total = len(data.utterances)
    wanted = min(max(1, round(share * total)), total - 1)
    sizes = Counter(map(len, groups))
    goal = nearest_sum(sizes, wanted) if len(groups) > 1 else 0
    if not goal or abs(goal - wanted) > max(1, TOLERANCE * wanted):
        raise InputError(_no_cut(data, groups, goal, wanted, disjoint))
    generator = random.Random(seed)
    for _ in range(TRIES):  # random choices contain groups of all sizes, unlike those below
        generator.shuffle(groups)
        chosen = _first_fit(groups, goal)
        if sum(map(len, chosen)) == goal:
            break
    else:
        of_size, needed = grouped(groups, len), sizes_of_sum(sizes, goal)
        chosen = [group for size, count in needed.items() for group in of_size[size][:count]]
    return {name for group in chosen for name in group}


def _first_fit(groups: Sequence[list[str]], goal: int) -> list[list[str]]:
    chosen, left = [], goal
    for group in groups:
        if len(group) <= left:
            chosen.append(group)
            left -= len(group)
    return chosen


def nearest_sum(sizes: Counter[int], wanted: int) -> int:
    """Return the sum of some, but not all, sizes that is nearest to the wanted one."""
    total = sum(size * count for size, count in sizes.items())
    reachable = f"{_reachable(sizes)[-1][2]:b}"[::-1]
    sums = (wanted + sign * step for step in range(total) for sign in (-1, 1))
    return next(n for n in sums if 0 < n < total and reachable[n] == "1")


def sizes_of_sum(sizes: Counter[int], goal: int) -> Counter[int]:
    """Return sizes that add up to a reachable sum."""
    chosen: Counter[int] = Counter()
    steps = _reachable(sizes)
    for (size, count, _), (_, _, before) in zip(steps[:0:-1], steps[-2::-1], strict=True):
        if not before >> goal & 1:
            chosen[size] += count
            goal -= size * count
    return chosen


def _reachable(sizes: Counter[int]) -> list[tuple[int, int, int]]:
    """Return bundles (size, count) with the sums that they and the earlier ones reach, as bits.

    Bundles of 1, 2, 4, ... and the remaining groups add up to any number of groups of a size.
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
    """Return a message that says why no cut fits, and which cuts exist."""
    total = len(data.utterances)
    cuts = [(f"--share {goal / total:.6g}", goal)]
    for key in keys if len(keys) > 1 else ():
        sizes = Counter(map(len, connected(data, [key])))
        cuts.append((f"--disjoint {key}", nearest_sum(sizes, wanted) if sizes.total() > 1 else 0))
    found = [f"  {option} can hold out {_part(size, total)}" for option, size in cuts if size]
    return "\n".join(
        [
            f"{data.path}: cannot hold out about {_part(wanted, total)} without a common "
            f"{' or '.join(keys)}: the largest of {counted(len(groups), 'group')} that must stay "
            f"together has {_part(max(map(len, groups)), total)}",
            *(found or [f"  no cut exists: add utterances with another {' and '.join(keys)}"]),
        ]
    )


def _part(number: int, total: int) -> str:
    return f"{number} of {total} utterances ({100 * number / total:.1f} %)"
