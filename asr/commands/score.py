"""``asr score``: word, character and sentence error rates."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from asr.config.args import number
from asr.config.field import at_least
from asr.config.help import Parser
from asr.errors import EXIT_OK, counted, listed
from asr.files import check_folder, check_outputs
from asr.text.characters import apostrophes, name_of, upper_share
from asr.text.normalize import NORMALIZERS, read_map

if TYPE_CHECKING:
    from asr.audio.clip import Clip
    from asr.score.compare import Comparison
    from asr.score.readers import Source, TranscriptFile
    from asr.score.report import Report
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
    from asr.score import kaldi, page, report
    from asr.score.readers import open_source

    source = open_source(options.ref)
    found = _report(options, source)
    if options.out:
        kaldi.write_scores(found.score, options.out, options.tag, found.speakers)
    if options.json:
        print(json.dumps(report.to_dict(found, options.worst), indent=2, ensure_ascii=False))
    else:
        shown = [title for title in found.groups if options.tables or title == _SEEN]
        report.print_report(found, options.worst, shown, color=not options.no_color)
    if options.html:
        page.write_page(options.html, found, _audio_beside(source.path))
    return EXIT_OK


def _report(options: argparse.Namespace, source: "Source") -> "Report":
    """All that is asked for; ``source`` are the references."""
    from asr.score.groups import by_confidence, by_length, by_seen, by_speaker
    from asr.score.readers import open_source, read_pair, read_utt2spk
    from asr.score.report import Report

    mapping = read_map(options.map) if options.map else {}
    ref, hyp = read_pair(source, open_source(options.hyp), options.format)
    score = _score(options, options.hyp, ref, hyp, mapping)
    utt2spk = options.utt2spk or _utt2spk_beside(source.path)
    speakers = read_utt2spk(utt2spk) if utt2spk else ref.speakers
    groups = {"By speaker": by_speaker(score, speakers)} if speakers else {}
    groups["By length"] = by_length(score)
    comparison = _comparison(options, source, score, mapping) if options.against else None
    if options.seen:
        groups[_SEEN] = by_seen(score, _seen_sentences(options, mapping))
    return Report(
        score,
        source.set_name,
        [(options.ref, ref.format), (options.hyp, hyp.format)],
        groups,
        by_confidence(score, hyp.words) if hyp.words else [],
        comparison,
        hyp.notes,
        speakers,
    )


def _comparison(
    options: argparse.Namespace, source: "Source", score: "Score", mapping: "WordMap"
) -> "Comparison":
    """The comparison with the system of ``--against``."""
    from asr.score.compare import compare
    from asr.score.readers import open_source, read_pair

    ref, other = read_pair(source, open_source(options.against), options.format)
    return compare(score, _score(options, options.against, ref, other, mapping))


def _score(
    options: argparse.Namespace,
    name: str,
    ref: "TranscriptFile",
    hyp: "TranscriptFile",
    mapping: "WordMap",
) -> "Score":
    """The error rates of the hypotheses in a file, with warnings of what does not match."""
    from asr.score.wer import score

    result = score(
        ref.texts,
        hyp.texts,
        options.normalize,
        options.mode,
        ignore_case=options.ignore_case,
        mapping=mapping,
    )
    _warn_of(name, hyp, result, options)
    return result


def make_parser() -> argparse.ArgumentParser:
    """The options of ``asr score``."""
    parser = Parser(prog="asr score", description=_DESCRIPTION)
    parser.add_argument("ref", metavar="REF", help="references: folder or file")
    parser.add_argument("hyp", metavar="HYP", help="hypotheses: folder or file")
    _add_equality(parser.add_argument_group("what is compared, and what counts as equal"))
    _add_tables(parser.add_argument_group("what is told"))
    _add_files(parser.add_argument_group("files that are written"))
    return parser


def _add_equality(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--format",
        choices=["auto", "text", "trn", "plain"],
        default="auto",
        help="of both files; auto (default) looks at them and the report says what it found",
    )
    group.add_argument(
        "--normalize",
        choices=list(NORMALIZERS),
        default="none",
        help="applied to both sides: none (default) leaves the words alone, librispeech gives "
        "upper case, letters, digits and apostrophes, whisper rewrites numbers and spellings as "
        "Whisper's authors do (needs the package whisper-normalizer)",
    )
    group.add_argument("--ignore-case", action="store_true", help="upper case equals lower case")
    group.add_argument(
        "--map",
        metavar="FILE",
        help='words that count as others, on both sides, after --normalize: "from => to" a line',
    )
    group.add_argument(
        "--mode", choices=["all", "present", "strict"], default="all", help=_MODE_HELP
    )


def _add_tables(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--against",
        metavar="HYP_B",
        help="another system's hypotheses: is the difference more than luck? A bootstrap interval "
        "and NIST's matched-pairs test",
    )
    group.add_argument(
        "--tables", action="store_true", help="also print the rates by speaker and by length"
    )
    group.add_argument(
        "--seen",
        metavar="TRAIN",
        action="append",
        help="a training's data directory or transcripts: also tell the rates of the sentences "
        "that it has, and of those that it has not, compared without case and marks; may be "
        "repeated",
    )
    group.add_argument(
        "--utt2spk",
        metavar="FILE",
        help="speaker of each utterance; default: utt2spk of REF's folder, else each utterance "
        "alone",
    )
    group.add_argument(
        "--worst",
        type=number(int, at_least(0)),
        default=5,
        metavar="N",
        help="show the N utterances with most errors (default: 5)",
    )
    group.add_argument("--json", action="store_true", help="print JSON; rates are fractions")
    group.add_argument("--no-color", action="store_true", help="no colours in a terminal")


def _add_files(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--html",
        metavar="FILE",
        help="also write a page with all errors, to look at and to listen to (where REF is a data "
        "directory)",
    )
    group.add_argument(
        "--out",
        metavar="DECODE_DIR",
        help="also write Kaldi's files there: wer_<tag>, cer_<tag> (without spaces), scoring_kaldi",
    )
    group.add_argument(
        "--tag",
        default="0_0.0",
        help="<lm-weight>_<penalty> in the names of wer_* and cer_* (default: 0_0.0)",
    )


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
    """The recordings of a data directory's utterances."""
    from asr.corpus.tables import read_clips

    beside = path.name == "text" and (path.parent / "wav.scp").is_file()
    return read_clips(path.parent) if beside else {}


def _warn_of(
    name: str, hyp: "TranscriptFile", result: "Score", options: argparse.Namespace
) -> None:
    """Say what of the hypotheses in a file does not match the references."""
    notes = list(hyp.notes)
    if result.missing:
        count = counted(len(result.missing), "utterance")
        notes.append(f"no hypothesis for {count} ({listed(result.missing)}); mode {options.mode}")
    if result.unknown:
        count = counted(len(result.unknown), "utterance")
        notes.append(f"not in {options.ref}, not scored: {count} ({listed(result.unknown)})")
    for note in (*notes, _other_apostrophes(result), _other_case(result)):
        if note:
            _warn(f"{name}: {note}")


def _other_case(result: "Score") -> str:
    """Return a note if one side is in upper case and the other in lower case."""
    shares = [upper_share(" ".join(texts)) for texts in (result.refs, result.hyps)]
    if abs(shares[0] - shares[1]) <= _OTHER_CASE:
        return ""
    return (
        f"{shares[1]:.0%} of the letters are in upper case, {shares[0]:.0%} in the references; "
        "words in another case count as wrong, --ignore-case takes them for the same"
    )


def _other_apostrophes(result: "Score") -> str:
    """Return a note if the two sides have different apostrophes, else an empty text."""
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
