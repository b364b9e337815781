"""Picture of a grid search."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asr.figures import own_settings, write_png
from asr.tune.grid import GridSearch
from asr.tune.nbest import NBestLists

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@own_settings()
def draw(result: GridSearch, lists: NBestLists, path: Path) -> None:
    """Draw maps of the WER through the best point, and curves over the length bonus."""
    from matplotlib.figure import Figure

    c, w, b = result.best
    maps = [(result.rates[:, w, :], result.bonuses, "length_bonus", b)]
    if len(result.lm_weights) > 1:
        maps.insert(0, (result.rates[:, :, b], result.lm_weights, "lm_weight", w))
    figure = Figure(figsize=(5.6 * (len(maps) + 1), 4.6), layout="constrained")
    *charts, curves = figure.subplots(1, len(maps) + 1)
    ctc_weights = [f"{v:g}" for v in result.ctc_weights]
    low, high = 100 * result.rates.min(), np.quantile(100 * result.rates, 0.5)
    for axes, (rates, values, label, column) in zip(charts, maps, strict=True):
        image = axes.imshow(
            100 * rates, origin="lower", aspect="auto", cmap="viridis_r", vmin=low, vmax=high
        )
        axes.plot(column, c, "s", markersize=13, fillstyle="none", color="red", markeredgewidth=2)
        axes.set_xticks(range(len(values)), [f"{v:g}" for v in values], rotation=90, fontsize=7)
        axes.set_yticks(range(len(ctc_weights)), ctc_weights, fontsize=7)
        axes.set(xlabel=label, ylabel="ctc_weight")
    figure.colorbar(image, ax=charts, label="WER, %", extend="max")
    _draw_curves(curves, result, lists)
    best = ", ".join(f"{name} {value:g}" for name, value in result.settings().items())
    wer = 100 * result.rates[result.best]
    figure.suptitle(f"WER on dev; chosen from the grid: {wer:.2f} %, {best}")
    write_png(figure, path)


def _draw_curves(axes: "Axes", result: GridSearch, lists: NBestLists) -> None:
    """Draw the WER over the length bonus, with the weights chosen from the grid and without LM."""
    points = {"chosen from the grid": result.best}
    if len(result.lm_weights) > 1:
        points["the best without language model"] = result.without_lm()
    for name, (c, w, b) in points.items():
        label = f"{name}: ctc_weight {result.ctc_weights[c]:g}, lm_weight {result.lm_weights[w]:g}"
        rates = 100 * result.rates[c, w]
        (line,) = axes.plot(result.bonuses, rates, ".-", label=label)
        color = line.get_color()
        axes.plot(result.bonuses[b], rates[b], "s", color=color, markersize=11, fillstyle="none")
    lowest = 100 * result.rates.min((0, 1))
    axes.plot(result.bonuses, lowest, ":", color="grey", label="the best at each bonus")
    axes.axhline(100 * lists.first, color="black", linewidth=1, label="as decoded")
    axes.axhline(100 * lists.oracle, color="black", linewidth=1, linestyle="--", label="oracle")
    axes.set(xlabel="length_bonus", ylabel="WER, %", ylim=(0, None))
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
