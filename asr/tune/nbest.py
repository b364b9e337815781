"""N-best lists of a dev set: the scores and the word errors of every hypothesis."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.errors import InputError, counted, listed
from asr.files import RESULTS
from asr.score.readers import open_source, read_pair, warn_if_interrupted
from asr.score.wer import count_words, errors
from asr.terminal import warn
from asr.text.characters import clean, compose
from asr.text.transcripts import read_lines

Array = npt.NDArray[np.float64]
SCORES = ("decoder", "ctc", "lm")  # of a hypothesis


@dataclass(frozen=True)
class NBestLists:
    """The n-best lists of N utterances, K entries each; missing entries have scores of -inf."""

    errors: npt.NDArray[np.int64]
    """Word errors of each entry, (N, K)."""
    decoder: Array
    """Log-probability by the decoder, (N, K)."""
    ctc: Array
    """By CTC, (N, K)."""
    lm: Array
    """By the language model, (N, K)."""
    lengths: Array
    """Characters, (N, K)."""
    words: int
    """Words of the references."""
    texts: tuple[tuple[str, ...], ...]
    """The hypotheses of each utterance."""

    def with_lm(self, scores: Mapping[str, float]) -> "NBestLists":
        """Return the lists with the scores of another language model, by text."""
        lm = self.lm.copy()
        for row, texts in zip(lm, self.texts, strict=True):
            row[: len(texts)] = [scores[text] for text in texts]
        return replace(self, lm=lm)

    @property
    def mean_length(self) -> float:
        """Mean number of entries of a list."""
        return sum(map(len, self.texts)) / len(self.texts)

    @property
    def oracle(self) -> float:
        """Word error rate of the best entries."""
        worst = np.iinfo(np.int64).max
        best = np.where(np.isinf(self.decoder), worst, self.errors).min(1)
        return float(best.sum() / self.words)

    @property
    def first(self) -> float:
        """Word error rate of the first entries."""
        return float(self.errors[:, 0].sum() / self.words)


def read_lists(references: str | Path, decodings: Sequence[str | Path]) -> NBestLists:
    """Read the lists of decodings, one decoding after the other, and count the word errors.

    Args:
        references: data directory, or text file.
        decodings: folders of ``asr decode``, of one model or of models with other seeds.

    Raises:
        InputError: a file is missing or damaged, an utterance has no reference, or no reference
            has a word.
    """
    source = open_source(references)
    texts = read_pair(source, source, "auto")[0].texts
    if not isinstance(texts, dict):
        raise InputError(f"{references}: no utterance ids, expected a data directory or its text")
    if not any(text.split() for text in texts.values()):
        raise InputError(
            f"{references}: no words in the transcripts, expected references; name the dev set"
        )
    empty = {"text": ""} | dict.fromkeys(SCORES, 0.0)
    lists = []
    for decoding in decodings:
        warn_if_interrupted(Path(decoding))
        found = _read(Path(decoding) / RESULTS)
        unknown = sorted(set(found) - set(texts))
        if unknown:
            raise InputError(f"{decoding}: {unknown[0]} has no reference in {references}")
        if missing := [name for name in texts if name not in found]:
            count = counted(len(missing), "utterance")
            warn(f"{decoding}: no hypothesis for {count} ({listed(missing)}); all words are errors")
        lists += [found.get(name) or [empty] for name in texts]
    if max(map(len, lists)) == 1:
        raise InputError(
            f"{decodings[0]}: one hypothesis of each utterance, expected several to choose from; "
            "decode again with `asr decode --beam 24 --nbest 24`"
        )
    return _lists(list(texts.values()) * len(decodings), lists)


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the entries of each utterance."""
    entries: dict[str, list[dict[str, Any]]] = {}
    for number, line in enumerate(read_lines(path), 1):
        try:
            value = json.loads(line)
            nbest = [entry for segment in value["segments"] for entry in segment["nbest"]]
            found = [{"text": entry["text"]} | _scores(entry) for entry in nbest]
            entries[compose(value["id"])] = found
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise InputError(
                f"{path}:{number}: not an n-best list with decoder, CTC and LM scores "
                f"({error!r}); decode again with `asr decode --nbest 24`"
            ) from error
    if not any(entries.values()):
        raise InputError(f"{path}: no hypotheses; decode again with `asr decode --nbest 24`")
    return entries


def _scores(entry: dict[str, Any]) -> dict[str, float]:
    """Return the scores of an entry; CTC and a language model have 0 if they took no part."""
    named = {"ctc": 0.0, "lm": 0.0} | entry["scores"]
    found = {name: float(named[name]) for name in SCORES}
    if not isinstance(entry["text"], str) or any(map(math.isnan, found.values())):
        raise ValueError("expected a text and numbers")
    return found


def _lists(references: list[str], entries: list[list[dict[str, Any]]]) -> NBestLists:
    """Put the entries side by side and count their word errors."""
    shape = len(entries), max(map(len, entries))
    scores = {name: np.full(shape, -np.inf) for name in SCORES}
    lengths, wrong = np.zeros(shape), np.zeros(shape, dtype=np.int64)
    texts = tuple(tuple(e["text"] for e in found) for found in entries)
    lines = [" ".join(clean(line).split()) for line in references]  # as in scoring
    pairs = [(r, text) for r, found in zip(lines, texts, strict=True) for text in found]
    filled = np.arange(shape[1]) < np.array([[len(found)] for found in texts])  # (N, K)
    for name, values in scores.items():
        values[filled] = [e[name] for found in entries for e in found]
    lengths[filled] = [len(text) for _, text in pairs]
    wrong[filled] = errors(count_words(*zip(*((r, clean(text)) for r, text in pairs), strict=True)))
    words = sum(len(r.split()) for r in references)
    return NBestLists(wrong, **scores, lengths=lengths, words=words, texts=texts)
