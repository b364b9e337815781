"""Minutes that trainings took to an error rate on their dev set, from their train.jsonl."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from asr.errors import InputError
from asr.figures import own_settings, write_png

Run = dict[str, Any]


def read_run(folder: str | Path, target: float) -> Run:
    """Return what a training took; times are wall-clock times, also if it was resumed.

    Args:
        folder: of the training, finished or not.
        target: word error rate on the dev set, as a share.

    Returns:
        ``minutes`` and ``wer`` after each epoch; ``minutes_to_target`` and ``epochs_to_target``,
        those of the first epoch with at most the target, or None; ``best_wer``;
        ``times_real_time``; and the shares of the time in steps (``steps_share``), in waiting for
        audio (``wait_share``) and in the rest, which is mostly the search of the dev set.

    Raises:
        InputError: the folder holds no training with a finished epoch.
    """
    path = Path(folder) / "train.jsonl"
    try:
        text = path.read_text(encoding="utf-8")
        written = text[: text.rfind("\n") + 1].splitlines()  # a training may write the next line
        lines = [json.loads(line) for line in written]
        epochs = [line for line in lines if line["kind"] == "epoch"]
        for epoch in epochs:
            epoch["dev_wer"] = math.inf if epoch["dev_wer"] is None else epoch["dev_wer"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: not the log of a training ({type(error).__name__}); name the --out folder of "
            "asr train"
        ) from error
    if not epochs:
        raise InputError(f"{path}: no epoch is finished; wait until one is")
    steps = [s for s in lines if s["kind"] == "step" and s["epoch"] <= epochs[-1]["epoch"]]
    seconds = epochs[-1]["elapsed_s"]
    shares = {key: sum(s[key] for s in steps) / seconds for key in ("seconds", "wait_s")}
    first = next((entry for entry in epochs if entry["dev_wer"] <= target), None)
    return {
        "folder": str(folder),
        "minutes": [entry["elapsed_s"] / 60 for entry in epochs],
        "wer": [entry["dev_wer"] for entry in epochs],
        "minutes_to_target": first and first["elapsed_s"] / 60,
        "epochs_to_target": first and first["epoch"],
        "best_wer": min(entry["dev_wer"] for entry in epochs),
        "times_real_time": sum(s["audio_s"] for s in steps) / seconds,
        "steps_share": shares["seconds"],
        "wait_share": shares["wait_s"],
        "rest_share": 1 - shares["seconds"] - shares["wait_s"],
    }


def table(runs: Sequence[Run], target: float) -> Iterator[str]:
    """Return a line for each training, below the titles."""
    width = max(8, *(len(run["folder"]) for run in runs))
    goal = f"to {100 * target:g} %"
    yield (
        f"{'training':{width}} {goal:>12} {'best WER':>9} {'minutes':>8} {'x real time':>12} "
        f"{'steps':>6} {'wait':>5} {'rest':>5}"
    )
    for run in runs:
        reached = run["minutes_to_target"]
        found = "never" if reached is None else f"{reached:.1f} min"
        shares = (f"{100 * run[key]:.0f} %" for key in ("steps_share", "wait_share", "rest_share"))
        yield (
            f"{run['folder']:{width}} {found:>12} {100 * run['best_wer']:7.1f} % "
            f"{run['minutes'][-1]:8.1f} {run['times_real_time']:12.0f} "
            "{:>6} {:>5} {:>5}".format(*shares)
        )


@own_settings()
def draw(runs: Sequence[Run], target: float, path: str | Path) -> Path:
    """Draw the word error rates on the dev sets over the minutes, as PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for run in runs:
        found = run["minutes_to_target"]
        note = "" if found is None else f": {found:.1f} min"
        wer = [100 * min(1.0, value) for value in run["wer"]]
        axes.plot(run["minutes"], wer, ".-", label=f"{run['folder']}{note}")
    axes.axhline(100 * target, color="grey", linestyle=":")
    axes.set(xlabel="minutes", ylabel="dev WER, %", yscale="log", xlim=(0, None))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_title(f"minutes to {100 * target:g} %", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return write_png(figure, path)
