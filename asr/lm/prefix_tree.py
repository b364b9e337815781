"""The spellings of a vocabulary as a tree of characters."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from asr.arrays import Array, arange, move, namespace, repeat

ROOT = 0


class PrefixTree:
    """The spellings of a vocabulary.

    Nodes are numbered breadth first, so that the children of a node lie side by side; below
    node i are the words from ``first[i]`` up to ``beyond[i]``. The last node is no part of the
    tree: it stands for prefixes that no word has.

    Args:
        spellings: characters of each word, in ascending order, all of them different.
        vocab: number of characters (V).
        device: where the tables lie.
    """

    def __init__(self, spellings: Sequence[Sequence[int]], vocab: int, device: Any = "cpu") -> None:
        count = len(spellings)
        lengths = np.array([len(s) for s in spellings], np.int64)
        shared = np.array([0, *(_shared(a, b) for a, b in pairwise(spellings))], np.int64)
        above = np.zeros(count, np.int64)  # node of each word's prefix
        keys, first, beyond, word = ([np.full(1, fill, np.int64)] for fill in (-1, 0, count, -1))
        nodes = 1
        for depth in range(1, int(lengths.max(initial=0)) + 1):
            starts = np.flatnonzero((lengths >= depth) & (shared < depth))
            breaks = np.append(np.flatnonzero(shared < depth), count)
            ends = breaks[np.searchsorted(breaks, starts, side="right")]
            characters = np.array([spellings[i][depth - 1] for i in starts.tolist()], np.int64)
            keys.append(above[starts] * vocab + characters)
            first.append(starts)
            beyond.append(ends)
            word.append(np.where(lengths[starts] == depth, starts, -1))
            below = np.arange(nodes, nodes + len(starts))
            long = np.flatnonzero(lengths >= depth)
            above[long] = below[np.searchsorted(starts, long, side="right") - 1]
            nodes += len(starts)
        self.vocab, self.nowhere = vocab, nodes
        self.keys: Array = np.concatenate(keys)
        self.first, self.beyond, self.word = (
            np.append(np.concatenate(parts), fill)
            for parts, fill in ((first, 0), (beyond, 0), (word, -1))
        )
        self.children = np.searchsorted(self.keys, np.arange(nodes + 2) * vocab)
        move(self, device)

    def child(self, nodes: Array, characters: Array) -> Array:
        """Return the node below each node by its character, (N,)."""
        xp, keys = namespace(nodes), nodes * self.vocab + characters
        positions = xp.searchsorted(self.keys, keys).clip(max=self.nowhere - 1)
        return xp.where(self.keys[positions] == keys, positions, self.nowhere)

    def every_child(self, nodes: Array) -> tuple[Array, Array]:
        """Return all children of nodes, after the positions of their parents in ``nodes``."""
        begin, counts = self.children[nodes], self.children[nodes + 1] - self.children[nodes]
        positions = repeat(arange(len(nodes), nodes), counts)
        before = counts.cumsum(0) - counts
        return positions, (begin - before)[positions] + arange(len(positions), nodes)


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the length of the common prefix."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))
