"""The spellings of a vocabulary as a tree of characters."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from asr.arrays import Array, arange, move, namespace, repeat

ROOT = 0


class PrefixTree:
    """The spellings of a vocabulary.

    Nodes are numbered breadth first, so that the children of a node are neighbours. The words below
    node i are ``first[i]`` to ``beyond[i] - 1``; ``word[i]`` is the word that ends there, or -1.
    The last node, ``nowhere``, stands for all prefixes that no word has.

    Args:
        spellings: characters of each word, in ascending order, all different.
        vocab: number of characters (V).
        device: device of the tables.
    """

    def __init__(self, spellings: Sequence[Sequence[int]], vocab: int, device: Any = "cpu") -> None:
        lengths = np.array([len(s) for s in spellings], np.int64)
        characters = np.fromiter(chain.from_iterable(spellings), np.int64)
        offsets = lengths.cumsum() - lengths
        keys = [np.full(1, -1)]  # V times the parent, plus the character
        first, beyond, word = [np.full(1, 0)], [np.full(1, len(spellings))], [np.full(1, -1)]
        nodes, parents = 1, np.zeros(len(spellings), np.int64)
        for depth in range(lengths.max(initial=0)):
            long = np.flatnonzero(lengths > depth)
            unique, index, inverse, counts = np.unique(
                parents[long] * vocab + characters[offsets[long] + depth], True, True, True
            )
            starts = long[index]
            keys.append(unique)
            first.append(starts)
            beyond.append(starts + counts)
            word.append(np.where(lengths[starts] == depth + 1, starts, -1))
            parents[long] = nodes + inverse
            nodes += len(starts)
        self.vocab, self.nowhere = vocab, nodes
        self.keys: Array = np.concatenate(keys)
        self.first: Array = np.concatenate([*first, [0]])
        self.beyond: Array = np.concatenate([*beyond, [0]])
        self.word: Array = np.concatenate([*word, [-1]])
        self.children: Array = np.searchsorted(self.keys, np.arange(nodes + 2) * vocab)
        move(self, device)

    def child(self, nodes: Array, characters: Array) -> Array:
        """Return the child of each node by its character, (N,)."""
        xp, keys = namespace(nodes), nodes * self.vocab + characters
        positions = xp.searchsorted(self.keys, keys).clip(max=self.nowhere - 1)
        return xp.where(self.keys[positions] == keys, positions, self.nowhere)

    def every_child(self, nodes: Array) -> tuple[Array, Array]:
        """Return all children of nodes, after the positions of their parents in ``nodes``."""
        begin, counts = self.children[nodes], self.children[nodes + 1] - self.children[nodes]
        positions = repeat(arange(len(nodes), nodes), counts)
        before = counts.cumsum(0) - counts
        return positions, (begin - before)[positions] + arange(len(positions), nodes)
