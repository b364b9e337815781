"""``asr tune``: the weights of a search, chosen on a dev set from its n-best lists.

One decoding with long lists keeps the scores of the decoder, of CTC and of the language model
apart. Here the lists are put in order anew for every point of a grid of weights, which takes
one sum per point instead of one decoding. ``asr decode --config`` reads what comes out.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from asr.config import DecodeConfig, from_dict, load_yaml, real
from asr.config.field import at_least, share_below
from asr.errors import InputError
from asr.figures import own_settings, write_png
from asr.files import beside, check_outputs, write_json, write_text
from asr.score.readers import open_source, read_pair
from asr.score.wer import count_words, errors
from asr.text.transcripts import read_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = npt.NDArray[np.float64]
CTC_WEIGHTS = np.arange(0, 21) / 20
LM_WEIGHTS = np.array([0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0])
BONUSES = np.arange(0, 21) / 5
NBEST = "nbest.jsonl"
SCORES = {"decoder": "attention_score", "ctc": "ctc_score", "lm": "lm_score"}  # to older names
LM_SETTINGS = ("lm", "word_lm", "lm_share", "oov_penalty")
SETTINGS = ("ctc_weight", "lm_weight", "length_bonus")


@dataclass(frozen=True)
class Lists:
    """The n-best lists of N utterances, K entries each; the short ones end in entries of -inf."""

    errors: npt.NDArray[np.int64]
    """Word errors of each entry, (N, K)."""
    attention: Array
    """Log-probability by the decoder, (N, K)."""
    ctc: Array
    """By CTC, (N, K)."""
    lm: Array
    """By the language model, (N, K)."""
    lengths: Array
    """Characters, (N, K)."""
    words: int
    """Words of the references."""
    texts: tuple[tuple[str, ...], ...]
    """The hypotheses of each utterance."""

    def with_lm(self, scores: Mapping[str, float]) -> "Lists":
        """The same lists with the scores of another language model, by text."""
        lm = self.lm.copy()
        for row, texts in zip(lm, self.texts, strict=True):
            row[: len(texts)] = [scores[text] for text in texts]
        return replace(self, lm=lm)

    @property
    def oracle(self) -> float:
        """Word error rate if the best entry of each list were taken."""
        worst = np.iinfo(np.int64).max
        best = np.where(np.isinf(self.attention), worst, self.errors).min(1)
        return float(best.sum() / self.words)

    @property
    def first(self) -> float:
        """Word error rate of the first entries."""
        return float(self.errors[:, 0].sum() / self.words)


@dataclass(frozen=True)
class Sweep:
    """Word error rates over a grid."""

    ctc_weights: Array
    lm_weights: Array
    bonuses: Array
    rates: Array
    """(CTC weights, LM weights, bonuses)."""
    best: tuple[int, int, int]
    """Where the best point lies."""

    def settings(self) -> dict[str, float]:
        """The best point, as DecodeConfig names it."""
        return self.at(self.best)

    def at(self, point: tuple[int, int, int]) -> dict[str, float]:
        """The settings of a point."""
        axes = (self.ctc_weights, self.lm_weights, self.bonuses)
        values = (float(axis[i]) for axis, i in zip(axes, point, strict=True))
        return dict(zip(SETTINGS, values, strict=True))

    def without_lm(self) -> tuple[int, int, int]:
        """The best point without the language model, whose first weight is 0."""
        c, _, b = best_point(self.rates[:, :1])
        return c, 0, b

    def edges(self) -> list[str]:
        """Settings of the best point at an end of their range beyond which others lie."""
        ends = {"length_bonus": self.bonuses[[0, -1]]}
        if len(self.lm_weights) > 1:
            ends["lm_weight"] = self.lm_weights[-1:]
        chosen = self.settings()
        return [f"{k} = {chosen[k]:g}" for k, values in ends.items() if chosen[k] in values]


def read_lists(references: str | Path, decodings: Sequence[str | Path]) -> Lists:
    """The lists of decodings, those of one after those of another, with the errors of entries.

    Args:
        references: data directory, or text file.
        decodings: folders of ``asr decode``: of one model, or of several that differ in their
            seed and are to share their weights.

    Raises:
        InputError: a file is missing or damaged, or an utterance has no reference.
    """
    source = open_source(references)
    texts = read_pair(source, source, "auto")[0].texts
    if not isinstance(texts, dict):
        raise InputError(f"{references}: no utterance ids, expected a data directory or its text")
    nothing = {"text": ""} | dict.fromkeys(SCORES, 0.0)
    lists = []
    for decoding in decodings:
        found = _read(Path(decoding) / NBEST)
        unknown = sorted(set(found) - set(texts))
        if unknown:
            raise InputError(f"{decoding}: {unknown[0]} has no reference in {references}")
        lists += [found.get(name) or [nothing] for name in texts]
    return _lists(list(texts.values()) * len(decodings), lists)


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Utterance to the entries of its list."""
    entries: dict[str, list[dict[str, Any]]] = {}
    for number, line in enumerate(read_lines(path), 1):
        try:
            entry = json.loads(line)
            entries[entry["utterance"]] = [{"text": e["text"]} | _scores(e) for e in entry["nbest"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}:{number}: not an n-best list with attention, CTC and LM scores "
                f"({error!r}); decode again with `asr decode --nbest 30`"
            ) from error
    if not any(entries.values()):
        raise InputError(f"{path}: no hypotheses; decode again with `asr decode --nbest 30`")
    return entries


def _scores(entry: dict[str, Any]) -> dict[str, float]:
    """The scores of an entry; older lists name them otherwise."""
    if "scores" not in entry:
        return {name: entry[key] for name, key in SCORES.items()}
    scores = entry["scores"]
    return {"decoder": scores["decoder"]} | {k: scores.get(k, 0.0) for k in ("ctc", "lm")}


def _lists(references: list[str], entries: list[list[dict[str, Any]]]) -> Lists:
    """Entries side by side."""
    longest = max(map(len, entries))
    shape = (len(entries), longest)
    table = {k: np.full(shape, -np.inf) for k in SCORES}
    lengths, wrong = np.zeros(shape), np.zeros(shape, dtype=np.int64)
    pairs = [(r, e["text"]) for r, found in zip(references, entries, strict=True) for e in found]
    counted = iter(errors(count_words(*zip(*pairs, strict=True))).tolist())
    for row, found in enumerate(entries):
        for column, entry in enumerate(found):
            for key, values in table.items():
                values[row, column] = entry[key]
            lengths[row, column] = len(entry["text"])
            wrong[row, column] = next(counted)
    words = sum(len(r.split()) for r in references)
    attention, ctc, lm = table.values()
    texts = tuple(tuple(e["text"] for e in found) for found in entries)
    return Lists(wrong, attention, ctc, lm, lengths, words, texts)


def sweep(lists: Lists, lm: bool = True) -> Sweep:
    """Word error rates at every point of the grid; axes without scores have one point.

    Args:
        lists: with their scores.
        lm: False leaves the language model out.
    """
    heard, read = (np.isfinite(x) & (x != 0) for x in (lists.ctc, lists.lm))
    ctc_weights = CTC_WEIGHTS if heard.any() else np.zeros(1)
    lm_weights = LM_WEIGHTS if lm and read.any() else np.zeros(1)
    rates = np.empty((len(ctc_weights), len(lm_weights), len(BONUSES)))
    for c, share in enumerate(ctc_weights):
        # -inf times 0 is no number, hence the weights of impossible entries
        base = _weighted(lists.attention, 1 - share) + _weighted(lists.ctc, share)  # (N, K)
        for w, weight in enumerate(lm_weights):
            scores = base + _weighted(lists.lm, weight)
            with_bonus = scores[..., None] + lists.lengths[..., None] * BONUSES  # (N, K, bonuses)
            chosen = with_bonus.argmax(1)  # (N, bonuses)
            wrong = np.take_along_axis(lists.errors, chosen, axis=1).sum(0)
            rates[c, w] = wrong / lists.words
    return Sweep(ctc_weights, lm_weights, BONUSES, rates, best_point(rates))


def _weighted(scores: Array, weight: float) -> Array:
    return np.where(np.isinf(scores), -np.inf, weight * np.where(np.isinf(scores), 0.0, scores))


def best_point(rates: Array) -> tuple[int, int, int]:
    """The point in the best neighbourhood; of several, the one with the lowest rate.

    A dev set is small: a lone low point is luck, a low region is not. So points compete by the
    mean of their rate and that of the points around them.
    """
    total, count = np.zeros_like(rates), np.zeros_like(rates)
    padded = np.pad(rates, 1, constant_values=np.nan)
    for offset in np.ndindex(3, 3, 3):
        window = padded[tuple(slice(o, o + n) for o, n in zip(offset, rates.shape, strict=True))]
        total += np.nan_to_num(window)
        count += ~np.isnan(window)
    place = np.lexsort((rates.ravel(), (total / count).ravel()))[0]
    c, w, b = np.unravel_index(place, rates.shape)
    return int(c), int(w), int(b)


def rescore(lists: Lists, config: DecodeConfig, tokens: str) -> Lists:
    """The same lists with the scores of other language models, as a search would give them.

    Args:
        lists: n-best lists.
        config: names the language models.
        tokens: tokens.txt of the recogniser.

    Raises:
        InputError: a file is missing, damaged, or was made for other characters, or a setting is
            out of range.
    """
    import torch

    from asr.model.char_lm import sentence_log_probs
    from asr.recognize.directory import open_lm
    from asr.text.chars import CharTokenizer

    tokenizer, device = CharTokenizer.from_file(tokens), torch.device("cpu")
    model = open_lm(replace(config, lm_weight=1.0), tokenizer, device)
    assert model is not None
    unique = sorted({text for texts in lists.texts for text in texts})
    encoded = [tokenizer.encode(text) for text in unique]
    scores = sentence_log_probs(model, encoded, tokenizer.eos_id, device).tolist()
    return lists.with_lm(dict(zip(unique, scores, strict=True)))


@own_settings()
def draw(result: Sweep, lists: Lists, path: Path) -> None:
    """Maps of the WER through the best point, and curves over the length bonus."""
    from matplotlib.figure import Figure

    c, w, b = result.best
    maps = [(result.rates[:, w, :], result.bonuses, "length_bonus", b)]
    if len(result.lm_weights) > 1:
        maps.insert(0, (result.rates[:, :, b], result.lm_weights, "lm_weight", w))
    figure = Figure(figsize=(5.6 * (len(maps) + 1), 4.6), layout="constrained")
    *charts, curves = figure.subplots(1, len(maps) + 1)
    low, high = 100 * result.rates.min(), np.quantile(100 * result.rates, 0.5)
    for axes, (rates, values, label, place) in zip(charts, maps, strict=True):
        image = axes.imshow(
            100 * rates, origin="lower", aspect="auto", cmap="viridis_r", vmin=low, vmax=high
        )
        axes.plot(place, c, "s", markersize=13, fillstyle="none", color="red", markeredgewidth=2)
        axes.set_xticks(range(len(values)), [f"{v:g}" for v in values], rotation=90, fontsize=7)
        ticks = [f"{v:g}" for v in result.ctc_weights]
        axes.set_yticks(range(len(ticks)), ticks, fontsize=7)
        axes.set(xlabel=label, ylabel="ctc_weight")
    figure.colorbar(image, ax=charts, label="WER, %", extend="max")
    _draw_curves(curves, result, lists)
    chosen = ", ".join(f"{name} {value:g}" for name, value in result.settings().items())
    figure.suptitle(
        f"WER on dev; the chosen point: {100 * result.rates[result.best]:.2f} %, {chosen}"
    )
    write_png(figure, path)


def _draw_curves(axes: "Axes", result: Sweep, lists: Lists) -> None:
    """WER over the length bonus: with the chosen weights, and without the language model."""
    points = {"the chosen weights": result.best}
    if len(result.lm_weights) > 1:
        points["the best without language model"] = result.without_lm()
    for name, (c, w, b) in points.items():
        label = f"{name}: ctc_weight {result.ctc_weights[c]:g}, lm_weight {result.lm_weights[w]:g}"
        (line,) = axes.plot(result.bonuses, 100 * result.rates[c, w], ".-", label=label)
        axes.plot(
            result.bonuses[b], 100 * result.rates[c, w, b], "s", color=line.get_color(),
            markersize=11, fillstyle="none",
        )  # fmt: skip
    lowest = 100 * result.rates.min((0, 1))
    axes.plot(result.bonuses, lowest, ":", color="grey", label="the best weights at each bonus")
    axes.axhline(100 * lists.first, color="black", linewidth=1, label="as decoded")
    axes.axhline(100 * lists.oracle, color="black", linewidth=1, linestyle="--", label="oracle")
    axes.set(xlabel="length_bonus", ylabel="WER, %", ylim=(0, None))
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)


def main(argv: list[str]) -> int:
    """Run ``asr tune``; returns the exit code."""
    args = _make_parser().parse_args(argv)
    settings = load_yaml(args.config) if args.config else {}
    from_dict(DecodeConfig, settings, args.config or "")
    rescoring = bool(args.lm or args.word_lm)
    if rescoring and (args.no_lm or not args.tokens):
        problem = "exclude --no-lm" if args.no_lm else "need --tokens, the recogniser's tokens.txt"
        raise InputError(f"--lm and --word_lm {problem}")
    out = Path(args.out)
    results = [out, beside(out, ".json"), beside(out, ".png")]
    files = (args.lm, args.word_lm, args.tokens, args.config)
    check_outputs(results, [args.references, *args.decodings, *files])
    lists = read_lists(args.references, args.decodings)
    if rescoring:
        settings |= {key: getattr(args, key) for key in LM_SETTINGS}
        lists = rescore(lists, from_dict(DecodeConfig, settings), args.tokens)
    result = sweep(lists, lm=not args.no_lm)
    for edge in result.edges():
        print(f"asr tune: warning: {edge} is the last one that was tried", file=sys.stderr)
    import yaml

    write_text(out, yaml.safe_dump({**settings, **result.settings()}, sort_keys=False))
    write_json(results[1], _table(lists, result))
    draw(result, lists, results[2])
    print(_report(lists, result))
    print(out)
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="asr tune",
        description="Choose ctc_weight, lm_weight and length_bonus on the n-best lists of a dev "
        "set, for asr decode --config. Nothing is decoded again: the word error rate at every "
        "point of a grid follows from the scores in the lists.",
    )
    add = parser.add_argument
    add("references", metavar="REF", help="data directory of the dev set, or text")
    add("decodings", nargs="+", metavar="DECODE_DIR", help="folders of asr decode --nbest 30")
    add("--no-lm", action="store_true", help="leave the language model out")
    add("--lm", default="", help="score the lists with this character language model; without "
        "--lm and --word_lm, the scores that the lists have count")  # fmt: skip
    add("--word_lm", default="", help="the same with an ARPA file, or with both together")
    add("--lm_share", type=real(share_below()), default=0.5, help="see asr decode --help")
    add("--oov_penalty", type=real(at_least(0)), default=0.0, help="the same")
    add("--tokens", help="tokens.txt of the recogniser, for --lm and --word_lm")
    add("--config", help="search settings; those that are not tuned are kept")
    add("--out", required=True, help="YAML file to write; .json and .png beside it")
    return parser


def _report(lists: Lists, result: Sweep) -> str:
    """What people want to know first, as a table."""
    header = "  ".join(f"{name:>12}" for name in SETTINGS)
    lines = [
        f"{len(lists.texts)} lists of {np.mean([len(t) for t in lists.texts]):.1f} hypotheses, "
        f"{lists.words} words",
        f"{'':22}  WER, %  {header}",
        f"{'as decoded':22}  {100 * lists.first:6.2f}",
    ]
    points = {"best without LM": result.without_lm(), "best": result.best}
    for name in list(points)[len(result.lm_weights) == 1 :]:
        values = "  ".join(f"{v:12g}" for v in result.at(points[name]).values())
        lines.append(f"{name:22}  {100 * result.rates[points[name]]:6.2f}  {values}")
    lines.append(f"{'oracle':22}  {100 * lists.oracle:6.2f}")
    return "\n".join(lines)


def _table(lists: Lists, result: Sweep) -> dict[str, Any]:
    return {
        "first": lists.first,
        "oracle": lists.oracle,
        "best": {**result.settings(), "wer": float(result.rates[result.best])},
        "ctc_weights": result.ctc_weights.tolist(),
        "lm_weights": result.lm_weights.tolist(),
        "length_bonuses": result.bonuses.tolist(),
        "wer": result.rates.round(5).tolist(),
    }
