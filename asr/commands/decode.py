"""``asr decode``: recognise a data directory."""

import sys

from asr.config import DecodeConfig
from asr.config.args import add_machine_options, add_settings, from_args, make_parser
from asr.errors import EXIT_SOME_FAILED
from asr.store.find import search_settings


def main(argv: list[str]) -> int:
    """Parse the command line and decode."""
    parser = make_parser(
        "asr decode",
        "Decode a data directory. Writes text, results.jsonl (all there is about each utterance, "
        "with its n-best list), flags (suspicious utterances) and decode.json into the --out "
        "folder; interrupted, the same command goes on. Search settings that are not given are "
        "those that come with the model.",
    )
    parser.add_argument(
        "--model", required=True, help="folder of a training, model file, or a name of `asr models`"
    )
    parser.add_argument("--data", required=True, help="Kaldi data directory")
    parser.add_argument("--out", required=True, help="folder for the results")
    add_machine_options(parser)
    add_settings(parser, DecodeConfig)
    config, args = from_args(DecodeConfig, parser, argv, lambda o: search_settings(o.model))

    from rich.markup import escape

    from asr.commands.machine import machine
    from asr.console import Console, Progress
    from asr.loading import load_for_utterances
    from asr.recognize.directory import Decoding, check_out

    check_out(args.out)
    with machine(args.threads, args.precision) as threads:
        recognizer = load_for_utterances(args.model, args.device, config)
        decoding = Decoding(recognizer, args.data, args.out)
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task(escape(f"decoding {args.data}"), total=len(decoding.utterances))
            decoding.run(lambda done, total: bar.update(task, completed=done, total=total), threads)
        for name, error in decoding.errors.items():
            print(f"asr decode: {name}: {error}", file=sys.stderr)
        print(f"{args.out}/text: {len(decoding.results)} of {len(decoding.utterances)} utterances")
        return EXIT_SOME_FAILED if decoding.errors else 0
