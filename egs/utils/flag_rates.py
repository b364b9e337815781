"""How many useless texts of half-trained models are flagged, and how many right ones.

For each seed, every ninth speaker of the training set is kept apart, others for seeds 1 to 9 and
the same again from 10 on, and a model is trained on the rest until, for the first time, it gets no
more than half of the words of the dev sets wrong, where it also measures which texts to flag. Then
the sentences of the speakers kept apart are recognised. A text is useless with more than half of
its words wrong. Low confidence is not counted as a flag.

Run it in the folder of a recipe whose features and characters are made. Models are kept in
exp/flag_rates, so that an interrupted run goes on; it has to be of the same data and settings.
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
from asr.recognize.calibrate import recognise
from asr.recognize.confidence import LOW_CONFIDENCE

ASR = (sys.executable, "-m", "asr")
EVERY = 9  # of so many speakers one is kept apart
HALF = 0.5  # of the words wrong


def main(argv: list[str]) -> int:
    """Measure for each seed; print a line for each and for all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", required=True, metavar="DIR", help="training set")
    parser.add_argument(
        "--dev", required=True, action="append", metavar="DIR", help="dev set; may come again"
    )
    parser.add_argument("--config", default="conf/train.yaml", metavar="FILE", help="of training")
    parser.add_argument("--search", default="conf/decode.yaml", metavar="FILE", help="of decoding")
    parser.add_argument("--tokens", default="data/lang_char/tokens.txt", metavar="FILE")
    parser.add_argument("seeds", nargs="+", type=seed_number, metavar="SEED")
    args = parser.parse_args(argv)
    search = from_dict(DecodeConfig, load_yaml(args.search))
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
    """Print what :func:`measure` gives."""
    a, b, c, d = counts
    print(f"{name}: flagged are {a} of {b} useless texts and {c} of {d} right ones", flush=True)


def check(folder: Path, made_of: dict[str, Any]) -> None:
    """Refuse a folder whose model is made of something else, or does not tell of what.

    Raises:
        InputError: that is so.
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
        raise InputError(f"{folder}: its features cannot be computed; what is said above tells why")


def half_trained(folder: Path, seed: int, config: str, tokens: str) -> Path:
    """Train until half of the words are right; returns the model of that epoch."""
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
    """The model of the first epoch with half of the words right, if the training is so far."""
    log = out / "train.jsonl"
    for entry in map(json.loads, log.read_text().splitlines() if log.exists() else ()):
        if entry["kind"] == "epoch" and entry["dev_wer"] <= HALF:
            return out / "checkpoints" / entry["checkpoint"]
    return None


def measure(model: Path, apart: Path, search: DecodeConfig) -> list[int]:
    """Flagged useless texts, useless texts, flagged right texts, right texts."""
    utterances = DataDir.load(apart).utterances
    found = recognise(load_for_utterances(model, config=search), apart, utterances)
    flagged = [bool({*u.segment.flags} - {LOW_CONFIDENCE}) for u in found]
    useless, right = [u.useless for u in found], [u.right for u in found]
    return [
        sum(a and b for a, b in zip(flagged, useless, strict=True)),
        sum(useless),
        sum(a and b for a, b in zip(flagged, right, strict=True)),
        sum(right),
    ]


if __name__ == "__main__":
    run(main)
