"""Compute the word, character and sentence error rates of hypotheses.

Prints the word error rate with a 95 % bootstrap interval, and the worst utterances beside their
references. For a folder of `asr decode` it also prints the statistics of the alignments and their
rank correlation to the utterances' error rates.

REF and HYP are data or decoding folders (their file text is read), Kaldi text files
(<utt-id> <words...>), sclite trn files (<words...> (<utt-id>)), or plain files with one sentence
per line, matched by order. If HYP is a .ctm, REF may be a .stm; words are assigned to its segments
by their times, as in sclite. If both are .ctm, the errors of the times are printed, too. A subtitle
file (srt, vtt, tsv, json, TextGrid, labels) is one text, without numbers and times. All rates are
sums over the corpus. Words are aligned by jiwer, which also chooses between alignments of equal
cost.

Examples:
    asr score data/dev exp/mine/decode_dev
    asr score ref.stm hyp.ctm --ignore-case
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from asr.config.args import number
from asr.config.field import at_least
from asr.config.help import Parser
from asr.errors import EXIT_OK, counted, listed
from asr.files import check_folder, check_outputs
from asr.terminal import note, warn
from asr.text.characters import apostrophes, name_of, upper_share
from asr.text.normalize import NORMALIZERS, read_map

if TYPE_CHECKING:
    from asr.score.readers import Source, TranscriptFile
    from asr.score.report import Report
    from asr.score.wer import Score
    from asr.text.normalize import WordMap

_SEEN = "By training"
_OTHER_CASE = 0.5  # a difference in the fraction of upper case that names do not explain


def main(argv: list[str]) -> int:
    """Run ``asr score``; return the exit code."""
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
        from asr.corpus.tables import read_clips

        clips = read_clips(source.path.parent) if _beside(source.path, "wav.scp") else {}
        page.write_page(options.html, found, clips)
    return EXIT_OK


def _report(options: argparse.Namespace, source: "Source") -> "Report":
    """Return all requested results; ``source`` contains the references."""
    from asr.score.alignment import correlate, read_statistics
    from asr.score.compare import compare
    from asr.score.groups import by_confidence, by_length, by_seen, by_speaker
    from asr.score.readers import read_utt2spk
    from asr.score.report import Report
    from asr.score.times import compare_times
    from asr.score.wer import preparation

    mapping = read_map(options.map) if options.map else {}
    ref, hyp, score = _score(options, source, options.hyp, mapping)
    for text in ref.notes:
        warn(f"{options.ref}: {text}")
    utt2spk = options.utt2spk or _beside(source.path, "utt2spk")
    speakers = read_utt2spk(utt2spk) if utt2spk else ref.speakers
    groups = {"By speaker": by_speaker(score, speakers)} if speakers else {}
    groups["By length"] = by_length(score)
    comparison = None
    if options.against:
        comparison = compare(score, _score(options, source, options.against, mapping)[2])
    if options.seen:
        groups[_SEEN] = by_seen(score, _seen_sentences(options, mapping))
    formats = [(options.ref, ref.format), (options.hyp, hyp.format)]
    bins = by_confidence(score, hyp.words) if hyp.words else []
    statistics = correlate(score, read_statistics(options.hyp))
    prepare = preparation(options.normalize, options.ignore_case, {})
    times = compare_times(hyp.words, ref.words, prepare) if hyp.words and ref.words else None
    name, notes = source.set_name, (*ref.notes, *hyp.notes)
    return Report(
        score, name, formats, groups, bins, comparison, notes, speakers, statistics, times
    )


def _score(
    options: argparse.Namespace, source: "Source", name: str, mapping: "WordMap"
) -> "tuple[TranscriptFile, TranscriptFile, Score]":
    """Return references, hypotheses of a file and their error rates; warn of mismatches."""
    from asr.score.readers import open_source, read_pair
    from asr.score.wer import score

    ref, hyp = read_pair(source, open_source(name), options.format)
    result = score(
        ref.texts,
        hyp.texts,
        options.normalize,
        options.mode,
        ignore_case=options.ignore_case,
        mapping=mapping,
    )
    _warn_of(name, hyp, result, options)
    return ref, hyp, result


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of ``asr score``."""
    parser = Parser("asr score", description=__doc__)
    parser.add_argument("ref", metavar="REF", help="references: folder or file")
    parser.add_argument("hyp", metavar="HYP", help="hypotheses: folder or file")
    _add_comparison(parser.add_argument_group("comparison").add_argument)
    _add_tables(parser.add_argument_group("printed results").add_argument)
    _add_files(parser.add_argument_group("written files").add_argument)
    return parser


def _add_comparison(add: Callable[..., object]) -> None:
    text = "format of texts; auto detects it, and the report names it (a .stm or .ctm has its own)"
    add("--format", choices=["auto", "text", "trn", "plain"], default="auto", help=text)
    text = (
        "normalisation of both sides; librispeech: upper case, letters, digits and apostrophes; "
        "whisper: Whisper's rules for numbers and spellings (package whisper-normalizer)"
    )
    add("--normalize", choices=list(NORMALIZERS), default="none", help=text)
    add("--ignore-case", action="store_true", help="treat upper and lower case as equal")
    text = 'replacements on both sides after --normalize: one "from => to" per line'
    add("--map", metavar="FILE", help=text)
    text = (
        "utterances without a hypothesis: all counts their words as deleted, so that an incomplete "
        "decoding does not look good; present ignores them, as Kaldi's recipes do; strict "
        "refuses them"
    )
    add("--mode", choices=["all", "present", "strict"], default="all", help=text)


def _add_tables(add: Callable[..., object]) -> None:
    text = (
        "hypotheses of another system: test whether the difference is significant, with a "
        "bootstrap interval and NIST's matched-pairs test"
    )
    add("--against", metavar="HYP_B", help=text)
    add("--tables", action="store_true", help="also print the rates by speaker and by length")
    text = (
        "data directory or transcripts of a training: also print the rates of the sentences that "
        "occur in it and of the others, compared without case and punctuation; may be repeated"
    )
    add("--seen", metavar="TRAIN", action="append", help=text)
    text = "speaker of each utterance (default: utt2spk in the folder of REF)"
    add("--utt2spk", metavar="FILE", help=text)
    text = "number of utterances to show, those with the most errors first"
    add("--worst", type=number(int, at_least(0)), default=5, help=text)
    add("--json", action="store_true", help="print JSON; rates are fractions")
    add("--no-color", action="store_true", help="print no colours")


def _add_files(add: Callable[..., object]) -> None:
    text = "also write a page with all errors, and with the audio if REF is a data directory"
    add("--html", metavar="FILE", help=text)
    text = "also write Kaldi's files: wer_<tag>, cer_<tag> (without spaces), scoring_kaldi"
    add("-o", "--out", metavar="DECODE_DIR", help=text)
    add("--tag", default="0_0.0", help="with --out: <lm-weight>_<penalty> in the names")


def _seen_sentences(options: argparse.Namespace, mapping: "WordMap") -> set[str]:
    """Return the keys of the training sentences, normalised as the references are."""
    from asr.score.readers import read_sentences
    from asr.score.wer import preparation
    from asr.text.normalize import sentence_key

    prepare = preparation(options.normalize, options.ignore_case, mapping)
    seen = set()
    for name in options.seen:
        sentences, kind = read_sentences(name)
        note(f"{name} ({kind}): {len(sentences)} sentences seen in training")
        seen |= {sentence_key(prepare(text)) for text in sentences}
    return seen


def _beside(path: Path, name: str) -> Path | None:
    """Return another table of a data directory, if the references are its text."""
    found = path.parent / name
    return found if path.name == "text" and found.is_file() else None


def _warn_of(
    name: str, hyp: "TranscriptFile", result: "Score", options: argparse.Namespace
) -> None:
    """Warn of hypotheses in a file that do not match the references."""
    notes = [*hyp.notes, *([] if any(result.refs) else ["no reference has a word"])]
    if result.missing:
        count = counted(len(result.missing), "utterance")
        notes.append(f"no hypothesis for {count} ({listed(result.missing)}); mode {options.mode}")
    if result.unknown:
        count = counted(len(result.unknown), "utterance")
        notes.append(f"not in {options.ref}, not scored: {count} ({listed(result.unknown)})")
    for text in filter(None, (*notes, _other_apostrophes(result), _other_case(result))):
        warn(f"{name}: {text}")


def _other_case(result: "Score") -> str:
    """Return a warning if one side is in upper case and the other one is not, else ""."""
    shares = [upper_share(" ".join(texts)) for texts in (result.refs, result.hyps)]
    if abs(shares[0] - shares[1]) <= _OTHER_CASE:
        return ""
    return (
        f"{shares[1]:.0%} of the letters are in upper case, {shares[0]:.0%} in the references; "
        "case differences count as errors, unless you use --ignore-case"
    )


def _other_apostrophes(result: "Score") -> str:
    """Return a warning if the two sides have different apostrophes, else ""."""
    refs, hyps = (apostrophes(" ".join(texts)) for texts in (result.refs, result.hyps))
    if not (refs and hyps) or refs.keys() == hyps.keys():
        return ""
    kinds = [" ".join(map(name_of, sorted(found))) for found in (refs, hyps)]
    return (
        f"apostrophes are {kinds[0]} in the references and {kinds[1]} in the hypotheses; "
        "--normalize librispeech makes them the same"
    )
