"""Lines of the log and pictures of a training."""

import math
from pathlib import Path
from typing import Any

from asr.config import TrainConfig
from asr.train.checkpoint import Progress
from asr.train.data import TrainData
from asr.train.evaluate import Evaluation
from asr.train.log import clock

GOOD_ALIGNMENT = 0.2  # below 0.1 until an alignment has formed


def history_entry(progress: Progress, scores: Evaluation, rate: float) -> dict[str, Any]:
    """Return the losses and scores of a finished epoch, for the history and for train.jsonl."""
    epoch, sums = progress.epoch + 1, progress.sums
    divisors = {"attention": "written", "ctc": "characters", "accuracy": "written"}
    train = {k: sums.get(k, math.nan) / sums.get(n, 1.0) for k, n in divisors.items()}
    numbers = {} if scores.statistics is None else scores.statistics.to_dict()
    return {
        "step": progress.step,
        "epoch": epoch,
        **{f"train_{key}": value for key, value in train.items()},
        "dev_attention": scores.attention,
        "dev_ctc": scores.ctc,
        "dev_accuracy": scores.accuracy,
        **scores.dev_scores(),
        "alignment": scores.alignment,
        **{f"alignment_{name}": value for name, value in numbers.items()},
        "learning_rate": rate,
        "elapsed_s": round(progress.elapsed_s, 1),
        "checkpoint": f"epoch_{epoch:03d}.safetensors",
    }


def epoch_line(entry: dict[str, Any], epochs: int) -> str:
    """Return the line that reports an epoch; ``epochs`` is their number."""
    epoch = entry["epoch"]
    left_s = entry["elapsed_s"] / epoch * (epochs - epoch)
    return (
        f"epoch {epoch}/{epochs}: train attention {entry['train_attention']:.3f}, CTC "
        f"{entry['train_ctc']:.3f}; dev attention {entry['dev_attention']:.3f}, CTC "
        f"{entry['dev_ctc']:.3f}, WER {100 * entry['dev_wer']:.1f} %, CER "
        f"{100 * entry['dev_cer']:.1f} %, alignment {entry['alignment']:.2f}; "
        f"{clock(entry['elapsed_s'])} done, {clock(left_s)} left"
    )


def alarm(entry: dict[str, Any], config: TrainConfig, folder: Path) -> str | None:
    """Return a warning if attention does not follow the audio after many steps."""
    step = config.alignment_alarm_step
    if not step or entry["step"] < step or entry["alignment"] >= GOOD_ALIGNMENT:
        return None
    return (
        f"ALARM: after {entry['step']} steps the attention does not follow the audio "
        f"(alignment {entry['alignment']:.2f}, expected {GOOD_ALIGNMENT} or more); look at "
        f"{folder}/pictures. Check that transcripts belong to their audio; then try "
        "loss.ctc_weight 0.5, loss.guide, or more data"
    )


def progress_note(progress: Progress, done: float) -> str:
    """Return the loss of this epoch, the speed and the time left; ``done`` is a fraction."""
    mean = progress.sums.get("loss", 0.0) / progress.sums.get("written", 1.0)
    left_s = progress.elapsed_s / max(done, 1e-9) * (1 - done)
    speed = progress.audio_s / max(progress.elapsed_s, 1e-9)
    return f"loss {mean:.3f}, {speed:.0f} times real time, {clock(left_s)} left"


def draw(folder: Path, history: list[dict[str, Any]], scores: Evaluation, data: TrainData) -> None:
    """Draw the curves of a training, and attention after its last epoch."""
    from asr.explain import pictures  # importing matplotlib may fail

    pictures.draw_curves(history, folder / "curves.png")
    epoch, symbols = history[-1]["epoch"], data.tokenizer.symbols
    seconds = dict(zip(data.references, data.dev.durations_s, strict=True))
    examples = []
    for name, weights in scores.pictures.items():
        ids = data.tokenizer.encode(data.references[name])
        characters = [*(symbols[i].replace("<space>", "_") for i in ids), "<eos>"]
        examples.append((f"{name}, epoch {epoch}", weights, characters, seconds[name]))
    if examples:
        pictures.draw_attention(examples, folder / f"attention_{epoch:03d}.png")
