"""Fit the confidences and flags of a model on transcribed recordings.

Learns from a data directory how often texts and words of a given probability are right, and the
Gaussians of the characters, which refine the times of words. Writes a copy of the model with both,
and a reliability diagram beside it. Use recordings that the model was not trained on.

Examples:
    asr calibrate exp/mine data/dev -o mine.safetensors
"""

from pathlib import Path

from asr.commands.transcribe import files_read, parse_search
from asr.config.args import make_parser
from asr.explain.pictures import draw_reliability
from asr.files import beside, check_outputs
from asr.recognize.calibrate import Report, calibrate
from asr.recognize.confidence import MIN_CONFIDENCE
from asr.store.find import MODEL


def main(argv: list[str]) -> int:
    """Run ``asr calibrate``; return the exit code."""
    parser = make_parser("asr calibrate", __doc__)
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("data", metavar="DATA_DIR", help="Kaldi data directory with transcripts")
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="model to write")
    config, args = parse_search(parser, argv)

    from asr.commands.machine import machine
    from asr.loading import load_for_utterances

    target = Path(args.out)
    picture = beside(target, ".reliability.png")
    check_outputs([target, picture], [args.data, *files_read(args, config)])
    with machine(args.threads, args.precision, args.device):
        recognizer = load_for_utterances(args.model, args.device, config)
        report, texts, words = calibrate(recognizer, args.data, args.out)
    draw_reliability(texts, words, picture)
    print(
        f"{args.out}: {report.utterances} utterances of {args.data}, {report.correct} of them "
        f"right; {report.left_out} left out\n"
        f"expected calibration error {100 * report.error:.1f} %; confidence is below "
        f"{MIN_CONFIDENCE} for {100 * report.low_wrong:.0f} % of the wrong texts and "
        f"{100 * report.low_correct:.0f} % of the right ones (cross-validated over speakers, or "
        "over the utterances of a single one)\n"
        f"words: {report.words}, {report.words_correct} of them right; expected calibration error "
        f"{100 * report.words_error:.1f} %\n"
        f"{_flagged(report)}\n"
        f"{picture}: reliability diagram"
    )
    return 0


def _flagged(report: Report) -> str:
    """Return the rates of flagged texts among the wrong and the right ones."""
    right = f"{100 * report.flagged_correct:.0f} % of the right texts"
    if report.flagged_useless is None:
        return f"flagged: {right}; no text has more than half of its words wrong"
    wrong = f"{100 * report.flagged_useless:.0f} % of the {report.useless} texts"
    return f"flagged: {wrong} with more than half of their words wrong, {right}"
