r"""Choose the weights of a search on the n-best lists of a dev set.

Searches a grid of ctc_weight, lm_weight and length_bonus for the lowest word error rate. Nothing is
decoded again, because the rates follow from the scores in the lists. With --lm or --word-lm (and
--tokens), the lists are scored with these language models first. If no weights are better than
those of the decoding, these are kept. The language model of the decoding stays, unless another one
is named. The result is a file for the option --config of `asr decode`.

Examples:
    asr tune data/dev exp/mine/nbest --no-lm --out exp/tuned.yaml
    asr tune data/dev exp/mine/nbest --word-lm exp/words.arpa \
        --tokens data/tokens.txt --out exp/tuned.yaml
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.commands.lm import add_lm_options
from asr.config import DecodeConfig
from asr.config.args import number
from asr.config.field import at_least
from asr.config.help import Parser
from asr.config.read import from_dict, load_yaml, to_dict
from asr.errors import InputError
from asr.files import beside, check_outputs, write_json, write_text
from asr.terminal import note, warn

if TYPE_CHECKING:
    from asr.tune.grid import GridSearch
    from asr.tune.nbest import NBestLists

LM_SETTINGS = ("lm", "word_lm", "lm_share", "oov_penalty")
FEW_WORDS = 200  # of references


def main(argv: list[str]) -> int:
    """Run ``asr tune``; return the exit code."""
    args = _options(argv)
    settings = load_yaml(args.config) if args.config else {}
    from_dict(DecodeConfig, settings, args.config or "")
    rescoring = bool(args.lm or args.word_lm)
    if rescoring and (args.no_lm or not args.tokens):
        problem = "exclude --no-lm" if args.no_lm else "need --tokens, the recogniser's tokens.txt"
        raise InputError(f"--lm and --word-lm {problem}")
    out = Path(args.out)
    results = [out, beside(out, ".json"), beside(out, ".png")]
    files = (args.lm, args.word_lm, args.tokens, args.config)
    check_outputs(results, [args.references, *args.decodings, *files])

    import yaml

    from asr.tune.grid import search_grid
    from asr.tune.nbest import read_lists
    from asr.tune.picture import draw

    lists = read_lists(args.references, args.decodings)
    if rescoring:
        settings |= {key: getattr(args, key) for key in LM_SETTINGS}
        lists = _rescored(lists, from_dict(DecodeConfig, settings), args.tokens)
    result = search_grid(lists, lm=not args.no_lm)
    if (words := lists.words // len(args.decodings)) < FEW_WORDS:
        warn(f"chosen on {words} words: fewer than {FEW_WORDS} show little but chance")
    decoded, with_lm = _decoded(args.decodings[0]), len(result.lm_weights) > 1
    if decoded.get("hotwords") or decoded.get("coverage_weight"):
        warn(f"{args.decodings[0]}: the grid leaves out the scores of hot words and of coverage")
    had_lm = bool(decoded.get("lm") or decoded.get("word_lm"))
    if with_lm and not rescoring and had_lm:
        settings = {key: decoded[key] for key in LM_SETTINGS} | settings
    chosen = _choose(result, lists, decoded if with_lm == had_lm and not rescoring else {})
    write_text(out, yaml.safe_dump({**settings, **chosen}, sort_keys=False))
    write_json(results[1], {"chosen": chosen, **result.table(lists)})
    draw(result, lists, results[2])
    print(_report(lists, result))
    print(out)
    return 0


def _decoded(folder: str) -> dict[str, Any]:
    """Return the search settings of a decoding; nothing if they are unknown."""
    try:
        config = json.loads((Path(folder) / "decode.json").read_text("utf-8"))["config"]
        settings = to_dict(DecodeConfig()) | dict(config)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return settings if settings["lm"] or settings["word_lm"] else settings | {"lm_weight": 0.0}


def _choose(result: "GridSearch", lists: "NBestLists", decoded: dict[str, Any]) -> dict[str, float]:
    """Return the best weights, or those of the decoding, if they are known and none are better."""
    chosen = result.settings()
    if decoded and result.rates[result.best] >= lists.first:
        note("the best of the grid is no better than the weights of the decoding, which are kept")
        return {name: decoded[name] for name in chosen}
    for edge in result.edges():
        warn(f"{edge} is the highest value that was tried; a higher one may be better")
    return chosen


def _options(argv: list[str]) -> argparse.Namespace:
    parser = Parser("asr tune", description=__doc__)
    add = parser.add_argument
    add("references", metavar="REF", help="data directory of the dev set, or its text")
    add("decodings", nargs="+", metavar="DECODE_DIR", help="folders of `asr decode --nbest 24`")
    add("--no-lm", action="store_true", help="leave the language model out")
    add_lm_options(parser, tokens=False)
    penalty = number(float, at_least(0))
    add("--oov_penalty", type=penalty, default=0.0, help="see `asr decode --help`")
    add("--config", metavar="FILE", help="search settings, of which only the tuned ones change")
    add("-o", "--out", required=True, metavar="FILE", help="YAML file; also writes .json and .png")
    return parser.parse_args(argv)


def _rescored(lists: "NBestLists", config: DecodeConfig, tokens: str) -> "NBestLists":
    """Return the lists with the scores of other language models."""
    from asr.lm.perplexity import perplexity
    from asr.loading import open_lm
    from asr.text.tokenizer import CharTokenizer

    tokenizer = CharTokenizer.from_file(tokens)
    model = open_lm(replace(config, lm_weight=1.0), tokenizer)
    assert model is not None
    unique = sorted({text for texts in lists.texts for text in texts})
    found = perplexity(model, unique, tokenizer)
    return lists.with_lm({text: log_prob for log_prob, text in found.sentences})


def _report(lists: "NBestLists", result: "GridSearch") -> str:
    """Return the word error rates and the chosen weights as a table."""
    header = "  ".join(f"{name:>12}" for name in result.settings())
    lines = [
        f"{len(lists.texts)} lists of {lists.mean_length:.1f} hypotheses, {lists.words} words",
        f"{'':22}  WER, %  {header}",
        f"{'as decoded':22}  {100 * lists.first:6.2f}",
    ]
    points = {"best without LM": result.without_lm(), "best": result.best}
    for name in list(points)[len(result.lm_weights) == 1 :]:
        values = "  ".join(f"{v:12g}" for v in result.settings(points[name]).values())
        lines.append(f"{name:22}  {100 * result.rates[points[name]]:6.2f}  {values}")
    lines.append(f"{'oracle':22}  {100 * lists.oracle:6.2f}")
    return "\n".join(lines)
