"""``asr score``: word, character and sentence error rates."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from asr.audio.entry import command_of
from asr.config import whole
from asr.config.field import at_least
from asr.errors import EXIT_OK, InputError
from asr.files import check_folder, check_outputs
from asr.text.characters import apostrophes, name_of, upper_share
from asr.text.normalize import NORMALIZERS, read_map

if TYPE_CHECKING:
    from asr.score.page import Clip
    from asr.score.readers import Transcripts
    from asr.score.wer import Score
    from asr.text.normalize import WordMap

_DESCRIPTION = """\
Compare hypotheses with references: word error rate with a 95 % bootstrap interval,
character error rates, sentence error rate, and the worst utterances side by side.

REF and HYP are data or decoding folders (their file text is read), Kaldi text files
(<utt-id> <words...>), sclite trn files (<words...> (<utt-id>)), or plain files with one
sentence a line, matched by order. HYP may be a .ctm, REF then also a .stm; words are
assigned to its segments by their times, as sclite does it. Subtitles (srt, vtt, tsv, json,
TextGrid, labels) are one text each, without numbers and times. All rates are sums over the
corpus. Words are aligned by jiwer; where alignments tie, its choice decides the split into
Sub, Del and Ins."""

_SEEN = "By training"
_OTHER_CASE = 0.5  # difference in the share of upper case from which on it is no matter of names

_MODE_HELP = """\
utterances without a hypothesis: all (default) counts their words as deleted, so that a
decoding that broke off cannot look good; present leaves them out, as Kaldi's recipes do;
strict refuses"""


def main(argv: list[str]) -> int:
    """Run ``asr score``; returns the exit code."""
    options = make_parser().parse_args(argv)
    read = (options.ref, options.hyp, options.map, options.against, options.utt2spk)
    check_outputs([] if options.html is None else [options.html], [*read, *(options.seen or [])])
    if options.out is not None:
        check_folder(options.out)
    from asr.score import groups, kaldi, page, readers, report
    from asr.score.compare import compare
    from asr.score.wer import score

    source = readers.open_source(options.ref)
    ref, hyp = readers.read_pair(source, readers.open_source(options.hyp), options.format)
    mapping = read_map(options.map) if options.map else {}

    def scored(hypotheses: "Transcripts") -> "Score":
        return score(
            ref.texts,
            hypotheses.texts,
            options.normalize,
            options.mode,
            ignore_case=options.ignore_case,
            mapping=mapping,
        )

    result = scored(hyp)
    _warn_of(options.hyp, hyp, result, options)
    utt2spk = options.utt2spk or _utt2spk_beside(source.path)
    speakers = readers.read_utt2spk(utt2spk) if utt2spk else ref.speakers
    comparison = None
    if options.against:
        other = readers.read_pair(source, readers.open_source(options.against), options.format)[1]
        other_result = scored(other)
        _warn_of(options.against, other, other_result, options)
        comparison = compare(result, other_result)
    tables = {"By length": groups.by_length(result)}
    if speakers:
        tables = {"By speaker": groups.by_speaker(result, speakers), **tables}
    if options.seen:
        tables = {**tables, _SEEN: groups.by_seen(result, _seen_sentences(options, mapping))}
    sureness = groups.by_confidence(result, hyp.words) if hyp.words else []
    formats = f"{options.ref} ({ref.format}), {options.hyp} ({hyp.format})"
    if options.out:
        kaldi.write_scores(result, options.out, options.tag, speakers)
    if options.json:
        summary = report.to_dict(result, source.set_name, options.worst)
        summary |= {"formats": [ref.format, hyp.format], "notes": list(hyp.notes)}
        summary |= report.parts_to_dict(tables, sureness, comparison)
        print(json.dumps(summary, indent=2, ensure_ascii=False))
    else:
        report.print_report(
            result, source.set_name, formats, options.worst, color=not options.no_color
        )
        shown = {name: tables[name] for name in tables if options.tables or name == _SEEN}
        report.print_parts(shown, sureness, comparison)
    if options.html:
        page.write_page(
            options.html,
            result,
            source.set_name,
            report.conditions(result, formats),
            tables,
            sureness,
            comparison,
            _audio_beside(source.path),
        )
    return EXIT_OK


def make_parser() -> argparse.ArgumentParser:
    """The options of ``asr score``."""
    parser = argparse.ArgumentParser(
        prog="asr score",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ref", metavar="REF", help="references: folder or file")
    parser.add_argument("hyp", metavar="HYP", help="hypotheses: folder or file")
    parser.add_argument(
        "--format",
        choices=["auto", "text", "trn", "plain"],
        default="auto",
        help="of both files; auto (default) looks at them and the report says what it found",
    )
    parser.add_argument(
        "--normalize",
        choices=list(NORMALIZERS),
        default="none",
        help="applied to both sides: none (default) leaves the words alone, librispeech gives "
        "upper case, letters, digits and apostrophes, whisper rewrites numbers and spellings as "
        "Whisper's authors do (needs the package whisper-normalizer)",
    )
    parser.add_argument("--ignore-case", action="store_true", help="upper case equals lower case")
    parser.add_argument(
        "--map",
        metavar="FILE",
        help='words that count as others, on both sides, after --normalize: "from => to" a line',
    )
    parser.add_argument(
        "--against",
        metavar="HYP_B",
        help="another system's hypotheses: is the difference more than luck? A bootstrap interval "
        "and NIST's matched-pairs test",
    )
    parser.add_argument(
        "--tables", action="store_true", help="also print the rates by speaker and by length"
    )
    parser.add_argument(
        "--seen",
        metavar="TRAIN",
        action="append",
        help="a training's data directory or transcripts: also tell the rates of the sentences "
        "that it has, and of those that it has not, compared without case and marks; may be "
        "repeated",
    )
    parser.add_argument(
        "--html",
        metavar="FILE",
        help="also write a page with all errors, to look at and to listen to (where REF is a data "
        "directory)",
    )
    parser.add_argument(
        "--mode", choices=["all", "present", "strict"], default="all", help=_MODE_HELP
    )
    parser.add_argument(
        "--out",
        metavar="DECODE_DIR",
        help="also write Kaldi's files there: wer_<tag>, cer_<tag> (without spaces), scoring_kaldi",
    )
    parser.add_argument(
        "--tag",
        default="0_0.0",
        help="<lm-weight>_<penalty> in the names of wer_* and cer_* (default: 0_0.0)",
    )
    parser.add_argument(
        "--utt2spk",
        metavar="FILE",
        help="speakers for per_spk; default: utt2spk of REF's folder, else each utterance alone",
    )
    parser.add_argument(
        "--worst",
        type=whole(at_least(0)),
        default=5,
        metavar="N",
        help="show the N utterances with most errors (default: 5)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON; rates are fractions")
    parser.add_argument("--no-color", action="store_true", help="no colours in a terminal")
    return parser


def _seen_sentences(options: argparse.Namespace, mapping: "WordMap") -> set[str]:
    """Sentences of the training, prepared as the references are."""
    from asr.score.readers import read_sentences
    from asr.score.wer import preparation
    from asr.text.sentences import sentence_key

    prepare = preparation(options.normalize, options.ignore_case, mapping)
    seen = set()
    for name in options.seen:
        sentences, kind = read_sentences(name)
        print(f"{name} ({kind}): {len(sentences)} sentences seen in training", file=sys.stderr)
        seen |= {sentence_key(prepare(text)) for text in sentences}
    return seen


def _utt2spk_beside(path: Path) -> Path | None:
    beside = path.parent / "utt2spk"
    return beside if path.name == "text" and beside.is_file() else None


def _audio_beside(path: Path) -> "dict[str, Clip]":
    """The recordings of a data directory's utterances; a command in wav.scp is not run."""
    if path.name != "text" or not (path.parent / "wav.scp").is_file():
        return {}
    from asr.corpus.tables import read_table

    wavs = read_table(path.parent / "wav.scp")
    clips: dict[str, Clip] = {name: (wav, 0.0, None) for name, wav in wavs.items()}
    segments = path.parent / "segments"
    if segments.is_file():
        try:
            for name, line in read_table(segments).items():
                recording, start, end = line.split()
                clips[name] = wavs[recording], float(start), float(end) if float(end) > 0 else None
        except (KeyError, ValueError) as error:
            raise InputError(
                f"{segments}: {name}: {line!r}, expected <recording-id> <start> <end>, of a "
                "recording in wav.scp; mend the line"
            ) from error
    return {name: clip for name, clip in clips.items() if command_of(clip[0]) is None}


def _warn_of(name: str, hyp: "Transcripts", result: "Score", options: argparse.Namespace) -> None:
    """Say what of the hypotheses in a file does not match the references."""
    notes = list(hyp.notes)
    if result.missing:
        notes.append(f"no hypothesis for {_some(result.missing)}; mode {options.mode}")
    if result.unknown:
        notes.append(f"not in {options.ref}, not scored: {_some(result.unknown)}")
    for note in (*notes, _other_apostrophes(result), _other_case(result)):
        if note:
            _warn(f"{name}: {note}")


def _other_case(result: "Score") -> str:
    """A remark where the words are in upper case on one side and in lower case on the other."""
    shares = [upper_share(" ".join(texts)) for texts in (result.refs, result.hyps)]
    if abs(shares[0] - shares[1]) <= _OTHER_CASE:
        return ""
    return (
        f"{shares[1]:.0%} of the letters are in upper case, {shares[0]:.0%} in the references; "
        "words in another case count as wrong, --ignore-case takes them for the same"
    )


def _other_apostrophes(result: "Score") -> str:
    """A remark where words have other apostrophes in the hypotheses; empty: they have the same."""
    refs, hyps = (apostrophes(" ".join(texts)) for texts in (result.refs, result.hyps))
    if not (refs and hyps) or refs.keys() == hyps.keys():
        return ""
    kinds = [" ".join(map(name_of, sorted(found))) for found in (refs, hyps)]
    return (
        f"apostrophes are {kinds[0]} in the references and {kinds[1]} in the hypotheses, which are "
        "different characters; --normalize librispeech makes them one"
    )


def _warn(message: str) -> None:
    print(f"asr score: warning: {message}", file=sys.stderr)


def _some(ids: tuple[str, ...]) -> str:
    return f"{len(ids)} utterances ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})"
