"""Match names in the hypotheses with those in the references, exactly or by similar spelling.

sclite takes names that differ in case alone for the same, and channel 1 for A. Here too, and
folders and the endings of audio files do not count; but only where one name on each side remains.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import TypeVar

from asr.audio.formats import AUDIO_SUFFIXES

Name = TypeVar("Name", bound=Hashable)
Track = tuple[str, str]  # file and channel

_LETTERS = ("A", "B")


def match_names(refs: Iterable[str], hyps: Iterable[str]) -> dict[str, str]:
    """The name in the references of each name in the hypotheses that has one."""
    return _match(refs, hyps, (str, str.casefold, _stem, _bare))


def match_tracks(refs: Iterable[Track], hyps: Iterable[Track]) -> dict[Track, Track]:
    """The same for channels of files. Where a file has channels 0 and 1, these are A and B."""
    refs, hyps = list(refs), list(hyps)
    pairs = _by_form((*refs, *hyps), lambda track: _bare(track[0])).items()
    from_0 = {file for file, tracks in pairs if {"0", "1"} <= {number for _, number in tracks}}

    def channel(track: Track) -> str:
        return _channel(track[1], 0 if _bare(track[0]) in from_0 else 1)

    return _match(
        refs,
        hyps,
        (
            lambda t: t,
            lambda t: (t[0], channel(t)),
            lambda t: (t[0].casefold(), channel(t)),
            lambda t: (_stem(t[0]), channel(t)),
            lambda t: (_bare(t[0]), channel(t)),
        ),
    )


def different(matched: dict[Name, Name]) -> list[tuple[Name, Name]]:
    """The pairs that are not the same to the letter, sorted."""
    return sorted((hyp, ref) for hyp, ref in matched.items() if hyp != ref)


def _match(
    refs: Iterable[Name], hyps: Iterable[Name], forms: Sequence[Callable[[Name], Hashable]]
) -> dict[Name, Name]:
    """Pair names whose normal form is the same and unique; the strictest form is tried first."""
    left, right = dict.fromkeys(refs), dict.fromkeys(hyps)
    matched: dict[Name, Name] = {}
    for form in forms:
        theirs, ours = _by_form(left, form), _by_form(right, form)
        for key in ours.keys() & theirs.keys():
            if len(ours[key]) == len(theirs[key]) == 1:
                matched[ours[key][0]] = theirs[key][0]
                del right[ours[key][0]], left[theirs[key][0]]
    return matched


def _by_form(names: Iterable[Name], form: Callable[[Name], Hashable]) -> dict[Hashable, list[Name]]:
    found: dict[Hashable, list[Name]] = defaultdict(list)
    for name in names:
        found[form(name)].append(name)
    return found


def _bare(name: str) -> str:
    """Without folders and the ending of an audio file."""
    return _stem(name).rpartition("/")[2]


def _stem(name: str) -> str:
    """Without the ending of an audio file."""
    name = name.casefold().replace("\\", "/")
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix in AUDIO_SUFFIXES else name


def _channel(name: str, first: int) -> str:
    """A number for a letter; ``first`` is that of A."""
    name = name.upper()
    return str(first + _LETTERS.index(name)) if name in _LETTERS else name
