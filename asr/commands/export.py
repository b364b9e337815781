"""``asr export``: a smaller model file, to pass on."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asr.config import DecodeConfig
from asr.config.help import Parser
from asr.config.read import from_dict, load_yaml
from asr.errors import InputError
from asr.store.export import export_model


def main(argv: list[str]) -> int:
    """Parse the command line and export."""
    parser = Parser(
        prog="asr export",
        description="Write a smaller copy of a model, to pass on. It is used as any model is; "
        "weights are float32 again once it is loaded.",
    )
    parser.add_argument("model", help="folder of a training, model file, or a name of `asr models`")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the file to write")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "int8"),
        default="float16",
        help="how weights are stored: float16 halves the file, int8 makes a quarter of it "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--info",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a fact for the model's card, which `asr models` shows: hears, languages, wer, "
        "licence, data, or any other; may be given several times",
    )
    parser.add_argument(
        "--search",
        metavar="FILE",
        help="YAML file with settings of asr decode, such as asr tune writes: asr transcribe will "
        "take them for this model where none are given",
    )
    args = parser.parse_args(argv)
    search = search_from(args.search) if args.search else None
    done = export_model(args.model, args.output, args.dtype, facts_from(args.info), search)
    print(
        f"{done.path}: {args.dtype}, {done.size / 1e6:.2f} MB of {done.size_before / 1e6:.2f}; "
        f"a weight is off by {done.error:.2g} at most (in {done.where}, whose largest is "
        f"{done.largest:.2g})"
    )
    return 0


def facts_from(arguments: Iterable[str]) -> dict[str, str]:
    """``key=value`` arguments as a dictionary.

    Raises:
        InputError: one of them is not of this form.
    """
    facts = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not (key.strip() and equals and value.strip()):
            raise InputError(f'--info {argument!r}: expected key=value, such as "licence=MIT"')
        facts[key.strip()] = value.strip()
    return facts


def search_from(path: str | Path) -> dict[str, Any]:
    """Search settings from a file such as `asr tune` writes, to go into a model file.

    Raises:
        InputError: it is not such a file, or names a language model or hot words, which would
            stay behind.
    """
    values = load_yaml(path)
    settings = asdict(from_dict(DecodeConfig, values, str(path)))
    if settings["hotwords"]:
        raise InputError(
            f"{path}: with hotwords, a file that stays on this machine; remove that line, and name "
            "hot words when the model is used"
        )
    if settings["lm_weight"] != 0 and (settings["lm"] or settings["word_lm"]):
        raise InputError(
            f"{path}: with a language model, which a model file cannot hold; expected settings "
            "without one (`asr tune --no-lm`)"
        )
    left_out = ("lm", "word_lm", "lm_weight", "hotwords")
    return {name: settings[name] for name in values if name not in left_out}
