"""Trainings that differ in one part of the network: their settings, folders and numbers.

Each training is an ordinary run folder, OUT/LABEL-SEED, that ``asr train`` can make, too. What was
measured of it stands in its file ``comparison.json``.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from asr.bench import accuracy, speed
from asr.config import AttentionConfig, EncoderConfig, TrainConfig
from asr.config.attention import settings_of_kind
from asr.config.field import SettingError
from asr.config.kinds import ATTENTIONS, CELLS
from asr.config.layers import Convolutions, LayerConfig, Recurrent, SelfAttention
from asr.config.read import from_dict, load_yaml, to_dict
from asr.errors import InputError
from asr.files import write_json
from asr.store.find import MODEL_FILE, checksum
from asr.train.settings import changed_settings

NUMBERS = "comparison.json"
PARTS = ("accuracy", "speed")
GOAL_WER = 0.15  # of the dev set, for the number of epochs until then


def _recurrent(kind: str, directions: int = 2) -> Callable[[EncoderConfig], list[LayerConfig]]:
    return lambda config: [Recurrent(kind, r, config.units, directions) for r in config.pyramid]


def _convolutions(config: EncoderConfig) -> list[LayerConfig]:
    front = Convolutions(reduction=config.frames_per_step)
    return [front, *(Recurrent("gru", 1, config.units) for _ in config.pyramid)]


def _self_attention(config: EncoderConfig) -> list[LayerConfig]:
    return [*_recurrent("gru")(config), SelfAttention(units=2 * config.units)]


ENCODERS = {
    "gru": _recurrent("gru"),
    "lstm": _recurrent("lstm"),
    "one_directional": _recurrent("gru", 1),
    "conv2d": _convolutions,
    "attention": _self_attention,
}
AXES = {"kinds": tuple(ATTENTIONS), "cells": tuple(CELLS), "encoders": tuple(ENCODERS)}


@dataclass(frozen=True)
class Row:
    """One training of a comparison."""

    label: str
    config: TrainConfig
    folder: Path
    dev: Path

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return self.config.seed

    def check(self) -> None:
        """Raise InputError if the folder holds a training with other settings."""
        path = self.folder / "config.yaml"
        if not path.exists():
            return
        try:
            changed_settings(load_yaml(path), self.config, (), str(path))
        except InputError as error:  # its remedy is an option of `asr train`
            found = str(error).partition(";")[0]
            raise InputError(f"{found}; use the same settings, or another --out folder") from error

    def saved(self) -> dict[str, Any]:
        """Return what was measured so far of this model on this dev set."""
        with suppress(OSError, ValueError):
            text = (self.folder / NUMBERS).read_text(encoding="utf-8")
            found: dict[str, Any] = json.loads(text)
            if found.get("of") == self._fingerprint():
                return found
        return {}

    def _fingerprint(self) -> str:
        """Return a hash of the model and the transcripts of the dev set."""
        files = (self.folder / MODEL_FILE, self.dev / "text")
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()

    def missing(self, parts: Sequence[str], ctm: str | None) -> list[str]:
        """Return the parts that are not measured yet, or with another CTM."""
        saved = self.saved()
        old = ctm and saved.get("accuracy", {}).get("ctm") != checksum(Path(ctm))
        return [part for part in parts if part not in saved or (part == "accuracy" and old)]

    def measure(self, parts: Sequence[str], ctm: str | None) -> None:
        """Measure parts of a finished training, and write them beside the others."""
        found = {"of": self._fingerprint(), **self.saved()}
        for part in parts:
            if part == "accuracy":
                measured = accuracy.measure(self.folder, self.dev, ctm)
                found[part] = {**measured, **self._history(), "ctm": ctm and checksum(Path(ctm))}
            else:
                found[part] = speed.measure(self.folder, self.dev)
            write_json(self.folder / NUMBERS, found)

    def _history(self) -> dict[str, Any]:
        """Return what the log says: epochs, and the first one with few errors."""
        lines = (self.folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
        epochs = [entry for entry in map(json.loads, lines) if entry["kind"] == "epoch"]
        rates = ((each["epoch"], each["dev_wer"]) for each in epochs)  # null: not finite
        good = [epoch for epoch, rate in rates if rate is not None and rate <= GOAL_WER]
        return {
            "epochs": len(epochs),
            "epochs_to_goal": good[0] if good else None,
            "alignment": epochs[-1]["alignment"] if epochs else None,
        }


def make_rows(
    config: TrainConfig,
    axis: str,
    variants: Sequence[str],
    seeds: Sequence[int],
    out: str | Path,
    dev: str | Path,
) -> list[Row]:
    """Return the trainings, all variants of the first seed first.

    Args:
        config: settings of all trainings but for the compared part.
        axis: kinds, cells or encoders.
        variants: names of :data:`AXES`; a kind may have settings: ``location:heads=4``.
        seeds: of the trainings.
        out: folder of their folders.
        dev: data directory of the dev set.

    Raises:
        InputError: a name or setting is unknown, or one of the folders has another training.
    """
    if len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds {','.join(map(str, seeds))}: expected each seed once")
    made = [(_label(each), _with(config, axis, each)) for each in variants]
    labels = [label for label, _ in made]
    if twice := sorted({each for each in labels if labels.count(each) > 1}):
        raise InputError(f"--{axis}: {twice[0]} is named twice; name it once")
    rows = [
        Row(label, replace(each, seed=seed), Path(out) / f"{label}-{seed}", Path(dev))
        for seed in seeds
        for label, each in made
    ]
    for row in rows:
        row.check()
    return rows


def _label(variant: str) -> str:
    """Return ``location_4_heads`` for ``location:heads=4``."""
    name, *settings = variant.split(":")
    return "_".join([name, *("_".join(reversed(each.split("=", 1))) for each in settings)])


def _with(config: TrainConfig, axis: str, variant: str) -> TrainConfig:
    name, *settings = variant.split(":")
    if name not in AXES[axis] or (settings and axis != "kinds"):
        raise InputError(f"--{axis} {variant}: unknown, expected some of {', '.join(AXES[axis])}")
    model = config.model
    if axis == "kinds":
        model = replace(model, attention=_attention(model.attention, name, settings, variant))
    elif axis == "cells":
        model = replace(model, decoder=replace(model.decoder, cell=name))
    else:
        try:
            layers = tuple(ENCODERS[name](model.encoder))
        except SettingError as error:
            found = f"pyramid {list(model.encoder.pyramid)} and {model.encoder.units} units"
            raise InputError(f"--encoders {name} does not fit {found}: {error}") from error
        model = replace(model, encoder=replace(model.encoder, layers=layers))
    return replace(config, model=model)


def _attention(
    config: AttentionConfig, kind: str, settings: Sequence[str], variant: str
) -> AttentionConfig:
    values = {"kind": kind}
    for each in settings:
        name, equals, value = each.partition("=")
        if not equals or name not in ("heads", *settings_of_kind(kind)):
            known = ", ".join(("heads", *settings_of_kind(kind)))
            raise InputError(
                f"--kinds {variant}: {each}, expected SETTING=VALUE; the settings of {kind} are "
                f"{known}"
            )
        if name in values:
            raise InputError(f"--kinds {variant}: {name} is there twice; keep one")
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--kinds {variant}: {each}, expected a value after =") from error
    return from_dict(AttentionConfig, {**to_dict(config), **values}, f"--kinds {variant}")


def numbers(rows: Sequence[Row]) -> Iterator[Mapping[str, Any]]:
    """Yield label, seed and numbers of each training that is measured."""
    for row in rows:
        if found := row.saved():
            yield {"label": row.label, "seed": row.seed, **found}
