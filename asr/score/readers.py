"""Find out what kind of files the references and hypotheses are, and read them."""

from dataclasses import dataclass
from pathlib import Path

from asr.errors import InputError
from asr.score.timed import (
    CtmWord,
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
class Transcripts:
    """Transcripts in the order of their file, and how they were read."""

    texts: dict[str, str] | list[str]
    """By utterance id; a list for plain files."""
    format: str
    """text, trn, plain, stm or ctm."""
    words: dict[str, list[CtmWord]] | None = None
    """The same with times and confidence, where a CTM tells them."""
    speakers: dict[str, str] | None = None
    """Speaker of each segment of an STM."""
    elsewhere: int = 0
    """Words of a CTM in files that the references do not have; they are not scored."""


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


def read_pair(ref: Source, hyp: Source, file_format: str = "auto") -> tuple[Transcripts, ...]:
    """References and hypotheses.

    Args:
        ref: the references' file.
        hyp: the hypotheses' file.
        file_format: of both, "text", "trn" or "plain"; "auto" looks at the files. Files with the
            ends .stm and .ctm are what they say in any case.

    Raises:
        InputError: the format is not clear, a line does not have it, or plain files have
            different numbers of lines.
    """
    timed = _by_suffix(ref), _by_suffix(hyp)
    if any(timed):
        return _read_timed(ref, hyp, timed, file_format)
    formats = detect(ref, hyp) if file_format == "auto" else (file_format, file_format)
    pair = tuple(_read(source, kind) for source, kind in zip((ref, hyp), formats, strict=True))
    if formats == ("plain", "plain") and len(ref.lines) != len(hyp.lines):
        raise InputError(
            f"{ref.path} has {len(ref.lines)} lines, {hyp.path} has {len(hyp.lines)}; plain files "
            "are matched line by line and need as many of one as of the other (--format says "
            "what the files are if they are not plain)"
        )
    return pair


def _by_suffix(source: Source) -> str | None:
    suffix = source.path.suffix.lower().removeprefix(".")
    return suffix if suffix in ("stm", "ctm") else None


def _read_timed(
    ref: Source, hyp: Source, timed: tuple[str | None, str | None], file_format: str
) -> tuple[Transcripts, Transcripts]:
    """References with or without times, and hypotheses in a CTM."""
    if timed[1] != "ctm" or timed[0] == "ctm":
        raise InputError(
            f"{ref.path}, {hyp.path}: expected hypotheses in a .ctm, and references in a .stm, a "
            "Kaldi text or a trn"
        )
    words = parse_ctm(hyp.lines, hyp.path)
    if timed[0] == "stm":
        segments = parse_stm(ref.lines, ref.path)
        speakers = {segment.id: segment.speaker for segment in segments}
        texts = reference_texts(segments, ref.path)
        references = Transcripts(dict(texts), "stm", speakers=speakers)
        found, elsewhere = words_in_segments(segments, words)
        return references, _from_words(found, elsewhere)
    kind = "text" if file_format == "auto" else file_format
    return _read(ref, _certain_format(ref) or kind), _from_words(words_by_file(words), 0)


def _from_words(words: dict[str, list[CtmWord]], elsewhere: int) -> Transcripts:
    texts = {name: " ".join(w.word for w in said) for name, said in words.items()}
    return Transcripts(texts, "ctm", words, elsewhere=elsewhere)


def _read(source: Source, kind: str) -> Transcripts:
    if kind == "text":
        return Transcripts(parse_text(source.lines, source.path), kind)
    if kind == "trn":
        return Transcripts(parse_trn(source.lines, source.path), kind)
    return Transcripts(source.lines, kind)


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
    if refs & hyps and all(map(_looks_like_id, refs | hyps)):
        return "text"
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
                "mend the line"
            )
    return parse_text(lines, path)
