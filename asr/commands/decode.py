"""Decode a data directory.

Writes text, results.jsonl (n-best list, confidence, times and numbers of the alignment of each
utterance), flags (the flagged utterances) and decode.json into the --out folder, and prints the
means of the numbers. After an interruption, the same command continues. Search settings default to
those stored in the model.

Examples:
    asr decode --model exp/mine --data data/dev --out exp/mine/decode_dev
    asr decode --model exp/mine --data data/dev --out exp/nbest --nbest 24

Exit codes: 0 done, 1 some utterances failed and the others were written, 2 bad input or usage.
"""

from asr.config import DecodeConfig
from asr.config.args import add_machine_options, add_settings, from_args, make_parser
from asr.errors import EXIT_SOME_FAILED
from asr.store.find import search_settings


def main(argv: list[str]) -> int:
    """Run ``asr decode``; return the exit code."""
    parser = make_parser("asr decode", __doc__)
    text = "folder of a training, model file, or a name of `asr models`"
    parser.add_argument("--model", required=True, help=text)
    parser.add_argument("--data", required=True, metavar="DIR", help="Kaldi data directory")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    add_machine_options(parser)
    add_settings(parser, DecodeConfig)
    config, args = from_args(DecodeConfig, parser, argv, lambda o: search_settings(o.model))

    from rich.markup import escape

    from asr.commands.machine import machine
    from asr.console import Console, Progress
    from asr.loading import load_for_utterances
    from asr.recognize.directory import Decoding, check_out
    from asr.terminal import print_error

    check_out(args.out)
    with machine(args.threads, args.precision) as threads:
        recognizer = load_for_utterances(args.model, args.device, config)
        decoding = Decoding(recognizer, args.data, args.out)
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task(escape(f"decoding {args.data}"), total=len(decoding.utterances))
            decoding.run(lambda done, total: bar.update(task, completed=done, total=total), threads)
        for name, error in decoding.errors.items():
            print_error(f"asr decode: {name}: {error}")
        print(f"{args.out}/text: {len(decoding.results)} of {len(decoding.utterances)} utterances")
        if decoding.alignment is not None:
            print(f"alignment: {decoding.alignment}")
        return EXIT_SOME_FAILED if decoding.errors else 0
