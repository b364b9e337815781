"""``asr calibrate``: teach a model how sure it may be, on recordings with transcripts."""

from pathlib import Path

from asr.config import DecodeConfig
from asr.config.args import add_machine_options, add_settings, config_files, from_args, make_parser
from asr.explain.pictures import draw_reliability
from asr.files import beside, check_outputs
from asr.recognize.calibrate import Report, calibrate
from asr.recognize.confidence import MIN_CONFIDENCE
from asr.store.find import find_model, search_settings


def main(argv: list[str]) -> int:
    """Parse the command line and calibrate."""
    parser = make_parser(
        "asr calibrate",
        "Fit how sure a model may be of texts and words, from how probable it finds those of a "
        "data directory and which of them are right. Writes a copy of the model that says so, and "
        "a picture beside it. Take recordings that the model was not trained on.",
    )
    parser.add_argument("model", help="folder of a training, model file, or a name of `asr models`")
    parser.add_argument("data", help="Kaldi data directory with transcripts")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="model to write")
    add_machine_options(parser)
    add_settings(parser, DecodeConfig)
    config, args = from_args(DecodeConfig, parser, argv, lambda o: search_settings(o.model))

    from asr.commands.machine import machine
    from asr.loading import load_for_utterances

    target = Path(args.output)
    picture = beside(target, ".reliability.png")
    read = (args.data, config.lm, config.word_lm, config.hotwords, find_model(args.model))
    check_outputs([target, picture], [*read, *config_files(args)])
    with machine(args.threads, args.precision):
        recognizer = load_for_utterances(args.model, args.device, config)
        report, texts, words = calibrate(recognizer, args.data, args.output)
    draw_reliability(texts, words, picture)
    print(
        f"{args.output}: {report.utterances} utterances of {args.data}, {report.right} of them "
        f"right; {report.left_out} left out\n"
        f"expected calibration error {100 * report.error:.1f} %; below {MIN_CONFIDENCE} are "
        f"{100 * report.low_wrong:.0f} % of the wrong texts and "
        f"{100 * report.low_right:.0f} % of the right ones (of speakers held out)\n"
        f"words: {report.words}, {report.words_right} of them right; expected calibration error "
        f"{100 * report.words_error:.1f} %\n"
        f"{_flagged(report)}\n"
        f"{picture}: confidence and truth"
    )
    return 0


def _flagged(report: Report) -> str:
    """How well the flags do."""
    right = f"{100 * report.flagged_right:.0f} % of the right texts"
    if report.flagged_useless is None:
        return f"flags: {right}; no text is wrong in more than half of its words"
    wrong = f"{100 * report.flagged_useless:.0f} % of the {report.useless} texts"
    return f"flags: {wrong} that are wrong in more than half of their words, {right}"
