"""``asr tune``: the weights of a search, chosen on a dev set from its n-best lists.

One decoding with long lists keeps the scores of the decoder, of CTC and of the language model
apart. Here the lists are put in order anew for every point of a grid of weights, which takes
one sum per point instead of one decoding. ``asr decode --config`` reads what comes out.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.config import load_yaml
from asr.errors import InputError
from asr.files import write_json, write_png, write_text
from asr.score.readers import open_source, read_pair
from asr.score.wer import count_words, errors
from asr.text.transcripts import read_lines

Array = npt.NDArray[np.float64]
CTC_WEIGHTS = np.arange(0, 21) / 20
LM_WEIGHTS = np.array([0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0])
BONUSES = np.arange(0, 21) / 5
NBEST = "nbest.jsonl"


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
        c, w, b = self.best
        return {
            "ctc_weight": float(self.ctc_weights[c]),
            "lm_weight": float(self.lm_weights[w]),
            "length_bonus": float(self.bonuses[b]),
        }


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
    assert isinstance(texts, dict)
    nothing = {"text": "", "attention_score": 0.0, "ctc_score": 0.0, "lm_score": 0.0}
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
            entries[entry["utterance"]] = [
                {k: e[k] for k in ("text", "attention_score", "ctc_score", "lm_score")}
                for e in entry["nbest"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}:{number}: not an n-best list with attention, CTC and LM scores "
                f"({error!r}); decode again with `asr decode --nbest 30`"
            ) from error
    if not any(entries.values()):
        raise InputError(f"{path}: no hypotheses; decode again with `asr decode --nbest 30`")
    return entries


def _lists(references: list[str], entries: list[list[dict[str, Any]]]) -> Lists:
    """Entries side by side."""
    longest = max(map(len, entries))
    shape = (len(entries), longest)
    table = {k: np.full(shape, -np.inf) for k in ("attention_score", "ctc_score", "lm_score")}
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
    return Lists(wrong, attention, ctc, lm, lengths, words)


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
    """The lowest rate; among equals the one whose neighbours are lowest on average.

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


def draw(result: Sweep, path: Path) -> None:
    """Two maps through the best point: CTC by LM weight, and CTC weight by length bonus."""
    from matplotlib.figure import Figure

    c, w, b = result.best
    maps = [(result.rates[:, w, :], result.bonuses, "length bonus", b)]
    if len(result.lm_weights) > 1:
        maps.append((result.rates[:, :, b], result.lm_weights, "language-model weight", w))
    figure = Figure(figsize=(5.6 * len(maps), 4.4), layout="constrained")
    top = np.quantile(100 * result.rates, 0.5)
    for axes, (rates, values, label, place) in zip(
        figure.subplots(1, len(maps), squeeze=False)[0], maps, strict=True
    ):
        image = axes.imshow(100 * rates, origin="lower", aspect="auto", cmap="viridis", vmax=top)
        axes.plot(place, c, "o", markersize=11, markerfacecolor="none", color="red")
        axes.set_xticks(range(len(values)), [f"{v:g}" for v in values], rotation=90, fontsize=7)
        ticks = [f"{v:g}" for v in result.ctc_weights]
        axes.set_yticks(range(len(ticks)), ticks, fontsize=7)
        axes.set(xlabel=label, ylabel="CTC weight")
        figure.colorbar(image, ax=axes, label="WER (%)")
    figure.suptitle(f"WER on dev; the chosen point: {100 * result.rates[result.best]:.2f} %")
    write_png(figure, path)


def main(argv: list[str]) -> int:
    """``asr tune REF DECODE_DIR... [--config FILE] --out FILE``."""
    parser = argparse.ArgumentParser(prog="asr tune", description=__doc__)
    parser.add_argument("references", metavar="REF", help="data directory of the dev set, or text")
    parser.add_argument(
        "decodings", nargs="+", metavar="DECODE_DIR", help="folders of asr decode --nbest 30"
    )
    parser.add_argument("--no-lm", action="store_true", help="leave the language model out")
    parser.add_argument("--config", help="search settings; those that are not tuned are kept")
    parser.add_argument("--out", required=True, help="YAML file to write; .json and .png beside it")
    args = parser.parse_args(argv)
    settings = load_yaml(args.config) if args.config else {}
    lists = read_lists(args.references, args.decodings)
    result = sweep(lists, lm=not args.no_lm)
    import yaml

    out = Path(args.out)
    points = result.settings()
    write_text(out, yaml.safe_dump({**settings, **points}, sort_keys=False))
    write_json(out.with_suffix(".json"), _table(lists, result))
    draw(result, out.with_suffix(".png"))
    print(
        f"{' '.join(args.decodings)}: WER {100 * lists.first:.2f} % as decoded, "
        f"{100 * result.rates[result.best]:.2f} % with "
        + ", ".join(f"{k} {v:g}" for k, v in points.items())
        + f"; best entries of the lists {100 * lists.oracle:.2f} %\n{out}"
    )
    return 0


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
