"""Write the time of each word of a data directory as CTM.

Each line is <utterance> 1 <start> <duration> <word>, in seconds from the beginning of the
utterance. CTC or attention gives the first times, and a Gaussian for each character refines them.
The Gaussians are estimated from these utterances if 30 or more have transcripts; with fewer, or
with --recognize, they are those of the model if it has them, as in `asr decode` and `asr
transcribe`. With --ctm, the errors from another CTM are printed; `asr score` compares two such
files.

Examples:
    asr align data/dev --model exp/mine -o dev.ctm
    asr align data/dev --model exp/mine -o dev.ctm --ctm true.ctm

Exit codes: 0 done, 1 some utterances failed and the others were written, 2 bad input or usage, 70 a
mistake in asr itself.
"""

from dataclasses import asdict, replace

from asr.commands.transcribe import files_read, parse_search
from asr.config import DecodeConfig
from asr.config.args import make_parser
from asr.config.read import from_dict
from asr.corpus.datadir import DataDir
from asr.errors import EXIT_OK, EXIT_SOME_FAILED, InputError
from asr.files import check_not_read, check_outputs, write_text
from asr.store.find import MODEL, search_settings
from asr.terminal import note
from asr.text.timed import ctm_lines, read_ctm


def main(argv: list[str]) -> int:
    """Run ``asr align``; return the exit code."""
    parser = make_parser("asr align", __doc__)
    add = parser.add_argument
    add("data", metavar="DATA_DIR", help="Kaldi data directory")
    add("--model", required=True, help=MODEL)
    add("-o", "--out", required=True, metavar="FILE", help="CTM file to write")
    add("--ctm", metavar="FILE", help="reference times to compare with")
    add("--recognize", action="store_true", help="align hypotheses of a search, not transcripts")
    add("--by", choices=("ctc", "attention"), default="ctc", help="source of the times")
    text = "keep these times; otherwise Gaussians of the characters refine them"
    add("--no-refine", action="store_true", help=text)
    config, args = parse_search(parser, argv)
    if not args.recognize:
        _check_unread(config, from_dict(DecodeConfig, search_settings(args.model)))
    check_outputs([args.out], [args.ctm, *files_read(args, config)])

    from asr.commands.machine import machine
    from asr.loading import load_for_utterances
    from asr.recognize.forced import align, ctm_words
    from asr.score.times import compare_times

    with machine(args.threads, args.precision, args.device):
        expected = read_ctm(args.ctm) if args.ctm else None
        recognizer = load_for_utterances(args.model, args.device, config)
        utterances = DataDir.load(args.data, text=not args.recognize).utterances
        check_not_read([args.out], (u.wav for u in utterances))
        options = {"recognize": args.recognize, "by": args.by, "refined": not args.no_refine}
        words = align(recognizer, args.data, utterances, **options)
        found = {name: ctm_words(name, each) for name, each in words}
    write_text(args.out, "".join(ctm_lines(found[name]) for name in sorted(found)))
    note(f"{args.out}: {len(found)} of {len(utterances)} utterances")
    if expected is not None:
        known = {u.id for u in utterances}
        print(compare_times(found, {k: v for k, v in expected.items() if k in known}).render())
    return EXIT_OK if len(found) == len(utterances) else EXIT_SOME_FAILED


def _check_unread(config: DecodeConfig, own: DecodeConfig) -> None:
    """Raise InputError if a setting of the search differs from the model's.

    Without a search, the number of utterances in a batch is the only setting that is read.
    """
    for name, value in asdict(replace(config, batch=own.batch)).items():
        if value != getattr(own, name):
            raise InputError(
                f"{name} = {value}: only a search reads it; add --recognize, or take it out of the "
                "command and its --config file"
            )
