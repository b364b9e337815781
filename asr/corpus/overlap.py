"""Recordings and sentences that two data directories have in common under different ids."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from asr.audio.clip import command_of
from asr.corpus.datadir import Utterance, Utterances
from asr.terminal import note
from asr.text.normalize import sentence_key

MOST_READ = 10_000  # files to compare; further files that have the same size are left out
SAMPLE_BYTES = 4096


@dataclass(frozen=True)
class _File:
    """An audio file or a command; two paths of the same file are equal."""

    identity: Hashable
    path: str = field(compare=False)
    size: int = field(compare=False)
    """Size in bytes; 0 if there are no contents to compare."""


def same_sentences(train: Sequence[Utterance], dev: Sequence[Utterance]) -> int:
    """Count the utterances of dev whose sentence is in train, without case and punctuation."""
    ours = [sentence_key(text) for text in Utterances.of(dev).transcripts]
    known = set(ours).intersection(map(sentence_key, Utterances.of(train).transcripts)) - {""}
    return sum(key in known for key in ours)


def same_audio(
    train: Sequence[Utterance], dev: Sequence[Utterance]
) -> tuple[list[tuple[str, str]], int]:
    """Find the utterances of dev whose audio is in train, too, in the same file or a copy of it.

    Files are read only if their sizes agree.

    Returns:
        Pairs of the ids in dev and in train, and the number of files of dev that were not
        compared, because too many have the same size.
    """
    ours = _by_file(dev)
    sizes = {file.size for file in ours} - {0}
    theirs = _by_file(train, lambda file: file in ours or file.size in sizes)
    copies, left_out = _copies(theirs.keys() - ours.keys(), ours.keys() - theirs.keys())
    pairs = [(file, file) for file in ours if file in theirs] + copies
    found = [pair for one, other in pairs for pair in _overlapping(ours[one], theirs[other])]
    return sorted(found), left_out


def recordings(utterances: Iterable[Utterance]) -> dict[str, Hashable]:
    """Return the recording of each utterance by id; a file, links to it and copies are one.

    Prints the number of files that were not compared, because too many have the same size.
    """
    found = _by_file(utterances)
    sizes = Counter(file.size for file in found)
    alike = [file for file in found if sizes[file.size] > 1]
    pairs, left_out = _copies(alike, alike)
    if left_out:
        what = f"{left_out} recordings were not searched for copies"
        note(f"note: {what}: too many have the same size")
    first = dict(pairs)
    return {u.id: first.get(file, file) for file in found for u in found[file]}


def _by_file(
    utterances: Iterable[Utterance], wanted: Callable[[_File], bool] = lambda _: True
) -> dict[_File, list[Utterance]]:
    """Return the utterances of each wanted file."""
    columns = Utterances.of(utterances)
    files = enumerate(map(_file, columns.wavs.names))  # a recording has many utterances
    chosen = {code: file for code, file in files if wanted(file)}
    found: dict[_File, list[Utterance]] = defaultdict(list)
    for index, code in enumerate(columns.wavs.codes.tolist()):
        if code in chosen:
            found[chosen[code]].append(columns[index])
    return found


def _file(wav: str) -> _File:
    command = command_of(wav)
    if command is not None:
        return _File(command, wav, 0)
    try:
        status = os.stat(wav)  # noqa: PTH116  # faster than pathlib, for a million recordings
    except OSError:  # reported when the file is read
        return _File(wav, wav, 0)
    return _File((status.st_dev, status.st_ino), wav, status.st_size)


def _copies(train: Iterable[_File], dev: Iterable[_File]) -> tuple[list[tuple[_File, _File]], int]:
    """Find the files of dev with the contents of a file of train; count those not compared."""
    left_out, most = 0, MOST_READ
    pairs = []
    sizes = [group for group in _alike(train, dev, lambda f: f.size) if group[0][0].size]
    for theirs, ours in sorted(sizes, key=lambda g: (len(g[0] + g[1]), g[0][0].size)):
        most -= len(theirs + ours)
        if most < 0:
            left_out += len(ours)
            continue
        for some, others in _alike(theirs, ours, _sample):
            same = _alike(some, others, _digest)
            pairs += [(file, copies[0]) for copies, files in same for file in files]
    return pairs, left_out


def _alike(
    train: Iterable[_File], dev: Iterable[_File], key: Callable[[_File], Hashable]
) -> list[tuple[list[_File], list[_File]]]:
    """Group files by a key; return the groups that have files of both sides."""
    groups: dict[Hashable, tuple[list[_File], list[_File]]] = defaultdict(lambda: ([], []))
    for side, files in enumerate((train, dev)):
        for file in files:
            groups[key(file)][side].append(file)
    return [group for group in groups.values() if all(group)]


def _sample(file: _File) -> Hashable:
    """Return some bytes from the middle of a file, in which most files differ."""
    try:
        with open(file.path, "rb") as opened:
            opened.seek(max(0, file.size - SAMPLE_BYTES) // 2)
            return opened.read(SAMPLE_BYTES)
    except OSError:
        return file


def _digest(file: _File) -> Hashable:
    try:
        with open(file.path, "rb") as opened:
            return hashlib.file_digest(opened, "blake2b").digest()
    except OSError:
        return file


def _overlapping(ours: Sequence[Utterance], theirs: Sequence[Utterance]) -> list[tuple[str, str]]:
    """Pair the utterances of a recording that share more than half of the shorter one."""
    starts, ends = np.array([_span(u) for u in theirs]).T
    pairs = []
    for utterance in ours:
        start, end = _span(utterance)
        common = np.minimum(ends, end) - np.maximum(starts, start)
        share = common / np.minimum(ends - starts, end - start)
        if share.max() > 1 / 2:
            pairs.append((utterance.id, theirs[int(share.argmax())].id))
    return pairs


def _span(utterance: Utterance) -> tuple[float, float]:
    """Start and end in the recording, in seconds."""
    end_s = utterance.end_s
    if end_s is None:
        end_s = utterance.start_s + (utterance.duration_s or 1.0)
    return utterance.start_s, end_s
