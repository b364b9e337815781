"""Decode a data directory.

Writes text, results.jsonl (n-best list, confidence, times, statistics of the alignment), flags and
decode.json into the --out folder, and prints the means of the statistics. After an interruption,
the same command continues. Search settings default to those stored in the model. If a search fails
(attention repeats, stops early or leaves a gap), a second one has twice the beam and a coverage
weight of 0.5. The times of words come from CTC, or from attention in a model without CTC; Gaussians
of the characters, which a training estimates from its dev set, refine those of CTC.

Examples:
    asr decode --model exp/mine --data data/dev --out exp/mine/decode_dev
    asr decode --model exp/mine --data data/dev --out exp/nbest --nbest 24
    asr decode --model exp/mine --data data/dev --out exp/dev --part 3/8
    asr decode --data data/dev --out exp/dev --merge

Exit codes: 0 done, 1 some utterances failed and the others were written, 2 bad input or usage, 70 a
mistake in asr itself.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.config import DecodeConfig
from asr.config.args import add_machine_options, add_settings, from_args, make_parser
from asr.errors import EXIT_OK, EXIT_SOME_FAILED, InputError
from asr.store.find import MODEL, search_settings
from asr.terminal import note, print_error

if TYPE_CHECKING:
    from asr.recognize.directory import Results


def main(argv: list[str]) -> int:
    """Run ``asr decode``; return the exit code."""
    parser = make_parser("asr decode", __doc__)
    add = parser.add_argument
    add("--model", help=MODEL)
    add("--data", required=True, metavar="DIR", help="Kaldi data directory")
    add("-o", "--out", required=True, metavar="DIR", help="folder for the results")
    text = "decode part I of N alone, into the folder splitN/I of --out; a finished part is kept"
    add("--part", metavar="I/N", help=text)
    add("--merge", action="store_true", help="merge the parts into --out, without --model")
    add_machine_options(parser)
    add_settings(parser, DecodeConfig)
    config, args = from_args(
        DecodeConfig, parser, argv, lambda o: search_settings(o.model) if o.model else {}
    )
    if args.merge:
        return _merge(args)
    if not args.model:
        parser.error("the following arguments are required: --model")

    from asr.commands.machine import machine
    from asr.console import progress
    from asr.loading import load_for_utterances
    from asr.model.fast.product import precision_in_use
    from asr.recognize.directory import Decoding, check_out

    part = _part(args.part) if args.part else None
    check_out(args.out)
    with machine(args.threads, args.precision, args.device) as threads:
        recognizer = load_for_utterances(args.model, args.device, config)
        decoding = Decoding(recognizer, args.data, args.out, part, precision_in_use())
        if part and decoding.done():
            note(f"{decoding.out}: this part is decoded already")
            return EXIT_OK
        try:
            with progress(f"decoding {decoding.data}") as report:
                decoding.run(report, threads)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("run the same command to go on") from None
    return _report(decoding.out, decoding.results, decoding.errors)


def _merge(args: Any) -> int:
    """Merge the parts of a decoding; return the exit code."""
    from asr.recognize.parts import merge

    if args.part or args.model:
        raise InputError("--merge: takes neither --part nor --model; leave them out")
    results, summary = merge(args.data, Path(args.out))
    return _report(Path(args.out), results, summary["errors"])


def _part(text: str) -> tuple[int, int]:
    """Parse ``I/N``; raise InputError if it is something else."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    number, parts = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= parts:
        raise InputError(f"--part {text}: expected I/N, for example 1/4 to 4/4")
    return number, parts


def _report(out: Path, results: "Results", errors: dict[str, str]) -> int:
    """Print errors and a summary; return the exit code."""
    from asr.recognize.directory import mean_alignment

    for name, error in errors.items():
        print_error(f"asr decode: {name}: {error}")
    print(f"{out}/text: {len(results)} of {len(results) + len(errors)} utterances")
    alignment = mean_alignment(results)
    if alignment is not None:
        print(f"alignment: {alignment}")
    return EXIT_SOME_FAILED if errors else EXIT_OK
