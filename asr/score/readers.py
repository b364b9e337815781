"""Detect the formats of references and hypotheses, and read them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from asr.errors import InputError, listed
from asr.score.names import Track, different, match_names, match_tracks
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
from asr.text.transcripts import (
    is_trn_comment,
    parse_text,
    parse_trn,
    read_lines,
    trn_id,
)


@dataclass(frozen=True)
class Source:
    """The lines of a file of transcripts."""

    path: Path
    """The file; ``text`` where a folder was named."""
    lines: list[str]
    """Without line ends."""

    @property
    def set_name(self) -> str:
        """What to call these transcripts: the folder of a ``text``, else the file's stem."""
        return self.path.resolve().parent.name if self.path.name == "text" else self.path.stem


@dataclass(frozen=True)
class TranscriptFile:
    """Transcripts in the order of their file, and how they were read."""

    texts: dict[str, str] | list[str]
    """By utterance id; a list for plain files."""
    format: str
    """text, trn, plain, stm, ctm, or one of :mod:`asr.text.subtitles`."""
    words: dict[str, list[CtmWord]] | None = None
    """The same with times and confidence, where a CTM tells them."""
    speakers: dict[str, str] | None = None
    """Speaker of each segment of an STM."""
    notes: tuple[str, ...] = ()
    """What did not match the references to the letter, or not at all; a sentence each."""


def open_source(name: str | Path) -> Source:
    """Read a file of transcripts, or the ``text`` of a data or decoding folder.

    Raises:
        InputError: there is none, or it is not UTF-8.
    """
    path = Path(name)
    if path.is_dir():
        path = path / "text"
        if not path.is_file():
            raise InputError(
                f"{name}: a folder without the file text; name a data directory, a decoding "
                "folder, or a file"
            )
    return Source(path, read_lines(path))


def read_pair(ref: Source, hyp: Source, file_format: str = "auto") -> tuple[TranscriptFile, ...]:
    """References and hypotheses.

    Args:
        ref: the references' file.
        hyp: the hypotheses' file.
        file_format: of both, "text", "trn" or "plain"; "auto" looks at the files. Files with the
            ends .stm and .ctm are what they say in any case, and subtitles what is in them.

    Raises:
        InputError: the format is not clear, a line does not have it, or plain files have
            different numbers of lines.
    """
    timed = _by_suffix(ref), _by_suffix(hyp)
    if any(timed):
        return _read_timed(ref, hyp, timed, file_format)
    subtitles = [_subtitle_format(source) for source in (ref, hyp)]
    if any(subtitles):
        known = [kind or _certain_format(s) for s, kind in zip((ref, hyp), subtitles, strict=True)]
        return tuple(map(_read_whole, (ref, hyp), [kind or file_format for kind in known]))
    formats = detect(ref, hyp) if file_format == "auto" else (file_format, file_format)
    references, hypotheses = map(_read, (ref, hyp), formats)
    if formats == ("plain", "plain") and len(ref.lines) != len(hyp.lines):
        raise InputError(
            f"{ref.path} has {len(ref.lines)} lines, {hyp.path} has {len(hyp.lines)}; plain files "
            "are matched line by line and need as many of one as of the other (--format says "
            "what the files are if they are not plain)"
        )
    return references, _renamed(references, hypotheses)


def _by_suffix(source: Source) -> str | None:
    suffix = source.path.suffix.lower().removeprefix(".")
    return suffix if suffix in ("stm", "ctm") else None


def _subtitle_format(source: Source) -> str | None:
    return None if source.path.name == "text" else subtitle_format(source.lines, source.path)


def _read_whole(source: Source, kind: str) -> TranscriptFile:
    """A file as one text: subtitles, or what is compared with them."""
    if kind not in ("auto", "plain", "text", "trn"):
        text = " ".join(subtitle_lines(source.lines, kind, source.path))
        return TranscriptFile([text], kind, notes=() if text else ("no words in it",))
    if kind == "auto" and len(source.lines) > 1 and _has_ids(source):
        kind = "text"
    if kind in ("auto", "plain"):
        return TranscriptFile([" ".join(source.lines)], "plain, one text")
    texts = _by_id(_read(source, kind))
    if len(texts) != 1:
        raise InputError(
            f"{source.path} has {len(texts)} utterances with ids, the other file has the subtitles "
            "of one recording; compare these with the utterance of that recording alone, or with "
            "subtitles (--format plain: the ids are words)"
        )
    return TranscriptFile(list(texts.values()), kind)


def _by_id(transcripts: TranscriptFile) -> dict[str, str]:
    assert isinstance(transcripts.texts, dict)
    return transcripts.texts


def _has_ids(source: Source) -> bool:
    """Whether every line starts with a different word that looks like an id."""
    firsts = _first_fields(source)
    return 0 < len(set(firsts)) == len(firsts) and all(map(_looks_like_id, firsts))


def _renamed(references: TranscriptFile, hypotheses: TranscriptFile) -> TranscriptFile:
    """Hypotheses by the ids of the references, also where these differ in case or ending."""
    if isinstance(references.texts, list) or isinstance(hypotheses.texts, list):
        return hypotheses
    ids = match_names(references.texts, hypotheses.texts)
    changed = different(ids)
    if not changed:
        return hypotheses
    texts = {ids.get(name, name): text for name, text in hypotheses.texts.items()}
    words = hypotheses.words and {ids.get(n, n): found for n, found in hypotheses.words.items()}
    note = f"{len(changed)} ids are spelled otherwise than the references' and taken for the same"
    shown = f"{note}, for example {changed[0][0]} for {changed[0][1]}"
    return replace(hypotheses, texts=texts, words=words, notes=(*hypotheses.notes, shown))


def _read_timed(
    ref: Source, hyp: Source, timed: tuple[str | None, str | None], file_format: str
) -> tuple[TranscriptFile, TranscriptFile]:
    """References with or without times, and hypotheses in a CTM."""
    if timed[1] != "ctm" or timed[0] == "ctm" or _is_subtitle(ref, timed[0]):
        raise InputError(
            f"{ref.path}, {hyp.path}: expected hypotheses in a .ctm, and references in a .stm, a "
            "Kaldi text or a trn"
        )
    words = parse_ctm(hyp.lines, hyp.path)
    if timed[0] == "stm":
        return _read_stm(ref, hyp, words)
    kind = "text" if file_format == "auto" else file_format
    references = _read(ref, _certain_format(ref) or kind)
    found = _from_words(words_by_file(words), _mixed_channels(words, hyp))
    return references, _renamed(references, found)


def _is_subtitle(source: Source, timed: str | None) -> bool:
    return timed is None and _subtitle_format(source) is not None


def _read_stm(
    ref: Source, hyp: Source, words: list[CtmWord]
) -> tuple[TranscriptFile, TranscriptFile]:
    """The segments of an STM, and the words of a CTM in each of them."""
    segments = parse_stm(ref.lines, ref.path)
    speakers = {segment.id: segment.speaker for segment in segments}
    references = TranscriptFile(reference_texts(segments, ref.path), "stm", speakers=speakers)
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
    """Describe what the two files do not have in common.

    Raises:
        InputError: there is no segment, or none of the words belongs to one.
    """
    if not segments:
        raise InputError(f"{ref.path}: no segments, expected references; name another file")
    lost = [word.track for word in words if word.track not in tracks]
    empty = [s.track for s in segments if not s.ignored and s.track not in tracks.values()]
    if lost and not tracks:
        raise InputError(
            f"{hyp.path}: no word is of a file and channel in {ref.path}: {_listed(lost)}, "
            f"expected {_listed(empty)}; rename them in one of the two"
        )
    if different(tracks):
        ours, theirs = different(tracks)[0]
        yield f"{' '.join(ours)} is taken for {' '.join(theirs)} of {ref.path}" + _others(tracks)
    if lost:
        yield (
            f"{len(lost)} words of files that are not in {ref.path} with this channel, not "
            f"scored: {_listed(lost)}"
        )
    if empty:
        yield f"no words for {len(empty)} segments, counted as deleted: {_listed(empty)}"


def _others(tracks: dict[Track, Track]) -> str:
    more = len(different(tracks)) - 1
    return f", and {more} more alike" if more else ""


def _listed(tracks: Iterable[Track]) -> str:
    """The first few files and channels."""
    names = [f"{file} channel {channel}" for file, channel in dict.fromkeys(tracks)]
    return listed(names)


def _mixed_channels(words: list[CtmWord], hyp: Source) -> tuple[str, ...]:
    channels: dict[str, set[str]] = {}
    for word in words:
        channels.setdefault(word.file, set()).add(word.channel)
    mixed = sorted(file for file, names in channels.items() if len(names) > 1)
    if not mixed:
        return ()
    return (
        f"{len(mixed)} files have several channels, for example {mixed[0]}; their words are put "
        "in one row by their times, for the references have no channels (a .stm has)",
    )


def _from_words(words: dict[str, list[CtmWord]], notes: tuple[str, ...]) -> TranscriptFile:
    texts = {name: " ".join(w.word for w in found) for name, found in words.items()}
    return TranscriptFile(texts, "ctm", words, notes=notes)


def _read(source: Source, kind: str) -> TranscriptFile:
    if kind == "text":
        return TranscriptFile(parse_text(source.lines, source.path), kind)
    if kind == "trn":
        return TranscriptFile(parse_trn(source.lines, source.path), kind)
    return TranscriptFile(source.lines, kind)


def read_sentences(name: str | Path) -> tuple[list[str], str]:
    """The sentences of a file or data directory by itself, and the format it was taken for.

    Raises:
        InputError: it cannot be read.
    """
    source = open_source(name)
    if _by_suffix(source) == "stm":
        return [segment.text for segment in parse_stm(source.lines, source.path)], "stm"
    if _by_suffix(source) == "ctm":
        words = words_by_file(parse_ctm(source.lines, source.path))
        return [" ".join(w.word for w in found) for found in words.values()], "ctm"
    timed = _subtitle_format(source)
    if timed is not None:
        return subtitle_lines(source.lines, timed, source.path), timed
    kind = _certain_format(source) or ("text" if _has_ids(source) else "plain")
    texts = _read(source, kind).texts
    return list(texts.values() if isinstance(texts, dict) else texts), kind


def detect(ref: Source, hyp: Source) -> tuple[str, str]:
    """The formats of two files that belong together.

    A file named ``text`` is Kaldi's, lines that all end in ``(<id>)`` are trn. Where this
    says nothing about either file, they are Kaldi's if all first fields look like ids and
    some are in both files, and plain otherwise.

    Raises:
        InputError: the first fields could be ids as well as words.
    """
    first, second = _certain_format(ref), _certain_format(hyp)
    if first is None and second is None:
        both = _text_or_plain(ref, hyp)
        return both, both
    return first or "text", second or "text"  # if one has ids, so has the other


def _certain_format(source: Source) -> str | None:
    if source.path.name == "text":
        return "text"
    lines = [line for line in source.lines if not is_trn_comment(line)]
    return "trn" if lines and all(map(trn_id, lines)) else None


def _text_or_plain(ref: Source, hyp: Source) -> str:
    ref_firsts, hyp_firsts = _first_fields(ref), _first_fields(hyp)
    refs, hyps = set(ref_firsts), set(hyp_firsts)
    if all(map(_looks_like_id, refs | hyps)) and match_names(refs, hyps):
        return "text"
    for one, other in ((ref, hyp), (hyp, ref)):
        if len(one.lines) > 1 and not refs & hyps and _has_ids(one):
            raise InputError(
                f"{one.path}: all {len(one.lines)} lines start as with utterance ids, for example "
                f'"{_first_fields(one)[0]}", but none of these is in {other.path}; give both the '
                "same ids, or say --format plain if they are words"
            )
    if refs == hyps and refs and len(ref_firsts) == len(refs) and len(hyp_firsts) == len(hyps):
        raise InputError(
            f"{ref.path}, {hyp.path}: each line starts with a word that starts one line of the "
            f'other file, as "{ref_firsts[0]}" does: an utterance id or the first word of a '
            "sentence? Say --format text or --format plain"
        )
    return "plain"


def _first_fields(source: Source) -> list[str]:
    return [line.split(maxsplit=1)[0] for line in source.lines if line.strip()]


def _looks_like_id(word: str) -> bool:
    return any(c.isdigit() or c in "-_" for c in word)


def read_utt2spk(path: str | Path) -> dict[str, str]:
    """Speaker of each utterance.

    Raises:
        InputError: a line is not ``<utt-id> <spk-id>``, or an utterance is there twice.
    """
    lines = read_lines(path)
    for number, line in enumerate(lines, 1):
        if len(line.split()) != 2:
            raise InputError(
                f'{path}:{number}: {len(line.split())} fields, expected "<utt-id> <spk-id>"; '
                "fix the line"
            )
    return parse_text(lines, path)
