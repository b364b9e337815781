"""PNG pictures of training curves, attention and the reliability of confidence."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from asr.errors import counted
from asr.explain.explanation import Explanation, SegmentExplanation
from asr.figures import own_settings, write_png
from asr.recognize.calibrate import CalibrationData
from asr.recognize.confidence import MIN_CONFIDENCE
from asr.score.calibration import BINS, confidence_bins
from asr.terminal import note

HIGHEST = 300  # inches of a picture, 30,000 pixels; few programs show higher ones
Example = tuple[str, np.ndarray, Sequence[str], float]
"""Title, attention weights (U, S), U characters, duration of the audio in seconds."""


@own_settings()
def draw_curves(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw losses, dev error rates and the learning rate over epochs."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    epochs = [entry["epoch"] for entry in history]
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    losses, errors, rate = figure.subplots(1, 3)
    for key, label in (
        ("train_attention", "train, attention"),
        ("train_ctc", "train, CTC"),
        ("dev_attention", "dev, attention"),
        ("dev_ctc", "dev, CTC"),
    ):
        style = "-" if key.startswith("train") else "--"
        losses.plot(epochs, [entry[key] for entry in history], style, label=label)
    losses.set(title="loss per character", xlabel="epoch", yscale="log")
    losses.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    losses.yaxis.set_major_formatter("{x:g}")
    losses.yaxis.set_minor_formatter("")
    losses.legend(fontsize=8)
    errors.plot(epochs, [100 * min(1.0, entry["dev_wer"]) for entry in history], label="words")
    errors.plot(epochs, [100 * min(1.0, entry["dev_cer"]) for entry in history], label="characters")
    quality = [100 * entry["alignment"] for entry in history]
    errors.plot(epochs, quality, ":", color="grey", label="alignment quality")
    errors.set(title="dev errors, %", xlabel="epoch", ylim=(0, 100))
    errors.legend(fontsize=8)
    rate.plot(epochs, [entry["learning_rate"] for entry in history], color="black")
    rate.set(title="learning rate", xlabel="epoch", ylim=(0, None))
    for axes in (losses, errors, rate):
        axes.grid(alpha=0.3)
    write_png(figure, path)


def draw_attention(examples: Sequence[Example], path: Path) -> None:
    """Draw the attention of a few utterances, one below another."""
    with own_settings("".join(c for _, _, characters, _ in examples for c in characters)):
        from matplotlib.figure import Figure

        height = sum(0.6 + 0.11 * len(weights) for _, weights, _, _ in examples)
        figure = Figure(figsize=(9, height), layout="constrained")
        rows = figure.subplots(len(examples), 1, squeeze=False)[:, 0]
        for axes, (title, weights, characters, duration_s) in zip(rows, examples, strict=True):
            values = np.sqrt(weights)  # the root shows faint weights, too
            edges = (0.0, duration_s, len(characters) - 0.5, -0.5)
            axes.imshow(values, aspect="auto", cmap="magma", extent=edges, vmin=0, vmax=1)
            axes.set_yticks(range(len(characters)), characters, fontsize=6)
            axes.set_title(title, fontsize=8, loc="left")
        rows[-1].set_xlabel("seconds")
        write_png(figure, path)


@own_settings()
def draw_reliability(texts: CalibrationData, words: CalibrationData, path: Path) -> None:
    """Draw the share of correct texts and words in each tenth of confidence."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 5.6), layout="constrained")
    columns = figure.subplots(2, 2, sharex=True, height_ratios=[3, 1])
    for found, name, (truth, counts) in zip(
        (texts, words), ("texts", "words"), columns.T, strict=True
    ):
        bins = confidence_bins(found.confidences, found.correct)
        truth.plot([0, 1], [0, 1], ":", color="grey")
        truth.plot([b.mean for b in bins], [b.share for b in bins], "o-")
        title = f"{len(found.correct)} {name}, calibration error {100 * found.error:.1f} %"
        truth.set(ylim=(-0.03, 1.03), ylabel=f"share of correct {name}", title=title)
        counts.hist(
            [found.confidences[found.correct == value] for value in (1, 0)],
            bins=[k / BINS for k in range(BINS + 1)],
            stacked=True,
            label=["correct", "wrong"],
        )
        counts.legend(fontsize=8, loc="upper center")
        counts.set(xlim=(0, 1), xlabel="confidence", ylabel=name)
    columns[1, 0].axvline(MIN_CONFIDENCE, color="black", linestyle=":")
    write_png(figure, path)


def draw_explanation(explanation: Explanation, path: Path) -> None:
    """Draw attention and relevance of the segments of a recording, one below another."""
    with own_settings(explanation.transcript.text):
        from matplotlib.figure import Figure

        heights = [1.5 + 0.12 * len(segment.text) for segment in explanation.segments] or [1.0]
        shown = max(1, sum(end < HIGHEST for end in accumulate(heights)))
        heights, segments = heights[:shown], explanation.segments[:shown]
        if left := len(explanation.segments) - len(segments):
            note(f"{path}: without the last {counted(left, 'segment')}; the page has all of them")
        figure = Figure(figsize=(14, sum(heights)), layout="constrained")
        rows = figure.subplots(len(heights), 2, squeeze=False, height_ratios=heights)
        for (left, right), segment in zip(rows, segments, strict=False):
            count, share = len(segment.text), f"{100 * segment.overlap.share:.0f} %"
            title = f"relevance: what each letter needed; {share} of it lies where attention lies"
            _draw_map(left, segment, segment.attention[:count], "attention: where the model looked")
            _draw_map(right, segment, segment.relevance.sound[:count], title)
        write_png(figure, path)


def _draw_map(axes: Any, segment: SegmentExplanation, values: np.ndarray, title: str) -> None:
    """Draw weights of the characters over the time, (U, T), with the words above."""
    found, count = segment.segment, len(segment.text)
    shown = np.sqrt(np.maximum(values, 0.0))  # the root shows faint weights, too
    edges = (found.start_s, found.end_s, count - 0.5, -0.5)
    axes.imshow(shown, aspect="auto", cmap="magma", extent=edges)
    axes.set_yticks(range(count), list(segment.text), fontsize=6)
    axes.set_title(title, fontsize=8, loc="left", pad=16)
    axes.set_xlabel("seconds")
    for each in segment.words:
        middle = (each.word.start_s + each.word.end_s) / 2
        axes.annotate(
            each.word.text,
            (middle, 1.01),
            xycoords=("data", "axes fraction"),
            ha="center",
            fontsize=7,
        )
        axes.axvline(each.word.start_s, color="white", alpha=0.4, linewidth=0.6)
