"""Settings that may change when a training is resumed."""

from collections.abc import Sequence
from typing import Any

from asr.config import TrainConfig
from asr.config.read import flatten, is_fixed, to_dict
from asr.errors import InputError

# These may change at any time: the model does not depend on them, except for rounding, which
# differs with threads, device and micro-batches, and for the random numbers of micro-batches.
FREE = (
    "checkpoint_minutes",
    "checkpoints",
    "threads",
    "device",
    "alignment_alarm_step",
    "skip_limit",
    "batch.accumulate",
    "batch.halve",
    "batch.workers",
    "distributed.timeout_s",
    "shards.missing",
    "shards.timeout_s",
    "shards.tries",
)
# The batches of an epoch depend on these: the current epoch begins again.
PLAN = ("batch.", "shards.group")
DEV = "dev"  # not a setting, but --change accepts it


def check_names(change: Sequence[str]) -> None:
    """Raise InputError if a name of ``--change`` is not a setting."""
    known = flatten(to_dict(TrainConfig()))
    for name in change:
        if name != DEV and name not in known:
            raise InputError(
                f"--change {name}: no such setting; expected names as in `asr train --help`, for "
                f"example epochs or optim.learning_rate, or {DEV} for another dev set"
            )


def changed_settings(
    theirs: dict[str, Any], ours: TrainConfig, change: Sequence[str], where: str
) -> list[str]:
    """Return the names of the settings that differ from those of the saved training.

    Args:
        theirs: configuration of the saved training, as :func:`asr.config.read.to_dict` returns it.
        ours: configuration of the resumed training.
        change: names of settings that may differ.
        where: file of the saved training, for the message.

    Raises:
        InputError: other settings differ, or settings that cannot change.
    """
    before = flatten(to_dict(TrainConfig())) | flatten(theirs)
    now = flatten(to_dict(ours))
    differing = [key for key in now if key not in FREE and before[key] != now[key]]
    wrong = [key for key in differing if key not in change or is_fixed(key)]
    if not wrong:
        return differing
    found = ", ".join(f"{key} was {before[key]!r}, is {now[key]!r}" for key in wrong)
    fixed = [key for key in wrong if is_fixed(key)]
    remedy = (
        f"{', '.join(fixed)} cannot change in a training"
        if fixed
        else f"to go on with the new value, add --change {' '.join(wrong)}"
    )
    raise InputError(
        f"{where}: a training with other settings is here: {found}; {remedy}; otherwise use the "
        "same settings, or another --out folder"
    )


def common_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that must be the same in all processes of a training."""
    return {key: value for key, value in flatten(to_dict(config)).items() if key not in FREE}
