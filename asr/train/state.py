"""What a training is at one moment, and how it survives a crash.

``checkpoints/last.pt`` holds the whole state after some step; it is replaced atomically, so
that a crash while writing leaves the one before. It is read with ``weights_only=True``,
which accepts tensors and plain values and runs no code. Every random number of a step
follows from (seed, step), so no generator has a state to keep.
"""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from asr.config import TrainConfig, to_dict
from asr.errors import InputError, first_line
from asr.files import write_atomically
from asr.train.adamw import AdamW

VERSION = 2
# Settings that may change between two runs of one training without changing its numbers.
_FREE = {"checkpoint_minutes", "threads", "device", "alignment_alarm_step", "skip_limit"}


@dataclass
class Progress:
    """Where a training stands."""

    step: int = 0
    """Updates tried so far, the skipped ones included."""
    epoch: int = 0
    """Epoch under way, from 0."""
    batch: int = 0
    """Batches of this epoch that are done."""
    skipped: int = 0
    """Batches skipped because of a loss or gradient that was not finite."""
    elapsed_s: float = 0.0
    """Time spent training, over all runs."""
    audio_s: float = 0.0
    """Audio seen, over all runs."""
    sums: dict[str, float] = field(default_factory=dict)
    """Sums over this epoch, for its averages."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One entry for each finished epoch: losses, dev scores, checkpoint."""
    init: dict[str, str] = field(default_factory=dict)
    """The model whose weights it began with: ``model`` and ``sha256``; empty: from scratch."""
    known: list[str] | None = field(default_factory=list)
    """Words of that model's training; None where its file does not tell."""


def save_state(
    path: Path,
    model: nn.Module,
    optimizer: AdamW | torch.optim.Optimizer,
    progress: Progress,
    config: TrainConfig,
    data: str,
) -> None:
    """Write the whole state atomically.

    ``data`` is a fingerprint of the training data.

    Raises:
        InputError: the disk is full; the state written before is untouched.
    """
    buffer = io.BytesIO()
    state = {
        "version": VERSION,
        "config": json.dumps(to_dict(config)),
        "data": data,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": dict(vars(progress)),
    }
    torch.save(state, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def load_state(
    path: Path,
    model: nn.Module,
    optimizer: AdamW | torch.optim.Optimizer,
    config: TrainConfig,
    data: str,
) -> Progress:
    """Restore model and optimiser; returns where the training stood.

    Raises:
        InputError: the file is damaged, of another version, another configuration or other data.
    """
    remedy = "use the same configuration, or another --out folder, or delete the file"
    state = _read(path)
    if state.get("version") != VERSION:
        raise InputError(f"{path}: version {state.get('version')}, expected {VERSION}; {remedy}")
    theirs, ours = json.loads(state["config"]), to_dict(config)
    theirs["batch"]["workers"] = ours["batch"]["workers"]
    changed = [
        f"{key} was {theirs.get(key)!r}, is {value!r}"
        for key, value in ours.items()
        if key not in _FREE and theirs.get(key) != value
    ]
    if changed:
        raise InputError(
            f"{path}: a training with other settings is here ({'; '.join(changed)}); {remedy}"
        )
    if state["data"] != data:
        raise InputError(
            f"{path}: this training began with other training data, characters or feature "
            "statistics; use another --out folder"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return Progress(**state["progress"])


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes); delete it to start over")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises depends on where the damage is
        raise InputError(
            f"{path}: not a training state, or damaged ({first_line(error)}); delete it to "
            "start over"
        ) from error
    return state if isinstance(state, dict) else {}
