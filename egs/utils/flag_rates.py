"""Count the useless and the correct hypotheses of half-trained models that are flagged.

For each seed, every ninth speaker of the training set is held out: seeds 1 to 9 hold out different
speakers, seed 10 the same as seed 1. A model is trained on the other speakers until its word error
rate on the dev sets is 50 % or lower for the first time; there it also learns which texts to flag.
Then it recognises the utterances of the held-out speakers. A hypothesis is useless if more than
half of its words are wrong. The flag ``low-confidence`` is not counted.

Run this in the folder of a recipe whose features and characters exist. The models stay in
exp/flag_rates, so that an interrupted run can go on with the same data and settings.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipe import run

from asr.config import DecodeConfig, TrainConfig
from asr.config.read import from_dict, load_yaml, to_dict
from asr.corpus import edit
from asr.corpus.datadir import DataDir
from asr.errors import InputError
from asr.files import write_json
from asr.loading import load_for_utterances
from asr.recognize.calibrate import recognize_and_score
from asr.recognize.confidence import LOW_CONFIDENCE

ASR = (sys.executable, "-m", "asr")
EVERY = 9  # one of so many speakers is held out
HALF = 0.5  # word error rate of a half-trained model


def main(argv: list[str]) -> int:
    """Measure for each seed; print a line for each and for all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", required=True, metavar="DIR", help="training set")
    parser.add_argument(
        "--dev",
        required=True,
        action="append",
        metavar="DIR",
        help="dev set; may be given several times",
    )
    parser.add_argument(
        "--config", default="conf/train.yaml", metavar="FILE", help="training settings"
    )
    parser.add_argument(
        "--search", default="conf/decode.yaml", metavar="FILE", help="search settings"
    )
    parser.add_argument("--tokens", default="data/lang_char/tokens.txt", metavar="FILE")
    parser.add_argument("seeds", nargs="+", type=seed_number, metavar="SEED")
    args = parser.parse_args(argv)
    search = from_dict(DecodeConfig, load_yaml(args.search), args.search)
    made_of = {
        "train": args.train,
        "dev": args.dev,
        "tokens": args.tokens,
        "config": to_dict(from_dict(TrainConfig, load_yaml(args.config), args.config)),
    }
    found: list[list[int]] = []
    for seed in args.seeds:
        folder = Path(f"exp/flag_rates/seed{seed}")
        check(folder, made_of)
        part(args.train, args.dev, folder, seed, args.config)
        write_json(folder / "made_of.json", made_of)
        model = half_trained(folder, seed, args.config, args.tokens)
        found.append(measure(model, folder / "apart", search))
        say(f"seed {seed}", found[-1])
    say("all", [sum(numbers) for numbers in zip(*found, strict=True)])
    return 0


def seed_number(text: str) -> int:
    """A seed of the command line."""
    if (number := int(text)) < 0:
        raise ValueError("expected 0 or more")
    return number


def say(name: str, counts: Sequence[int]) -> None:
    """Print the counts of :func:`measure`."""
    a, b, c, d = counts
    print(f"{name}: {a} of {b} useless texts and {c} of {d} correct ones are flagged", flush=True)


def check(folder: Path, made_of: dict[str, Any]) -> None:
    """Refuse a folder whose model was made from other data or settings, or from unknown ones.

    Raises:
        InputError: the data or settings differ.
    """
    path = folder / "made_of.json"
    before = {} if (folder / "las").exists() else made_of
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
    if changed := [key for key, value in made_of.items() if before.get(key) != value]:
        raise InputError(
            f"{folder}: its model was made with another {', '.join(changed)}; remove the folder"
        )


def part(train: str, dev: Sequence[str], folder: Path, seed: int, config: str) -> None:
    """Make ``train``, ``apart`` (every ninth speaker) and ``dev`` in a folder."""
    utterances = DataDir.load(train).utterances
    speakers = sorted({u.speaker for u in utterances})
    apart = {s for number, s in enumerate(speakers, 1) if number % EVERY == seed % EVERY}
    for name, held in (("train", False), ("apart", True)):
        chosen = [u.id for u in utterances if (u.speaker in apart) == held]
        edit.subset(train, folder / name, chosen)
    edit.combine(folder / "dev", dev)
    sets = [folder / "train", folder / "dev"]
    if subprocess.run([*ASR, "features", *sets, "--config", config]).returncode:
        raise InputError(f"{folder}: its features cannot be computed; the message above says why")


def half_trained(folder: Path, seed: int, config: str, tokens: str) -> Path:
    """Train until half of the words are right, and return the model of that epoch."""
    out = folder / "las"
    command = [*ASR, "train", "--config", config, "--seed", str(seed), "--average", "99"]
    command += ["--train", str(folder / "train"), "--dev", str(folder / "dev")]
    command += ["--tokens", tokens, "--out", str(out)]
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


def first_half_right(out: Path) -> Path | None:
    """Return the model of the first epoch with half of the words right, or None before that."""
    log = out / "train.jsonl"
    for entry in map(json.loads, log.read_text().splitlines() if log.exists() else ()):
        if entry["kind"] == "epoch" and entry["dev_wer"] <= HALF:
            return out / "checkpoints" / entry["checkpoint"]
    return None


def measure(model: Path, apart: Path, search: DecodeConfig) -> list[int]:
    """Count flagged useless texts, useless texts, flagged correct texts and correct texts."""
    utterances = DataDir.load(apart).utterances
    found = recognize_and_score(load_for_utterances(model, config=search), apart, utterances)
    flagged = [bool({*u.segment.flags} - {LOW_CONFIDENCE}) for u in found]
    useless, right = [u.useless for u in found], [u.correct for u in found]
    return [
        sum(a and b for a, b in zip(flagged, useless, strict=True)),
        sum(useless),
        sum(a and b for a, b in zip(flagged, right, strict=True)),
        sum(right),
    ]


if __name__ == "__main__":
    run(main)
