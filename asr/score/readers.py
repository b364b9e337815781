"""Detect the formats of references and hypotheses, and read them."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from asr.errors import InputError, counted, listed
from asr.files import PARTIAL
from asr.score.names import Track, different, match_names, match_tracks
from asr.terminal import warn
from asr.text.subtitles import subtitle_format, subtitle_lines
from asr.text.timed import (
    CtmWord,
    StmSegment,
    parse_ctm,
    parse_stm,
    reference_texts,
    words_by_file,
    words_in_segments,
)
from asr.text.transcripts import is_trn_comment, parse_text, parse_trn, read_lines, trn_id


@dataclass(frozen=True)
class Source:
    """The lines of a file of transcripts."""

    path: Path
    """The file; if a folder was named, its ``text``."""
    lines: list[str]
    """The lines without their line ends."""

    @property
    def set_name(self) -> str:
        """The name of the test set: the folder of a ``text``, else the stem of the file."""
        return self.path.resolve().parent.name if self.path.name == "text" else self.path.stem


@dataclass(frozen=True)
class TranscriptFile:
    """Transcripts in the order of their file, and the format of the file."""

    texts: dict[str, str] | list[str]
    """Transcripts by utterance id; a list for plain files."""
    format: str
    """text, trn, plain, stm, ctm, or a format of :mod:`asr.text.subtitles`."""
    words: dict[str, list[CtmWord]] | None = None
    """Words with times and confidences by utterance id, for a CTM."""
    speakers: dict[str, str] | None = None
    """Speaker of each segment, for an STM."""
    notes: tuple[str, ...] = ()
    """What a reader of the error rates has to know; a sentence each."""


def open_source(name: str | Path) -> Source:
    """Read a file of transcripts, or the ``text`` of a data or decoding folder.

    Raises:
        InputError: the file does not exist, or is not UTF-8.
    """
    path = Path(name)
    if path.is_dir():
        path = path / "text"
        if not path.is_file():
            raise InputError(
                f"{name}: a folder without the file text; name a data directory, a folder of `asr "
                "decode`, or a file, such as that of `asr transcribe --data DIR -f trn > hyp.trn`"
            )
        warn_if_interrupted(path.parent)
    return Source(path, read_lines(path))


def warn_if_interrupted(folder: Path) -> None:
    """Warn of a folder whose decoding was interrupted after an earlier one had ended."""
    if (folder / PARTIAL).is_file():
        warn(f"{folder}: results of an earlier decoding; the last one was interrupted, repeat it")


def read_pair(ref: Source, hyp: Source, file_format: str = "auto") -> tuple[TranscriptFile, ...]:
    """Read references and hypotheses.

    Args:
        ref: the file of the references.
        hyp: the file of the hypotheses.
        file_format: format of both, "text", "trn" or "plain"; "auto" detects it. The suffixes .stm
            and .ctm and the contents of subtitles take precedence.

    Raises:
        InputError: the format is ambiguous, a line does not have it, or plain files have
            different numbers of lines.
    """
    kinds = _known_format(ref), _known_format(hyp)
    if {"stm", "ctm"}.intersection(kinds):
        return _read_timed(ref, hyp, kinds, file_format)
    if not {None, "text", "trn"}.issuperset(kinds):  # subtitles
        return _read_whole(ref, kinds[0] or file_format), _read_whole(hyp, kinds[1] or file_format)
    formats = (file_format, file_format)
    if file_format == "auto":
        other = "text" if any(kinds) else _text_or_plain(ref, hyp)  # ids in one are ids in both
        formats = kinds[0] or other, kinds[1] or other
    references, hypotheses = map(_read, (ref, hyp), formats)
    if formats == ("plain", "plain") and len(ref.lines) != len(hyp.lines):
        raise InputError(
            f"{ref.path} has {len(ref.lines)} lines, {hyp.path} has {len(hyp.lines)}; plain files "
            "are matched line by line and need the same number of lines (if the files are not "
            "plain, give --format)"
        )
    return references, _renamed(references, hypotheses)


def _known_format(source: Source) -> str | None:
    """Return the format of a file if its name or its contents determine it."""
    if source.path.name == "text":
        return "text"
    suffix = source.path.suffix.lower().removeprefix(".")
    if suffix in ("stm", "ctm"):
        return suffix
    lines = [line for line in source.lines if not is_trn_comment(line)]
    is_trn = bool(lines) and all(map(trn_id, lines))
    return subtitle_format(source.lines, source.path) or ("trn" if is_trn else None)


def _read_whole(source: Source, kind: str) -> TranscriptFile:
    """Read a file as one text: subtitles, or the file that is compared with them."""
    if kind not in ("auto", "plain", "text", "trn"):
        text = " ".join(subtitle_lines(source.lines, kind, source.path))
        return TranscriptFile([text], kind, notes=() if text else ("no words in it",))
    if kind == "auto" and len(source.lines) > 1 and _has_ids(source):
        kind = "text"
    if kind in ("auto", "plain"):
        return TranscriptFile([" ".join(source.lines)], "plain, one text")
    texts = _read(source, kind).texts
    assert isinstance(texts, dict)
    if len(texts) != 1:
        raise InputError(
            f"{source.path} has {len(texts)} utterances with ids, the other file has the subtitles "
            "of one recording; compare the subtitles with the one utterance of that recording, or "
            "with subtitles (if the ids are words, give --format plain)"
        )
    return TranscriptFile(list(texts.values()), kind)


def _has_ids(source: Source) -> bool:
    """Whether every line starts with a different word that looks like an id."""
    firsts = _first_fields(source)
    return 0 < len(set(firsts)) == len(firsts) and all(map(_looks_like_id, firsts))


def _renamed(references: TranscriptFile, hypotheses: TranscriptFile) -> TranscriptFile:
    """Give hypotheses the ids of the references where they differ only in case or suffix."""
    if isinstance(references.texts, list) or isinstance(hypotheses.texts, list):
        return hypotheses
    ids = match_names(references.texts, hypotheses.texts)
    changed = different(ids)
    if not changed:
        return hypotheses
    texts = {ids.get(name, name): text for name, text in hypotheses.texts.items()}
    words = hypotheses.words and {ids.get(n, n): found for n, found in hypotheses.words.items()}
    note = (
        f"matched {counted(len(changed), 'id')} that the references spell differently, for example "
        f"{changed[0][0]} for {changed[0][1]}"
    )
    return replace(hypotheses, texts=texts, words=words, notes=(*hypotheses.notes, note))


def _read_timed(
    ref: Source, hyp: Source, kinds: tuple[str | None, str | None], file_format: str
) -> tuple[TranscriptFile, TranscriptFile]:
    """Read references with or without times, and hypotheses in a CTM."""
    if kinds[1] != "ctm" or kinds[0] not in (None, "stm", "text", "trn", "ctm"):
        raise InputError(
            f"{ref.path}, {hyp.path}: expected hypotheses in a .ctm, and references in a .stm, a "
            ".ctm, a Kaldi text or a trn"
        )
    words = parse_ctm(hyp.lines, hyp.path)
    if kinds[0] == "stm":
        return _read_stm(ref, hyp, words)
    if kinds[0] == "ctm":
        spoken = parse_ctm(ref.lines, ref.path)
        spoken, words = _by_track(spoken, words)
        references = _from_words(words_by_file(spoken))
    else:
        references = _read(ref, kinds[0] or ("text" if file_format == "auto" else file_format))
    found = _from_words(words_by_file(words), _mixed_channels(words))
    return references, _renamed(references, found)


def _by_track(spoken: list[CtmWord], words: list[CtmWord]) -> tuple[list[CtmWord], list[CtmWord]]:
    """Treat each channel of a file as a file of its own where both CTMs have several channels."""
    tracks = match_tracks((w.track for w in spoken), (w.track for w in words))
    counts = Counter(file for file, _ in tracks.values())

    def renamed(word: CtmWord) -> CtmWord:
        file, channel = tracks.get(word.track, word.track)
        apart = counts[file] > 1
        return replace(word, file=f"{file}-{channel}", channel="1") if apart else word

    return list(map(renamed, spoken)), list(map(renamed, words))


def _read_stm(
    ref: Source, hyp: Source, words: list[CtmWord]
) -> tuple[TranscriptFile, TranscriptFile]:
    """Read the segments of an STM, and the words of a CTM in each of them."""
    segments = parse_stm(ref.lines, ref.path)
    speakers = {segment.id: segment.speaker for segment in segments}
    texts = reference_texts(segments, ref.path)
    references = TranscriptFile(texts, "stm", None, speakers, _optional_words(texts.values()))
    tracks = match_tracks((s.track for s in segments), (w.track for w in words))
    notes = tuple(_track_notes(ref, hyp, segments, words, tracks))
    return references, _from_words(words_in_segments(segments, words, tracks), notes)


def _track_notes(
    ref: Source,
    hyp: Source,
    segments: list[StmSegment],
    words: list[CtmWord],
    tracks: dict[Track, Track],
) -> Iterator[str]:
    """Describe the differences between the tracks of the two files.

    Raises:
        InputError: there is no segment, or no word belongs to one.
    """
    if not segments:
        raise InputError(f"{ref.path}: no segments, expected references; name another file")
    lost = [word.track for word in words if word.track not in tracks]
    empty = [s.track for s in segments if not s.ignored and s.track not in tracks.values()]
    if lost and not tracks:
        raise InputError(
            f"{hyp.path}: no word has a file and channel of {ref.path}: found {_listed(lost)}, "
            f"expected {_listed(empty)}; rename them in one of the two"
        )
    changed = [f"{' '.join(ours)} as {' '.join(theirs)}" for ours, theirs in different(tracks)]
    if changed:
        yield f"files and channels are matched with {ref.path}: {listed(changed, 1)}"
    if lost:
        count = counted(len(lost), "word")
        yield f"not scored: {count} of tracks that are not in {ref.path}: {_listed(lost)}"
    if empty:
        count = counted(len(empty), "segment")
        yield f"no words for {count}, counted as deleted: {_listed(empty)}"


def _listed(tracks: Iterable[Track]) -> str:
    return listed(f"{file} channel {channel}" for file, channel in dict.fromkeys(tracks))


def _mixed_channels(words: list[CtmWord]) -> tuple[str, ...]:
    channels = Counter(file for file, _ in {word.track for word in words})
    mixed = sorted(file for file, count in channels.items() if count > 1)
    if not mixed:
        return ()
    return (
        f"several channels in {counted(len(mixed), 'file')}, for example {mixed[0]}; their words "
        "are joined in order of time, because the references do not tell channels apart",
    )


def _from_words(words: dict[str, list[CtmWord]], notes: tuple[str, ...] = ()) -> TranscriptFile:
    texts = {name: " ".join(w.word for w in found) for name, found in words.items()}
    return TranscriptFile(texts, "ctm", words, notes=notes)


def _read(source: Source, kind: str) -> TranscriptFile:
    if kind == "trn":
        texts = parse_trn(source.lines, source.path)
        return TranscriptFile(texts, kind, notes=_optional_words(texts.values()))
    is_text = kind == "text"
    return TranscriptFile(parse_text(source.lines, source.path) if is_text else source.lines, kind)


def _optional_words(texts: Iterable[str]) -> tuple[str, ...]:
    """Return a note if NIST's notation lets words be left out."""
    found = re.findall(r"(?<!\S)\(\S+\)(?!\S)", " ".join(texts))
    if not found:
        return ()
    return (
        f"{counted(len(found), 'word')} in parentheses, for example {found[0]}: scored as other "
        "words are, though NIST lets a system leave them out; --map can delete them on both sides",
    )


def read_sentences(name: str | Path) -> tuple[list[str], str]:
    """Return the sentences of a file or data directory, and the format that was detected.

    Raises:
        InputError: it cannot be read.
    """
    source = open_source(name)
    kind = _known_format(source) or ("text" if _has_ids(source) else "plain")
    if kind == "stm":
        return [segment.text for segment in parse_stm(source.lines, source.path)], kind
    if kind == "ctm":
        texts = _from_words(words_by_file(parse_ctm(source.lines, source.path))).texts
    elif kind in ("text", "trn", "plain"):
        texts = _read(source, kind).texts
    else:
        texts = subtitle_lines(source.lines, kind, source.path)
    return list(texts.values() if isinstance(texts, dict) else texts), kind


def _text_or_plain(ref: Source, hyp: Source) -> str:
    """Detect the format of two files that belong together, Kaldi's text or plain.

    It is text if all first fields look like ids and some ids are in both files.

    Raises:
        InputError: the first fields could be ids or words.
    """
    ref_firsts, hyp_firsts = _first_fields(ref), _first_fields(hyp)
    refs, hyps = set(ref_firsts), set(hyp_firsts)
    if all(map(_looks_like_id, refs | hyps)) and match_names(refs, hyps):
        if all(map(str.isdigit, refs | hyps)) and _may_be_words(ref):
            raise InputError(
                f"{ref.path}, {hyp.path}: each line starts with a number, for example "
                f'"{ref_firsts[0]}", which may be an utterance id or the first word of a sentence; '
                "give --format text or --format plain"
            )
        return "text"
    for one, other in ((ref, hyp), (hyp, ref)):
        if len(one.lines) > 1 and not refs & hyps and _has_ids(one):
            raise InputError(
                f"{one.path}: all {len(one.lines)} lines seem to start with an utterance id, for "
                f'example "{_first_fields(one)[0]}", but none of the ids is in {other.path}; use '
                "the same ids in both files, or give --format plain if they are words"
            )
    if refs == hyps and refs and len(ref_firsts) == len(refs) and len(hyp_firsts) == len(hyps):
        raise InputError(
            f"{ref.path}, {hyp.path}: each line starts with a word that starts one line of the "
            f'other file, for example "{ref_firsts[0]}", which may be an utterance id or the first '
            "word of a sentence; give --format text or --format plain"
        )
    return "plain"


def _first_fields(source: Source) -> list[str]:
    return [line.split(maxsplit=1)[0] for line in source.lines if line.strip()]


def _may_be_words(source: Source) -> bool:
    """Return whether numbers at the beginnings of lines may be words, because others are there."""
    words = (word for line in source.lines for word in line.split()[1:])
    return len(source.lines) == 1 or any(map(str.isdigit, words))


def _looks_like_id(word: str) -> bool:
    return any(c.isdigit() or c in "-_" for c in word)


def read_utt2spk(path: str | Path) -> dict[str, str]:
    """Read the speaker of each utterance.

    Raises:
        InputError: a line is not ``<utt-id> <spk-id>``, or an utterance has two lines.
    """
    lines = read_lines(path)
    for number, line in enumerate(lines, 1):
        if len(line.split()) != 2:
            raise InputError(
                f'{path}:{number}: {len(line.split())} fields, expected "<utt-id> <spk-id>"; '
                "fix the line"
            )
    return parse_text(lines, path)
