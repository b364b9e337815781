"""Checkpoints: ``checkpoints/last.pt`` holds the state of a training after some step.

Every random number of a step follows from (seed, step), so no generator state is saved. The file is
a zip archive of torch.save, in which every entry has a checksum (CRC-32).
"""

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from asr.config.read import to_dict
from asr.errors import InputError, first_line
from asr.files import write_atomically
from asr.model.batch import Count
from asr.train.adamw import AdamW
from asr.train.data import TrainData
from asr.train.settings import DEV, PLAN, changed_settings

VERSION = 2


@dataclass
class Progress:
    """Progress of a training: epoch, step and sums."""

    step: int = 0
    """Steps done, skipped ones included."""
    epoch: int = 0
    """Current epoch, from 0."""
    batch: int = 0
    """Batches of this epoch that are done."""
    skipped: int = 0
    """Batches skipped because their loss or gradient was not finite."""
    elapsed_s: float = 0.0
    """Training time, over all runs."""
    audio_s: float = 0.0
    """Duration of the audio trained on, over all runs."""
    sums: dict[str, float] = field(default_factory=dict)
    """Sums of the losses of this epoch, what they are divided by, and skipped batches."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One entry for each finished epoch: losses, dev scores, checkpoint."""
    init: dict[str, str] = field(default_factory=dict)
    """The model that provided the initial weights: ``model`` and ``sha256``; empty from scratch."""
    known: list[str] | None = field(default_factory=list)
    """Vocabulary of that model; None if its file has no vocabulary."""
    averaged: bool = False
    """Whether the final model is the mean of these epochs."""

    def add(self, losses: dict[str, float], count: Count) -> None:
        """Add the mean losses of a step to the sums of this epoch."""
        written = sum(count)  # with <eos>
        more = {name: losses[name] * written for name in ("loss", "attention", "accuracy")}
        more |= {"ctc": losses["ctc"] * count.characters}
        more |= {"characters": count.characters, "written": written}
        for name, value in more.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def end_epoch(self, entry: dict[str, Any]) -> None:
        """Append the entry of the finished epoch to the history and begin the next epoch."""
        self.history.append(entry)
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, {}


def pack_state(
    model: nn.Module, optimizer: AdamW, progress: Progress, data: TrainData
) -> dict[str, Any]:
    """Return the state of a training, for :meth:`asr.train.folder.RunFolder.save`."""
    return {
        "version": VERSION,
        "config": json.dumps(to_dict(data.config)),
        "data": data.fingerprint,
        "dev": data.dev_fingerprint,
        "files": data.files,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "learning_rate": optimizer.lr,  # of the last step, for the log
        "progress": dict(vars(progress)),
    }


def restore_state(
    state: dict[str, Any],
    path: Path,
    model: nn.Module,
    optimizer: AdamW,
    data: TrainData,
    change: Sequence[str] = (),
) -> tuple[Progress, list[str]]:
    """Restore model and optimiser.

    Args:
        state: what :func:`pack_state` returned.
        path: file of the state, for messages.
        model: its weights are overwritten.
        optimizer: its state is overwritten.
        data: data and configuration of the resumed training.
        change: names of settings that may differ; ``dev`` for the dev data.

    Returns:
        the progress, and the names of the settings that differ.

    Raises:
        InputError: the state is damaged, or has another version, configuration or data.
    """
    if state.get("version") != VERSION:
        raise InputError(
            f"{path}: version {state.get('version')}, expected {VERSION}; use the version of asr "
            f"that wrote it, or another --out folder, or delete {path.parent}/last*.pt"
        )
    try:
        changed = changed_settings(json.loads(state["config"]), data.config, change, str(path))
        changed += _changed_data(path, state, data, change)
        _check_files(path, state.get("files", {}), data.files, change)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        optimizer.lr = state["learning_rate"]
        progress = Progress(**state["progress"])
        if "characters" in progress.sums:  # earlier versions divided all sums by it
            progress.sums.setdefault("written", progress.sums["characters"])
        _ = [(e["epoch"], e["checkpoint"], e["dev_wer"], e["dev_cer"]) for e in progress.history]
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path}: damaged ({first_line(error)}); delete {path.parent}/last*.pt to start over"
        ) from error
    if any(name.startswith(PLAN) for name in changed):
        progress.batch, progress.sums = 0, {}
    return progress, changed


def _changed_data(
    path: Path, state: dict[str, Any], data: TrainData, change: Sequence[str]
) -> list[str]:
    """Return ``dev`` if the dev data differ; raise InputError unless they may."""
    if state["data"] != data.fingerprint:
        raise InputError(
            f"{path}: this training began with other training data, characters or feature "
            "statistics; use another --out folder"
        )
    if state["dev"] == data.dev_fingerprint:
        return []
    if DEV not in change:
        raise InputError(
            f"{path}: this training has chosen its best epochs on other dev data; use the same, "
            f"or add --change {DEV} to measure the epochs so far again, or use another --out folder"
        )
    return [DEV]


def _check_files(
    path: Path, theirs: dict[str, str], ours: dict[str, str], change: Sequence[str]
) -> None:
    """Raise InputError if a setting names a folder with other contents than before."""
    for name, value in ours.items():
        if theirs.get(name, value) != value and name not in change:
            raise InputError(
                f"{path}: {name} has other files than when this training began; put these back, "
                f"or add --change {name}"
            )


def write_state(
    path: Path, state: dict[str, Any], before_rename: Callable[[], None] = lambda: None
) -> None:
    """Write tensors and plain values atomically.

    Args:
        path: the file.
        state: the values.
        before_rename: called when the new file is complete on disk, before it replaces the old one.

    Raises:
        InputError: the file cannot be written; the previous one is unchanged.
    """
    buffer = io.BytesIO()  # torch.save would report a full disk as a RuntimeError
    torch.save(state, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()), before_rename)


def read_state(path: Path) -> dict[str, Any]:
    """Read what :func:`write_state` wrote, without running code of the file.

    Raises:
        InputError: the file is damaged, or cannot be read.
    """
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty (0 bytes); delete it to start over")
        _check_sums(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # a damaged file can raise any type
        raise InputError(
            f"{path}: not a training state, or damaged ({first_line(error)}); delete it to "
            "start over"
        ) from error
    return state if isinstance(state, dict) else {}


def _check_sums(path: Path) -> None:
    """Compare the checksums of the entries, which torch.load does not do; raise ValueError."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise ValueError(f"wrong checksum of {damaged}")
