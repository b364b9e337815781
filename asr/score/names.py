"""Match names in the hypotheses with those in the references, exactly or by similar spelling.

As in sclite, names that differ only in case match, and channel 1 matches A. Names that differ only
in their folders or in the suffix of an audio file match, too. A match must be unique on both sides.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import TypeVar

from asr.formats import AUDIO_SUFFIXES
from asr.grouping import grouped

Name = TypeVar("Name", bound=Hashable)
Track = tuple[str, str]  # file and channel

_LETTERS = ("A", "B")


def match_names(refs: Iterable[str], hyps: Iterable[str]) -> dict[str, str]:
    """Map each name in the hypotheses to the matching name in the references, if it has one."""
    return _match(refs, hyps, _FORMS)


def match_tracks(refs: Iterable[Track], hyps: Iterable[Track]) -> dict[Track, Track]:
    """Map each track in the hypotheses to the matching one in the references, if there is one.

    Channels A and B are 0 and 1 of a file that has both of these, else 1 and 2.
    """
    refs, hyps = list(refs), list(hyps)
    pairs = grouped((*refs, *hyps), lambda track: _bare(track[0])).items()
    from_0 = {file for file, tracks in pairs if {"0", "1"} <= {number for _, number in tracks}}

    def form(file_form: Callable[[str], str], track: Track) -> Track:
        name = track[1].upper()
        if name in _LETTERS:
            name = str(_LETTERS.index(name) + (_bare(track[0]) not in from_0))
        return file_form(track[0]), name

    return _match(refs, hyps, (lambda track: track, *(partial(form, each) for each in _FORMS)))


def different(matched: dict[Name, Name]) -> list[tuple[Name, Name]]:
    """Return the matched pairs whose names are not identical, sorted."""
    return sorted((hyp, ref) for hyp, ref in matched.items() if hyp != ref)


def _match(
    refs: Iterable[Name], hyps: Iterable[Name], forms: Sequence[Callable[[Name], Hashable]]
) -> dict[Name, Name]:
    """Match names whose form is the same and unique; the first form is the strictest."""
    left, right = dict.fromkeys(refs), dict.fromkeys(hyps)
    matched: dict[Name, Name] = {}
    for form in forms:
        theirs, ours = grouped(left, form), grouped(right, form)
        for key in ours.keys() & theirs.keys():
            if len(ours[key]) == len(theirs[key]) == 1:
                matched[ours[key][0]] = theirs[key][0]
                del right[ours[key][0]], left[theirs[key][0]]
    return matched


def _bare(name: str) -> str:
    """Return a name without its folders and the suffix of an audio file."""
    return _stem(name).rpartition("/")[2]


def _stem(name: str) -> str:
    """Return a name without the suffix of an audio file."""
    name = name.casefold().replace("\\", "/")
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix in AUDIO_SUFFIXES else name


_FORMS = (str, str.casefold, _stem, _bare)  # of a name, the strictest first
