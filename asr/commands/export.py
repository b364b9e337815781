"""Write a copy of a model, to pass on.

In float16 and int8, it is smaller than the file of a training. It is used like any other model; its
weights become float32 when it is loaded.

Examples:
    asr export exp/mine -o mine.safetensors --dtype int8
    asr export exp/mine -o mine.safetensors --search exp/tuned.yaml
"""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asr.config import DecodeConfig
from asr.config.help import Parser
from asr.config.read import from_dict, load_yaml
from asr.errors import InputError
from asr.files import check_outputs
from asr.store.export import export_model
from asr.store.find import MODEL, find_model
from asr.terminal import warn


def main(argv: list[str]) -> int:
    """Run ``asr export``; return the exit code."""
    parser = Parser("asr export", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="the file to write")
    text = "number format of the weights; float16 halves the file size, int8 quarters it"
    dtypes = ("float32", "float16", "int8")
    parser.add_argument("--dtype", choices=dtypes, default="float16", help=text)
    text = (
        "an entry of the model card, which `asr models` shows: hears (the speech that it is for), "
        "languages, wer, licence, data, or any other; may be repeated"
    )
    parser.add_argument("--info", action="append", default=[], metavar="KEY=VALUE", help=text)
    text = "YAML file with search settings, for example of `asr tune`: the defaults of this model"
    parser.add_argument("--search", metavar="FILE", help=text)
    args = parser.parse_args(argv)
    check_outputs([args.out], [args.search, find_model(args.model)])
    search = search_from(args.search) if args.search else None
    done = export_model(args.model, args.out, args.dtype, facts_from(args.info), search)
    print(
        f"{done.path}: {args.dtype}, {done.size / 1e6:.2f} MB, before: "
        f"{done.size_before / 1e6:.2f} MB; largest rounding error of a weight: {done.error:.2g} "
        f"(in {done.where}, whose largest weight is {done.largest:.2g})"
    )
    if done.size > done.size_before:
        warn(f"{done.path}: larger than the original, whose weights have fewer bits")
    return 0


def facts_from(arguments: Iterable[str]) -> dict[str, str]:
    """Return arguments of the form "key=value" as a dictionary.

    Raises:
        InputError: an argument does not have this form.
    """
    facts = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not (key.strip() and equals and value.strip()):
            raise InputError(f'--info {argument!r}: expected key=value, such as "licence=MIT"')
        facts[key.strip()] = value.strip()
    return facts


def search_from(path: str | Path) -> dict[str, Any]:
    """Return the search settings of a YAML file, for the header of a model.

    Raises:
        InputError: the file has no search settings, or names a language model or hot words, which
            are not part of a model.
    """
    values = load_yaml(path)
    settings = asdict(from_dict(DecodeConfig, values, str(path)))
    if settings["hotwords"]:
        raise InputError(
            f"{path}: hotwords is a file of this machine, which a model cannot contain; remove the "
            "line, and use --hotwords with the model"
        )
    if settings["lm_weight"] != 0 and (settings["lm"] or settings["word_lm"]):
        raise InputError(
            f"{path}: settings with a language model, which a model cannot contain; expected "
            "settings without one (`asr tune --no-lm`)"
        )
    left_out = ("lm", "word_lm", "lm_weight", "hotwords")
    return {name: settings[name] for name in values if name not in left_out}
