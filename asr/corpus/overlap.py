"""What two data directories have in common under other ids: recordings and sentences."""

import hashlib
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from asr.audio.clip import command_of
from asr.corpus.datadir import Utterance
from asr.text.normalize import sentence_key

MOST_READ = 10_000  # files; where more have the same size, they are not compared
SAMPLE_BYTES = 4096


@dataclass(frozen=True)
class _File:
    """An audio file, by what it is and not by its name, or a command."""

    identity: Hashable
    path: str = field(compare=False)
    size: int = field(compare=False)
    """In bytes; 0 where it has no contents to compare."""


def same_sentences(train: Sequence[Utterance], dev: Sequence[Utterance]) -> int:
    """How many utterances of dev say a sentence that is in train, without case and marks."""
    known = {sentence_key(u.text or "") for u in train} - {""}
    return sum(sentence_key(u.text or "") in known for u in dev)


def same_audio(
    train: Sequence[Utterance], dev: Sequence[Utterance]
) -> tuple[list[tuple[str, str]], int]:
    """Utterances of dev whose audio is in train, too: in the same file, or in a copy of it.

    Files are read only where their sizes agree.

    Returns:
        the ids in dev and in train; and how many files of dev were not compared, because too many
        have the same size.
    """
    theirs, ours = _by_file(train), _by_file(dev)
    apart = (theirs.keys() - ours.keys(), ours.keys() - theirs.keys())
    copies, left_out = _copies(*([f for f in files if f.size] for files in apart))
    pairs = [(file, file) for file in ours if file in theirs] + copies
    found = [pair for one, other in pairs for pair in _overlapping(ours[one], theirs[other])]
    return sorted(found), left_out


def recordings(utterances: Iterable[Utterance]) -> dict[str, Hashable]:
    """The recording of each utterance, by its id; a file, links to it and copies are one.

    Prints how many files were not compared, because too many have the same size.
    """
    found = _by_file(utterances)
    sizes = Counter(file.size for file in found)
    alike = [file for file in found if file.size and sizes[file.size] > 1]
    pairs, left_out = _copies(alike, alike)
    if left_out:
        print(
            f"note: {left_out} recordings were not searched for copies: too many have the same "
            "size",
            file=sys.stderr,
        )
    first = dict(pairs)
    return {u.id: first.get(file, file) for file in found for u in found[file]}


def _by_file(utterances: Iterable[Utterance]) -> dict[_File, list[Utterance]]:
    files: dict[str, _File] = {}
    found: dict[_File, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        if utterance.wav not in files:
            files[utterance.wav] = _file(utterance.wav)
        found[files[utterance.wav]].append(utterance)
    return found


def _file(wav: str) -> _File:
    command = command_of(wav)
    if command is None:
        try:
            status = Path(wav).stat()
        except OSError:  # it is reported where it is read
            return _File(wav, wav, 0)
        return _File((status.st_dev, status.st_ino), wav, status.st_size)
    return _File(command, wav, 0)


def _copies(train: Iterable[_File], dev: Iterable[_File]) -> tuple[list[tuple[_File, _File]], int]:
    """Files of dev and those of train with the same contents."""
    left_out, most = 0, MOST_READ
    pairs = []
    sizes = _alike(train, dev, lambda f: f.size)
    for theirs, ours in sorted(
        sizes, key=lambda group: (len(group[0] + group[1]), group[0][0].size)
    ):
        most -= len(theirs + ours)
        if most < 0:
            left_out += len(ours)
        else:
            for some, others in _alike(theirs, ours, _sample):
                alike = _alike(some, others, _digest)
                pairs += [(file, same[0]) for same, files in alike for file in files]
    return pairs, left_out


def _alike(
    train: Iterable[_File], dev: Iterable[_File], key: Callable[[_File], Hashable]
) -> list[tuple[list[_File], list[_File]]]:
    """Files of both for which a key is the same."""
    groups: dict[Hashable, tuple[list[_File], list[_File]]] = defaultdict(lambda: ([], []))
    for side, files in enumerate((train, dev)):
        for file in files:
            groups[key(file)][side].append(file)
    return [group for group in groups.values() if all(group)]


def _sample(file: _File) -> Hashable:
    """Some bytes from the middle, by which most files differ."""
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
    """Utterances of a recording that share more than half of the shorter one with another's."""
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
    length = utterance.duration_s or 1.0
    end_s = utterance.end_s
    return utterance.start_s, utterance.start_s + length if end_s is None else end_s
