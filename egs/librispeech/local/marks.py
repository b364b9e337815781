"""How many useless texts of half-trained models get a mark, and how many right ones.

usage: marks.py SEED...

For each seed (1 to 9), every ninth voice of data/train_mini, three or four with 34 sentences each,
is kept apart, and a model is trained on the others until, for the first time, it gets no more than
half of the words of its dev set wrong: data/dev_mini and data/test_mini, where it also measures
what it may doubt. Then the sentences of the voices kept apart are recognised. A text is useless
with more than half of its words wrong. Low confidence is not counted as a mark.

Run it in egs/librispeech, after run.sh. Models are kept in exp/marks.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "utils"))

from recipe import run

from asr.config import DecodeConfig
from asr.corpus import edit
from asr.corpus.datadir import DataDir
from asr.errors import EXIT_USAGE, InputError
from asr.recognize.calibrate import judge
from asr.recognize.confidence import LOW_CONFIDENCE
from asr.recognize.recognizer import load

ASR = (sys.executable, "-m", "asr.cli")
EVERY = 9  # of so many voices one is kept apart
CONFIG = "conf/train_mini.yaml"
SEARCH = DecodeConfig(length_bonus=0.6)
HALF = 0.5  # of the words wrong


def first_half_right(out: Path) -> Path | None:
    """The model of the first epoch with half of the words right, if the training is so far."""
    log = out / "train.jsonl"
    for entry in map(json.loads, log.read_text().splitlines() if log.exists() else ()):
        if entry["kind"] == "epoch" and entry["dev_wer"] <= HALF:
            return out / "checkpoints" / entry["checkpoint"]
    return None


def half_trained(seed: int, folder: Path) -> Path:
    """Train until half of the words are right; returns the model of that epoch."""
    out = folder / "las"
    command = [*ASR, "train", "--config", CONFIG, "--seed", str(seed), "--average", "99"]
    command += ["--train", str(folder / "train"), "--dev", str(folder / "others")]
    command += ["--tokens", "data/lang_char/tokens.txt", "--out", str(out)]
    found = first_half_right(out)
    if found is None:
        training = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while (found := first_half_right(out)) is None and training.poll() is None:
            time.sleep(1)
        training.send_signal(signal.SIGINT)
        training.wait()
    if found is None:
        raise InputError(f"{out}: the training ended with more than half of the words wrong")
    return found


def measure(seed: int) -> list[int]:
    """Marked useless texts, useless texts, marked right texts, right texts."""
    folder = Path(f"exp/marks/seed{seed}")
    utterances = DataDir.load("data/train_mini").utterances
    voices = sorted({u.speaker for u in utterances})
    apart = {voice for number, voice in enumerate(voices, 1) if number % EVERY == seed % EVERY}
    for name, held in (("train", False), ("held", True)):
        chosen = [u.id for u in utterances if (u.speaker in apart) == held]
        edit.subset("data/train_mini", folder / name, chosen)
    edit.combine(folder / "others", ["data/dev_mini", "data/test_mini"])
    sets = [folder / "train", folder / "others"]
    subprocess.run([*ASR, "features", *sets, "--config", CONFIG], check=True)
    model = load(half_trained(seed, folder), config=SEARCH)
    judged = list(judge(model, DataDir.load(folder / "held").utterances))
    marked = [bool({*j.segment.flags} - {LOW_CONFIDENCE}) for j in judged]
    useless, right = [j.useless for j in judged], [j.right for j in judged]
    return [
        sum(a and b for a, b in zip(marked, useless, strict=True)),
        sum(useless),
        sum(a and b for a, b in zip(marked, right, strict=True)),
        sum(right),
    ]


def main(argv: list[str]) -> int:
    """Measure for each seed; print a line for each and for all."""
    if not argv or not all(seed.isdigit() and 1 <= int(seed) <= EVERY for seed in argv):
        print(__doc__, file=sys.stderr)
        return EXIT_USAGE
    found = {f"seed {seed}": measure(int(seed)) for seed in argv}
    found["all"] = [sum(numbers) for numbers in zip(*found.values(), strict=True)]
    for name, (a, b, c, d) in found.items():
        print(f"{name}: marked are {a} of {b} useless texts and {c} of {d} right ones")
    return 0


if __name__ == "__main__":
    run(main)
