"""List the models of this installation, or print the card of one.

Their names can be used wherever a model is expected.

Examples:
    asr models
    asr models an4
"""

import json
from dataclasses import asdict
from pathlib import Path

from asr.config.help import Parser
from asr.store.find import (
    DEFAULT,
    Description,
    bundled_file,
    describe,
    find_model,
    names,
    read_card,
)
from asr.terminal import print_error

_FACTS = {"hears": "hears", "languages": "languages", "wer": "WER", "licence": "licence"}


def main(argv: list[str]) -> int:
    """Run ``asr models``; return the exit code."""
    parser = Parser("asr models", description=__doc__)
    text = "a name of the list, a model file, or the folder of a training"
    parser.add_argument("model", nargs="?", metavar="MODEL", help=text)
    parser.add_argument("--json", action="store_true", help="print JSON: a list, or one object")
    args = parser.parse_args(argv)
    if args.model is None:
        return _list(as_json=args.json)
    path = find_model(args.model)
    if args.json:
        print(json.dumps(asdict(describe(path)), indent=2, ensure_ascii=False))
    else:
        print((read_card(path) or "\n".join(render(describe(path)))).rstrip())
    return 0


def _list(*, as_json: bool) -> int:
    found = [describe(path) for path in map(bundled_file, names()) if path]
    if as_json:
        print(json.dumps([asdict(model) for model in found], indent=2, ensure_ascii=False))
    elif found:
        print("\n\n".join("\n".join(render(model)) for model in found))
    else:
        print_error("no model comes with this installation; train one with `asr train`")
    return 0


def render(model: Description) -> list[str]:
    """Return the lines of a description: the name, and one line for each fact."""
    known = {label: model.card[key] for key, label in _FACTS.items() if key in model.card}
    others = {key: value for key, value in model.card.items() if key not in _FACTS}
    facts = {
        **known,
        **others,
        "characters": f"{len(model.characters)}: {model.characters}",
        "parameters": f"{model.parameters / 1e6:.2f} M",
        "size": f"{model.size / 1e6:.2f} MB ({model.storage})",
        "confidence": "yes" if model.confidence else "no (`asr calibrate` adds it)",
    }
    width = max(map(len, facts))
    title = f"{model.name} (default)" if Path(model.path) == bundled_file(DEFAULT) else model.name
    return [title, *(f"  {label:{width}}  {value}" for label, value in facts.items())]
