"""Find out what kind of files the references and hypotheses are, and read them."""

from dataclasses import dataclass
from pathlib import Path

from asr.errors import InputError
from asr.text.transcripts import (
    is_trn_comment,
    parse_text,
    parse_trn,
    read_lines,
    trn_id,
)

FORMATS = ("text", "trn", "plain")


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
    """One of FORMATS."""


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
        file_format: of both, one of FORMATS; "auto" looks at the files.

    Raises:
        InputError: the format is not clear, a line does not have it, or plain files have
            different numbers of lines.
    """
    formats = detect(ref, hyp) if file_format == "auto" else (file_format, file_format)
    pair = tuple(_read(source, kind) for source, kind in zip((ref, hyp), formats, strict=True))
    if formats == ("plain", "plain") and len(ref.lines) != len(hyp.lines):
        raise InputError(
            f"{ref.path} has {len(ref.lines)} lines, {hyp.path} has {len(hyp.lines)}; plain files "
            "are matched line by line and need as many of one as of the other (--format says "
            "what the files are if they are not plain)"
        )
    return pair


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
